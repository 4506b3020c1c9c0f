"""Which parts of a message are its own, and open to all. Pure.

Guarantees: a part of a message within the message is none of them, nor is one of multipart/encrypted; where one of
these ends is what `parts.Walk` says.
"""

from gateway.message.recode.header import Kind
from gateway.message.recode.parts import Part


class Nesting:
    """Tell it all that a visitor is told (`parts.Visitor`)."""

    def __init__(self) -> None:
        self._open: list[tuple[bytes, bool]] = []  # boundaries, and whether what is in there is closed to us
        self._closed = False

    def enter(self, part: Part) -> bool:
        """Whether this part is one."""
        nature = part.nature
        outside = not self._closed
        if nature.kind is Kind.MULTIPART:
            self._open.append((nature.boundary, self._closed or nature.encrypted))
            self._closed = self._closed or nature.encrypted
        elif nature.kind is Kind.MESSAGE:
            self._closed = True
        return outside

    def frame(self, data: bytes) -> None:
        """What may be a delimiter: then all that is within its multipart is over."""
        line = data.strip(b"\r\n")
        if not line.startswith(b"--"):
            return
        text = line[2:].rstrip(b" \t")
        for depth in range(len(self._open) - 1, -1, -1):
            boundary, closed = self._open[depth]
            if text == boundary:
                del self._open[depth + 1 :]
                self._closed = closed
                return
            if text == boundary + b"--":
                del self._open[depth:]
                self._closed = any(closed for _, closed in self._open[-1:])
                return
