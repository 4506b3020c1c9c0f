"""The parts of a message as its body streams by (RFC 2046, 5.1): where each begins and ends, byte for byte.

Guarantees: what a visitor is given, put together, is the body as it came; memory is bounded by one header of a part
and what one piece brings; linear time. A delimiter is a whole line: that of the innermost open multipart or of any
outer one, which closes what is within. It decides nothing but what it cannot follow.
"""

from typing import Final, NamedTuple, Protocol

from gateway.message.fixup import MAX_LINE
from gateway.message.model import PIECE_BYTES
from gateway.message.recode import header as part_header
from gateway.message.recode.header import Kind, Nature

MAX_DEPTH: Final = 100
MAX_PARTS: Final = 10_000
HEADER_BYTES: Final = PIECE_BYTES // 2
_SLICE_BYTES: Final = 32 * 1024  # looked at without a turn for other threads
_CRLF: Final = b"\r\n"


class Unrepairable(Exception):
    """A line over 998 octets that must stay as it is; the text is for whoever sent it, `why` the reason alone. `line`
    counts from 1."""

    def __init__(self, line: int | None, why: str) -> None:
        self.why = why
        which = "A line" if line is None else f"Line {line}"
        super().__init__(
            f"{which} is longer than 998 octets (RFC 5322, 2.1.1) and cannot be re-encoded: {why}. "
            "Send it in shorter lines, or in base64 or quoted-printable."
        )


class Part(NamedTuple):
    """A message or a part of one. `number` counts them from 0; `fixed`: within multipart/signed."""

    number: int
    header: bytes
    nature: Nature
    message: bool
    fixed: bool


class Visitor(Protocol):
    """What is told of the parts. `line` is the number of the first line of the data."""

    def frame(self, data: bytes, line: int) -> None:
        """What belongs to no leaf: delimiters with the line end before them, what is before the first, after the last
        one."""

    def enter(self, part: Part, line: int) -> None:
        """A part begins, or the message itself, with its header."""

    def body(self, part: Part, data: bytes, line: int) -> None:
        """Some of a leaf's body; it begins where the last one ended."""

    def leave(self, part: Part) -> None:
        """The body of a leaf is over."""


class _Level(NamedTuple):
    """An open multipart."""

    boundary: bytes
    default: bytes  # type of parts that do not say theirs
    fixed: bool


class Walk:
    """Feed it the body in pieces that are canonical and never cut between CR and LF, nor in a line that a piece could
    hold. Both methods raise Unrepairable."""

    __slots__ = (
        "_at_start",
        "_boundaries",
        "_count",
        "_head",
        "_held",
        "_leaf",
        "_levels",
        "_line",
        "_next",
        "_visitor",
    )

    def __init__(self, header: bytes, visitor: Visitor) -> None:
        self._visitor = visitor
        self._levels: list[_Level] = []
        self._boundaries: dict[bytes, int] = {}  # of the open multiparts: how deep
        self._leaf: Part | None = None  # the body of this one is read; None: between parts
        self._head: bytearray | None = None  # the header of a part is read
        self._next = (b"text/plain", True, False)  # of what that begins: default type, is a message, fixed
        self._held = b""  # a line end that belongs to a delimiter, should one follow
        self._at_start = True  # of a line
        self._count = 0
        self._line = 1
        self._begin(header)

    def feed(self, data: bytes) -> None:
        start = 0
        while len(data) - start > _SLICE_BYTES:
            end = data.rfind(b"\n", start, start + _SLICE_BYTES) + 1 or start + _SLICE_BYTES
            end -= data[end - 1 : end] == b"\r"
            self._feed(data[start:end])
            start = end
        self._feed(data[start:] if start else data)

    def _feed(self, data: bytes) -> None:
        pos = 0
        while pos < len(data):
            pos = self._read_header(data, pos) if self._head is not None else self._read_content(data, pos)

    def end(self) -> None:
        """The body is over."""
        if self._head is not None:
            self._end_header()
        if self._held:
            self._give(self._held)
            self._held = b""
        self._close_leaf()

    def _begin(self, header: bytes) -> None:
        default, message, fixed = self._next
        nature = part_header.read(header, default=default)
        part = Part(self._count, header, nature, message, fixed)
        self._count += 1
        if self._count > MAX_PARTS or len(self._levels) > MAX_DEPTH:
            raise Unrepairable(self._line, "the message has too many parts")
        self._visitor.enter(part, self._line)
        self._line += header.count(b"\n")
        self._head, self._at_start, self._held = None, True, b""
        if nature.kind is Kind.MULTIPART:
            default = b"message/rfc822" if nature.digest else b"text/plain"  # RFC 2046, 5.1.5
            self._levels.append(_Level(nature.boundary, default, fixed or nature.signed))
            self._index()
        elif nature.kind is Kind.MESSAGE:
            self._head, self._next = bytearray(), (b"text/plain", True, fixed)
        else:
            self._leaf = part

    def _index(self) -> None:
        self._boundaries = {level.boundary: depth for depth, level in enumerate(self._levels)}

    def _read_header(self, data: bytes, pos: int) -> int:
        """One line of a header."""
        assert self._head is not None
        end = data.find(b"\n", pos) + 1
        line = data[pos:end]
        if not end or len(self._head) + len(line) > HEADER_BYTES:
            raise Unrepairable(self._line, "it is of, or near, the header of a part that is too large")
        found = self._delimiter(line) if line.startswith(b"--") else None
        if found is not None:
            self._end_header()
            self._cross(line, *found)
            return end
        self._head += line
        if line == _CRLF:
            self._begin(bytes(self._head))
        return end

    def _end_header(self) -> None:
        """The header has no body, not even an empty one."""
        while self._head is not None:
            self._begin(bytes(self._head))
        self._close_leaf()

    def _read_content(self, data: bytes, pos: int) -> int:
        """What comes up to the next delimiter, and that; or all."""
        if not self._boundaries:
            self._give(data[pos:] if pos else data)
            return len(data)
        place = pos if self._at_start and data.startswith(b"--", pos) else _next_dashes(data, pos)
        while place >= 0:
            end = data.find(b"\n", place) + 1
            found = self._delimiter(data[place:end] if end else data[place:])
            if found is not None:
                return self._reach(data, pos, place, found)
            place = _next_dashes(data, place)
        kept = len(data) - 2 if data.endswith(_CRLF) else len(data)
        self._give(self._held + data[pos:kept])
        self._held = data[kept:]
        self._at_start = bool(self._held)
        return len(data)

    def _reach(self, data: bytes, pos: int, place: int, found: tuple[int, bool]) -> int:
        """A delimiter at `place`: what is before it is content, but for the line end."""
        if place > pos:
            self._give(self._held + data[pos : place - 2])
            self._held = _CRLF
        self._close_leaf()
        end = data.find(b"\n", place) + 1
        if not end or end - place > MAX_LINE + 2:
            raise Unrepairable(self._line + bool(self._held), "it is a delimiter between parts")
        self._cross(self._held + data[place:end], *found)
        return end

    def _delimiter(self, line: bytes) -> tuple[int, bool] | None:
        """(depth of the multipart, whether this ends it); None for another line."""
        text = line[2:].rstrip(b"\r\n \t")  # RFC 2046, 5.1.1: white space may stand after it
        depth = self._boundaries.get(text)
        if depth is not None:
            return depth, False
        depth = self._boundaries.get(text[:-2]) if text.endswith(b"--") else None
        return None if depth is None else (depth, True)

    def _cross(self, delimiter: bytes, depth: int, closing: bool) -> None:
        self._visitor.frame(delimiter, self._line)
        self._line += delimiter.count(b"\n")
        level = self._levels[depth]
        del self._levels[depth if closing else depth + 1 :]
        self._index()
        self._held, self._at_start = b"", True
        if not closing:
            self._head, self._next = bytearray(), (level.default, False, level.fixed)

    def _give(self, data: bytes) -> None:
        if not data:
            return
        if self._leaf is not None:
            self._visitor.body(self._leaf, data, self._line)
        else:
            self._visitor.frame(data, self._line)
        self._line += data.count(b"\n")

    def _close_leaf(self) -> None:
        if self._leaf is not None:
            self._visitor.leave(self._leaf)
            self._leaf = None


def _next_dashes(data: bytes, pos: int) -> int:
    """Where the next line with two of them begins; -1: nowhere."""
    return data.find(b"\n--", pos) + 1 or -1
