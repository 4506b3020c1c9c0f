"""What the engines share: statements by name, numbered migrations, and the narrow view of a connection.

Guarantees: statements come from `sql/*.sql` and are never put together at run time; every value is bound.
Migrations are applied in order, each in one transaction, and a database of a newer version is refused. It
opens nothing: the engines do, and only they know a driver.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Protocol

from gateway.errors import StoreError
from gateway.store.queue import Due

Row = tuple[Any, ...]
Statements = Mapping[str, str]

NEVER: Final = (1 << 63) - 1  # a time that does not come

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MIGRATION: Final = re.compile(r"^(\d{4})_\w+\.sql$")


class NewerSchema(StoreError):
    """A newer version wrote the database: trying again does not help."""


class Cursor(Protocol):
    """The part of a driver's cursor that is used. A statement's rows are read before the next one is
    executed."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> "Cursor": ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> "Cursor": ...

    def fetchone(self) -> Row | None: ...

    def fetchall(self) -> list[Row]: ...

    def __iter__(self) -> Iterator[Row]: ...


@dataclass(slots=True)
class Transaction:
    """A transaction of the writer: its cursor, and what the queue learns from it once it is committed.

    `due` says of destinations that they have claimable recipients now, or (None) that they have none left. `wake_at`
    is the earliest time for which something was made to wait (0: what waits has changed and must be asked), or NEVER;
    `surveyed` says that nothing else waits for an earlier time. `urgent` are the destinations for which something of
    high priority was accepted.
    """

    cursor: Cursor
    due: dict[int, Due | None] = field(default_factory=dict)
    wake_at: int = NEVER
    surveyed: bool = False
    urgent: set[int] = field(default_factory=set)

    def wait(self, at: int) -> None:
        """Something waits for that time."""
        self.wake_at = min(self.wake_at, at)

    def one(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a statement that is run to its end."""
        rows = self.cursor.execute(sql, values).fetchall()
        return rows[0] if rows else None

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return self.cursor.execute(sql, values).fetchall()


def load(*names: str) -> Statements:
    """The statements of `sql/<name>.sql`: blocks headed `-- name: <word>`. ValueError where a name is used
    twice."""
    statements: dict[str, str] = {}
    for name in names:
        text = resources.files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
        _, *parts = _NAME.split(text)
        for block, body in zip(parts[::2], parts[1::2], strict=True):
            if block in statements:
                raise ValueError(f"two statements are named {block}")
            statements[block] = _without_comments(body)
    return statements


def _without_comments(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if line and not line.startswith("--"))


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: its number and its statements."""

    number: int
    name: str
    script: str


def migrations() -> tuple[Migration, ...]:
    """All migrations in order; they are numbered 1, 2, 3 … without a gap, and never edited once released."""
    found = sorted(
        (
            Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8"))
            for entry in resources.files(__package__).joinpath("migrations").iterdir()
            if (match := _MIGRATION.match(entry.name))
        ),
        key=lambda migration: migration.number,
    )
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations are not numbered without a gap")
    return tuple(found)


def migrate(cursor: Cursor, steps: Sequence[Migration]) -> None:
    """Bring a database up to date, each step in a transaction of its own. NewerSchema where it is newer than
    we are.

    A step that fails is rolled back whole; the database is then as it was before that step.
    """
    version = _version(cursor)
    check_known(version, steps)
    for step in steps[version:]:
        cursor.execute("BEGIN IMMEDIATE").fetchall()
        try:
            cursor.execute(step.script).fetchall()
            # A PRAGMA takes no bound value; this is our own number.
            cursor.execute(f"PRAGMA user_version = {step.number:d}").fetchall()
            cursor.execute("COMMIT").fetchall()
        except Exception:
            with contextlib.suppress(Exception):  # on a full disk SQLite has done so by itself
                cursor.execute("ROLLBACK").fetchall()
            raise


def check_known(version: int, steps: Sequence[Migration]) -> None:
    """NewerSchema where it is one. There is no way back: what a newer version wrote may mean something that this one
    does not know."""
    if version > len(steps):
        raise NewerSchema(
            f"The database has schema {version}; this version of Mail Gateway knows schemas up to "
            f"{len(steps)}. Use the version that wrote it, or a newer one; nothing was changed."
        )


def _version(cursor: Cursor) -> int:
    row = cursor.execute("PRAGMA user_version").fetchone()
    assert row is not None
    return int(row[0])
