"""Tracking of whatever comes: all but the values of links stays, and no bytes raise anything."""

import base64
import html
import quopri
import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.message import fixup, model
from gateway.message.tracking import leaf, links, listing, patching, plain, stencil
from gateway.message.tracking.markup import Markup, Slot
from gateway.message.tracking.survey import Plan, Survey, Wish
from tests.fakes.addresses import HTMLS, PIXEL, URL, Readable, differences, targets
from tests.fuzz import effort
from tests.fuzz.foreign import TEXT, raw

ALL = model.TRACK_OPENS | model.TRACK_CLICKS | model.TRACK_TEXT
# What HTML is made of, whole and broken.
_PIECES = st.sampled_from(
    [
        "<a ", "<A\r\n", "<area ", "<a", "</a>", "<b>", "</b>", "<br/>", "<", ">", "/>", "href=", "HREF = ", "title=",
        '"', "'", " ", "\r\n", "\r", "\n", "\t", "\f", "=", "/", "&amp;", "&", "&#x2f;", "&copy", "http://a.test/",
        "https://b.test/?x=1", "mailto:a@b.test", "#x", "{{x}}", "<!--", "-->", "<!", "<?x", "<![if !mso]>",
        "<!DOCTYPE html>",
        "<script>", "</script>", "<style>", "</style>", "<title>", "</title>", "<textarea>", "</textarea>", "<svg>",
        "<![CDATA[", "]]>", "<plaintext>", "<body>", "</body>", "</html>", "<table>", "<img src=x>", "text",
        "\0", "ä", "=\r\n",
        "--", ".", "data-track=off",
    ]
)  # fmt: skip
_SOUP = st.lists(_PIECES, max_size=40).map("".join)
_URLS = st.sampled_from(
    ["http://a.test/", "https://b.test/p?a=1&amp;b=2#f", "HTTPS://c.test", "mailto:x@y.test", "#a", ""]
)
_WORDS = st.text("abc äß.-=\n", max_size=30)


@st.composite
def _documents(draw: st.DrawFn) -> str:
    """HTML that every parser reads alike."""
    made = ["<html><body>\n"]
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.integers(0, 4))
        word = draw(_WORDS)
        if kind == 0:
            made.append(f'<a href="{draw(_URLS)}" title="{word}">{word}</a>')
        elif kind == 1:
            made.append(f"<a class='x' href='{draw(_URLS)}'\n>{word}</a>")
        elif kind == 2:
            made.append(f"<p style='x'>{word}</p>")
        elif kind == 3:
            made.append(f"<!--[if mso]>{word.replace('-', '')}<a href='http://c.test/'><![endif]-->")
        else:
            made.append(f'<area href="{draw(_URLS)}"><img src="http://i.test/">{word}')
    return "".join([*made, draw(st.sampled_from(["</body></html>\n", "</html>", "\n", ""]))])


def _read(text: bytes) -> Markup:
    return Markup(text, utf8=True, spared=(), own=f"{URL}/t/")


def _rewritten(text: bytes, *, pixel: bool = True) -> bytes:
    markup = _read(text)
    more = [Slot(markup.pixel, markup.pixel, None)] if pixel and markup.pixel is not None else []
    slots = sorted(markup.slots + more, key=lambda slot: slot.start)
    return stencil.cut(text, slots).fill(Readable())


@effort.examples(50)
@given(_SOUP)
@example(HTMLS["broken"].decode("latin-1"))
def test_soup_keeps_all_but_its_links(soup: str) -> None:
    text = soup.encode()
    after = _rewritten(text)
    for old, target in differences(text, after):
        assert links.target(html.unescape(old.decode())) == target
    assert after.count(PIXEL) <= 1
    # Read again, nothing is left to do: each link leads over us.
    assert _read(after).slots == []


class _Events(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.seen: list[Any] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        value = dict(attrs).get("href") or ""
        urls = targets(value.encode()) or [links.target(value) or value]
        self.seen.append((tag, urls, [pair for pair in attrs if pair[0] != "href"]))

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        self.seen.append(("data", data))

    def handle_comment(self, data: str) -> None:
        self.seen.append(("comment", data))


def _events(text: bytes) -> list[Any]:
    """Tags, texts that touch as one."""
    made: list[Any] = []
    for one in _Events(text.decode()).seen:
        if made and one[0] == "data" and isinstance(made[-1], tuple) and made[-1][0] == "data":
            made[-1] = ("data", made[-1][1] + one[1])
        else:
            made.append(one)
    return made


@effort.examples(40)
@given(_documents())
def test_another_parser_sees_the_same_tags_and_where_links_lead(document: str) -> None:
    text = document.encode()
    after = _rewritten(text)
    assert after.count(PIXEL) == 1
    assert _events(after.replace(PIXEL, b"")) == _events(text)
    assert len(_Events(after.decode()).seen) >= len(_events(text)) + 1
    clicks = re.findall(r"href=[\"'](.*?)[\"']", re.sub("<!--.*?-->", "", document, flags=re.DOTALL))
    assert targets(after) == [url for link in clicks if (url := links.target(html.unescape(link))) is not None]


def _message(text: bytes, encoding: str) -> bytes:
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if encoding == "base64":
        body = base64.encodebytes(text).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        body = quopri.encodestring(lines).replace(b"\n", b"\r\n")
    else:
        body = lines.replace(b"\n", b"\r\n")
    head = f"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return b"--b\r\n" + head.encode() + body + b"\r\n--b--\r\n"


_HEADER = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"


def _plan(header: bytes, body: bytes) -> Plan:
    survey = Survey(header, Wish(ALL, f"{URL}/t/"))
    survey.feed(body)
    survey.end()
    return survey.plan(Readable())


def _decoded(body: bytes) -> bytes:
    """Of the only part, by other means."""
    head, _, rest = body.removeprefix(b"--b\r\n").partition(b"\r\n\r\n")
    content = rest.rpartition(b"\r\n--b--")[0]
    if b"base64" in head:
        return base64.b64decode(content)
    return quopri.decodestring(content) if b"quoted-printable" in head else content


@effort.examples(50)
@given(
    _SOUP | st.binary(max_size=200).map(lambda data: data.decode("latin-1")),
    st.sampled_from(["8bit", "quoted-printable", "base64"]),
)
@example("<a href=http://a.test/>" + "x" * 990, "8bit")
@example("<a href=http://a.test/>" + "ä" * 990, "8bit")
def test_a_part_decodes_to_the_same_but_for_its_links(soup: str, encoding: str) -> None:
    body = _message(soup.encode(), encoding)
    after = patching.whole(body, _plan(_HEADER, body).patches(Readable()))
    for old, target in differences(_decoded(body), _decoded(after)):
        assert links.target(html.unescape(old.decode())) == target
    assert not fixup.has_long_line(after) or fixup.has_long_line(body)
    assert fixup.only_crlf(after)
    assert re.findall(rb"^--b(?:--)?\r\n", after, re.MULTILINE) == [b"--b\r\n", b"--b--\r\n"]


@effort.examples(50)
@given(TEXT)
def test_no_bytes_raise_anything(text: str) -> None:
    data = re.sub(rb"\r\n|\r|\n", b"\r\n", raw(text)) + b"\r\n"
    start = fixup.split_header(data)
    plan = _plan(data[:start], data[start:])
    patching.whole(data[start:], plan.patches(Readable()))
    leaf.text(data)
    links.target(text)
    listing.list_unsubscribe(data)
    listing.with_unsubscribe(data, "https://t.test/", "a@t.test")
    plain.slots(data, joins=True, spared=(), own="x")
    _rewritten(data)
