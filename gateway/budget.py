"""Bytes of content in hand, both doors together: who would take too many waits, or is told to come again.

Guarantees: never more than the limit is handed out; what is given back wakes who waits, in the order they came. Small
amounts have a line of their own, and a part of the limit that large ones never get: mail of a few kilobytes is not held
up by mail of many megabytes, nor by clients that announce much and send it slowly. It counts what it is told and
measures nothing (`return_large_blocks` keeps the process near what is counted). For one event loop.
"""

import asyncio
import ctypes
from collections import deque
from types import TracebackType
from typing import Final, Self

SMALL_BYTES: Final = 1_000_000  # of this size and below, an amount is given wherever there is room
_FOR_SMALL: Final = 4  # of the limit, one part in so many
_FOR_ONE: Final = 2
WAIT_S: Final = 10.0  # for room; then the client is told to come again, before it gives up by itself
_LARGE_BLOCK: Final = 240 * 1024  # just below the pieces of a message (256 KB): many of them make the large ones
_KEPT_BYTES: Final = 4 * 1024 * 1024  # free, at the end of the heap
_M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
_M_MMAP_THRESHOLD: Final = -3


def return_large_blocks() -> None:
    """Have freed bodies and attachments leave the process, for its whole life.

    glibc by itself keeps blocks of up to 32 MB for later once one of that size was freed, in each thread's own heap:
    a process that holds nothing any more stays at some hundred MB. Other C libraries are left as they are.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        set_option(_M_TRIM_THRESHOLD, _KEPT_BYTES)


class Budget:
    """`limit` bytes for everybody, of which `held` are handed out; large amounts get at most `most_large` of them."""

    __slots__ = ("_large", "_small", "held", "limit", "most_large")

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._small: deque[tuple[int, asyncio.Future[None]]] = deque()  # who waits, and for how much
        self._large: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.resize(limit)

    def resize(self, limit: int) -> None:
        """From now on. What is handed out stays so, and what is asked for waits until there is room by the new
        limit."""
        self.limit = limit
        self.most_large = limit - limit // _FOR_SMALL
        self._wake()

    def try_take(self, count: int) -> bool:
        """`count` bytes now, or nothing."""
        if count <= SMALL_BYTES:
            if self.held + count > self.limit:
                return False
        elif self._large or self.held + count > self.most_large:
            return False
        self.held += count
        return True

    async def take(self, count: int, timeout_s: float = WAIT_S) -> bool:
        """`count` bytes as soon as there is room; False where there is none for so long."""
        if self.try_take(count):
            return True
        line, most = (self._small, self.limit) if count <= SMALL_BYTES else (self._large, self.most_large)
        if count > most:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (count, turn)
        line.append(entry)
        try:
            await asyncio.wait((turn,), timeout=timeout_s)
        except asyncio.CancelledError:
            if turn.done():
                self.release(count)
            else:
                line.remove(entry)
                self._wake()  # those behind may ask for less
            raise
        if not turn.done():
            line.remove(entry)
            self._wake()
        return turn.done()

    def release(self, count: int) -> None:
        """Give back what was taken."""
        self.held -= count
        if self._small or self._large:
            self._wake()

    def _wake(self) -> None:
        """Hand out what there is, by turn. It is counted here, so that nobody can come in between."""
        for line, most in ((self._small, self.limit), (self._large, self.most_large)):
            while line and self.held + line[0][0] <= most:
                count, turn = line.popleft()
                self.held += count
                turn.set_result(None)


class Share:
    """What one message has of a budget; given back at the end of a `with` block, or by `release`.

    A share is at most half of the budget, so that a message of any size gets in while small ones come and go; no two of
    that size are in hand at once. Only an amount that is small is taken in full, whatever the budget.
    """

    __slots__ = ("_budget", "taken")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def try_grow(self, total: int) -> bool:
        """Have `total` bytes, now or not at all."""
        more = self._missing(total)
        if more > 0:
            if not self._budget.try_take(more):
                return False
            self.taken += more
        return True

    async def grow(self, total: int, timeout_s: float = WAIT_S) -> bool:
        """Have `total` bytes, waiting so long for them. On False the share is what it was."""
        if self.try_grow(total):
            return True
        more = self._missing(total)
        if not await self._budget.take(more, timeout_s):
            return False
        self.taken += more
        return True

    def _missing(self, total: int) -> int:
        limit = self._budget.limit
        return min(total, limit if total <= SMALL_BYTES else limit // _FOR_ONE) - self.taken

    def release(self) -> None:
        """Give everything back."""
        taken, self.taken = self.taken, 0
        if taken:
            self._budget.release(taken)
