"""What the list costs does not depend on how long it is: counted in steps of SQLite's machine, not in time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import connection, db
from gateway.store.connection import Database
from gateway.store.db import NEVER, Transaction
from gateway.store.sieve import Sieve
from gateway.store.suppression import Entry, Kind, Reason, Removal, Suppressing

SQL = db.load("suppression")
FEW, MANY = 20, 5000
NOW = 1_800_000_000_000


def entry(number: int, account: str = "acme") -> Entry:
    ends = NOW + number if number % 2 else None
    return Entry(account, "", Kind.ADDRESS, f"p{number}@example.com", Reason.BOUNCE, "", NOW, ends)


class Bench:
    """A database with a number of entries, and how many steps something takes."""

    def __init__(self, path: Path, entries: int) -> None:
        self.database: Database = connection.open_writer(path)
        db.migrate(self.database.cursor(), db.migrations())
        self.tx = Transaction(self.database.cursor())
        self.suppressing = Suppressing(SQL, Sieve())
        self.database.begin()
        self.suppressing.add(self.tx, [entry(number) for number in range(entries)])
        self.steps = 0

    def count(self, verb: str) -> int:
        self.steps = 0
        self.database._connection.set_progress_handler(self._step, 1)
        getattr(self, verb)()
        self.database._connection.set_progress_handler(None)
        return self.steps

    def _step(self) -> bool:
        self.steps += 1
        return False

    def find(self) -> None:
        for value in ("p7@example.com", "nobody@example.com"):
            self.tx.all(SQL["suppression_find"], (value, "address", "acme"))

    def add(self) -> None:
        self.suppressing.add(self.tx, [entry(7), entry(1_000_000)])

    def relieve(self) -> None:
        self.suppressing.relieve(self.tx, [("acme", "p8@example.com"), ("other", "p8@example.com")])

    def remove(self) -> None:
        self.suppressing.remove(self.tx, [Removal("acme", ("p9@example.com",))])

    def forget(self) -> None:
        self.suppressing.forget(self.tx, "p10@example.com", "hash:abc")

    def sweep(self) -> None:
        self.suppressing.expired(self.tx, [NOW])

    def page(self) -> None:
        for name, more in (("suppressions_of", ()), ("suppressions_by_reason", ("bounce",))):
            self.tx.all(SQL[name], ("acme", NEVER, 10, *more))
        self.tx.all(SQL["suppressions_all"], (NEVER, 10))
        self.tx.all(SQL["suppressions_after"], ("acme", 0, 10))


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Bench]]:
    directory = tmp_path_factory.mktemp("growth")
    few, many = Bench(directory / "few.db", FEW), Bench(directory / "many.db", MANY)
    yield few, many
    for one in (few, many):
        one.database.rollback()
        one.database.close()


@pytest.mark.parametrize("verb", ["find", "add", "relieve", "remove", "forget", "sweep", "page"])
def test_it_takes_as_many_steps_with_few_as_with_many(benches: tuple[Bench, Bench], verb: str) -> None:
    few, many = (one.count(verb) for one in benches)
    assert 0 < many <= few + 20
