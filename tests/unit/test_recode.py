"""Long lines re-encoded: what a part decodes to stays, and every octet outside the parts that hold them.

`RECODE_EXAMPLES` in the environment sets how many generated messages each property gets (150 unless told).
"""

import re
import time
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from gateway.message import fixup, recode
from gateway.message.canonical import BodyHasher
from gateway.message.model import PIECE_BYTES
from gateway.message.recode import header as part_header
from gateway.message.recode.parts import MAX_DEPTH, MAX_PARTS
from tests.fuzz import effort
from tests.peers.parts import Leaf, Message, Multipart, Node, leaves, messages, render

EXAMPLES = effort.examples(60, HealthCheck.filter_too_much)
LONG = b"x" * 999
HEAD = b"From: a@example.com\r\nMIME-Version: 1.0\r\n"


def cut(data: bytes, size: int = PIECE_BYTES) -> list[bytes]:
    """As the listener cuts content."""
    pieces = []
    while len(data) > size:
        end = data.rfind(b"\n", 0, size) + 1 or size
        end -= data[end - 1 : end] == b"\r"
        pieces.append(data[:end])
        data = data[end:]
    return [*pieces, data]


def recoded(message: bytes, *, size: int = PIECE_BYTES) -> bytes:
    start = fixup.split_header(message)
    survey = recode.Survey(message[:start])
    pieces = cut(message[start:], size)
    for piece in pieces:
        survey.feed(piece)
    survey.end()
    rewriting = recode.Rewriting(survey)
    out = [new for piece in pieces for new in rewriting.feed(piece)] + rewriting.finish()
    assert all(len(piece) <= PIECE_BYTES for piece in out)
    assert all(piece.endswith(b"\n") for piece in out if piece)
    return rewriting.header + b"".join(out)


def lines_fit(message: bytes) -> bool:
    return max(map(len, message.split(b"\r\n"))) <= fixup.MAX_LINE


def refused(message: bytes) -> str:
    with pytest.raises(recode.Unrepairable) as error:
        recoded(message)
    return str(error.value)


# Properties


@EXAMPLES
@given(messages())
def test_parts_decode_the_same_and_all_else_stays(tree: Node) -> None:
    message = render(tree)
    new = recoded(message)
    assert lines_fit(new)
    assert leaves(new) == leaves(message)
    same_frame(tree, new)
    assert recoded(new) == new


@EXAMPLES
@given(messages(), st.integers(1000, 1100))
def test_where_a_long_line_is_cut_makes_no_difference(tree: Node, size: int) -> None:
    message = render(tree)
    new = recoded(message, size=size)
    assert lines_fit(new)
    assert leaves(new) == leaves(message)


@EXAMPLES
@given(st.binary(max_size=3000), st.sampled_from([b"", b"base64", b"quoted-printable", b"8bit"]), st.booleans())
def test_any_body_at_all(body: bytes, encoding: bytes, multipart: bool) -> None:
    """It is refused, or comes out fit and means the same; nothing else is raised."""
    text = re.sub(rb"[\0\r\n]", b"\r\n", body)
    field = b"Content-Transfer-Encoding: %b\r\n" % encoding if encoding else b""
    kind = b"Content-Type: multipart/mixed; boundary=a\r\n" if multipart else b""
    message = HEAD + kind + field + b"\r\n--a\r\n\r\n" + LONG + b"\r\n" + text + b"\r\n"
    try:
        new = recoded(message)
    except recode.Unrepairable:
        return
    assert lines_fit(new)
    if encoding != b"base64":  # of what is no base64 each reader makes something else
        assert leaves(new) == leaves(message)


@EXAMPLES
@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"x" * 600, b" " * 600, b"."]), max_size=60), st.data())
def test_the_body_hash_of_a_line_that_spans_pieces(text: list[bytes], data: st.DataObject) -> None:
    body = b"".join(text)
    whole, parts = BodyHasher(), BodyHasher()
    whole.update(body)
    for piece in cut(body, data.draw(st.integers(2, 700))):
        parts.update(piece)
    assert parts.digest() == whole.digest()


def same_frame(tree: Node, new: bytes) -> None:
    """Every octet is that of the message, but those of leaves with a long line and of their transfer encoding."""
    new, pos = new.removesuffix(b"\r\n"), 0
    for octets, leaf in frames(tree):
        if leaf is None:
            assert new[pos : pos + len(octets)] == octets
            pos += len(octets)
            continue
        # A leaf that was re-encoded ends where the frame goes on: at the next delimiter, or at the end.
        end = new.find(b"\r\n--" + leaf.within, pos + octets.find(b"\r\n\r\n")) if leaf.within else len(new)
        assert end >= pos
        head, _, _ = new[pos : end + 2].partition(b"\r\n\r\n")
        kept = [line for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n") if not encoding_of(line)]
        assert [line for line in head.split(b"\r\n") if not encoding_of(line)] == kept
        pos = end
    assert pos == len(new)


def encoding_of(line: bytes) -> bool:
    return line.lower().startswith(b"content-transfer-encoding") or line == b"MIME-Version: 1.0"


@dataclass(frozen=True, slots=True)
class Changed:
    within: bytes  # boundary of the innermost multipart


def frames(tree: Node, within: bytes = b"") -> list[tuple[bytes, Changed | None]]:
    """The message in pieces: octets that stay, and leaves that change."""
    match tree:
        case Leaf() if not lines_fit(tree.body):
            return [(tree.octets(), Changed(within))]
        case Leaf():
            return [(tree.octets(), None)]
        case Message():
            return [(tree.header + b"\r\n", None), *frames(tree.inner, within)]
        case Multipart():
            out: list[tuple[bytes, Changed | None]] = [(tree.header + b"\r\n" + tree.preamble, None)]
            for child in tree.children:
                out += [(tree.delimiter(), None), *frames(child, tree.boundary)]
            return [*out, (tree.close(), None)]


# One by one


def test_white_space_at_the_end_of_a_line_counts_too() -> None:
    for filler in range(60, 90):
        message = HEAD + b"\r\n" + LONG + b"\r\n" + b"x" * filler + b" \r\n" + b"y" * filler + b"\t\r\n"
        new = recoded(message)
        assert max(map(len, new.split(b"\r\n"))) <= 76
        assert leaves(new) == leaves(message)


def test_text_that_is_mostly_ascii_becomes_quoted_printable() -> None:
    text = b"caf\xc3\xa9 = " + LONG + b" \r\n.\r\n"
    assert recoded(HEAD + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text) == (
        HEAD
        + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + (b"caf=C3=A9 =3D " + b"x" * 61 + b"=\r\n" + (b"x" * 75 + b"=\r\n") * 12 + b"x" * 38 + b"=20\r\n=2E\r\n")
    )


@pytest.mark.parametrize(
    ("kind", "line", "encoding"),
    [
        (b"text/plain", b"a" * 5000 + b"=" * 1000, b"quoted-printable"),
        (b"text/plain", b"a" * 5000 + b"=" * 1100, b"base64"),
        (b"text/html", b"a" * 5000 + b"\xff" * 900, b"quoted-printable"),
        (b"text/html", b"\xff" * 5000, b"base64"),
        (b"application/octet-stream", LONG, b"base64"),
        (b"image/gif", LONG, b"base64"),
        (b"nonsense", LONG, b"quoted-printable"),
    ],
)
def test_the_rule_for_the_encoding(kind: bytes, line: bytes, encoding: bytes) -> None:
    message = HEAD + b"Content-Type: %b\r\n\r\n" % kind + line + b"\r\n"
    new = recoded(message)
    assert b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" in new
    assert leaves(new) == leaves(message)


def test_the_encoding_is_put_in_the_place_of_the_old_one() -> None:
    before, after = b"Subject: a\r\ncontent-TRANSFER-encoding", b"X: \xff\r\n Y\r\n"
    new = recoded(before + b" :\r\n 8bit \r\n" + after + b"\r\n" + LONG + b"\r\n")
    assert new.startswith(before + b": quoted-printable\r\n" + after + b"MIME-Version: 1.0\r\n\r\n")


def test_a_message_that_is_only_text_gets_a_header() -> None:
    new = recoded(LONG + b"\r\nbye\r\n")
    assert new.startswith(b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nxxx")
    assert leaves(new)[0][1] == LONG + b"\r\nbye\r\n"
    assert recoded(b"\r\n" + LONG + b"\r\n").startswith(b"MIME-Version: 1.0\r\nContent-Transfer-Encoding")


def test_only_the_part_with_the_long_line_changes() -> None:
    start = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npre\r\n--b\r\n"
    one = b"Content-Type: text/plain\r\n\r\nshort \xe9\r\n"
    end = b"--b \r\n\r\nno header\r\n--b--\r\nafter\r\n"
    new = recoded(start + one + b"--b\r\nContent-Type: application/pdf\r\n\r\n" + LONG + b"\r\n" + end)
    assert new.startswith(
        start + one + b"--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
    )
    assert new.endswith(b"eHh4\r\n" + end)


def test_no_line_that_is_made_becomes_a_delimiter() -> None:
    for filler in range(1, 90):
        body = b"x" * filler + b"--b" * 400
        message = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + body + b"\r\n--b--\r\n"
        new = recoded(message)
        assert leaves(new) == leaves(message) == [("text/plain", body)]
        assert max(map(len, new.split(b"\r\n"))) <= 76


@pytest.mark.parametrize("encoding", [b"base64", b"BASE64", b"quoted-printable"])
def test_of_an_encoded_part_only_the_long_lines_change(encoding: bytes) -> None:
    head = HEAD + b"Content-Transfer-Encoding: %b\r\n\r\n" % encoding
    new = recoded(head + b"QUJD\r\n" + b"QUJD" * 300 + b"\r\nQUJD\r\n")
    assert new.startswith(head + b"QUJD\r\nQUJDQUJD")
    assert new.endswith(b"\r\nQUJD\r\n")
    assert leaves(new)[0][1].replace(b"QUJD", b"ABC") == b"ABC" * 302 or encoding == b"quoted-printable"


def test_an_escape_of_quoted_printable_is_not_cut() -> None:
    for filler in range(4):
        message = (
            HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"x" * filler + b"=C3=A9" * 300 + b"\r\n"
        )
        assert leaves(recoded(message)) == leaves(message)


def test_a_message_within_is_entered_but_not_what_says_it_is_encoded() -> None:
    inner = HEAD + b"\r\n" + LONG + b"\r\n"
    new = recoded(HEAD + b"Content-Type: message/rfc822\r\n\r\n" + inner)
    assert b"message/rfc822\r\n\r\n" + HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" in new
    opaque = (
        HEAD + b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 300 + b"\r\n"
    )
    assert recoded(opaque).replace(b"\r\n", b"") == opaque.replace(b"\r\n", b"")


def test_parts_of_a_digest_are_messages() -> None:
    start = HEAD + b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n"
    new = recoded(start + HEAD + b"\r\n" + LONG + b"\r\n--b--\r\n")
    assert new.startswith(start + HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n")


@pytest.mark.parametrize(
    ("header", "folded"),
    [
        (b"To: a,\r\n b\r\n\r\n", b"To: a,\r\n b\r\n\r\n"),
        (b"To: " + b"a@b.c, " * 200 + b"d@e.f\r\n\r\n", None),
        (b"X: y\r\n  " + b"a@b.c,\t" * 300 + b"\r\nZ: \r\n\r\n", None),
        (b"References: <a>" + b" <%b>" % (b"m" * 970) * 3 + b"\r\n\r\n", None),
        (b"References: <%b>\r\n\r\n" % (b"m" * 990), b"References:\r\n <%b>\r\n\r\n" % (b"m" * 990)),
    ],
)
def test_a_long_header_line_is_folded_where_white_space_stands(header: bytes, folded: bytes | None) -> None:
    new = recode.fold(header)
    assert lines_fit(new)
    assert re.sub(rb"\r\n(?=[ \t])", b"", new) == re.sub(rb"\r\n(?=[ \t])", b"", header)
    assert not re.search(rb"^[ \t]+\r\n", new, re.MULTILINE)
    assert folded is None or new == folded


@pytest.mark.parametrize(
    "header",
    [
        b"X: " + b"x" * 999 + b"\r\n\r\n",
        b"X:" + b" " * 1200 + b"\r\n\r\n",
        b"From a@b " + b"c " * 900 + b"\r\nX: y\r\n\r\n",
        b"no field " + b"c " * 900 + b"\r\nX: y\r\n\r\n",
        b"X : " + b"x" * 999 + b"\r\n\r\n",
        b"DKIM-Signature: v=1\r\nX: " + b"x " * 999 + b"\r\n\r\n",
    ],
    ids=lambda header: header[:12].decode(),
)
def test_a_header_line_that_cannot_be_folded(header: bytes) -> None:
    with pytest.raises(recode.Unrepairable, match=r"Line [12] "):
        recode.fold(header)


def part(fields: bytes, body: bytes = LONG, kind: bytes = b"multipart/mixed") -> bytes:
    start = HEAD + b"Content-Type: %b; boundary=b\r\n\r\n--b\r\n" % kind
    return start + fields + b"\r\n" + body + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"DKIM-signature: v=1; a=x\r\n" + HEAD + b"\r\n" + LONG + b"\r\n", "has a DKIM signature"),
        (part(b"", kind=b"multipart/signed"), "Line 7 .*signed part"),
        (part(b"Content-Type: message/rfc822\r\n", HEAD + b"\r\n" + LONG, b"multipart/Signed"), "signed part"),
        (part(b"X: " + b"x " * 600 + b"\r\n", b"", b"multipart/signed"), "Line 6 .*signed part"),
        (part(b"X: " + LONG + b"\r\n", b""), "Line 6 .*no white space"),
        (part(b"Content-Type: message/partial\r\n"), "message/partial may not be encoded"),
        (part(b"Content-Type: message/delivery-status\r\n"), "may not be encoded"),
        (part(b"Content-Type: multipart/mixed\r\n"), "Content-Type"),
        (part(b"Content-Type: multipart/mixed; boundary*=us-ascii''x\r\n"), "Content-Type"),
        (part(b"Content-Type: multipart/mixed; boundary=x; boundary=y\r\n"), "Content-Type"),
        (part(b"Content-Type: multipart/mixed (b); boundary=x\r\n"), "Content-Type"),
        (part(b"Content-Type: multipart mixed; boundary=x\r\n"), "Content-Type"),
        (part(b"Content-Type: text/plain\r\nContent-Type: text/html\r\n"), "Content-Type"),
        (part(b"Content-Transfer-Encoding: x-uuencode\r\n"), "Content-Transfer-Encoding"),
        (
            part(b"Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: base64\r\n"),
            "Content-Transfer-Encoding",
        ),
        (part(b"Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: base64\r\n"), "Encoding"),
        (part(b"Content-Transfer-Encoding: base64\r\n", b"QUJD" * 250 + b"-"), "says base64 and is not"),
        (part(b"Content-Transfer-Encoding: quoted-printable\r\n", b"x=y" * 400), "says quoted-printable and is not"),
        (part(b"what is this\r\n"), "no field"),
        (part(b"", b"short").replace(b"--b\r\n", LONG + b"\r\n--b\r\n", 1), "Line 5 .*before, between or after"),
        (part(b"", b"short") + LONG + b"\r\n", "Line 9 .*before, between or after"),
        (part(b"").replace(b"--b--", b"--b--" + b" " * 1000), "Line 8 .*delimiter"),
        (part(b"") + b"--b" + b" " * 1000 + b"\r\n", "between or after"),
        (part(b"", b"x").replace(b"--b--", b"--b" + b" " * 1000) + b"\r\n" + LONG + b"\r\n", "delimiter"),
        (part(b"X: y\r\n" * 50_000), "too large"),
        (part(b"X: " + b"y" * 300_000 + b"\r\n"), "too large"),
        (part(b"", LONG + b"\r\n--b\r\n\r\n" * MAX_PARTS), "too many parts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_repaired(message: bytes, words: str) -> None:
    text = refused(message)
    assert re.search(words, text)
    assert text.endswith("Send it in shorter lines, or in base64 or quoted-printable.")
    assert len(text) < 400


def test_nesting_without_end_is_bounded() -> None:
    message = HEAD
    for depth in range(MAX_DEPTH + 2):
        message += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (depth, depth)
    assert "too many parts" in refused(message + b"\r\n" + LONG + b"\r\n")
    assert "too many parts" in refused(
        HEAD + b"Content-Type: message/rfc822\r\n\r\n" * MAX_PARTS + b"\r\n" + LONG + b"\r\n"
    )


@pytest.mark.parametrize("line", [b"x" * 3_000_000, b"y " * 1_500_000, b"\xff\xfe" * 1_500_000, b" " * 3_000_000])
@pytest.mark.parametrize("kind", [b"text/plain", b"image/png"])
def test_a_line_of_many_pieces(line: bytes, kind: bytes) -> None:
    message = part(b"Content-Type: %b\r\n" % kind, b"first\r\n" + line + b"\r\n--last")
    new = recoded(message)
    assert leaves(new) == [(kind.decode(), b"first\r\n" + line + b"\r\n--last")]
    assert lines_fit(new)


@pytest.mark.parametrize(("encoding", "unit"), [(b"base64", b"QUJD"), (b"quoted-printable", b"=C3=A9-")])
def test_an_encoded_line_of_many_pieces(encoding: bytes, unit: bytes) -> None:
    message = part(b"Content-Transfer-Encoding: %b\r\n" % encoding, b"QUJD\r\n" + unit * 400_000 + b"\r\nQUJD")
    new = recoded(message)
    assert leaves(new) == leaves(message)
    assert lines_fit(new)


def test_what_a_header_says() -> None:
    assert part_header.read(b"Content-Type: TEXT/plain;charset=x\r\n\r\n").text
    quoted = part_header.read(b'Content-Type: multipart/mixed;\r\n type="a;boundary=x"; boundary = "a\\"b "\r\n\r\n')
    assert (quoted.boundary, quoted.fault) == (b'a"b', "")


def test_long_lines_among_others_that_just_fit_take_linear_time() -> None:
    body = ((b"x" * 998 + b"\r\n") * 31 + LONG + b"\r\n") * 48
    begin = time.process_time()
    assert lines_fit(recoded(part(b"Content-Type: text/plain\r\n", body)))
    assert time.process_time() - begin < 1.5  # it was three seconds, forty for the largest message
