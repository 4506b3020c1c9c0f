"""Recipients in hand: keeping them there, and taking back what a dead process or an endless attempt had.

Guarantees: what comes back may have been delivered, and is marked so. Of a message that is to be delivered at most once
only that comes back whose final dot has certainly not left; what may have left fails, with an event that says so, in
the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, Scope, State
from gateway.store.db import Row, Statements, Transaction
from gateway.store.ending import Endings, Undelivered
from gateway.store.hardship import Hardship
from gateway.store.names import Counter, Names
from gateway.store.queue import Attempt, Reclaimed, Result
from gateway.store.settlement import EventData
from gateway.store.writer import Writer

RECLAIM_ROWS: Final = 500
UNCERTAIN_REPLY: Final = (
    "The delivery was cut off between the end of the message and the other side's answer: it may have been delivered. "
    "It was not tried again, because this mail is to be delivered at most once."
)

_AT_LEAST_ONCE: Final = 0  # leased.once
_MARKED: Final = 2


@dataclass(frozen=True, slots=True)
class Renewal:
    """The arguments of a renewal."""

    recipients: Sequence[tuple[int, int]]
    until: int


class Leases:
    """Used in the writer's thread only. `owner` is this opening of the database."""

    def __init__(self, sql: Statements, names: Names, *, events: Counter, endings: Endings, owner: int) -> None:
        self._sql = sql
        self._names = names
        self._events = events
        self._endings = endings
        self._owner = owner
        self._encode = msgspec.json.Encoder().encode

    def renew(self, tx: Transaction, renewals: Sequence[Renewal]) -> list[None]:
        for renewal in renewals:
            rows = [(recipient, fence, renewal.until) for recipient, fence in renewal.recipients]
            tx.cursor.executemany(self._sql["leased_renew"], rows)
        return [None] * len(renewals)

    def mark(self, tx: Transaction, calls: Sequence[Sequence[tuple[int, int]]]) -> list[None]:
        """Note that their final dot may have left. StoreError where one is not in hand any more: it may be in
        another's, who would send it too."""
        for recipients in calls:
            marked = tx.cursor.executemany(self._sql["leased_mark"], recipients).fetchall()
            if len(marked) < len(recipients):
                raise StoreError("A recipient is no longer in hand: its lease ran out.")
        return [None] * len(calls)

    def reclaim(self, tx: Transaction, moments: Sequence[int]) -> list[Reclaimed]:
        """Take back what a dead process had in hand, and what ran out, a bounded number at a time."""
        return [self._reclaim(tx, now) for now in moments]

    def _reclaim(self, tx: Transaction, now: int) -> Reclaimed:
        rows = tx.all(self._sql["leased_lost"], (self._owner, now, RECLAIM_ROWS))
        tx.cursor.executemany(self._sql["leased_delete"], [(row[0],) for row in rows])
        free = [row for row in rows if row[10] != _MARKED]
        self._give_back(tx, free)
        marked = [row for row in rows if row[10] == _MARKED]
        return Reclaimed(len(free), self._lose(tx, marked, now) if marked else ())

    def _give_back(self, tx: Transaction, rows: Sequence[Row]) -> None:
        many = tx.cursor.executemany
        doubtful = [(row[4], row[0]) for row in rows if row[10] == _AT_LEAST_ONCE]
        many(self._sql["recipient_uncertain"], doubtful)
        many(self._sql["ready_add"], [(row[1], row[2], row[3], row[0], row[4]) for row in rows])
        for destination in {row[1] for row in rows}:
            tx.due[destination] = self._names.due(tx, destination)

    def _lose(self, tx: Transaction, rows: Sequence[Row], now: int) -> tuple[Attempt, ...]:
        """Fail what may have been delivered and must not be twice; an attempt for each recipient."""
        many = tx.cursor.executemany
        why = (now, UNCERTAIN_REPLY, BounceClass.UNCERTAIN.value, Scope.INFRASTRUCTURE.value)
        changed = many(self._sql["recipient_lose"], [(row[4], row[0], *why) for row in rows]).fetchall()
        facts = {row[0]: row[1:] for row in changed}
        many(self._sql["event_of_message"], [self._event(tx, row, facts[row[0]][0], now) for row in rows])
        ended = [Undelivered(row[4], row[0], row[9], row[6], row[7], row[8]) for row in rows]
        self._endings.fail(tx, ended, State.FAILED, now)
        return tuple(self._attempt(tx, row, facts[row[0]], now) for row in rows)

    def _attempt(self, tx: Transaction, row: Row, facts: Row, now: int) -> Attempt:
        """As the dead process would have told it, but for what only that knew: the host, and how long it took."""
        tries, address, uuid = facts
        result = Result(
            row[0],
            0,
            State.FAILED,
            EventType.FAILED,
            attempts=tries,
            to=address,
            reply=UNCERTAIN_REPLY,
            bounce_class=BounceClass.UNCERTAIN,
            scope=Scope.INFRASTRUCTURE,
            stage="dot",
            possible_duplicate=True,
        )
        route = self._names.due(tx, row[1]).route
        return Attempt(row[4], uuid, row[1], route, started_at=now, ended_at=now, results=(result,), tried=False)

    def _event(self, tx: Transaction, row: Row, attempts: int, now: int) -> Row:
        data = EventData(
            reply=UNCERTAIN_REPLY,
            bounce_class=BounceClass.UNCERTAIN.value,
            scope=Scope.INFRASTRUCTURE.value,
            stage="dot",
            route=self._names.due(tx, row[1]).route,
            attempt=attempts,
            possible_duplicate=True,
        )
        encoded = self._encode(data).decode()
        return (self._events.next(), row[4], row[0], EventType.FAILED.value, now, encoded)


class Reclaiming:
    """For one event loop: the steps of `Queue.reclaim`."""

    def __init__(self, writer: Writer, leases: Leases, hardship: Hardship) -> None:
        self._writer = writer
        self._leases = leases
        self._hardship = hardship

    async def reclaim(self, now: int) -> Reclaimed:
        done = Reclaimed(0)
        while not self._hardship.is_on:
            try:
                step = await self._hardship.heed(self._writer.submit(self._leases.reclaim, now, needed=True))
            except StoreError:
                if not done.count:
                    raise
                break  # what was done is to be told
            done = Reclaimed(done.given_back + step.given_back, done.lost + step.lost)
            if step.count < RECLAIM_ROWS:
                break
        return done
