"""The schema: its migrations, and that a newer database is refused."""

import hashlib
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from gateway.events import State
from gateway.keyterms import Duplicates
from gateway.store import connection as store_connection
from gateway.store import db
from gateway.store.db import Migration
from gateway.store.newmail import Accepted, Conflict, RequestKey
from gateway.store.records import TemplateRecord
from gateway.store.sqlite import SqliteStore
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all

Schema = list[tuple[Any, ...]]


def schema(connection: apsw.Connection) -> Schema:
    sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name"
    return connection.execute(sql).fetchall()


def version(connection: apsw.Connection) -> int:
    return int(connection.pragma("user_version"))


def test_a_fresh_schema_is_that_of_every_step_in_turn() -> None:
    steps = db.migrations()
    fresh, stepwise = apsw.Connection(":memory:"), apsw.Connection(":memory:")
    db.migrate(fresh.cursor(), steps)
    for end in range(1, len(steps) + 1):
        db.migrate(stepwise.cursor(), steps[:end])
        assert version(stepwise) == end
    assert schema(stepwise) == schema(fresh)
    names = {name for kind, name, _ in schema(fresh) if kind == "table"}
    assert {"message", "recipient", "ready", "waiting", "held", "suppression", "dkim_key", "template"} <= names
    assert {"report", "sts_policy"} <= names


SCHEMA_1_DATA = f"""
INSERT INTO destination (id, route, domain) VALUES (1, 'direct', 'example.com');
INSERT INTO key_ref (id, name) VALUES (1, 'shop');
INSERT INTO message VALUES (5, x'{"05" * 16}', 'acme', 1, 'http', 's@example.org', 's@example.org', 'Hello', 'a@b',
    12, 4, x'00', 0, '[]', '{{}}', {START_MS}, {START_MS + 9_000_000}, 1, 1, 1);
INSERT INTO recipient (message, id, address, destination, updated_at) VALUES (5, 6, 'ann@example.com', 1, {START_MS});
INSERT INTO ready VALUES (1, 1, 1, 6, 5);
INSERT INTO expiry VALUES ({START_MS + 9_000_000}, 5);
INSERT INTO event VALUES (1, 5, 6, 'accepted', {START_MS}, '{{}}');
INSERT INTO idempotency VALUES ('acme', 'order-1', x'{hashlib.sha256(b"a").hexdigest()}', x'{"05" * 16}', {START_MS});
INSERT INTO key VALUES ('shop', x'0d', 'mgw_', 'acme', NULL, '[]', '["send"]', NULL, {START_MS}, NULL, NULL);
"""


async def test_a_database_of_schema_1_is_brought_up_and_works(tmp_path: Path, now: Now, post: Post) -> None:
    path = tmp_path / "queue.db"
    old = store_connection.open_writer(path)
    db.migrate(old.cursor(), db.migrations()[:1])
    old.cursor().execute(SCHEMA_1_DATA).fetchall()
    old.close()

    store = await SqliteStore.open(path, clock=now.clock)
    (claimed,) = await claim_all(store, START_MS + LEASE_MS)
    assert [leased.address for leased in claimed.recipients] == ["ann@example.com"]
    again = post.message(idempotency=("order-1", b"a"))
    assert await store.enqueue(again) == Accepted(bytes([5]) * 16, replayed=True)
    assert await store.enqueue_all([], RequestKey("acme", "order-1", b"h", "answer")) == Conflict()
    assert await store.enqueue_all([], RequestKey("acme", "order-2", b"h", "answer")) == []
    (key,) = await store.records.keys()
    assert (key.name, key.scopes, key.limits, key.networks) == ("shop", ("send",), (), ())
    assert (key.old_digest, key.old_until) == (None, None)
    assert (key.duplicates, key.dsn) == (Duplicates.AT_LEAST_ONCE, None)
    assert await store.records.rotate_key("shop", b"new", "mgw_", old_until=START_MS)
    template = TemplateRecord(bytes(16), "acme", "hello", "Hello", None, "text", START_MS, START_MS)
    assert await store.records.add_template(template, most=1)
    await store.close()

    upgraded, fresh = apsw.Connection(str(path)), apsw.Connection(":memory:")
    db.migrate(fresh.cursor(), db.migrations())
    assert schema(upgraded) == schema(fresh)
    upgraded.close()


SCHEMA_3_DATA = f"""
INSERT INTO destination (id, route, domain) VALUES (1, 'direct', 'example.com');
INSERT INTO key_ref (id, name) VALUES (1, 'shop');
INSERT INTO message VALUES (5, x'{"05" * 16}', 'acme', 1, 'smtp', 's@example.org', 's@example.org', 'Hello', 'a@b',
    12, 4, x'00', 7, '[]', '{{}}', {START_MS}, {START_MS + 9_000_000}, 1, 5, 1);
INSERT INTO content VALUES (5, x'{hashlib.sha256(b"a: b" + b"x" * 8).hexdigest()}', x'{(b"a: b" + b"x" * 8).hex()}');
INSERT INTO recipient (message, id, address, destination, state, next_at, updated_at) VALUES
    (5, 6, 'ready@example.com', 1, 'queued', 0, {START_MS}),
    (5, 7, 'waiting@example.com', 1, 'deferred', {START_MS + 1}, {START_MS}),
    (5, 8, 'later@example.com', 1, 'scheduled', {START_MS + 2}, {START_MS}),
    (5, 9, 'leased@example.com', 1, 'queued', 0, {START_MS}),
    (5, 10, 'late@example.com', 1, 'deferred', {START_MS + 10**12}, {START_MS});
INSERT INTO ready VALUES (1, 1, 1, 6, 5);
INSERT INTO waiting VALUES
    ({START_MS + 1}, 7, 1, 1, 1, 5, 'backoff'), ({START_MS + 2}, 8, 1, 1, 1, 5, 'schedule'),
    ({START_MS + 10**12}, 10, 1, 1, 1, 5, 'backoff');
INSERT INTO leased VALUES (9, 1, {START_MS + LEASE_MS}, 0, 1, 1, 1, 5, 0, 5, 1, {START_MS + 9_000_000});
INSERT INTO pending VALUES (5, 5, 0);
INSERT INTO expiry VALUES ({START_MS + 9_000_000}, 5);
"""


async def test_mail_queued_under_schema_3_is_delivered_and_tells_nobody(tmp_path: Path, now: Now) -> None:
    path = tmp_path / "queue.db"
    old = store_connection.open_writer(path)
    db.migrate(old.cursor(), db.migrations()[:3])
    old.cursor().execute(SCHEMA_3_DATA).fetchall()
    old.close()

    store = await SqliteStore.open(path, clock=now.clock)
    assert (await store.reclaim(START_MS)).count == 1
    await store.promote(START_MS + 2)
    (claimed,) = await claim_all(store, START_MS + LEASE_MS)
    assert (claimed.ret, claimed.envid, claimed.tls_wish, claimed.at_most_once) == ("", "", 0, False)
    assert (claimed.facts.eight_bit, claimed.facts.utf8_header, claimed.facts.dot_lines) == (True, True, True)
    assert [(one.address, one.notify, one.orcpt, one.possible_duplicate) for one in claimed.recipients] == [
        ("ready@example.com", 0, "", False),
        ("waiting@example.com", 0, "", False),
        ("later@example.com", 0, "", False),
        ("leased@example.com", 0, "", True),
    ]
    now.ms += 8 * 3_600_000
    four = attempt(claimed, State.DELIVERED, at=now.ms).results
    bounced = attempt(claimed, State.BOUNCED, at=now.ms)
    deferred = attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + 1)
    await store.settle([replace(bounced, results=(four[0], bounced.results[1], deferred.results[2], four[3]))])
    assert await store.expire(START_MS + 9_000_000) == 2
    assert not await store.reports(1 << 60, 10)
    view = await store.message(bytes([5]) * 16, "acme")
    assert view is not None
    assert [one.state.value for one in view.recipients] == ["delivered", "bounced", "failed", "delivered", "failed"]
    await store.close()
    upgraded, fresh = apsw.Connection(str(path)), apsw.Connection(":memory:")
    db.migrate(fresh.cursor(), db.migrations())
    assert schema(upgraded) == schema(fresh)
    upgraded.close()


def test_a_step_that_fails_leaves_nothing_behind() -> None:
    connection = apsw.Connection(":memory:")
    broken = (
        Migration(1, "0001_a.sql", "CREATE TABLE a (x);"),
        Migration(2, "0002_b.sql", "CREATE TABLE b (x); INSERT INTO missing VALUES (1);"),
    )
    with pytest.raises(apsw.SQLError):
        db.migrate(connection.cursor(), broken)
    assert version(connection) == 1
    assert [name for _, name, _ in schema(connection)] == ["a"]
    mended = (broken[0], Migration(2, "0002_b.sql", "CREATE TABLE b (x);"))
    db.migrate(connection.cursor(), mended)
    assert version(connection) == 2


def test_a_step_without_room_fails_for_that_reason() -> None:
    """SQLite has rolled back by itself then."""
    connection = apsw.Connection(":memory:")

    def fill(*_: Any) -> None:
        connection.execute("ROLLBACK")
        raise apsw.FullError("database or disk is full")

    connection.create_scalar_function("fill", fill)
    with pytest.raises(apsw.FullError):
        db.migrate(connection.cursor(), [Migration(1, "0001_a.sql", "CREATE TABLE a (x); SELECT fill();")])
    assert version(connection) == 0


async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    await (await SqliteStore.open(path)).close()
    newer = len(db.migrations()) + 1
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", newer)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(db.NewerSchema, match=f"schema {newer}; this version of Mail Gateway knows"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before
    connection = apsw.Connection(str(path))
    assert version(connection) == newer
    connection.close()


async def test_opening_twice_changes_no_schema(tmp_path: Path, now: Now, post: Post) -> None:
    path = tmp_path / "queue.db"
    store = await SqliteStore.open(path, clock=now.clock)
    await store.enqueue(post.message())
    await store.close()
    connection = apsw.Connection(str(path))
    before = schema(connection)
    connection.close()
    store = await SqliteStore.open(path, clock=now.clock)
    assert len(await claim_all(store, START_MS + LEASE_MS)) == 1
    await store.close()
    connection = apsw.Connection(str(path))
    assert schema(connection) == before
    connection.close()


def test_statements_have_one_name_each() -> None:
    statements = db.load("common", "sqlite")
    assert len(statements) > 80
    assert statements["key_name"] == "SELECT name FROM key_ref WHERE id = ?1"
    with pytest.raises(ValueError, match="two statements are named"):
        db.load("common", "common")
