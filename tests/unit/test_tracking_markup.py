"""Links of HTML: which are found, where they stand, and that all else stays."""

import html as stdlib_html
from html.parser import HTMLParser

import pytest

from gateway.message.tracking import links, stencil
from gateway.message.tracking.markup import Markup, Slot
from tests.fakes.addresses import (
    AMP_LIKE,
    BROKEN,
    BROKEN_TARGETS,
    HTMLS,
    NEWSLETTER,
    NEWSLETTER_TARGETS,
    NO_BODY,
    PIXEL,
    URL,
    Readable,
    targets,
)

LEAVE = "https://list.example.com/leave?m=1&r=2"


def read(text: bytes, *, utf8: bool = True, spared: frozenset[str] = frozenset()) -> Markup:
    return Markup(text, utf8=utf8, spared=spared, own=f"{URL}/t/")


def rewritten(text: bytes) -> bytes:
    """With links and pixel."""
    markup = read(text, spared=frozenset({LEAVE}))
    slots = markup.slots + ([Slot(markup.pixel, markup.pixel, None)] if markup.pixel is not None else [])
    slots.sort(key=lambda slot: slot.start)
    return stencil.cut(text, slots).fill(Readable())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NEWSLETTER, NEWSLETTER_TARGETS),
        (NEWSLETTER.replace(b"\n", b"\r\n"), NEWSLETTER_TARGETS),
        (NEWSLETTER.replace(b"\n", b"\r"), NEWSLETTER_TARGETS),
        (BROKEN, BROKEN_TARGETS),
        (BROKEN.replace(b"\n", b"\r\n"), BROKEN_TARGETS),
        (AMP_LIKE, ["https://amp.example.com/1"]),
        (NO_BODY, ["http://plain.example.com"]),
    ],
)
def test_the_links_of_real_mail(text: bytes, expected: list[str]) -> None:
    assert targets(rewritten(text)) == expected


@pytest.mark.parametrize("text", HTMLS.values(), ids=HTMLS)
def test_all_but_the_values_stays(text: bytes) -> None:
    markup = read(text)
    after = stencil.cut(text, markup.slots).fill(Readable())
    at = 0
    for slot in markup.slots:
        before = text[at : slot.start]
        assert after.startswith(before)
        after = after.removeprefix(before)
        url = Readable().click(slot.target or "").encode()
        assert after.startswith(url)
        after = after.removeprefix(url)
        at = slot.end
    assert after == text[at:]


class Seen(HTMLParser):
    """What another parser sees."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.seen: list[object] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        self.seen.append(data)

    def handle_comment(self, data: str) -> None:
        self.seen.append(["comment", data])


@pytest.mark.parametrize("text", [NEWSLETTER, AMP_LIKE, NO_BODY])
def test_another_parser_sees_the_same_but_for_links_and_pixel(text: bytes) -> None:
    before, after = Seen(text.decode()).seen, Seen(rewritten(text).decode()).seen
    (pixel,) = Seen(PIXEL.decode()).seen
    at = after.index(pixel)
    del after[at]
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        if one == other:
            continue
        assert isinstance(one, tuple)
        assert isinstance(other, tuple)
        assert one[0] == other[0]
        assert one[0] in {"a", "area"}
        changed = [(old, new) for old, new in zip(one[1], other[1], strict=True) if old != new]
        ((name, old), (_, new)) = changed[0]
        assert (len(changed), name) == (1, "href")
        assert targets(new.encode()) == [links.target(stdlib_html.unescape(old))]


# One link


@pytest.mark.parametrize(
    ("tag", "value", "target"),
    [
        (b'<a href="http://a.test/">', b"http://a.test/", "http://a.test/"),
        (b"<a href='http://a.test/'>", b"http://a.test/", "http://a.test/"),
        (b"<a href=http://a.test/>", b"http://a.test/", "http://a.test/"),
        (b"<a href=http://a.test/ />", b"http://a.test/", "http://a.test/"),
        (b"<a\nhref\n=\n'http://a.test/'\n>", b"http://a.test/", "http://a.test/"),
        (b'<a href=" HTTPS://A.test/x\r\n y ">', b" HTTPS://A.test/x\r\n y ", "https://A.test/x%20y"),
        (b'<a href="http://a.test/?a=1&amp;b=2">', b"http://a.test/?a=1&amp;b=2", "http://a.test/?a=1&b=2"),
        (b'<a href="http://a.test/?a=1&b=2">', b"http://a.test/?a=1&b=2", "http://a.test/?a=1&b=2"),
        # WHATWG HTML, 13.2.5.73: in an attribute a name without a semicolon before "=" is text.
        (b'<a href="http://a.test/?a&copy=2">', b"http://a.test/?a&copy=2", "http://a.test/?a&copy=2"),
        (b'<a href="http://a.test/&copy;">', b"http://a.test/&copy;", "http://a.test/%C2%A9"),
        (b'<a href="http&#58;//a.test/">', b"http&#58;//a.test/", "http://a.test/"),
        (b'<a href="http://a.test/\xc3\xa4&amp;">', b"http://a.test/\xc3\xa4&amp;", "http://a.test/%C3%A4&"),
        (b"<a href=http://a.test/\xc3\xa4\"x'y>", b"http://a.test/\xc3\xa4\"x'y", "http://a.test/%C3%A4%22x'y"),
        (b"<a href='http://a.test/\n&#x20;x'>", b"http://a.test/\n&#x20;x", "http://a.test/%20x"),
        (b'<a id=x title="href=y>" href="http://a.test/">', b"http://a.test/", "http://a.test/"),
        (b'<a data-href="z" href="http://a.test/">', b"http://a.test/", "http://a.test/"),
        (b'<a href="http://a.test/1" href="http://a.test/2">', b"http://a.test/1", "http://a.test/1"),
        (b'<area href="http://a.test/">', b"http://a.test/", "http://a.test/"),
        (b'<a href="http://a.test:8080/#frag">', b"http://a.test:8080/#frag", "http://a.test:8080/#frag"),
        (b'<a href="http://[::1]:80/">', b"http://[::1]:80/", "http://[::1]:80/"),
        (b'<a href="http://a.test/%7B100%25%7D">', b"http://a.test/%7B100%25%7D", "http://a.test/%7B100%25%7D"),
        (b'<a data-track="yes" href="http://a.test/">', b"http://a.test/", "http://a.test/"),
    ],
)
def test_a_link_is_found(tag: bytes, value: bytes, target: str) -> None:
    text = b"before " + tag + b"link</a> after"
    (slot,) = read(text).slots
    assert (text[slot.start : slot.end], slot.target) == (value, target)


@pytest.mark.parametrize(
    "tag",
    [
        b"<a>",
        b"<a href>",
        b'<a href="">',
        b'<a href="mailto:a@b.test">',
        b'<a href="//a.test/">',
        b'<a href="ftp://a.test/">',
        b'<a href="http:a.test">',
        b'<a href="http:///x">',
        b'<a href="http://user:pw@a.test/">',
        b'<a href="http://a.test\\x">',
        b'<a href="http://a.test/\x01x">',
        b'<a href="http://a b.test/">',
        b'<a href="http://a.test/{{x}}">',
        b'<a href="http://a.test/%%x%%">',
        b'<a href="http://a.test/${x}">',
        b'<a href="http://a.test/[[x]]">',
        b'<a href="http://a.test/<%= x %>">',
        b'<a href="http://a.test/\xff">',
        b'<a href="https://t.test/t/u/abc">',
        b'<a href="https://a.test/Unsubscribe?m=1&amp;r=2">',
        b'<a href="https://a.test/list/opt-out">',
        b'<a data-track="False" href="http://a.test/">',
        b'<a data-track=off href="http://a.test/">',
        b'<a href="http://a.test/" clicktracking=off>',
        b'<a href="http://a.test/" ses:no-track>',
        b'<a href="http://a.test/" class="x untracked">',
        b'<link href="http://a.test/">',
        b'<img src="http://a.test/">',
        b'<form action="http://a.test/">',
        b'<v:rect href="http://a.test/">',
        b'<a href="http://a.test/' + b"x" * links.MAX_TARGET + b'">',
        b'</a href="http://a.test/">',
    ],
)
def test_a_link_stays(tag: bytes) -> None:
    assert read(b"before " + tag + b"link</a> after").slots == []


def test_a_charset_that_is_not_utf_8_leaves_links_with_other_characters() -> None:
    text = b'<a href="http://a.test/\xe4"><a href="http://a.test/&auml;"><a href="http://a.test/">'
    assert [slot.target for slot in read(text, utf8=False).slots] == ["http://a.test/"]


@pytest.mark.parametrize("before", range(32 * 1024 - 40, 32 * 1024 + 3))
def test_a_link_is_found_wherever_a_step_ends(before: int) -> None:
    text = b"x" * before + b"\r\n<a\r\nhref='http://a.test/'\r\n>y</a></body>\r\n"
    markup = read(text)
    assert [text[slot.start : slot.end] for slot in markup.slots] == [b"http://a.test/"]
    assert markup.pixel == text.index(b"</body>")


# The pixel


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"<html><body>x", b"</body></html>\r\n"),
        (b"<body>x</body> quoted <BODY>y", b"</BODY\n>z"),
        (b"x", b"</html>"),
        (b"x", b"\r\n\r\n"),
        (b"<!-- </body> -->x", b"</body>"),
        (b"<div>", b""),
    ],
)
def test_where_the_pixel_stands(before: bytes, after: bytes) -> None:
    assert read(before + after).pixel == len(before)


@pytest.mark.parametrize(
    "text", [b"x<!-- open", b"<a href='x", b"<style>a{}", b"<title>", b"<script>", b"<textarea>", b"<plaintext>", b"<b"]
)
def test_no_pixel_where_it_would_be_part_of_something_else(text: bytes) -> None:
    assert read(text).pixel is None


def test_a_link_that_the_text_ends_in_stays() -> None:
    assert read(b'<a href="http://a.test/1">x<a href="http://a.test/2" ').slots == [Slot(9, 24, "http://a.test/1")]


@pytest.mark.parametrize(
    "piece",
    [
        b"<a " + b"x=y " * 20_000,
        b"<a href=" * 20_000,
        b'<a href="' + b"&" * 60_000,
        b"<a/" * 40_000,
        b"<a href=//" * 9999,
    ],
)
def test_a_hostile_text_is_read_in_a_moment(piece: bytes) -> None:
    assert read(piece).slots == read(piece + b'">').slots == []
