"""Bodies with long lines in a transfer encoding, as they stream by (RFC 2045, 6.7 and 6.8).

Guarantees: lines of at most 76 octets where a body is encoded; of one that is encoded already only its lines over 998
are cut, and what it decodes to stays. No line that is made here begins with two dashes, so none becomes a delimiter.
Input is canonical, cut as `parts.Walk` wants it.
"""

import re
from typing import Final, Protocol

from gateway.message import transfer
from gateway.message.fixup import MAX_LINE

_WIDTH: Final = 76  # RFC 2045, 6.7 (5) and 6.8
_BASE64_IN: Final = 57  # octets that make such a line
_QP_ROOM: Final = 73  # of a line that is cut: a dash at its start may be escaped, and it gets a soft line break
_CRLF: Final = b"\r\n"
_SOFT: Final = b"=\r\n"
_DASHES: Final = re.compile(rb"^--[^\r\n]*", re.MULTILINE)
# Only from where a line begins: from each octet of lines that are just short enough it took seconds a megabyte.
LONG_LINE: Final = re.compile(rb"(?<![^\r\n])[^\r\n]{999,}+")
_QP_CUT: Final = re.compile(rb"[^\r\n]{1,%d}(?<!=)(?<!=.)|[^\r\n]{1,%d}" % (_QP_ROOM, _QP_ROOM), re.DOTALL)


class Encoder(Protocol):
    def feed(self, data: bytes) -> bytes:
        """The next of the body; what stands for it, as far as that is known."""

    def finish(self) -> bytes:
        """What was held back. It has a line end only if the body has one there."""


class QuotedPrintable:
    """Of a text that stands as it is."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""  # a line without its end, encoded: a soft line break must fit behind it

    def feed(self, data: bytes) -> bytes:
        before = self._tail
        if before and not data.startswith(_CRLF):
            before = _fit(before, _WIDTH - 1) + _SOFT
        encoded = _DASHES.sub(_escape, transfer.quoted_printable(data.replace(_CRLF, b"\n")))
        done = encoded.rfind(b"\n") + 1
        self._tail = encoded[done:]
        return before + encoded[:done]

    def finish(self) -> bytes:
        tail, self._tail = self._tail, b""
        return tail


class Base64:
    """Of anything that stands as it is."""

    __slots__ = ("_begun", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data
        whole = len(data) - len(data) % _BASE64_IN
        self._rest = data[whole:]
        return self._lines(data[:whole])

    def finish(self) -> bytes:
        return self._lines(self._rest)

    def _lines(self, data: bytes) -> bytes:
        if not data:
            return b""
        between, self._begun = _CRLF if self._begun else b"", True
        return between + b"".join(transfer.encode_base64(data))


class Cut:
    """The long lines of a body that is encoded already, shortened."""

    __slots__ = ("_in_line", "_quoted_printable", "_tail")

    def __init__(self, *, quoted_printable: bool) -> None:
        self._quoted_printable = quoted_printable
        self._tail = b""  # the last of a long line, without its end
        self._in_line = False  # the next bytes go on with a long line

    def feed(self, data: bytes) -> bytes:
        done = b""
        if self._in_line:
            end = data.find(_CRLF)
            first = data if end < 0 else data[:end]
            *lines, self._tail = self._cut(self._tail + first)
            done = b"".join(lines)
            if end < 0:
                return done
            done, data = done + self._tail, data[end:]
            self._tail, self._in_line = b"", False
        start = data.rfind(b"\n") + 1
        if len(data) - start > MAX_LINE:
            done += self._shorten(data[:start])
            *lines, self._tail = self._cut(data[start:])
            self._in_line = True
            return done + b"".join(lines)
        return done + self._shorten(data)

    def finish(self) -> bytes:
        tail, self._tail, self._in_line = self._tail, b"", False
        return tail

    def _shorten(self, data: bytes) -> bytes:
        return LONG_LINE.sub(lambda found: b"".join(self._cut(found[0])), data)

    def _cut(self, line: bytes) -> list[bytes]:
        """A line in pieces, each but the last with a line end that means nothing."""
        if self._quoted_printable:
            pieces = [b"=2D" + piece[1:] if piece.startswith(b"--") else piece for piece in _QP_CUT.findall(line)]
            return [*(piece + _SOFT for piece in pieces[:-1]), *pieces[-1:]] or [b""]
        pieces = [line[start : start + _WIDTH] for start in range(0, len(line), _WIDTH)]
        return [*(piece + _CRLF for piece in pieces[:-1]), *pieces[-1:]] or [b""]


def _escape(found: re.Match[bytes]) -> bytes:
    """A line of quoted-printable that does not begin with two dashes any more."""
    return _fit(b"=2D" + found[0][1:], _WIDTH)


def _fit(line: bytes, width: int) -> bytes:
    """A line of quoted-printable, with a soft line break in it where it is longer than `width`."""
    if len(line) <= width:
        return line
    place = width - 1
    if line[place - 1 : place] == b"=":
        place -= 1
    elif line[place - 2 : place - 1] == b"=":
        place -= 2
    rest = line[place:]
    return line[:place] + _SOFT + (b"=2D" + rest[1:] if rest.startswith(b"--") else rest)
