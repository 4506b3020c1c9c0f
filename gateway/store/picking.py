"""Which of what is ready is next at a destination: ranks, then keys in turn, each by age.

Guarantees: higher priority goes first. Of one priority, what was never tried and what is tried again share a claim by
halves, so new mail does not wait behind the retries of a whole night that are all due at once, nor they behind it; what
one half leaves is the other's. Inside a rank keys are served in turn, each by age. The cost depends on what is taken,
not on what is ready.

`ready.priority` holds the rank: the priority of what was never tried, that and RETRIES of what was. So does `priority`
of a row that waits or is in hand; a row made from its message has the first of the two, which only changes its turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.store.db import Row, Statements, Transaction

PRIORITIES: Final = (0, 1, 2)
RETRIES: Final = 3  # added to a priority; in the SQL too (ready_remove)
_LOWEST: Final = -(1 << 63)
_NO_KEYS: Final[frozenset[int]] = frozenset()


def retried(rank: int) -> int:
    """The rank of what has been tried once more."""
    return rank if rank >= RETRIES else rank + RETRIES


class Pick(NamedTuple):
    """A ready recipient that is taken."""

    recipient: int
    message: int
    rank: int
    key: int


@dataclass(slots=True)
class _Turn:
    """Of a destination with work: the key served last of each rank, and of which priorities retries are owed the
    odd one."""

    destination: int
    keys: dict[int, int] = field(default_factory=dict)
    owed: set[int] = field(default_factory=set)


class Picking:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._turns: dict[int, _Turn] = {}  # destinations that had more than was asked for
        self._barred = _NO_KEYS

    def pick(self, tx: Transaction, destination: int, limit: int, barred: frozenset[int] = _NO_KEYS) -> list[Pick]:
        """Take up to `limit` out of what is ready, nothing of `barred` keys; fewer only where there are no more."""
        self._barred = barred
        turn = self._turns.get(destination) or _Turn(destination)
        ranks = [row[0] for row in tx.all(self._sql["ready_ranks"], (destination,))]
        picks: list[Pick] = []
        for priority in PRIORITIES:
            if (room := limit - len(picks)) > 0:
                picks += self._of_priority(tx, turn, priority, room, ranks)
        if len(picks) < limit:
            self._turns.pop(destination, None)
        else:
            self._turns[destination] = turn
        return picks

    def _of_priority(self, tx: Transaction, turn: _Turn, priority: int, room: int, ranks: Sequence[int]) -> list[Pick]:
        again = priority + RETRIES
        if again not in ranks:
            return self._take(tx, turn, priority, room) if priority in ranks else []
        if priority not in ranks:
            return self._take(tx, turn, again, room)
        half = (room + (priority in turn.owed)) // 2
        if room % 2:
            turn.owed ^= {priority}
        picks = self._take(tx, turn, priority, room - half)
        first = len(picks)
        picks += self._take(tx, turn, again, room - first)
        if first == room - half and len(picks) < room:
            picks += self._take(tx, turn, priority, room - len(picks))
        return picks

    def _take(self, tx: Transaction, turn: _Turn, rank: int, room: int) -> list[Pick]:
        """Take up to `room` of one rank: an equal share of each key, then what is left, in the order of the turn."""
        keys = self._next_keys(tx, turn, rank, room) if room else []
        if not keys:
            return []
        # The next turn begins past those that were served; where all were, one further, so that who gets the
        # remainder goes round too.
        turn.keys[rank] = keys[0] if len(keys) < room else keys[-1]
        share = room // len(keys)
        taken: dict[int, list[Row]] = {}
        for key in keys:
            taken[key] = self._oldest(tx, (turn.destination, rank, key, _LOWEST, share))
            room -= len(taken[key])
        for key, rows in taken.items():
            if room and len(rows) == share:
                more = self._oldest(tx, (turn.destination, rank, key, rows[-1][0], room))
                rows.extend(more)
                room -= len(more)
        for key, rows in taken.items():
            tx.cursor.execute(self._sql["ready_delete"], (turn.destination, rank, key, rows[0][0], rows[-1][0]))
        return [Pick(row[0], row[1], rank, key) for key, rows in taken.items() for row in rows]

    def _next_keys(self, tx: Transaction, turn: _Turn, rank: int, limit: int) -> list[int]:
        """The keys present, from the one after the key served last, at most `limit`."""
        sql = self._sql["ready_keys"]
        barred = self._barred
        if barred:
            limit += len(barred)
        last = turn.keys.get(rank, _LOWEST)
        keys = [row[0] for row in tx.all(sql, (turn.destination, rank, last, limit))]
        if last != _LOWEST and len(keys) < limit:
            wrapped = tx.all(sql, (turn.destination, rank, _LOWEST, limit - len(keys)))
            keys += [row[0] for row in wrapped if row[0] <= last]
        if barred:
            return [key for key in keys if key not in barred][: limit - len(barred)]
        return keys

    def _oldest(self, tx: Transaction, values: tuple[int, int, int, int, int]) -> list[Row]:
        return tx.all(self._sql["ready_take"], values)
