"""Where in quoted-printable the octets stand that it decodes to (RFC 2045, 6.7), so that it is cut and not made anew.
Pure, and linear in time.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

SOFT: Final = b"=\r\n"  # a line break that means nothing
_MALFORMED: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n)")
_LINE: Final = 72  # octets of what is encoded here; one more may be escaped, and a soft line break follows


def cut(encoded: bytes, size: int, places: Sequence[int]) -> list[bytes] | None:
    """The pieces between these places (in order, within the `size` octets that it decodes to); None where a reader
    could decode it in another way. A piece does not begin with a soft line break, nor with two dashes."""
    lines = encoded.splitlines(keepends=True)
    ends = list(accumulate([len(line) - 2 * line.count(b"=") - line.endswith(SOFT) for line in lines]))
    if _MALFORMED.search(encoded) is not None or (ends[-1] if ends else 0) != size:
        return None
    starts = [0, *accumulate(map(len, lines))]
    pieces, begun, last, at, done = list[bytes](), 0, -1, 0, 0
    for place in places:
        index = bisect_left(ends, place)
        if index != last:
            last, at, done = index, starts[index], ends[index - 1] if index else 0
        at = _advance(encoded, at, place - done)
        done = place
        pieces.append(_beginning(encoded[begun:at]) if begun else encoded[:at])
        begun = at
    pieces.append(_beginning(encoded[begun:]) if begun else encoded)
    return pieces


def _advance(encoded: bytes, at: int, octets: int) -> int:
    """Where so many octets further stand, within a line."""
    while octets:
        escape = encoded.find(b"=", at, at + octets)
        if escape < 0:
            return at + octets
        octets -= escape - at + 1
        at = escape + 3
    return at


def encode(address: bytes) -> bytes:
    """A URL or a tag: ASCII in one line."""
    escaped = address.replace(b"=", b"=3D")
    pieces, at = [], 0
    while at < len(escaped):
        end = at + _LINE
        escape = escaped.rfind(b"=", end - 2, end)  # nothing is cut in an escape
        end = escape if escape >= 0 and len(escaped) > end else end
        pieces.append(_beginning(escaped[at:end]))
        at = end
    return SOFT.join(pieces)


def join(pieces: Sequence[bytes]) -> bytes:
    """Pieces, each on a line of its own, which mean nothing."""
    made: list[bytes] = []
    for piece in pieces:
        if piece:
            if made and not made[-1].endswith(b"\n"):
                made.append(SOFT)
            made.append(piece)
    # What stands at the end of the last one is the end of the text.
    if made and made[-1].endswith(SOFT):
        made[-1] = made[-1].removesuffix(SOFT)
    return b"".join(made)


def _beginning(piece: bytes) -> bytes:
    """Fit to stand at the start of a line: what begins with dashes there may be taken for a delimiter."""
    piece = piece.removeprefix(SOFT)
    return b"=2D" + piece[1:] if piece.startswith(b"-") else piece
