"""Links of plain text: where each ends, and which stay."""

import pytest

from gateway.message.tracking import leaf, plain
from gateway.message.tracking.leaf import Text


def found(text: bytes, *, joins: bool = False) -> list[tuple[bytes, str | None]]:
    slots = plain.slots(text, joins=joins, spared=frozenset({"https://list.test/out"}), own="https://t.test/t/")
    return [(text[slot.start : slot.end], slot.target) for slot in slots]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (b"See https://a.test/x.", b"https://a.test/x"),
        (b"https://a.test/x, and", b"https://a.test/x"),
        (b"(https://a.test/x)", b"https://a.test/x"),
        (b"(https://a.test/x_(y)).", b"https://a.test/x_(y)"),
        (b"<https://a.test/x>", b"https://a.test/x"),
        (b'"https://a.test/x"', b"https://a.test/x"),
        (b"[https://a.test/x]", b"https://a.test/x"),
        (b"[x](https://a.test/x)", b"https://a.test/x"),
        (b"*https://a.test/x*!?", b"https://a.test/x"),
        (b"HTTP://A.test", b"HTTP://A.test"),
        (b"https://a.test/?u=https://b.test/", b"https://a.test/?u=https://b.test/"),
        (b"https://a.test/x\r\nnext", b"https://a.test/x"),
        (b"> https://a.test/x", b"https://a.test/x"),
        (b"https://a.test/x \r\nflowed", b"https://a.test/x"),
        ("Übersicht: https://a.test/x ä".encode(), b"https://a.test/x"),
    ],
)
def test_a_link_is_as_long_as_a_reader_takes_it(text: bytes, link: bytes) -> None:
    ((value, target),) = found(text)
    assert value == link
    assert target is not None
    assert target.lower() == link.decode().lower()


@pytest.mark.parametrize(
    "text",
    [
        b"mailto:x@a.test",
        b"www.a.test",
        b"xhttps://a.test/",
        b"git+https://a.test/x",
        b"https://",
        b"https://.",
        "https://a.test/ä".encode(),
        "https://a.test/x，".encode(),
        b"https://a.test/{{name}}",
        b"https://a.test/%%name%%",
        b"https://user@a.test/",
        b"https://list.test/out",
        b"https://t.test/t/c/x/y",
        b"https://a.test/" + b"x" * 9000,
        b"-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nhttps://a.test/",
    ],
)
def test_a_link_stays(text: bytes) -> None:
    assert found(text) == []


def test_a_link_that_may_go_on_in_the_next_line_stays() -> None:
    assert found(b"https://a.test/x \r\ny https://b.test/\r\n", joins=True) == [(b"https://b.test/", "https://b.test/")]


def test_many_brackets_take_linear_time() -> None:
    text = b"https://a.test/" + b")" * 200_000
    assert found(text) == [(b"https://a.test/", "https://a.test/")]


# What a part is


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\r\n", Text(html=False, charset="", joins=False)),
        (b'Content-Type: TEXT/HTML; Charset="UTF-8"\r\n\r\n', Text(html=True, charset="utf-8", joins=False)),
        (
            b"content-type:text/html;\r\n\tcharset=x\r\nContent-Disposition: INLINE\r\n\r\n",
            Text(html=True, charset="x", joins=False),
        ),
        (b"Content-Type: text/plain; format=Flowed; delsp=Yes\r\n\r\n", Text(html=False, charset="", joins=True)),
        (b"Content-Type: text/plain; delsp=yes\r\n\r\n", Text(html=False, charset="", joins=False)),
        (b"Content-Type: text/html; x\r\n\r\n", None),
        (b"Content-Type: text/html; charset=a b\r\n\r\n", None),
        (b"Content-Type: text\r\n\r\n", None),
        (b"Content-Type: image/png\r\n\r\n", None),
        (b"Content-Type: text/html\r\nContent-Disposition: attachment\r\n\r\n", None),
        (b"Content-Type: text/html\r\nContent-Disposition: form-data\r\n\r\n", None),
        (b"Content-Type: text/html; name*0*=utf-8''a.html\r\n\r\n", None),
        (b"Content-Type: text/html\r\nContent-Type: text/html\r\n\r\n", None),
    ],
)  # fmt: skip
def test_what_a_header_says(header: bytes, expected: Text | None) -> None:
    assert leaf.text(header) == expected


@pytest.mark.parametrize(
    ("charset", "readable", "utf8"),
    [
        ("", True, True),
        ("us-ascii", True, True),
        ("utf-8", True, True),
        ("iso-8859-15", True, False),
        ("windows-1251", True, False),
        ("shift_jis", True, False),
        ("gb18030", True, False),
        ("x-unknown", True, False),
        ("zip", True, False),
        ("utf-16", False, False),
        ("utf-32", False, False),
        ("x-utf-16", False, False),
        ("utf-7", False, False),
        ("iso-2022-jp", False, False),
        ("hz-gb-2312", False, False),
        ("cp037", False, False),
        ("\0", True, False),
    ],
)
def test_whose_markup_is_ascii(charset: str, readable: bool, utf8: bool) -> None:
    text = Text(html=True, charset=charset, joins=False)
    assert (text.readable, text.utf8) == (readable, utf8)
