"""Recipients that wait for a time: making them claimable when it comes, or when an operator says so.

Guarantees: a step moves a bounded number of rows, in the order of their time, and reads nothing that is not
due.
"""

from collections.abc import Sequence
from typing import Final

from gateway.store.db import Statements, Transaction
from gateway.store.names import Names

PROMOTE_ROWS: Final = 500  # about 6 ms of the writer
_HIGHEST: Final = (1 << 63) - 1


class Waiting:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names) -> None:
        self._sql = sql
        self._names = names

    def promote(self, tx: Transaction, moments: Sequence[int]) -> list[int | None]:
        """Make up to PROMOTE_ROWS rows that are due claimable; returns the time of the first that is left."""
        return [self._promote(tx, now) for now in moments]

    def release(self, tx: Transaction, calls: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
        """Make waiting rows (at, recipient) claimable before their time; returns how many still waited."""
        return [self._release(tx, rows) for rows in calls]

    def _promote(self, tx: Transaction, now: int) -> int | None:
        boundary = tx.one(self._sql["waiting_boundary"], (now, PROMOTE_ROWS - 1)) or (now, _HIGHEST)
        for (destination,) in tx.all(self._sql["waiting_destinations"], boundary):
            tx.due[destination] = self._names.due(tx, destination)
        tx.cursor.execute(self._sql["waiting_promote"], boundary)
        tx.cursor.execute(self._sql["waiting_drop"], boundary)
        first = tx.one(self._sql["waiting_first"])
        return first[0] if first is not None else None

    def _release(self, tx: Transaction, rows: Sequence[tuple[int, int]]) -> int:
        released = tx.cursor.executemany(self._sql["waiting_delete"], rows).fetchall()
        tx.cursor.executemany(self._sql["ready_add"], released)
        for row in released:
            tx.due[row[0]] = self._names.due(tx, row[0])
        return len(released)
