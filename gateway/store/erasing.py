"""Looking for a person in all that is stored, and removing what is found while mail goes on.

Guarantees: every message, event and idempotency record is looked at once, in slices, by a reader; what is found is
changed in short transactions between which the writer rests. Afterwards no free page of the file and nothing of the log
(the -wal file) holds what was removed, nor does a small file at all: it is written anew. A larger one may keep traces
in pages that are in use, until they are written over.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.errors import StoreFull
from gateway.store import erasure
from gateway.store.db import Cursor, Row, Statements
from gateway.store.erasure import Erasure, Removed, Trace, Wanted
from gateway.store.person import Person
from gateway.store.readers import Readers
from gateway.store.writer import Writer, rest

SLICE_ROWS: Final = 1000  # looked at in one read
STEP_RECIPIENTS: Final = 100  # of the messages that are changed in one transaction; a larger one has its own
AGAIN_S: Final = 0.5  # until what was in hand, or a log that a reader kept, is looked at again
REWRITE_BYTES: Final = 64 * 1024 * 1024  # in memory, and for half a second nothing else is written
_PAGES_STEPS: Final = 10_000  # of a megabyte: what mail frees meanwhile is not followed without end
_LOG_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Erased:
    """`in_hand`: messages that are left, for an attempt has them still. `rewritten`: the whole file was, so no trace is
    left in it."""

    removed: Removed
    in_hand: int
    rewritten: bool = False


class Erasing:
    """Errors: StoreError. One person at a time."""

    def __init__(self, writer: Writer, readers: Readers, sql: Statements, work: Erasure) -> None:
        self._writer = writer
        self._readers = readers
        self._sql = sql
        self._work = work
        self._one = asyncio.Lock()

    async def count(self, person: Person, account: str | None) -> Erased:
        """What would be removed of messages, and what an attempt has in hand now."""
        total = Erased(Removed(), 0)
        async for numbers in self._numbers("erasure_messages", person):
            one = await self._readers.read(partial(self._counted, Wanted(person, account, numbers, 0)))
            total = Erased(total.removed + one.removed, total.in_hand + one.in_hand)
        return total

    async def erase(self, trace: Trace, account: str | None, *, now: Callable[[], int], patience_s: float) -> Erased:
        """Remove all of a person; what is in hand is waited for, so long at most. With an account, what is of no
        account or of all stays: suppressions, and whom keys know."""
        person = trace.person
        async with self._one:
            removed, busy, gone = await self._messages(person, account, now, patience_s)
            async for numbers in self._numbers("erasure_events", person):
                removed += await self._writer.submit(self._work.events, Wanted(person, account, numbers, now()))
            async for requests in self._requests(person, account, gone):
                removed += await self._writer.submit(self._work.traces, Trace(person, requests=requests))
            if account is None:
                removed += await self._writer.submit(self._work.traces, trace)
            return Erased(removed, len(busy), await self._scrub())

    async def _messages(
        self, person: Person, account: str | None, now: Callable[[], int], patience_s: float
    ) -> tuple[Removed, Sequence[int], Collection[bytes]]:
        """What was removed; messages that are left; ids of those that are gone."""
        removed, gone = Removed(), set[bytes]()
        busy: list[int] = []

        async def step(numbers: Sequence[int]) -> None:
            nonlocal removed
            done = await self._writer.submit(self._work.messages, Wanted(person, account, numbers, now()))
            removed += done.removed
            busy.extend(done.busy)
            gone.update(done.gone)

        async for numbers in self._numbers("erasure_messages", person):
            await step(numbers)
        until = time.monotonic() + patience_s
        while busy and time.monotonic() < until:
            await asyncio.sleep(AGAIN_S)
            again, busy[:] = tuple(busy), ()
            for number in again:
                await step([number])
        return removed, busy, gone

    async def _numbers(self, statement: str, person: Person) -> AsyncIterator[list[int]]:
        """Of the rows that may name a person, a few at a time."""
        after, more = 0, True
        while more:
            values = (after, SLICE_ROWS, person.needle)
            rows = await self._readers.read(partial(_rows, self._sql[statement], values))
            for numbers in _steps((row[0], row[1]) for row in rows if row[2]):
                began = time.monotonic()
                yield numbers
                await rest(began)
            more = len(rows) == SLICE_ROWS
            after = rows[-1][0] if rows else after

    async def _requests(
        self, person: Person, account: str | None, gone: Collection[bytes]
    ) -> AsyncIterator[list[tuple[str, str]]]:
        """Idempotency records that name a person, or a message that is gone."""
        after, more = ("", ""), True
        while more:
            values = (*after, SLICE_ROWS, person.needle)
            rows = await self._readers.read(partial(_rows, self._sql["erasure_requests"], values))
            found = [
                (owner, text)
                for owner, text, uuid, named in rows
                if (named or uuid in gone) and account in {None, owner}
            ]
            if found:
                yield found
            more = len(rows) == SLICE_ROWS
            after = (rows[-1][0], rows[-1][1]) if rows else after

    def _counted(self, wanted: Wanted, cursor: Cursor) -> Erased:
        removed, in_hand = Removed(), 0
        for number in wanted.numbers:
            found = erasure.meant(cursor, self._sql, number, wanted)
            if found is not None:
                removed += erasure.would_be(found, wanted.person)
                in_hand += any(one.in_hand for one in found.theirs(wanted.person))
        return Erased(removed, in_hand)

    async def _scrub(self) -> bool:
        """Nothing of what was removed stays in free pages or in the log; whether the whole file was written anew."""
        rewritten = self._writer.backlog.bytes <= REWRITE_BYTES
        if rewritten:
            try:
                await self._writer.rewrite()
            except StoreFull:  # it needs as much room again in the log, and that is full now
                rewritten = False
                await self._empty_log()
        try:
            await self._give_back()
        except StoreFull:  # the sweep does it, when there is room
            rewritten = False
        return await self._empty_log() and rewritten

    async def _give_back(self) -> None:
        """All free pages."""
        for _ in range(_PAGES_STEPS):
            began = time.monotonic()
            if not await self._writer.submit(self._work.give_back, None):
                return
            await rest(began)

    async def _empty_log(self) -> bool:
        for _ in range(_LOG_TRIES):
            if await self._writer.empty_log():
                return True
            await asyncio.sleep(AGAIN_S)  # a reader keeps it
        return False


def _steps(rows: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Numbers of rows, by what they weigh."""
    numbers, total = list[int](), 0
    for number, weight in rows:
        if numbers and total + weight > STEP_RECIPIENTS:
            yield numbers
            numbers, total = [], 0
        numbers.append(number)
        total += weight
    if numbers:
        yield numbers


def _rows(sql: str, values: Sequence[object], cursor: Cursor) -> list[Row]:
    return cursor.execute(sql, values).fetchall()
