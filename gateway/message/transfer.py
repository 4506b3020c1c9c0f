"""Content transfer encodings (RFC 2045, 6): how the bytes of a part stand on the wire.

Guarantees: what is returned is ASCII, CRLF only, without NUL, in lines of at most 998 octets; text keeps
its characters (line ends become CRLF), other content its bytes. Large content comes in pieces of at most
PIECE_BYTES cut at line ends.
"""

import binascii
import re
import struct
from typing import Final

from gateway.message.fixup import has_long_line
from gateway.message.model import PIECE_BYTES

_LINE_IN: Final = 57  # octets that make a base64 line
_LINE_OUT: Final = 76  # RFC 2045, 6.8
_LINES_PER_PIECE: Final = PIECE_BYTES // (_LINE_OUT + 2)
# Cutting by struct is one call in C for a whole piece.
_CUT: Final = struct.Struct(f"{_LINE_OUT}s" * _LINES_PER_PIECE)
_FOLD: Final = struct.Struct(f"{_LINE_OUT}s" * 64)
_SLICE_BYTES: Final = 1_000_000  # of text are encoded without a turn for other threads: 20 ms
_HIGH: Final = bytes(range(128, 256))
_SPACE_TOO_FAR: Final = re.compile(rb"^([^\n]{74,75})(=20|=09)$", re.MULTILINE)
MOSTLY_ASCII: Final = 6  # one octet in so many: from there on base64 is shorter than quoted-printable


def encode_text(text: str) -> tuple[str, list[bytes]]:
    """(encoding, chunks) of a text part. Raises UnicodeEncodeError for a lone surrogate.

    7bit where the text is ASCII without NUL in lines of at most 998; quoted-printable where at most one
    octet in six is not ASCII; else base64. The last chunk has the line end that the text has.
    """
    data = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8")
    slices = _slices(data)
    wire = [some.replace(b"\n", b"\r\n") for some in slices]
    if data.isascii() and b"\0" not in data and not any(map(has_long_line, wire)):
        return "7bit", wire
    high = sum(len(some) - len(some.translate(None, _HIGH)) for some in slices)
    if high * MOSTLY_ASCII <= len(data):
        *before, last = map(quoted_printable, slices)
        return "quoted-printable", [*map(_ended, before), last]
    return "base64", encode_base64(b"".join(wire))


def _slices(data: bytes) -> list[bytes]:
    """Text with LF line ends cut after them, and within a line only where it is longer than a slice."""
    slices, start = [], 0
    while len(data) - start > _SLICE_BYTES:
        end = data.rfind(b"\n", start, start + _SLICE_BYTES) + 1 or start + _SLICE_BYTES
        slices.append(data[start:end])
        start = end
    return [*slices, data[start:]]


def quoted_printable(data: bytes) -> bytes:
    """Text with LF line ends (a CR is escaped), in lines of at most 76 octets with CRLF."""
    # binascii breaks lines at 76 and escapes whitespace at a line's end; NUL, too, is escaped. That white space it does
    # not count: such a line may have 78 octets, and RFC 2045, 6.7 (5) wants 76.
    return _SPACE_TOO_FAR.sub(rb"\1=\n\2", binascii.b2a_qp(data, istext=True)).replace(b"\n", b"\r\n")


def _ended(chunk: bytes) -> bytes:
    """Quoted-printable that ends with a line end: a soft one (RFC 2045, 6.7 (5)) where it ends in a line."""
    if chunk.endswith(b"\n"):
        return chunk
    if len(chunk) - chunk.rfind(b"\n") > _LINE_OUT:  # a full line: its last character goes to the next one
        place = len(chunk) - (3 if chunk[-3:-2] == b"=" else 1)
        chunk = chunk[:place] + b"=\r\n" + chunk[place:]
    return chunk + b"=\r\n"


def encode_base64(data: bytes) -> list[bytes]:
    """Lines of 76 characters in chunks of at most PIECE_BYTES; every chunk but the last ends with CRLF."""
    step = _LINES_PER_PIECE * _LINE_IN
    chunks = []
    for start in range(0, len(data) - step, step):
        encoded = binascii.b2a_base64(data[start : start + step], newline=False)
        chunks.append(b"\r\n".join(_CUT.unpack(encoded)) + b"\r\n")
    chunks.append(_folded(binascii.b2a_base64(data[len(chunks) * step :], newline=False)))
    return chunks


def _folded(encoded: bytes) -> bytes:
    whole = len(encoded) - len(encoded) % _FOLD.size
    lines: list[bytes] = []
    for some in _FOLD.iter_unpack(memoryview(encoded)[:whole]):
        lines += some
    lines += [encoded[i : i + _LINE_OUT] for i in range(whole, len(encoded), _LINE_OUT)]
    return b"\r\n".join(lines)


def is_seven_bit(data: bytes) -> bool:
    """Whether bytes may travel as 7bit (RFC 2045, 2.7): ASCII, no NUL, CRLF only, lines up to 998."""
    bare = data.replace(b"\r\n", b"")
    return data.isascii() and not (b"\0" in data or b"\r" in bare or b"\n" in bare or has_long_line(data))


def cut(chunks: list[bytes]) -> tuple[bytes, ...]:
    """Chunks that each end with LF, as pieces of at most PIECE_BYTES cut after an LF."""
    pieces: list[bytes] = []
    pending: list[bytes] = []
    size = 0
    for chunk in chunks:
        if size + len(chunk) > PIECE_BYTES and pending:
            pieces.append(b"".join(pending))
            pending, size = [], 0
        start = 0
        while len(chunk) - start > PIECE_BYTES:
            end = chunk.rfind(b"\n", start, start + PIECE_BYTES) + 1
            pieces.append(chunk[start:end])
            start = end
        pending.append(chunk[start:] if start else chunk)
        size += len(pending[-1])
    if pending:
        pieces.append(b"".join(pending))
    return tuple(piece for piece in pieces if piece)
