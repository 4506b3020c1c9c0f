"""Dots and line ends: what leaves is one message, byte for byte, wherever it was cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import framing
from gateway.delivery.framing import Framer, NotCanonical

CANONICAL = st.lists(st.sampled_from([b"\r\n", b".", b"x", b"..", b" "]), max_size=40).map(b"".join)


def unstuffed(wire: bytes) -> bytes:
    """What a receiver makes of it (RFC 5321, 4.5.2); the end must be there once, and last."""
    assert wire == b".\r\n" or wire.endswith(b"\r\n.\r\n")
    lines = wire.split(b"\r\n")[:-2]
    assert b"." not in lines
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines)


def whole_lines(content: bytes) -> bytes:
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"


@given(CANONICAL)
def test_a_whole_message_arrives_as_it_was(content: bytes) -> None:
    assert unstuffed(framing.whole(b"", content, dot_lines=True)) == whole_lines(content)
    assert unstuffed(framing.whole(b"A: b\r\n", content, dot_lines=True)) == b"A: b\r\n" + whole_lines(content)


@given(CANONICAL, st.lists(st.integers(0, 60), max_size=8))
def test_a_message_in_pieces_arrives_as_it_was(content: bytes, cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    wire = in_pieces(*[content[a:b] for a, b in itertools.pairwise(borders)])
    assert wire == framing.whole(b"", content, dot_lines=True)
    assert unstuffed(wire) == whole_lines(content)


def test_content_without_dot_lines_is_not_scanned_for_them() -> None:
    assert framing.whole(b"", b"a.b\r\nc", dot_lines=False) == b"a.b\r\nc\r\n.\r\n"
    framer = Framer(dot_lines=False)
    assert framer.feed(b"a\r\n") + framer.end() == b"a\r\n.\r\n"


@pytest.mark.parametrize(
    "content", [b"a\nb", b"a\rb", b"a\r\n.\n", b"\r\r\n", b"\n\r", b"a\n.\nMAIL FROM:<x@y>\r\n", b"a\r"]
)
def test_a_bare_line_end_never_leaves(content: bytes) -> None:
    with pytest.raises(NotCanonical):
        framing.whole(b"", content, dot_lines=True)
    for cut in range(len(content)):
        with pytest.raises(NotCanonical):
            in_pieces(content[:cut], content[cut:])


def in_pieces(*pieces: bytes) -> bytes:
    framer = Framer(dot_lines=True)
    return b"".join([framer.feed(piece) for piece in pieces]) + framer.end()
