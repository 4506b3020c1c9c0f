"""Keys whose new mail is held, whom a key has written to, and what became of its mail.

Guarantees: that a key is braked, or let go, is written with its event; of an address only a keyed hash is kept. What
is too much is not decided here (policy/brakes.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import msgspec

from gateway.events import EventType
from gateway.store import db
from gateway.store.db import Cursor, Row, Transaction
from gateway.store.names import Counter, Names
from gateway.store.readers import Readers
from gateway.store.writer import Writer

STRETCH: Final = 50_000  # events that are counted in one read: some 30 ms
FORGET_ROWS: Final = 1000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Trip:
    """A key that is braked. `reason` is the name of the brake: volume, bounces, new_recipients; `detail`, in words."""

    key: str
    account: str
    reason: str
    detail: str
    since: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of mail of a key in an hour (of the Unix epoch): how many recipients have an outcome, and how many of
    them bounced for good because of the recipient."""

    key: str
    hour: int
    all: int
    hard: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was counted up to an event; `released` is the key that was let go by that event, "" where it is another."""

    upto: int
    outcomes: tuple[Outcomes, ...]
    released: str


class _BrakeData(msgspec.Struct):
    """The JSON object of an event about a brake."""

    key: str
    reason: str
    note: str


class StoredBrakes:
    """Errors: StoreError, StoreFull."""

    def __init__(self, writer: Writer, readers: Readers, names: Names, events: Counter) -> None:
        self._writer = writer
        self._readers = readers
        self._names = names
        self._events = events
        self._sql = db.load("brakes", "sqlite")

    async def trips(self) -> list[Trip]:
        return [Trip(*row) for row in await self._rows("braked_all", ())]

    async def trip(self, trip: Trip) -> bool:
        """From now on, and after a restart. False where the key was braked already."""

        def add(tx: Transaction) -> bool:
            values = (trip.key, trip.account, trip.reason, trip.detail, trip.since)
            if tx.one(self._sql["braked_add"], values) is None:
                return False
            self._tell(tx, EventType.BRAKED, trip, trip.detail, trip.since)
            return True

        return await self._change(add)

    async def release(self, trip: Trip, note: str, at: int) -> int:
        """The number of the event; 0 where the key was not braked."""

        def remove(tx: Transaction) -> int:
            if tx.one(self._sql["braked_remove"], (trip.key,)) is None:
                return 0
            return self._tell(tx, EventType.BRAKE_RELEASED, trip, note, at)

        return await self._change(remove)

    async def acquainted(self, key: str, hashes: Sequence[int]) -> dict[int, int]:
        """Those of the addresses that a key has written to, with the time that is known of it."""
        wanted = [(key, one) for one in hashes]

        def find(cursor: Cursor) -> dict[int, int]:
            return dict(cursor.executemany(self._sql["acquaintance_find"], wanted).fetchall())

        return await self._readers.read(find)

    async def acquaint(self, met: Sequence[tuple[str, int, int]]) -> None:
        """(key, hash, when it wrote)."""

        def put(tx: Transaction) -> None:
            rows = [(self._names.key(tx, key), hashed, at) for key, hashed, at in met]
            tx.cursor.executemany(self._sql["acquaintance_put"], rows)

        await self._change(put)

    async def forget(self, before: int) -> bool:
        """Some of whom no key has written to since; whether there may be more."""

        def drop(tx: Transaction) -> bool:
            return len(tx.all(self._sql["acquaintance_forget"], (before, FORGET_ROWS))) == FORGET_ROWS

        return await self._change(drop)

    async def count(self, after: int) -> Stretch:
        """What became of mail behind an event: to the last one, or the first that let a key go, or STRETCH of them."""
        return await self._readers.read(partial(self._count, after=after))

    def _count(self, cursor: Cursor, after: int) -> Stretch:
        last = cursor.execute(self._sql["brakes_stretch"], (after, STRETCH)).fetchall()[0][0]
        if last is None:
            return Stretch(after, (), "")
        released = cursor.execute(self._sql["brakes_released"], (after, last)).fetchall()
        name = ""
        if released:
            last, data = released[0]
            name = _key_of(data)
        rows = cursor.execute(self._sql["brakes_outcomes"], (after, last)).fetchall()
        return Stretch(last, tuple(Outcomes(*row) for row in rows), name)

    def _tell(self, tx: Transaction, type_: EventType, trip: Trip, note: str, at: int) -> int:
        seq = self._events.next()
        data = msgspec.json.encode(_BrakeData(trip.key, trip.reason, note)).decode()
        values = (seq, 0, 0, type_.value, at, data, self._names.account(tx, trip.account))
        tx.cursor.execute(self._sql["event_add"], values)
        return seq

    async def _rows(self, name: str, values: tuple[object, ...]) -> list[Row]:
        return await self._readers.read(lambda cursor: cursor.execute(self._sql[name], values).fetchall())

    async def _change(self, change: Callable[[Transaction], Result]) -> Result:
        def verb(tx: Transaction, calls: Sequence[None]) -> list[Result]:
            return [change(tx) for _ in calls]

        return await self._writer.submit(verb, None)


def _key_of(data: str) -> str:
    """The key that an event is about; "" where the row is damaged."""
    try:
        return msgspec.json.decode(data, type=_BrakeData).key
    except ValueError:
        return ""
