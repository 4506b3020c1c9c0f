"""When what waits becomes claimable: asked at every turn of who delivers, and at no cost while nothing is due.

Guarantees: a storm of retries does not keep new mail waiting. A damaged page keeps back only what stands on it, or
belongs there: while there is one, what waits is looked for by destination, some seconds late, and the log says so once.
For one event loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gateway.store import waiting
from gateway.store.connection import Damaged
from gateway.store.db import Row, Statements, Transaction
from gateway.store.hardship import Hardship
from gateway.store.readers import Readers
from gateway.store.waiting import PROMOTE_ROWS, Release, Waiting
from gateway.store.writer import Writer

STEPS: Final = 4  # of PROMOTE_ROWS a call
APART_S: Final = 600.0  # before all that is due is tried at once again
LOOK_S: Final = 10.0  # between two looks at all destinations meanwhile
MOST: Final = 50  # damaged rows of a destination: where there are more, all of it stays where it is

log = logging.getLogger("gateway.store")


@dataclass(slots=True)
class _Apart:
    """While something is damaged: until when, when to look next (times of the loop), the destinations that are left of
    the last look, and the recipients that cannot be moved, by destination."""

    ends_at: float
    look_at: float = 0.0
    left: deque[int] = field(default_factory=deque)
    stuck: dict[int, set[int]] = field(default_factory=dict)

    def gives_up(self, destination: int) -> bool:
        return len(self.stuck.get(destination, ())) >= MOST


class Promoting:
    """`wake_at`: nothing waits for an earlier time; 0: not known."""

    def __init__(self, writer: Writer, readers: Readers, sql: Statements, waiting: Waiting, hardship: Hardship) -> None:
        self._writer = writer
        self._readers = readers
        self._sql = sql
        self._waiting = waiting
        self._hardship = hardship
        self._apart: _Apart | None = None
        self._told: set[str] = set()
        self.wake_at = 0

    def note(self, tx: Transaction) -> bool:
        """What was committed; whether something waits for an earlier time than was known."""
        earlier = tx.wake_at < self.wake_at
        if earlier or tx.surveyed:
            self.wake_at = tx.wake_at
        return earlier

    async def promote(self, now: int) -> int:
        """Returns when to ask again, in milliseconds as `now`."""
        time = asyncio.get_running_loop().time()
        if self._apart is None or time >= self._apart.ends_at:
            try:
                return await self._together(now)
            except Damaged as error:
                self._tell(f"what waits is looked for by destination every {LOOK_S:.0f} s", error)
                self._apart = _Apart(time + APART_S)
        return await self._one_by_one(self._apart, now, time)

    async def _together(self, now: int) -> int:
        # Whatever waits is noted at its commit: while nothing is due, the answer costs no statement.
        for _ in range(STEPS):
            if self.wake_at > now:
                break
            await self._hardship.heed(self._writer.submit(self._waiting.promote, now))
        self._apart = None
        return self.wake_at

    async def _one_by_one(self, apart: _Apart, now: int, time: float) -> int:
        if not apart.left:
            if time < apart.look_at:
                return now + int((apart.look_at - time) * 1000) + 1
            apart.look_at = time + LOOK_S
            apart.left.extend(await self._due(now))
        for _ in range(STEPS):
            await self._release(apart, await self._next(apart, now), now)
        return now if apart.left else now + int(LOOK_S * 1000)

    async def _due(self, now: int) -> Sequence[int]:
        try:
            return await self._readers.read(partial(waiting.destinations, sql=self._sql, now=now))
        except Damaged as error:
            self._tell("nothing that waits is tried again", error)
            return ()

    async def _next(self, apart: _Apart, now: int) -> list[Row]:
        """What is due of the next destinations, about as much as a step moves."""
        found: list[Row] = []
        more: list[int] = []
        while apart.left and len(found) < PROMOTE_ROWS:
            destination = apart.left.popleft()
            if apart.gives_up(destination):
                continue
            question = partial(waiting.due, sql=self._sql, destination=destination, now=now, limit=PROMOTE_ROWS + MOST)
            try:
                rows = await self._readers.read(question)
            except Damaged as error:
                self._tell(f"what waits for destination {destination} stays there", error)
                continue
            stuck = apart.stuck.get(destination, set())
            if some := [row for row in rows if row[1] not in stuck]:
                found += some
                more.append(destination)
        apart.left.extend(more)
        return found

    async def _release(self, apart: _Apart, rows: Sequence[Row], now: int) -> None:
        """Rows as (at, recipient, destination): all of them, or those halves, quarters ... that are whole."""
        rows = [row for row in rows if not apart.gives_up(row[2])]
        if not rows:
            return
        release = Release([row[:2] for row in rows], now)
        try:
            moved = await self._hardship.heed(self._writer.submit(self._waiting.release, release))
        except Damaged as error:
            if half := len(rows) // 2:
                await self._release(apart, rows[:half], now)
                await self._release(apart, rows[half:], now)
                return
            self._tell(f"some that waits for destination {rows[0][2]} stays there", error)
            moved = 0
        if not moved:  # it cannot be, or stands in the index only
            for _, recipient, destination in rows:
                apart.stuck.setdefault(destination, set()).add(recipient)

    def _tell(self, text: str, error: Damaged) -> None:
        if text not in self._told:
            self._told.add(text)
            log.error("the database is damaged: %s; all else goes on; see docs/baddays.md (%s)", text, error)
