"""A message made ready for tracking: which of its parts are touched, and what they decode to."""

import base64
import email
import email.policy
import html
import quopri
import tracemalloc
from collections.abc import Callable

import pytest

from gateway.message import model
from gateway.message.recode.parts import MAX_DEPTH
from gateway.message.tracking import links, patching, survey
from gateway.message.tracking.patching import Patch, Patching
from gateway.message.tracking.survey import Plan, Survey, Wish
from tests.fakes.addresses import NEWSLETTER, PIXEL, URL, Readable, differences, targets

ALL = model.TRACK_OPENS | model.TRACK_CLICKS | model.TRACK_TEXT
HTML = b'<html><body><a href="https://a.test/?x=1&amp;y=2">a</a> \xc3\xa4</body></html>'
LINK = "https://a.test/?x=1&y=2"
TEXT = b"See https://b.test/page, and (https://b.test/other)."
TEXT_LINKS = ["https://b.test/page", "https://b.test/other"]


def planned(message: bytes, track: int = ALL) -> Plan:
    header, body = split(message)
    found = Survey(header, Wish(track, f"{URL}/t/"))
    found.feed(body)
    found.end()
    return found.plan(Readable())


def split(message: bytes) -> tuple[bytes, bytes]:
    end = message.index(b"\r\n\r\n") + 4
    return message[:end], message[end:]


def tracked(message: bytes, track: int = ALL) -> bytes:
    """As a recipient gets it."""
    plan = planned(message, track)
    return plan.header + patching.whole(split(message)[1], plan.patches(Readable()))


def leaves(message: bytes) -> list[bytes]:
    """What its parts decode to, by another reader."""
    parsed = email.message_from_bytes(message, policy=email.policy.compat32)
    return [bytes(part.get_payload(decode=True)) for part in parsed.walk() if not part.is_multipart()]


def part(body: bytes, kind: bytes = b"text/html; charset=utf-8", encoding: bytes = b"8bit", more: bytes = b"") -> bytes:
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n%b\r\n%b" % (kind, encoding, more, body)


def message(*parts: bytes, kind: bytes = b"alternative", boundary: bytes = b"=_b") -> bytes:
    inner = b"".join(b"--%b\r\n%b\r\n" % (boundary, one) for one in parts)
    header = b'MIME-Version: 1.0\r\nSubject: x\r\nContent-Type: multipart/%b; boundary="%b"\r\n' % (kind, boundary)
    return b"%b\r\npreamble\r\n%b--%b--\r\nepilogue\r\n" % (header, inner, boundary)


def single(
    body: bytes, encoding: bytes = b"8bit", kind: bytes = b"text/html; charset=utf-8", more: bytes = b""
) -> bytes:
    return b"MIME-Version: 1.0\r\nSubject: x\r\n" + part(body, kind, encoding, more)


def nested(depth: int) -> bytes:
    """A text in so many multiparts."""
    made = part(HTML)
    for number in range(depth):
        made = message(made, boundary=b"b%d" % number).partition(b"\r\n")[2]
    return b"MIME-Version: 1.0\r\n" + made


# Encodings

ENCODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"8bit": lambda data: data,
    b"quoted-printable": lambda data: quopri.encodestring(data.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n"),
    b"base64": lambda data: base64.encodebytes(data).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize(
    "text", [HTML, HTML + b"\r\n", NEWSLETTER.replace(b"\n", b"\r\n"), b"--\r\n" + HTML + b"\r\n--"]
)
@pytest.mark.parametrize("wrap", [single, lambda body, encoding: message(part(body, encoding=encoding))])
def test_each_encoding_stays_and_the_text_but_for_its_links(
    encoding: bytes, text: bytes, wrap: Callable[[bytes, bytes], bytes]
) -> None:
    before = wrap(ENCODERS[encoding](text), encoding)
    after = tracked(before)
    assert split(after)[0] == split(before)[0]
    (was, *_), (new, *_) = leaves(before), leaves(after)
    found = differences(was, new)
    assert {links.target(html.unescape(old.decode())) for old, _ in found} == {target for _, target in found}
    assert len(found) == max(text.count(b"shop.example.com/p?") * 7, 1)
    assert new.count(PIXEL) == 1
    assert max(map(len, after.split(b"\r\n"))) <= 998
    assert b"\n" not in after.replace(b"\r\n", b"")


def test_the_structure_around_a_part_stays() -> None:
    before = message(part(TEXT, b"text/plain"), part(HTML))
    after = tracked(before)
    assert [target for _, target in differences(before, after)] == [*TEXT_LINKS, LINK]


@pytest.mark.parametrize(
    ("character", "encoding"), [("a", b"quoted-printable"), ("\N{CYRILLIC SMALL LETTER YA}", b"base64")]
)
def test_a_line_that_would_be_too_long_is_encoded(character: str, encoding: bytes) -> None:
    text = f'<a href="https://a.test/{"x" * 400}">{character * 300}</a>'.encode() + b"\r\n"
    for before in (single(text, b"8bit"), message(part(text), kind=b"mixed")):
        after = tracked(before)
        assert b"Content-Transfer-Encoding: %b\r\n" % encoding in after
        assert max(map(len, after.split(b"\r\n"))) <= 78
        ((was,), (new,)) = leaves(before), leaves(after)
        assert [target for _, target in differences(was.rstrip(), new.rstrip())] == [f"https://a.test/{'x' * 400}"]


@pytest.mark.parametrize(
    "body",
    [
        b'<a href=3D"https://a.test/">a</a>=0A<b>=0D</b>\r\n',
        b'=\r\n<a href=3D"=68ttps://a.test=2f">a</a>=\r\n=0a--=20=\r\n',
        b'<a href=3D"=\r\nhttps://=\r\n=\r\na.test/=\r\n">--a</a>',
        b"<a href=3Dhttps://a.test/>=\r\n=\r\n--boundary",
        b"--<a href=3Dhttps://a.test/\r\n--> =\r\n",
    ],
)
def test_quoted_printable_of_any_kind_says_the_same(body: bytes) -> None:
    before = message(part(body, encoding=b"quoted-printable"))
    after = tracked(before)
    assert b"Content-Transfer-Encoding: quoted-printable\r\n" in after
    (was, new) = leaves(before)[0], leaves(after)[0]
    assert [(html.unescape(old.decode()), target) for old, target in differences(was, new)] == [
        ("https://a.test/", "https://a.test/")
    ]
    assert max(map(len, after.split(b"\r\n"))) <= 78


@pytest.mark.parametrize("body", [b'=ZZ<a href=3D"https://a.test/">=', b'=0A<a href=3D"https://a.test/">\r\n= \r\n=3'])
def test_what_is_nearly_quoted_printable_is_encoded_anew(body: bytes) -> None:
    before = single(body, b"quoted-printable")
    after = tracked(before)
    (was,), (new,) = leaves(before), leaves(after)
    assert [target for _, target in differences(was, new)] == ["https://a.test/"]


# Which parts


@pytest.mark.parametrize(
    "one",
    [
        part(HTML, more=b"Content-Disposition: attachment\r\n"),
        part(HTML, more=b"Content-Disposition: inline; filename=a.html\r\n"),
        part(HTML, b"text/html; name=a.html"),
        part(HTML, b"text/html; charset=utf-16"),
        part(HTML, b"text/html; charset=iso-2022-jp"),
        part(HTML, b"text/html; charset=csISO2022JP"),
        part(HTML, b"text/html; charset=iso-2022-cn"),
        part(HTML, b"text/html; charset=\"'iso-2022-jp'\""),
        part(HTML, b"text/html; charset=unicode-1-1-utf-7"),
        part(HTML, b"text/x-amp-html"),
        part(HTML, b"application/xhtml+xml"),
        part(HTML, encoding=b"x-uuencode"),
        part(HTML, encoding=b"base64"),
        part(base64.b64encode(HTML) + b"=\r\nQUJD", encoding=b"base64"),
        part(HTML, more=b"Content-Type: text/plain\r\n"),
        part(HTML, more=b"no field\r\n"),
        part(b"", encoding=b"7bit"),
        part(single(HTML), b"message/rfc822"),
        part(message(part(HTML), part(HTML)), b"message/rfc822"),
        message(part(HTML), part(b"x", b"application/pgp-signature"), kind=b"signed", boundary=b"s").partition(b"\r\n")[
            2
        ],
        message(part(b"Version: 1", b"text/plain"), part(HTML), kind=b"encrypted", boundary=b"s").partition(b"\r\n")[2],
    ],
)
def test_what_is_no_text_of_the_message_stays(one: bytes) -> None:
    before = message(one, part(HTML), one, kind=b"mixed")
    after = tracked(before)
    assert differences(before, after) == [(b"https://a.test/?x=1&amp;y=2", LINK)]
    assert after.count(PIXEL) == 1
    assert tracked(message(one, kind=b"mixed")) == message(one, kind=b"mixed")
    assert planned(before).note in {"", survey.CHARSET, survey.UNCLEAR}


@pytest.mark.parametrize(
    ("before", "note"),
    [
        (b"DKIM-Signature: v=1\r\n" + single(HTML), survey.DKIM),
        (message(part(HTML), part(b"x", b"application/pgp-signature"), kind=b"signed"), survey.SIGNED),
        (message(part(b"x", b"text/plain"), part(HTML), kind=b"encrypted"), survey.SIGNED),
        (single(b"MIAG", b"base64", b"application/pkcs7-mime; smime-type=enveloped-data"), survey.SIGNED),
        (single(HTML, kind=b"text/html; charset=utf-16le"), survey.CHARSET),
        (single(HTML, b"x-uuencode"), survey.UNCLEAR),
        (single(b"!", b"base64"), survey.UNCLEAR),
        (single(HTML * (survey.HELD_BYTES // len(HTML) + 1)), survey.LARGE),
        (nested(MAX_DEPTH + 1), survey.UNCLEAR),
        (single(b"nothing in here", kind=b"text/plain"), ""),
        (single(b"<body></body>" + PIXEL, kind=b"text/css"), ""),
    ],
)
def test_what_is_not_tracked_says_why(before: bytes, note: str) -> None:
    plan = planned(before)
    assert (plan.places, plan.note, plan.header) == ((), note, split(before)[0])


def test_a_text_deep_in_multiparts_is_found() -> None:
    assert targets(tracked(nested(MAX_DEPTH - 1))) == [LINK]


@pytest.mark.parametrize(
    ("body", "more"),
    [(b"http://a.test", b""), (b"http://a.test" + b" x" * 490, b"X-More: %s\r\n" % (b"y" * 900) * 3)],
    ids=["texts", "headers"],
)
def test_what_a_plan_takes_of_memory_is_known(body: bytes, more: bytes) -> None:
    before = message(*[part(body, b"text/plain", more=more)] * 300, kind=b"mixed")
    planned(before)
    tracemalloc.start()
    plan = planned(before)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken / 2 < plan.size < taken * 2


def test_the_last_html_part_has_the_pixel() -> None:
    after = tracked(message(part(HTML), part(HTML + b"<!-- 2 -->"), kind=b"mixed"))
    first, second = leaves(after)[:2]
    assert (PIXEL in first, PIXEL in second) == (False, True)


@pytest.mark.parametrize(
    ("track", "clicks", "pixels"),
    [
        (model.TRACK_OPENS, [], 1),
        (model.TRACK_CLICKS, [LINK], 0),
        (model.TRACK_TEXT, TEXT_LINKS, 0),
        (ALL, [*TEXT_LINKS, LINK], 1),
    ],
)
def test_only_what_is_asked_for(track: int, clicks: list[str], pixels: int) -> None:
    after = tracked(message(part(TEXT, b"text/plain"), part(HTML)), track)
    assert (targets(after), after.count(PIXEL)) == (clicks, pixels)


def test_links_of_list_unsubscribe_stay() -> None:
    field = b"List-Unsubscribe: <mailto:x@a.test>,\r\n <https://a.test/?x=1\r\n\t&y=2>\r\n"
    assert targets(tracked(field + single(HTML + b'<a href="https://c.test/">'))) == ["https://c.test/"]


def test_a_message_cut_anywhere_is_read_the_same() -> None:
    before = message(part(TEXT, b"text/plain"), message(part(HTML), boundary=b"in").partition(b"\r\n")[2])
    whole = planned(before)
    lines = split(before)[1].splitlines(keepends=True)
    found = Survey(split(before)[0], Wish(ALL, f"{URL}/t/"))
    for line in lines:
        found.feed(line)
    found.end()
    assert [place[:2] for place in whole.places] == [place[:2] for place in found.plan(Readable()).places]


@pytest.mark.parametrize("step", [1, 7, 100, 10_000])
def test_patches_are_placed_however_the_body_is_cut(step: int) -> None:
    before = message(part(TEXT, b"text/plain"), part(b"x\r\n" * 1000, b"text/css"), part(HTML))
    body = split(before)[1]
    patches = planned(before).patches(Readable())
    placing = Patching(patches)
    made = [piece for start in range(0, len(body), step) for piece in placing.feed(body[start : start + step])]
    assert b"".join([*made, *placing.finish()]) == patching.whole(body, patches)


def test_pieces_are_cut_after_a_line_end() -> None:
    placing = Patching([Patch(3, 5, b"x" * 900 + b"\r\n")])
    pieces = placing.feed((b"y" * 98 + b"\r\n") * 9000)
    assert len(pieces) > 2
    assert all(piece.endswith(b"\n") and len(piece) <= model.PIECE_BYTES for piece in pieces)
