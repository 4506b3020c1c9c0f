"""A body with patches in place, as it streams by. Pure.

Guarantees: all outside the patches leaves as it came, in pieces that are cut after a line end, as the stored ones;
beside the patches no more than two of them are held.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.message.model import PIECE_BYTES


class Patch(NamedTuple):
    """Octets of the body from `start` to `end` give way to `data`."""

    start: int
    end: int
    data: bytes


def whole(body: bytes, patches: Sequence[Patch]) -> bytes:
    """A body in one piece. `patches` are in order and apart."""
    made, at = [], 0
    for patch in patches:
        made += [body[at : patch.start], patch.data]
        at = patch.end
    made.append(body[at:])
    return b"".join(made)


class Patching:
    """Feed it the body, however it is cut."""

    __slots__ = ("_at", "_next", "_out", "_patches", "_size")

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches = patches
        self._next = 0
        self._at = 0  # in the body
        self._out: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces that are full now: at most PIECE_BYTES."""
        base, end = self._at, self._at + len(data)
        at = base
        while self._next < len(self._patches):
            patch = self._patches[self._next]
            if patch.start >= end:
                break
            if at <= patch.start:
                self._add(data[at - base : patch.start - base])
                self._add(patch.data)
            at = min(max(patch.end, at), end)
            if patch.end > end:
                break  # the rest of what gives way comes with the next
            self._next += 1
        self._add(data[at - base :] if at > base else data)
        self._at = end
        return self._full()

    def finish(self) -> list[bytes]:
        """The last pieces; the last one may be empty."""
        return [*self._full(), b"".join(self._out)]

    def _add(self, data: bytes) -> None:
        if data:
            self._out.append(data)
            self._size += len(data)

    def _full(self) -> list[bytes]:
        if self._size <= PIECE_BYTES:
            return []
        pieces, start, text = [], 0, b"".join(self._out)
        while len(text) - start > PIECE_BYTES:
            end = text.rfind(b"\n", start, start + PIECE_BYTES) + 1 or start + PIECE_BYTES
            pieces.append(text[start:end])
            start = end
        self._out, self._size = [text[start:]], len(text) - start
        return pieces
