"""Databases of every released schema, as text in `schemas/`: each opens, is brought up, and its mail is delivered.

A dump was made by the migrations up to its schema, with a row in every place; it is never edited. Whoever adds a
migration dumps the schema before it.
"""

import re
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.events import State
from gateway.message import notify
from gateway.store import connection, db
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault
from tests.store.mail import HOUR_MS, LEASE_MS, START_MS, Now, attempt, claim_all

DUMPS = Path(__file__).parent / "schemas"
MASTER_KEY = bytes(range(32))
SMALL = b"From: s@example.org\r\nSubject: small\r\n\r\nSmall.\r\n"
LARGE = b"From: s@example.org\r\nSubject: large\r\n\r\n" + b"first piece\r\n" * 4 + b"second piece\r\n" * 4

STEPS = db.migrations()
NUMBERS = sorted(int(match[1]) for path in DUMPS.iterdir() if (match := re.fullmatch(r"schema_(\d+)\.sql", path.name)))
since = pytest.mark.parametrize("number", NUMBERS)


def load(path: Path, number: int) -> None:
    """A database file as that schema had it."""
    old = connection.open_writer(path)
    old.cursor().execute((DUMPS / f"schema_{number}.sql").read_text()).fetchall()
    old.close()


def schema(path: Path | str) -> list[Any]:
    """Every statement of a schema, and every column with its default."""
    reader = apsw.Connection(str(path))
    entries = reader.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name").fetchall()
    tables = [name for kind, name, _ in entries if kind == "table"]
    columns = [(name, *column) for name in tables for column in reader.execute(f"PRAGMA table_xinfo({name})")]
    version = reader.pragma("user_version")
    reader.close()
    return [version, *entries, *columns]


def made(path: Path, number: int) -> list[Any]:
    """The schema that the migrations make."""
    fresh = connection.open_writer(path)
    db.migrate(fresh.cursor(), STEPS[:number])
    fresh.close()
    return schema(path)


def test_every_schema_before_the_newest_is_kept() -> None:
    assert list(range(1, len(STEPS))) == NUMBERS[: len(STEPS) - 1]


@since
def test_a_dump_is_what_its_migrations_make(tmp_path: Path, number: int) -> None:
    load(tmp_path / "old.db", number)
    assert schema(tmp_path / "old.db") == made(tmp_path / "fresh.db", number)


@since
async def test_brought_up_it_is_as_new_and_its_mail_is_delivered(tmp_path: Path, now: Now, number: int) -> None:
    path = tmp_path / "old.db"
    load(path, number)
    store = await SqliteStore.open(path, clock=now.clock)
    await store.reclaim(START_MS)
    await store.promote(START_MS + 2)
    claimed = {one.message: one for one in await claim_all(store, START_MS + LEASE_MS)}
    assert {leased.address: leased.possible_duplicate for leased in claimed[100].recipients} == {
        "ready@example.com": False,
        "waiting@example.com": False,
        "later@example.com": False,
        "leased@example.com": True,
    }
    assert claimed[100].content == SMALL
    assert b"".join([await store.piece(110, index) for index in range(2)]) == LARGE
    once = ["once-unsent@example.com"] if number >= 4 else []
    assert [leased.address for one in claimed.values() if one.at_most_once for leased in one.recipients] == once
    now.ms += HOUR_MS
    await store.settle([attempt(one, State.DELIVERED, at=now.ms) for one in claimed.values()])
    states = {
        recipient.address: recipient.state.value
        for message in (100, 110, 120)
        for recipient in (await _view(store, message)).recipients
    }
    assert states == {
        **dict.fromkeys(
            [f"{name}@example.com" for name in ("ready", "waiting", "later", "leased", "gone")], "delivered"
        ),
        "held@example.com": "held",
        "no@example.com": "bounced",
        "large@example.net": "delivered",
        "failed@example.com": "failed",
    }
    await store.close()
    assert schema(path) == made(tmp_path / "fresh.db", len(STEPS))


@since
async def test_brought_up_it_has_kept_its_records(tmp_path: Path, now: Now, number: int) -> None:
    path = tmp_path / "old.db"
    load(path, number)
    store = await SqliteStore.open(path, clock=now.clock)
    (key,) = await store.records.keys()
    assert (key.name, key.senders, key.scopes) == ("web", ("*@example.org",), ("send",))
    assert len(key.limits) == (number >= 2)
    assert (len(key.networks), key.old_until) == ((1, START_MS + HOUR_MS) if number >= 3 else (0, None))
    assert key.dsn == (notify.FAILURE if number >= 4 else None)
    (domain,) = await store.records.domains()
    active = next(one for one in domain.keys if one.active)
    assert Vault(MASTER_KEY).unwrap("dkim:example.org:mgw1", active.private_wrapped) == b"a private key"
    told = {one.address for report in await store.reports(1 << 60, 10) for one in report.recipients}
    assert told == ({"failed@example.com"} if number >= 4 else set())
    assert store.last_id >= 900
    await store.close()


async def _view(store: SqliteStore, message: int) -> Any:
    view = await store.message(bytes([message]) * 16, "acme")
    assert view is not None
    return view
