"""What operators suspended: which destinations and keys nothing is claimed of, and until when.

Guarantees: kept over restarts; one that ends by itself makes claimable what it held back, as does a resumption. While
nothing is suspended it costs one comparison where it is asked. What is in hand is not touched. Claims and views ask it,
whoever has the queue says when time is up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.store.db import NEVER, Statements, Transaction
from gateway.store.shown import Suspension

_NO_KEYS: Final[frozenset[str]] = frozenset()


class InForce:
    """The suspensions, in memory. The loop loads it and the writer's thread asks: what it holds is replaced whole."""

    __slots__ = ("ends_at", "entries")

    def __init__(self) -> None:
        self.entries: tuple[Suspension, ...] = ()  # oldest first
        self.ends_at = NEVER  # when the first of them ends

    def __bool__(self) -> bool:
        return bool(self.entries)

    def load(self, entries: Sequence[Suspension]) -> None:
        self.entries = tuple(entries)
        self.ends_at = min((one.until for one in entries if one.until is not None), default=NEVER)

    def whole(self, route: str, domain: str) -> bool:
        """Whether nothing of that destination may be claimed."""
        return any(one.key is None and _means(one, route, domain) for one in self.entries)

    def keys(self, route: str, domain: str) -> frozenset[str]:
        """The keys of which nothing may be claimed there."""
        found = [one.key for one in self.entries if one.key is not None and _means(one, route, domain)]
        return frozenset(found) if found else _NO_KEYS

    def of(self, route: str, domain: str, key: str) -> Suspension | None:
        """What keeps a recipient back: of several that which ends last; None where nothing does."""
        found = [one for one in self.entries if one.key in {None, key} and _means(one, route, domain)]
        return max(found, key=_end, default=None)


@dataclass(frozen=True, slots=True)
class Change:
    """What came of a change: the suspension that was added, how many went, and those in force now."""

    added: Suspension | None
    gone: int
    entries: tuple[Suspension, ...]


class Suspending:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def load(self, tx: Transaction, moments: Sequence[int]) -> list[Change]:
        """Those that are in force at a time; the others are forgotten."""
        for now in moments:
            tx.cursor.execute(self._sql["suspension_end"], (now,)).fetchall()
        return [Change(None, 0, self._entries(tx))] * len(moments)

    def add(self, tx: Transaction, suspensions: Sequence[Suspension]) -> list[Change]:
        changes = []
        for one in suspensions:
            values = (one.route, one.domain, one.key, one.reason, one.since, one.until)
            row = tx.one(self._sql["suspension_add"], values)
            assert row is not None
            changes.append(Change(_suspension(row), 0, self._entries(tx)))
        return changes

    def remove(self, tx: Transaction, calls: Sequence[Sequence[int]]) -> list[Change]:
        changes = []
        for numbers in calls:
            rows = [(number,) for number in numbers]
            gone = len(tx.cursor.executemany(self._sql["suspension_remove"], rows).fetchall())
            changes.append(Change(None, gone, self._entries(tx)))
        return changes

    def end(self, tx: Transaction, moments: Sequence[int]) -> list[Change]:
        """Those whose time is up."""
        gone = [len(tx.all(self._sql["suspension_end"], (now,))) for now in moments]
        return [Change(None, count, self._entries(tx)) for count in gone]

    def _entries(self, tx: Transaction) -> tuple[Suspension, ...]:
        return tuple(_suspension(row) for row in tx.all(self._sql["suspensions_all"]))


def _means(one: Suspension, route: str, domain: str) -> bool:
    return one.route in {None, route} and one.domain in {None, domain}


def _end(one: Suspension) -> int:
    return NEVER if one.until is None else one.until


def _suspension(row: tuple[int, str | None, str | None, str | None, str, int, int | None]) -> Suspension:
    return Suspension(*row)
