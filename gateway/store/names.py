"""Small numbers for long names: destinations (route, domain), keys and accounts, cached in the process.

Guarantees: a number stands for one name for good; one whose name is damaged stands for none, and new mail to that name
has another number. The caches are bounded, and must be forgotten after a rollback, which may have taken back a number
that was new.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from gateway.store.db import Row, Statements, Transaction
from gateway.store.queue import Due

CACHED: Final = 50_000  # destinations, keys or accounts; about 15 MB

log = logging.getLogger("gateway.store")


class Counter:
    """Numbers that rise, from the one after `last`."""

    __slots__ = ("last",)

    def __init__(self, last: int) -> None:
        self.last = last

    def next(self) -> int:
        self.last += 1
        return self.last


class Names:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._destinations: dict[tuple[str, str], int] = {}
        self._dues: dict[int, Due] = {}
        self._keys: dict[str, int] = {}
        self._key_names: dict[int, str] = {}
        self._accounts: dict[str, int] = {}

    def forget(self) -> None:
        for cache in (self._destinations, self._dues, self._keys, self._key_names, self._accounts):
            cache.clear()

    def destination(self, tx: Transaction, route: str, domain: str) -> int:
        found = self._destinations.get((route, domain))
        return found if found is not None else self._learn_destination(tx, route, domain)

    def due(self, tx: Transaction, destination: int) -> Due:
        """A destination by its number."""
        found = self._dues.get(destination)
        if found is None:
            row = _named(tx, self._sql["destination_name"], (destination,))
            route, domain = row if row is not None else ("", "")
            found = Due(destination, route, domain)
            _bound(self._dues)
            self._dues[destination] = found
        return found

    def key(self, tx: Transaction, name: str) -> int:
        found = self._keys.get(name)
        if found is None:
            row = tx.one(self._sql["key_find"], (name,)) or tx.one(self._sql["key_ref_add"], (name,))
            assert row is not None
            found = row[0]
            _bound(self._keys)
            self._keys[name] = found
        return found

    def account(self, tx: Transaction, name: str) -> int:
        """0 is no account's."""
        found = self._accounts.get(name)
        if found is None:
            row = tx.one(self._sql["account_find"], (name,)) or tx.one(self._sql["account_add"], (name,))
            assert row is not None
            found = row[0]
            _bound(self._accounts)
            self._accounts[name] = found
        return found

    def key_name(self, tx: Transaction, key: int) -> str:
        found = self._key_names.get(key)
        if found is None:
            row = _named(tx, self._sql["key_name"], (key,))
            found = row[0] if row is not None else ""
            _bound(self._key_names)
            self._key_names[key] = found
        return found

    def _learn_destination(self, tx: Transaction, route: str, domain: str) -> int:
        values = (route, domain)
        row = tx.one(self._sql["destination_find"], values)
        if row is not None and not row[1]:
            row = self._without_damage(tx, values, row[0])
        row = row or tx.one(self._sql["destination_add"], values)
        assert row is not None
        _bound(self._destinations)
        number: int = row[0]
        self._destinations[values] = number
        return number

    def _without_damage(self, tx: Transaction, values: tuple[str, str], number: int) -> Row | None:
        """The row for a name of which the one that was found is damaged; None where there is no other. What is queued
        under its number stays there, for nobody knows any more where it was to go."""
        log.error("the database is damaged: the name of destination %d is lost; see docs/baddays.md", number)
        tx.all(self._sql["destination_reindex"])  # the damage may be in the row, or in the index alone
        row = tx.one(self._sql["destination_find"], values)
        if row is None or row[1]:
            return row
        tx.cursor.execute(self._sql["destination_disown"], row[:1])
        return None


def _named(tx: Transaction, sql: str, values: Sequence[Any]) -> Row | None:
    """A row with a name; None also where that is no text any more."""
    try:
        return tx.one(sql, values)
    except UnicodeDecodeError:
        return None


def _bound(cache: "dict[int, Due] | dict[str, int] | dict[int, str] | dict[tuple[str, str], int]") -> None:
    # Full, it begins anew: a miss costs one look-up by index.
    if len(cache) >= CACHED:
        cache.clear()
