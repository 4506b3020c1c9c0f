"""Bodies that are HTML, and those that only look a little like it."""

import time

import pytest

from gateway.api.dialects import bodytype


@pytest.mark.parametrize(
    "body",
    [
        "<p>Hi</p>",
        "one<br>two",
        "one<BR />two",
        "one\n<a href='https://example.org'>two</a>",
        "<p\nclass=x>",
        "</p>",
        "<!DOCTYPE html>Hi",
        "<html>",
        "if a <b and c> d",
        "<input type=text>",
        "at <time>noon</time>",
        "<address>12 High Street</address>",
        'x <img src="data:' + "a" * 100_000 + '">',
        "x" * 16_383 + "<p>",
        "x" * 16_370 + ' <img alt="\'" src=' + "a" * 500 + ">",
        "x" * 5_000_000 + "<b>",
    ],
)
def test_html(body: str) -> None:
    assert bodytype.is_html(body)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "Hello from [SMTP REST API]",
        "1 < 2 > 0",
        "Ann <ann@example.org>",
        "<https://example.org/p>",
        "cp <source> <target>",
        "Dear <title> <name>",
        "List<Object> x = f<T>();",
        "a <b",
        "x <b = c",
        "<br@example.org>",
        "<pp>",
        "<ſ>",
        "&lt;p&gt;",
    ],
)
def test_plain(body: str) -> None:
    assert not bodytype.is_html(body)


@pytest.mark.parametrize("part", ["<", "<a ", "<a", "</title ", "<input a", "<zz>", "<a" + " " * 1000, "<aaa aaa "])
def test_no_body_takes_long(part: str) -> None:
    body = part * (2_000_000 // len(part))
    start = time.thread_time()
    assert not bodytype.is_html(body)
    assert time.thread_time() - start < 2  # a tenth of it is usual; what is quadratic takes hours
