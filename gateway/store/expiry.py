"""Failing recipients that are older than their message may become, whatever else is stuck.

Guarantees: only messages that are due are looked at; a recipient in hand is left to its attempt, and looked
at again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.events import BounceClass, EventType, State
from gateway.store import reports
from gateway.store.db import Row, Statements, Transaction
from gateway.store.ending import Ended, Endings
from gateway.store.names import Counter
from gateway.store.reports import Noted
from gateway.store.settlement import EventData

STEP_MESSAGES: Final = 100
STEP_RECIPIENTS: Final = 500

Position = tuple[int, int]  # (at, message) of the table `expiry`
START: Final[Position] = (-(1 << 63), 0)


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

    def step(self, tx: Transaction, calls: Sequence[tuple[Position, int]]) -> list[Step]:
        """Expire some of what is due at a time, from a position on."""
        return [self._step(tx, position, now) for position, now in calls]

    def _step(self, tx: Transaction, position: Position, now: int) -> Step:
        due = tx.all(self._sql["expiry_due"], (*position, now, STEP_MESSAGES))
        expired = 0
        for at, message in due:
            expired += self._expire(tx, at, message, now)
            if expired >= STEP_RECIPIENTS:
                return Step(expired, (at, message))
        return Step(expired, due[-1] if len(due) == STEP_MESSAGES else None)

    def _expire(self, tx: Transaction, at: int, message: int, now: int) -> int:
        facts = tx.one(self._sql["expiry_message"], (message,))
        rows = tx.all(self._sql["recipients_open"], (message,))
        if facts is None or not rows:
            return 0
        priority, key, recipients, pieces, sender = facts
        many = tx.cursor.executemany
        # It stands in one of the three, or in none; which one is not worth asking.
        many(self._sql["ready_remove"], [(row[1], priority, key, row[0]) for row in rows])
        if many(self._sql["waiting_delete"], [(row[3], row[0]) for row in rows]).fetchall():
            tx.wait(0)
        many(self._sql["held_remove"], [(row[1], row[0]) for row in rows])
        many(self._sql["recipient_expire"], [(message, row[0], now) for row in rows])
        many(self._sql["event_add"], [self._event(message, row, now) for row in rows])
        noted = Noted()
        for row in rows:
            if tell := reports.to_tell(row[7], sender):
                noted.end(message, row[0], tell, State.FAILED, now)
        noted.write(tx, self._sql)
        ended = Ended(message, recipients, pieces, at, delivered=False, told=bool(noted.told))
        self._endings.end(tx, [ended] * len(rows), now)
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
