"""Moving the time at which a scheduled message is sent.

Guarantees: all its recipients move, or none: where one is queued, deferred or in hand already, it is too late. How long
the message is tried stays as long as it was. State, place in the queue and expiry are written in one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.events import State
from gateway.message.priority import HIGH
from gateway.store import db
from gateway.store.db import Row, Statements, Transaction
from gateway.store.names import Names
from gateway.store.waiting import SCHEDULE


@dataclass(frozen=True, slots=True)
class Appointment:
    """A message of an account, and when it is to be sent (Unix ms); `now` or earlier: at once."""

    uuid: bytes
    account: str
    at: int
    now: int


class Rescheduling:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names) -> None:
        self._sql = {**sql, **db.load("archive")}
        self._names = names

    def reschedule(self, tx: Transaction, asked: Sequence[Appointment]) -> list[int]:
        """Of each, how many recipients were moved."""
        return [self._move(tx, one) for one in asked]

    def _move(self, tx: Transaction, one: Appointment) -> int:
        message = tx.one(self._sql["reschedule_message"], (one.uuid, one.account))
        if message is None:
            return 0
        id_, expires_at, send_at = message
        recipients = tx.all(self._sql["reschedule_recipients"], (id_,))
        if not recipients or not all(_waits(row) for row in recipients):
            return 0
        at = max(one.at, one.now)
        later = expires_at + at - send_at
        tx.cursor.execute(self._sql["reschedule"], (id_, at, later))
        tx.cursor.execute(self._sql["expiry_delete"], (expires_at, id_))
        tx.cursor.execute(self._sql["expiry_add"], (later, id_))
        self._place(tx, id_, recipients, at, one.now)
        return len(recipients)

    def _place(self, tx: Transaction, message: int, recipients: Sequence[Row], at: int, now: int) -> None:
        """What is held stays so, and waits for the new time once it is released."""
        many = tx.cursor.executemany
        held = [row for row in recipients if row[1] == State.HELD]
        waiting = [(next_at, id_) for id_, state, next_at, _ in recipients if state == State.SCHEDULED]
        freed = many(self._sql["waiting_delete"], waiting).fetchall()
        soon = at <= now
        next_at = 0 if soon else at
        state = State.QUEUED if soon else State.SCHEDULED
        states: list[Row] = [(message, row[0], State.HELD.value, next_at, now) for row in held]
        states += [(message, row[3], state.value, next_at, now) for row in freed]
        many(self._sql["recipient_place"], states)
        if freed:
            tx.wait(0)  # the first of what waits may be gone
        for destination, priority, key, recipient, _, _ in freed:
            if soon:
                tx.cursor.execute(self._sql["ready_add"], (destination, priority, key, recipient, message))
                tx.due[destination] = self._names.due(tx, destination)
                if priority == HIGH:
                    tx.urgent.add(destination)
            else:
                values = (at, recipient, destination, priority, key, message, SCHEDULE)
                tx.cursor.execute(self._sql["waiting_add"], values)
                tx.wait(at)


def _waits(row: Row) -> bool:
    """Whether nothing was tried of it, and nothing will be before its time."""
    _, state, next_at, why = row
    return bool(next_at) and (state == State.HELD or (state == State.SCHEDULED and why == SCHEDULE))
