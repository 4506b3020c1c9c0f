"""Text derived from HTML."""

import time

import pytest

from gateway.message import plaintext


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("just text", "just text\n"),
        ("<p>one<p>two", "one\n\ntwo\n"),
        ("<div>one</div><div>two</div>", "one\ntwo\n"),
        ("one<br>two<br/>three", "one\ntwo\nthree\n"),
        ("a<br><br>b", "a\n\nb\n"),
        ("  a \n\t b  <b> c</b>d ", "a b cd\n"),
        ("&lt;a&gt; &amp; &uuml; &#252; &#xfc; &nope;", "<a> & ü ü ü &nope;\n"),
        ("<ul><li>a<li>b</ul><ol><li>x</li><li>y</li></ol>", "- a\n- b\n\n1. x\n2. y\n"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>", "- a\n  - b\n- c\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"),
        ('<a href="https://x.y/?a=1&amp;b=2">go</a>', "go (https://x.y/?a=1&b=2)\n"),
        ("<a href='https://x.y'>https://x.y</a> <a href=mailto:a@b.de>a@b.de</a>", "https://x.y a@b.de\n"),
        ('<a href="https://x.y"><img alt="Logo" src=x></a>', "Logo (https://x.y)\n"),
        ('<a href="https://x.y"><img src=x></a>', "https://x.y\n"),
        ('<a href="javascript:x">no</a><a name=x>no</a></a>', "nono\n"),
        ("<script>if (a<b) '</p>'</SCRIPT >x<style>p>a{}</style>y<title>t</title>", "xy\n"),
        ("<!doctype html><!-- <p>no</p> -->a<?xml ?>b<!---->c", "abc\n"),
        ("a<!-- never closed", "a\n"),
        ("a<script>never closed", "a\n"),
        ("1 < 2 and <3 and <", "1 < 2 and <3 and <\n"),
        ('<p title="a>b">c', "c\n"),
        ('<p title="unclosed>c', "c\n"),
        ("<pre>a\n  b\n\nc</pre>d", "a\n  b\n\nc\n\nd\n"),
        ("a<hr>b", "a\n--------------------\nb\n"),
        ("<p>a</p><p></p><p> </p><p>b</p>", "a\n\nb\n"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";\n"),
    ],
)
def test_derive(source: str, text: str) -> None:
    assert plaintext.derive(source) == text


@pytest.mark.parametrize(
    "unit",
    [
        *("<", "<a ", '<a "', '<a ">', "</", "<!--", "<!", "<script>", "</a>", "<a href=https://x.y>z</a>"),
        *("<ul>", "<pre>\n", "&#", "&", '<a href="', "<p x", "<li>", "<br>", "<a href='https://x.y'>"),
    ],
)
def test_hostile_html_takes_linear_time(unit: str) -> None:
    begin = time.process_time()
    plaintext.derive(unit * (200_000 // len(unit)))
    assert time.process_time() - begin < 3  # quadratic would be minutes


@pytest.mark.parametrize("unit", ["<p>ab", "word ", "<ul><li>", "<a href=https://x.y>z</a>"])
def test_work_is_bounded(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plaintext, "MAX_WORK", 30_000)
    text = plaintext.derive(unit * 40_000)
    assert text.endswith("\n\n[...]\n")
    assert len(text) < 4 * 30_000


def test_an_embedded_image_takes_nothing_from_the_text() -> None:
    data = "data:image/png;base64," + "A" * 2 * plaintext.MAX_WORK
    assert plaintext.derive(f'<p>a<img alt="one" src="{data}"><img src="{data}" alt="two">b</p>c') == "aonetwob\n\nc\n"
