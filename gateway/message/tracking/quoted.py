"""Where in quoted-printable the octets stand that it decodes to (RFC 2045, 6.7), so that it is cut and not made anew.
Pure, and linear in time.
"""

import re
from collections.abc import Sequence
from typing import Final

SOFT: Final = b"=\r\n"  # a line break that means nothing
_MALFORMED: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n)")
_NEAR: Final = 128  # octets that are looked for one escape after the other
_LINE: Final = 72  # octets of what is encoded here; one more may be escaped, and a soft line break follows


def cut(encoded: bytes, size: int, places: Sequence[int]) -> list[bytes] | None:
    """The pieces between these places (in order, within the `size` octets that it decodes to); None where a reader
    could decode it in another way. A piece does not begin with a soft line break, nor with two dashes."""
    if _MALFORMED.search(encoded) is not None:
        return None
    pieces, begun, at, done = list[bytes](), 0, 0, 0
    for place in places:
        at = _advance(encoded, at, place - done)
        done = place
        pieces.append(_beginning(encoded[begun:at]) if begun else encoded[:at])
        begun = at
    pieces.append(_beginning(encoded[begun:]) if begun else encoded)
    return pieces if _decoded(encoded, at, len(encoded)) == size - done else None


def _decoded(encoded: bytes, start: int, end: int) -> int:
    """How many octets stand there; neither end is within an escape."""
    return end - start - 2 * encoded.count(b"=", start, end) - encoded.count(SOFT, start, end)


def _advance(encoded: bytes, at: int, octets: int) -> int:
    """Where so many octets further stand: behind the last of them, before a soft line break."""
    while octets > _NEAR:
        # At least so far; what escapes take of it is left, at most two thirds.
        end = at + octets
        escape = encoded.rfind(b"=", end - 2, end)
        end = escape if escape >= 0 else end
        octets -= _decoded(encoded, at, end)
        at = end
    while octets:
        escape = encoded.find(b"=", at, at + octets)
        if escape < 0:
            return at + octets
        octets -= escape - at + (not encoded.startswith(SOFT, escape))
        at = escape + 3
    return at


def encode(address: bytes) -> bytes:
    """A URL or a tag: ASCII in one line."""
    if b"=" not in address:
        made = SOFT.join([address[start : start + _LINE] for start in range(0, len(address), _LINE)])
        if b"\n-" not in made and not made.startswith(b"-"):
            return made
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
