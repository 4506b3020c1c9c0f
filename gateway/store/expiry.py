"""Failing recipients that are older than their message may become, whatever else is stuck.

Guarantees: only messages that are due are looked at; a recipient in hand is left to its attempt, and looked
at again. A damaged message is passed over, and told once; one that is gone is not counted as queued any more.
"""

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.events import BounceClass, EventType, State
from gateway.store import reports
from gateway.store.connection import Damaged
from gateway.store.db import Row, Statements, Transaction
from gateway.store.ending import Endings, Undelivered
from gateway.store.hardship import Hardship
from gateway.store.names import Counter
from gateway.store.settlement import EventData
from gateway.store.writer import Writer, rest

STEP_MESSAGES: Final = 100
STEP_RECIPIENTS: Final = 500

Position = tuple[int, int]  # (at, message) of the table `expiry`
START: Final[Position] = (-(1 << 63), 0)

log = logging.getLogger("gateway.store")


@dataclass(frozen=True, slots=True)
class Look:
    """The arguments of a step: from where on, the time, and how many messages at most."""

    position: Position
    now: int
    messages: int = STEP_MESSAGES


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: how many recipients failed, and from where to go on (None: nothing more is due)."""

    expired: int
    position: Position | None


class Expiry:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, *, events: Counter, endings: Endings) -> None:
        self._sql = sql
        self._events = events
        self._endings = endings
        self._encode = msgspec.json.Encoder().encode

    def step(self, tx: Transaction, looks: Sequence[Look]) -> list[Step]:
        """Expire some of what is due at a time, from a position on."""
        return [self._step(tx, look) for look in looks]

    def pass_over(self, tx: Transaction, looks: Sequence[Look]) -> list[Position | None]:
        """The position of the first that is due, untouched."""
        return [tx.one(self._sql["expiry_due"], (*look.position, look.now, 1)) for look in looks]

    def _step(self, tx: Transaction, look: Look) -> Step:
        due = tx.all(self._sql["expiry_due"], (*look.position, look.now, look.messages))
        expired = 0
        for at, message in due:
            expired += self._expire(tx, at, message, look.now)
            if expired >= STEP_RECIPIENTS:
                return Step(expired, (at, message))
        return Step(expired, due[-1] if len(due) == look.messages else None)

    def _expire(self, tx: Transaction, at: int, message: int, now: int) -> int:
        facts = tx.one(self._sql["expiry_message"], (message,))
        if facts is None:  # damaged once, and dropped by its age
            tx.cursor.execute(self._sql["expiry_delete"], (at, message))
            tx.cursor.execute(self._sql["pending_delete"], (message,))
            return 0
        rows = tx.all(self._sql["recipients_open"], (message,))
        if not rows:
            return 0
        priority, key, recipients, pieces, sender = facts
        many = tx.cursor.executemany
        # It stands in one of the three, or in none; which one is not worth asking.
        many(self._sql["ready_remove"], [(row[1], priority, key, row[0]) for row in rows]).fetchall()
        if many(self._sql["waiting_delete"], [(row[3], row[0]) for row in rows]).fetchall():
            tx.wait(0)
        many(self._sql["held_remove"], [(row[1], row[0]) for row in rows]).fetchall()
        many(self._sql["recipient_expire"], [(message, row[0], now) for row in rows])
        many(self._sql["event_of_message"], [self._event(message, row, now) for row in rows])
        ended = [Undelivered(message, row[0], reports.to_tell(row[7], sender), recipients, pieces, at) for row in rows]
        self._endings.fail(tx, ended, State.FAILED, now)
        return len(rows)

    def _event(self, message: int, row: Row, now: int) -> Row:
        id_, _, attempts, _, reply, host, uncertain, _ = row
        data = EventData(
            reply=reply,
            host=host,
            bounce_class=BounceClass.MESSAGE_EXPIRED.value,
            stage="expire",
            attempt=attempts,
            possible_duplicate=bool(uncertain),
        )
        encoded = self._encode(data).decode()
        return (self._events.next(), message, id_, EventType.EXPIRED.value, now, encoded)


class Expiring:
    """Expires all that is due, for one event loop."""

    def __init__(self, writer: Writer, expiry: Expiry, hardship: Hardship) -> None:
        self._writer = writer
        self._expiry = expiry
        self._hardship = hardship
        self._damaged: set[Position | None] = set()  # those that were passed over the last time

    async def expire(self, now: int) -> int:
        """Returns how many recipients; less than all while nothing can be written. Raises StoreError."""
        total = 0
        look: Look | None = Look(START, now)
        damaged: set[Position | None] = set()
        while look is not None and not self._hardship.is_on:
            began = time.monotonic()
            try:
                step = await self._hardship.heed(self._writer.submit(self._expiry.step, look))
            except Damaged as error:
                look = await self._around(look, error, damaged)
                continue
            total += step.expired
            look = None if step.position is None else Look(step.position, now, look.messages)
            if look is not None:
                await rest(began)
        self._damaged = damaged
        return total

    async def _around(self, look: Look, error: Damaged, damaged: set[Position | None]) -> Look | None:
        """One by one up to what is damaged, then past it."""
        if look.messages > 1:
            return Look(look.position, look.now, 1)
        position: Position | None = None
        with contextlib.suppress(Damaged):
            position = await self._writer.submit(self._expiry.pass_over, look)
        if position not in self._damaged:
            what = f"message number {position[1]} does not" if position else "messages do not"
            log.error("the database is damaged: %s expire; see docs/baddays.md (%s)", what, error)
        damaged.add(position)
        return None if position is None else Look(position, look.now)
