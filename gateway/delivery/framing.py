"""Content as it goes over the wire after DATA (RFC 5321, 4.5.2). Pure.

Guarantees: only CRLF leaves, every line that begins with a dot gets a second one, wherever a piece was cut, and the end
is a line with one dot. A bare CR or LF is refused: a peer that takes one for a line end could be made to see a second
message (smuggling).
"""

from gateway.message import fixup


class NotCanonical(ValueError):
    """A bare CR or LF in content that was stored as canonical."""

    def __init__(self) -> None:
        super().__init__("the stored content has a line end that is not CRLF")


def whole(prefix: bytes, content: bytes, *, dot_lines: bool) -> bytes:
    """A message in one piece, its end included. `dot_lines` False promises that no line begins with a dot.

    Raises NotCanonical.
    """
    _check(content)
    if dot_lines:
        content = _stuff(content, at_line_start=not prefix or prefix.endswith(b"\n"))
    end = b".\r\n" if content.endswith(b"\r\n") or not content else b"\r\n.\r\n"
    return b"".join((prefix, content, end))


class Framer:
    """A message in pieces, however they are cut."""

    __slots__ = ("_at_line_start", "_dot_lines", "_held")

    def __init__(self, *, dot_lines: bool) -> None:
        self._dot_lines = dot_lines
        self._at_line_start = True
        self._held = b""  # a CR at the end of a piece: its LF comes with the next

    def feed(self, piece: bytes) -> bytes:
        """What leaves now. Raises NotCanonical."""
        if self._held:
            piece = self._held + piece
            self._held = b""
        if piece.endswith(b"\r"):
            self._held = b"\r"
            piece = piece[:-1]
        if not piece:
            return b""
        _check(piece)
        framed = _stuff(piece, at_line_start=self._at_line_start) if self._dot_lines else piece
        self._at_line_start = piece.endswith(b"\n")
        return framed

    def end(self) -> bytes:
        """The last bytes: the line with the dot. Raises NotCanonical."""
        if self._held:
            raise NotCanonical
        return b".\r\n" if self._at_line_start else b"\r\n.\r\n"


def _stuff(data: bytes, *, at_line_start: bool) -> bytes:
    data = data.replace(b"\r\n.", b"\r\n..")
    return b"." + data if at_line_start and data.startswith(b".") else data


def _check(data: bytes) -> None:
    if not fixup.only_crlf(data):
        raise NotCanonical
