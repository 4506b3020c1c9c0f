"""Hearing of commits: for those who wait for something new in the store.

Guarantees: who listens, then looks, then waits, misses nothing; a wait holds nothing but its caller. Who waits is woken
together, and the more of them the less often: what they look up then stays a bounded share of the process.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LEAST_S: Final = 0.01  # between a commit and the look for what it brought: a burst is one look
_EACH_S: Final = 0.001  # more for each who waits


class Listening:
    """One caller's ear, from before it looked."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self, within_s: float) -> None:
        """Returns after a commit, when everybody is woken, or at the end of that time."""
        await asyncio.wait((self.heard,), timeout=within_s)


class Commits:
    """Told by the store's loop side, listened to in the same loop."""

    def __init__(self) -> None:
        self._listening: set[Listening] = set()
        self._pending: asyncio.TimerHandle | None = None

    def tell(self) -> None:
        """Something was committed. Without a listener it is one comparison."""
        if self._listening and self._pending is None:
            delay_s = max(_LEAST_S, _EACH_S * len(self._listening))
            self._pending = asyncio.get_running_loop().call_later(delay_s, self._wake_later)

    @contextmanager
    def listen(self) -> Iterator[Listening]:
        one = Listening()
        self._listening.add(one)
        try:
            yield one
        finally:
            self._listening.discard(one)

    def wake(self) -> None:
        """Everybody, whether there is something new or not."""
        for one in self._listening:
            if not one.heard.done():
                one.heard.set_result(None)

    def _wake_later(self) -> None:
        self._pending = None
        self.wake()
