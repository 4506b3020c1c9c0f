"""Which transfer encoding a text gets, and what it does to lines, at the borders of the rule.

The rule: 7bit where that is possible; quoted-printable where at most one octet in six is not ASCII; else base64.
"""

import base64
import quopri
import re
from collections.abc import Callable

import pytest

from gateway.message import transfer

SEVEN, QUOTED, BASE = "7bit", "quoted-printable", "base64"
DECODERS: dict[str, Callable[[bytes], bytes]] = {SEVEN: bytes, QUOTED: quopri.decodestring, BASE: base64.b64decode}


def encoded(text: str) -> tuple[str, bytes]:
    """What is chosen and written, after all that holds for any text."""
    name, chunks = transfer.encode_text(text)
    wire = b"".join(chunks)
    assert wire.isascii()
    assert b"\0" not in wire
    bare = wire.replace(b"\r\n", b"")
    assert b"\r" not in bare
    assert b"\n" not in bare
    limit = 998 if name == SEVEN else 76
    assert max(map(len, wire.split(b"\r\n"))) <= limit
    assert DECODERS[name](wire) == re.sub("\r\n|\r|\n", "\r\n", text).encode()
    return name, wire


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", SEVEN),
        ("x" * 998, SEVEN),
        ("x" * 998 + "\r\n", SEVEN),
        ("x" * 998 + "\n" + "y" * 998, SEVEN),
        ("x" * 999, QUOTED),
        ("x" * 999 + "\n", QUOTED),
        ("a\n" + "x" * 999 + "\nb\n", QUOTED),
        ("a\n" + "x" * 999, QUOTED),
        ("x" * 998 + "\ry", SEVEN),
        ("x" * 500 + "\x00", QUOTED),
        ("all of ASCII: " + "".join(map(chr, range(1, 128))), SEVEN),
    ],
)
def test_seven_bit_where_lines_are_short_enough(text: str, name: str) -> None:
    assert encoded(text)[0] == name


@pytest.mark.parametrize("unit", ["ü", "日", "😀"])
def test_one_octet_in_six_is_the_border(unit: str) -> None:
    octets = len(unit.encode())
    border = unit * 10 + "x" * (50 * octets)  # ten of sixty
    assert encoded(border)[0] == QUOTED
    assert encoded(border + "x")[0] == QUOTED
    assert encoded(border[:-1])[0] == BASE


@pytest.mark.parametrize("shares", range(1, 60))
def test_what_is_chosen_is_never_much_longer_than_the_other(shares: int) -> None:
    text = ("ü" * shares + "x" * (120 - 2 * shares)) * 20
    name, wire = encoded(text)
    other = len(base64.encodebytes(text.encode())) if name == QUOTED else len(quopri.encodestring(text.encode()))
    assert len(wire) <= other * 1.1


@pytest.mark.parametrize("end", [" ", "\t", "  ", "\t \t"])
@pytest.mark.parametrize("after", ["", "\n", "\n\n", "\nx"])
def test_white_space_at_the_end_of_a_line_is_kept(end: str, after: str) -> None:
    assert encoded(f"line{end}{after}") == (SEVEN, f"line{end}{after}".replace("\n", "\r\n").encode())
    name, wire = encoded(f"a longer line and one ü{end}{after}")
    assert name == QUOTED
    assert re.search(rb"[ \t](\r\n|$)", wire) is None  # RFC 2045, 6.7 (3)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("a\rb", b"a\r\nb"),
        ("a\nb", b"a\r\nb"),
        ("a\r\nb", b"a\r\nb"),
        ("a\n\rb", b"a\r\n\r\nb"),
        ("a\r\r\nb", b"a\r\n\r\nb"),
        ("\r", b"\r\n"),
        ("\r\n\n", b"\r\n\r\n"),
        ("a\x0bb\x0cc", b"a\x0bb\x0cc"),
    ],
)
def test_every_kind_of_line_end_is_crlf(text: str, wire: bytes) -> None:
    assert encoded(text) == (SEVEN, wire)


def test_line_ends_of_other_people_are_none() -> None:
    text = "These are no line ends of a mail, so they stay: \x85 \u2028 \u2029 \x1c"
    name, wire = encoded(text)
    assert name == QUOTED
    assert wire.startswith(b"These are no line ends of a mail, so they stay: =C2=85 =E2=80=A8 ")


def test_from_and_dots_at_the_beginning_of_a_line_are_left_alone() -> None:
    """SMTP's dots are the sender's business (RFC 5321, 4.5.2); a From is only ever a mailbox file's."""
    text = "From here\n.\n..\n.x\n>From there\n--\n-- \n"
    assert encoded(text) == (SEVEN, text.replace("\n", "\r\n").encode())


def test_no_line_of_quoted_text_is_a_dot() -> None:
    """A dot alone would end DATA at a sender that does not stuff; the encoding can avoid it at no cost."""
    name, wire = encoded("a rather long line with one ü\n.\n..\n" + "x" * 75 + ".\n")
    assert name == QUOTED
    assert b"\r\n.\r\n" not in wire


@pytest.mark.parametrize("length", range(70, 80))
def test_a_soft_break_never_cuts_an_escape(length: int) -> None:
    for tail in ("ü" * 3, "=" * 3, "\t ", "é.", " \n"):
        assert encoded("words and words " + "x" * (length - 16) + tail + "y" * 60)[0] in {SEVEN, QUOTED}
        assert encoded("x" * length + tail + "y" * 1000)[0] == QUOTED


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb" * 9])
def test_half_a_character_cannot_be_written(text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        transfer.encode_text(text)
    assert encoded("a \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"))[0] == BASE


@pytest.mark.parametrize(
    ("data", "seven"),
    [
        (b"", True),
        (b"x" * 998, True),
        (b"x" * 999, False),
        (b"a\r\nb", True),
        (b"a\nb", False),
        (b"a\rb", False),
        (b"a\r\r\nb", False),
        (b"a\0b", False),
        (b"\x80", False),
    ],
)
def test_what_may_travel_as_it_is(data: bytes, seven: bool) -> None:
    assert transfer.is_seven_bit(data) is seven


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("word\n" * 500_000, SEVEN),
        ("a line that ends in a space \r\nwörd" * 60_000, QUOTED),
        ("x" * 999 + "\n" + "word\r" * 500_000 + "end", QUOTED),
        ("ü\n" * 600_000, BASE),
        # lines of more than a slice
        ("x" * 1_100_000, QUOTED),
        ("x" * 1_100_000 + "\nend\n", QUOTED),
        ("x" * 999_999 + " end", QUOTED),
        ("x" * 999_975 + "ü" * 30, QUOTED),
        *[("x" * (999_950 + more) + "ü" * 30, QUOTED) for more in (0, 1, 2, 5, 8)],
    ],
)
def test_a_large_text_is_encoded_in_slices(text: str, encoding: str) -> None:
    assert encoded(text)[0] == encoding
    chunks = transfer.encode_text(text)[1]
    assert len(chunks) > 1  # no other thread has a turn in one
    assert all(chunk.endswith(b"\r\n") for chunk in chunks[:-1])
