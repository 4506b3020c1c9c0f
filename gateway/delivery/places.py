"""Who may have a connection: the places of the pool, and who waits for one.

Guarantees: never more than `total` places are taken; a twentieth is for mail of high priority alone; strangers (hosts
that have not finished a transaction lately) leave a quarter to others, so hosts that never answer leave room for those
that do; who waits gets a place in the order they came, but high priority first, and nobody waits behind a stranger for
whom there is no room. It knows no connections.
"""

import asyncio
from collections import deque
from typing import Final

_HIGH: Final = 20  # a twentieth
_NO_STRANGERS: Final = 4  # a quarter


_Kind = tuple[bool, bool]  # of high priority; a stranger


class Places:
    """Constructed and used in the running loop."""

    def __init__(self, total: int) -> None:
        self._divide(total)
        self.taken = 0
        self.strangers = 0  # of them
        # By kind, in the order they came: their numbers and what they wait for.
        self._waiting: dict[_Kind, deque[tuple[int, asyncio.Future[None]]]] = {
            (high, stranger): deque() for high in (True, False) for stranger in (False, True)
        }
        self._number = 0

    def resize(self, total: int) -> None:
        """From now on; who has a place keeps it."""
        self._divide(total)
        self._serve()

    def _divide(self, total: int) -> None:
        self._total = total
        self._kept = total // _HIGH
        self._most_strangers = total - total // _NO_STRANGERS

    def ask(self, *, high: bool, stranger: bool) -> "asyncio.Future[None] | None":
        """For a place: None where it is given at once, else what to `wait` for."""
        kind = (high, stranger)
        if self._free(kind):
            self._give(kind)
            return None
        self._number += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[kind].append((self._number, future))
        return future

    async def wait(self, asked: "asyncio.Future[None]", *, stranger: bool) -> None:
        """Until the place is there."""
        try:
            await asked
        except asyncio.CancelledError:
            if asked.done() and not asked.cancelled():
                self.leave(stranger=stranger)  # it came too late
            raise

    def leave(self, *, stranger: bool) -> None:
        self.taken -= 1
        if stranger:
            self.strangers -= 1
        self._serve()

    def known(self) -> None:
        """A stranger is none any more."""
        self.strangers -= 1
        self._serve()

    @property
    def short(self) -> bool:
        """Whether somebody waits for whom a place is missing, and nothing else."""
        return any(self._first(kind) is not None and self._room(kind) for kind in self._waiting)

    @property
    def strangers_wait(self) -> bool:
        return any(self._first(kind) is not None for kind in self._waiting if kind[1])

    def _room(self, kind: _Kind) -> bool:
        """Whether the strangers' bound allows it."""
        high, stranger = kind
        return not stranger or self.strangers < self._most_strangers + (self._kept if high else 0)

    def _free(self, kind: _Kind) -> bool:
        places = self._total if kind[0] else self._total - self._kept
        return self.taken < places and self._room(kind)

    def _give(self, kind: _Kind) -> None:
        self.taken += 1
        self.strangers += kind[1]

    def _first(self, kind: _Kind) -> int | None:
        """The number of the first of them."""
        queue = self._waiting[kind]
        while queue and queue[0][1].done():
            queue.popleft()  # cancelled
        return queue[0][0] if queue else None

    def _serve(self) -> None:
        """Whoever can be served now, is."""
        while (kind := self._next()) is not None:
            self._give(kind)
            self._waiting[kind].popleft()[1].set_result(None)

    def _next(self) -> _Kind | None:
        able = [
            (not kind[0], number, kind)
            for kind in self._waiting
            if (number := self._first(kind)) is not None and self._free(kind)
        ]
        return min(able)[2] if able else None
