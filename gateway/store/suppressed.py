"""Asking who is not sent to, and changing it by hand.

Guarantees: a change returns after commit and fsync; what is read is one bounded step, whatever the number of entries;
`sieve` denies nobody who is in the database, from the first moment on.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.store.db import NEVER, Cursor, Row, Statements, Transaction
from gateway.store.readers import Readers
from gateway.store.sieve import Layer, Sieve
from gateway.store.suppression import Entry, Kind, Reason, Removal, Suppressing, entry_of
from gateway.store.writer import Writer, rest

LOAD_ROWS: Final = 5000  # about 10 ms of a thread
STEP_ROWS: Final = 1000  # looked at in one step of a list
_ROW_BYTES: Final = 200  # of an entry with its indexes
_SPARE: Final = 1.25  # room in the sieve for what comes while it is made


@dataclass(frozen=True, slots=True)
class Which:
    """A page of a list, newest first. `account` None: any; `values`: one of these, none: any; `tag` None: any. `before`
    is the id of the last entry of the page before it."""

    account: str | None
    values: tuple[str, ...] = ()
    reason: Reason | None = None
    tag: str | None = None
    before: int = NEVER
    limit: int = 100


class Suppressed:
    """Errors of all: StoreError."""

    def __init__(
        self, writer: Writer, readers: Readers, sql: Statements, suppressing: Suppressing, sieve: Sieve
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._sql = sql
        self._suppressing = suppressing
        self.sieve = sieve

    async def begin(self) -> None:
        """Before anything is added: the usual database has no entry, and nothing needs to be loaded."""
        if not await self._rows("suppression_values", (0, 1)):
            self.sieve.settle(None)

    async def load(self) -> None:
        """Fill the sieve; until then it denies nobody."""
        if self.sieve.is_settled:
            return
        ((count,),) = await self._rows("suppression_count", ())
        layer, last = Layer(int(count * _SPARE)), 0
        while last < NEVER:
            began = time.monotonic()
            last = await self._readers.read(partial(self._fill, layer=layer, after=last))
            await rest(began)
        self.sieve.settle(layer)

    async def find(self, account: str, asked: Sequence[tuple[str, Kind]]) -> list[Entry]:
        """The entries of an account, and for everybody, with one of these values."""
        return await self._readers.read(partial(self._find, account=account, asked=asked))

    async def add(self, entries: Sequence[Entry]) -> None:
        """In one transaction, so some hundreds at most."""
        await self._writer.submit(self._add, entries, _ROW_BYTES * len(entries))

    async def remove(self, removals: Sequence[Removal]) -> list[int]:
        """In one transaction; how many entries went, for each."""
        return await self._writer.submit(self._remove, removals, _ROW_BYTES * len(removals))

    async def page(self, which: Which) -> list[Entry]:
        """As many as were asked for; fewer where there are no more."""
        if which.values:
            return await self._readers.read(partial(self._valued, which=which))
        found: list[Entry] = []
        before = which.before
        while len(found) < which.limit:
            rows = await self._step(which, before)
            found += [one for one in map(entry_of, rows) if _fits(one, which)]
            if len(rows) < STEP_ROWS:
                break
            before = rows[-1][0]
        return found[: which.limit]

    async def after(self, account: str, last: int, limit: int) -> list[Entry]:
        """The next ones of an account behind an id, oldest first."""
        return [entry_of(row) for row in await self._rows("suppressions_after", (account, last, limit))]

    async def _step(self, which: Which, before: int) -> list[Row]:
        if which.account is None:
            return await self._rows("suppressions_all", (before, STEP_ROWS))
        values = (which.account, before, STEP_ROWS)
        if which.tag:
            return await self._rows("suppressions_by_tag", (*values, which.tag))
        if which.reason is not None:
            return await self._rows("suppressions_by_reason", (*values, which.reason.value))
        return await self._rows("suppressions_of", values)

    async def _rows(self, name: str, values: Row) -> list[Row]:
        return await self._readers.read(lambda cursor: cursor.execute(self._sql[name], values).fetchall())

    # In a reader's thread

    def _fill(self, cursor: Cursor, *, layer: Layer, after: int) -> int:
        """The last id that was read; NEVER where there are no more."""
        rows = cursor.execute(self._sql["suppression_values"], (after, LOAD_ROWS)).fetchall()
        for _, value in rows:
            layer.add(value)
        return rows[-1][0] if len(rows) == LOAD_ROWS else NEVER

    def _find(self, cursor: Cursor, *, account: str, asked: Sequence[tuple[str, Kind]]) -> list[Entry]:
        sql = self._sql["suppression_find"]
        return [
            entry_of(row)
            for value, kind in asked
            for row in cursor.execute(sql, (value, kind.value, account)).fetchall()
        ]

    def _valued(self, cursor: Cursor, *, which: Which) -> list[Entry]:
        sql = self._sql["suppression_everywhere"]
        found = [entry_of(row) for value in which.values for row in cursor.execute(sql, (value,)).fetchall()]
        fitting = [one for one in found if one.id < which.before and _fits(one, which)]
        return sorted(fitting, key=lambda one: -one.id)[: which.limit]

    # In the writer's thread

    def _add(self, tx: Transaction, calls: Sequence[Sequence[Entry]]) -> list[None]:
        for entries in calls:
            self._suppressing.add(tx, entries)
        return [None] * len(calls)

    def _remove(self, tx: Transaction, calls: Sequence[Sequence[Removal]]) -> list[list[int]]:
        return [self._suppressing.remove(tx, removals) for removals in calls]


def _fits(one: Entry, which: Which) -> bool:
    return which.account in {None, one.account} and which.reason in {None, one.reason} and which.tag in {None, one.tag}
