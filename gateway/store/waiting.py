"""Recipients that wait for a time: making them claimable when it comes, or when an operator says so.

Guarantees: a step moves a bounded number of rows, in the order of their time, and reads nothing that is not
due. A scheduled recipient is queued from then on; a deferred one stays deferred until its next attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.store.db import NEVER, Cursor, Row, Statements, Transaction
from gateway.store.names import Names

BACKOFF: Final = "backoff"  # why a row waits
SCHEDULE: Final = "schedule"
PROMOTE_ROWS: Final = 500  # about 6 ms of the writer
_HIGHEST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Release:
    """The arguments of a release: the waiting rows as (at, recipient), and the time."""

    rows: Sequence[tuple[int, int]]
    now: int


class Waiting:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names) -> None:
        self._sql = sql
        self._names = names

    def promote(self, tx: Transaction, moments: Sequence[int]) -> list[None]:
        """Make up to PROMOTE_ROWS rows that are due claimable; the transaction learns the time of the first that is
        left."""
        for now in moments:
            self._promote(tx, now)
        first = tx.one(self._sql["waiting_first"])
        tx.wake_at = first[0] if first is not None else NEVER
        tx.surveyed = True
        return [None] * len(moments)

    def release(self, tx: Transaction, releases: Sequence[Release]) -> list[int]:
        """Make rows claimable before their time; returns how many still waited."""
        return [self._release(tx, release) for release in releases]

    def _promote(self, tx: Transaction, now: int) -> None:
        boundary = tx.one(self._sql["waiting_boundary"], (now, PROMOTE_ROWS - 1)) or (now, _HIGHEST)
        for (destination,) in tx.all(self._sql["waiting_destinations"], boundary):
            tx.due[destination] = self._names.due(tx, destination)
        tx.cursor.execute(self._sql["scheduled_promote"], (*boundary, now))
        tx.cursor.execute(self._sql["waiting_promote"], boundary)
        tx.cursor.execute(self._sql["waiting_drop"], boundary)

    def _release(self, tx: Transaction, release: Release) -> int:
        many = tx.cursor.executemany
        released = many(self._sql["waiting_delete"], release.rows).fetchall()
        many(self._sql["ready_add"], [row[:5] for row in released])
        scheduled = [(row[4], row[3], release.now) for row in released if row[5] == SCHEDULE]
        if scheduled:
            many(self._sql["scheduled_release"], scheduled)
        for row in released:
            tx.due[row[0]] = self._names.due(tx, row[0])
        if released:
            tx.wait(0)  # the first of what waits may be gone
        return len(released)


def destinations(cursor: Cursor, sql: Statements, *, now: int) -> list[int]:
    """Those with something due. For each that has anything waiting it costs two searches of an index."""
    return [row[0] for row in cursor.execute(sql["waiting_due"], (now,)).fetchall()]


def due(cursor: Cursor, sql: Statements, *, destination: int, now: int, limit: int) -> list[Row]:
    """What is due of one destination, the oldest first, as (at, recipient, destination)."""
    return cursor.execute(sql["waiting_of"], (destination, now, limit)).fetchall()
