"""Looking for queued recipients: which rows a filter means, in slices, each a short read of its own.

Guarantees: a slice reads a bounded number of rows beside those of the destinations that are meant; oldest first. A
filter that means few destinations, or what is held or in hand, is answered from the narrow tables alone; any other
walks the messages in the order in which they expire. What is found may have moved before it is used: who changes it
looks again.
"""

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gateway.events import State
from gateway.message import address
from gateway.runtime import Clock
from gateway.store import viewed
from gateway.store.db import Cursor, Row, Statements
from gateway.store.readers import Readers
from gateway.store.shown import Filter, QueueRow, Standing
from gateway.store.suspensions import InForce
from gateway.store.viewed import BACKOFF, HELD, LEASED, READY, SCHEDULE

EVERYWHERE: Final = READY | BACKOFF | SCHEDULE | HELD | LEASED
_PLACES: Final = {
    Standing.IN_HAND: LEASED,
    Standing.HELD: HELD,
    Standing.BACKOFF: BACKOFF,
    Standing.WAITING: BACKOFF | SCHEDULE,
    Standing.FREE: READY | BACKOFF | SCHEDULE,
    Standing.OPEN: READY | BACKOFF | SCHEDULE | HELD,
}
SLICE_MESSAGES: Final = 1000  # looked at in one read of a walk
SLICE_ROWS: Final = 2000  # found in one read
PAGE_ROWS: Final = 20_000  # of the narrow tables that are looked at together: each page reads its destinations whole
STEP_ROWS: Final = 500  # changed in one transaction: some 10 ms of the writer
_FEW: Final = 500  # destinations that are looked at one by one
_LAST: Final = (1 << 63) - 1
_LOWEST: Final = -(1 << 63)

Position = tuple[int, int, int]  # (at, message, recipient) of the table `expiry`
_START: Final[Position] = (_LOWEST, 0, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """A recipient that matches: its message, where it was seen to stand, and when it waits for."""

    message: int
    place: int
    waits_for: int | None
    row: QueueRow


@dataclass(frozen=True, slots=True)
class _Question:
    """A filter with the places it means; `key` by its number."""

    which: Filter
    places: int
    key: int | None

    def conditions(self, rows: int) -> tuple[object, ...]:
        which = self.which
        return (
            which.account,
            self.key,
            which.older_than,
            which.route,
            self.domain,
            which.address,
            which.state.value if which.state else None,
            self.places,
            rows,
        )

    @property
    def domain(self) -> str | None:
        which = self.which
        if which.domain is None and which.address is not None:
            return address.domain_of(which.address)  # an address is where its domain is
        return which.domain


class Search:
    """Asks the readers; it holds no connection."""

    def __init__(self, readers: Readers, sql: Statements, in_force: InForce, clock: Clock) -> None:
        self._readers = readers
        self._sql = sql
        self._in_force = in_force
        self._clock = clock

    async def slices(self, which: Filter, places: int = EVERYWHERE) -> AsyncIterator[list[Found]]:
        """What matches and stands in one of the places; the limit of the filter is not looked at. Raises StoreError."""
        if which.standing is not None:
            places &= _PLACES[which.standing]
        if which.state is State.HELD:
            places &= HELD
        question = await self._readers.read(partial(self._question, which=which, places=places))
        if question is None or not places:
            return
        position, last = _START, None
        if which.uuid is not None:
            last = await self._readers.read(partial(self._place, uuid=which.uuid))
            if last is None:
                return
            position = (*last, 0)
        elif (destinations := await self._readers.read(partial(self._destinations, question=question))) is not None:
            async for found in self._page(question, destinations):
                yield found
            return
        after: Position | None = position
        while after is not None:
            found, after = await self._readers.read(partial(self._slice, question=question, after=after, last=last))
            yield found

    async def find(self, which: Filter) -> list[QueueRow]:
        """What matches, up to the limit of the filter. Raises StoreError."""
        rows: list[QueueRow] = []
        async for found in self.slices(which):
            rows += [one.row for one in found]
            if len(rows) >= which.limit:
                break
        return rows[: which.limit]

    async def steps(self, which: Filter, places: int) -> AsyncIterator[list[Found]]:
        """What matches and stands in one of the places, as many at a time as one transaction may change, up to the
        limit of the filter. Raises StoreError."""
        left = which.limit
        async for found in self.slices(which, places):
            wanted = found[:left]
            for start in range(0, len(wanted), STEP_ROWS):
                yield wanted[start : start + STEP_ROWS]
            left -= len(wanted)
            if left <= 0:
                return

    def _question(self, cursor: Cursor, which: Filter, places: int) -> _Question | None:
        """None where the key was never used."""
        if which.key is None:
            return _Question(which, places, None)
        key: int | None = _first(cursor, self._sql["key_find"], (which.key,))
        return _Question(which, places, key) if key is not None else None

    def _place(self, cursor: Cursor, uuid: bytes) -> tuple[int, int] | None:
        rows = cursor.execute(self._sql["message_position"], (uuid,)).fetchall()
        return (rows[0][0], rows[0][1]) if rows else None

    # By message

    def _slice(
        self, cursor: Cursor, question: _Question, after: Position, last: tuple[int, int] | None
    ) -> tuple[list[Found], Position | None]:
        """What matches after a position and up to `last` (None: some further), and where to go on."""
        following: Position | None = None
        if last is None:
            boundary = cursor.execute(self._sql["find_boundary"], (*after[:2], SLICE_MESSAGES - 1)).fetchall()
            last = (_LAST, _LAST)
            if boundary:
                last = (boundary[0][0], boundary[0][1])
                following = (*last, _LAST)
        conditions = question.conditions(SLICE_ROWS)
        rows = cursor.execute(self._sql["find_slice"], (*after, *last, *conditions)).fetchall()
        if len(rows) == SLICE_ROWS:
            following = (rows[-1][5], rows[-1][0], rows[-1][7])
        return self._found(rows), following

    # By destination

    def _destinations(self, cursor: Cursor, question: _Question) -> list[int] | None:
        """The destinations that are meant, where they are few enough to be looked at one by one; those that hold
        something, where what is held is all that matters."""
        which, domain = question.which, question.domain
        if not question.places & ~(HELD | LEASED):
            return self._held(cursor) if question.places & HELD else []
        if which.route is None and domain is None:
            return None
        routes = [which.route] if which.route is not None else self._routes(cursor)
        found: list[int] = []
        for route in routes:
            if domain is None:
                found += [row[0] for row in cursor.execute(self._sql["route_destinations"], (route, _FEW + 1))]
                continue
            for cut in {domain, ""}:  # a relay has one destination for all domains
                number: int | None = _first(cursor, self._sql["destination_find"], (route, cut))
                found += [] if number is None else [number]
        return found if len(found) <= _FEW else None

    def _routes(self, cursor: Cursor) -> list[str]:
        names: list[str] = []
        last: str | None = ""
        while (last := _first(cursor, self._sql["route_next"], (last,))) is not None:
            names.append(last)
        return names

    def _held(self, cursor: Cursor) -> list[int]:
        numbers: list[int] = []
        last: int | None = 0
        while (last := _first(cursor, self._sql["held_destination"], (last,))) is not None:
            numbers.append(last)
        return numbers

    async def _page(self, question: _Question, destinations: Sequence[int]) -> AsyncIterator[list[Found]]:
        """Page by page in the order of recipients, which is that of their age."""
        after: int | None = _LOWEST
        while after is not None:
            read = partial(self._candidates, question=question, destinations=destinations, after=after)
            page, after = await self._readers.read(read)
            for start in range(0, len(page), SLICE_ROWS):
                rows = partial(self._rows, question=question, page=page[start : start + SLICE_ROWS])
                yield await self._readers.read(rows)

    def _candidates(
        self, cursor: Cursor, question: _Question, destinations: Sequence[int], after: int
    ) -> tuple[list[Row], int | None]:
        """The next (recipient, message, key) of the narrow tables, and where to go on."""
        found: list[Row] = []
        if question.places & READY:
            found += self._lowest(cursor, "ready_page", destinations, after)
        if question.places & (BACKOFF | SCHEDULE):
            waits = self._lowest(cursor, "waiting_page", destinations, after)
            found += cursor.executemany(self._sql["waiting_row"], [(row[1], row[0]) for row in waits]).fetchall()
        if question.places & HELD:
            found += self._lowest(cursor, "held_page", destinations, after)
        if question.places & LEASED:
            found += cursor.execute(self._sql["leased_page"], (after, PAGE_ROWS)).fetchall()
        page = heapq.nsmallest(PAGE_ROWS, found)
        following = page[-1][0] if len(page) == PAGE_ROWS else None
        return [row for row in page if question.key in {None, row[2]}], following

    def _rows(self, cursor: Cursor, question: _Question, page: Sequence[Row]) -> list[Found]:
        conditions = question.conditions(0)[:-1]
        wanted = [(row[1], row[0], *conditions) for row in page]
        return self._found(cursor.executemany(self._sql["find_row"], wanted).fetchall())

    def _lowest(self, cursor: Cursor, name: str, destinations: Sequence[int], after: int) -> list[Row]:
        """Those that come first of one table."""
        rows: list[Row] = []
        for destination in destinations:
            rows += cursor.execute(self._sql[name], (destination, after, PAGE_ROWS)).fetchall()
            if len(rows) > 2 * PAGE_ROWS:
                rows = heapq.nsmallest(PAGE_ROWS, rows)
        return heapq.nsmallest(PAGE_ROWS, rows)

    def _found(self, rows: Sequence[Row]) -> list[Found]:
        now = self._clock.now_ms()
        return [
            Found(
                message=row[0],
                place=row[16],
                waits_for=row[11],
                row=QueueRow(
                    uuid=row[1],
                    key=row[2],
                    account=row[3],
                    envelope_sender=row[4],
                    subject=row[6],
                    created_at=row[23],
                    recipient=viewed.recipient(row[7:23], key=row[2], now=now, in_force=self._in_force),
                ),
            )
            for row in rows
        ]


def _first(cursor: Cursor, sql: str, values: tuple[object, ...]) -> Any:
    """The first value of the first row; None where there is none."""
    rows = cursor.execute(sql, values).fetchall()
    return rows[0][0] if rows else None
