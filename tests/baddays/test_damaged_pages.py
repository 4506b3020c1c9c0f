"""A page, or one byte, that concerns few holds up few: what waits and what expires goes on, it starts, and names that
are damaged are given up."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from gateway.errors import StoreError
from gateway.store import promoting
from gateway.store.connection import PAGE_BYTES
from gateway.store.db import Transaction
from gateway.store.shown import Filter
from gateway.store.sqlite import SqliteStore
from tests.store.mail import DAY_MS, HOUR_MS, LEASE_MS, START_MS, Now, Post, claim_all

UNTIL: Final = START_MS + LEASE_MS
_LEAF_OF_A_TABLE: Final = 13  # the first byte of a page
_NO_TEXT: Final = "cast(x'65f8616d706c652e636f6d' AS TEXT)"  # exam... with one flipped bit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def alter(path: Path, sql: str, *values: object) -> None:
    other = apsw.Connection(str(path))
    other.execute(sql, values)
    other.close()


def ruin_leaf(path: Path, table: str, row: int) -> int:
    """Overwrite the first byte of the leaf that has the row of that place in its order; returns how many are on it."""
    other = apsw.Connection(str(path))
    sql = "SELECT pageno, ncell FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
    leaves: list[Any] = other.execute(sql, (table,)).fetchall()
    other.close()
    # A row stands between two leaves.
    page, cells = next(leaf for n, leaf in enumerate(leaves) if row < sum(more + 1 for _, more in leaves[: n + 1]))
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE_BYTES] = 0xFF
    path.write_bytes(content)
    return int(cells)


async def addresses(store: SqliteStore) -> list[str]:
    return [one.address for claimed in await claim_all(store, UNTIL) for one in claimed.recipients]


async def test_a_damaged_page_of_what_waits_keeps_back_its_rows(
    path: Path, post: Post, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    mail = [post.message(f"u{n}@d{n % 4}.example", send_at=START_MS + HOUR_MS + n) for n in range(400)]
    await store.enqueue_all(mail, None)
    await store.close()
    lost = ruin_leaf(path, "waiting", 0)
    store = await SqliteStore.open(path, clock=now.clock)
    now.ms += DAY_MS
    next_at = await store.promote(now.ms)
    await store.promote(now.ms)
    assert next_at is not None
    assert now.ms < next_at <= now.ms + promoting.LOOK_S * 1000
    # SQLite looks at a page's neighbours too, where it has become empty.
    assert 400 - 3 * lost < len(await addresses(store)) <= 400 - lost
    await store.enqueue(post.message("fresh@example.com"))
    assert await addresses(store) == ["fresh@example.com"]
    assert caplog.text.count("what waits is looked for by destination") == 1
    assert caplog.text.count("some that waits for destination") == 4
    await store.close()


async def test_what_is_due_goes_on_past_a_damaged_page_of_another_destination(
    path: Path, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    at = START_MS + HOUR_MS
    half = [post.message("big@big.example") for _ in range(300)]
    stuck = [post.message("stuck@big.example", send_at=at) for _ in range(60)]
    rest = [post.message("big@big.example") for _ in range(300)]
    await store.enqueue_all([*half, *stuck, *rest, post.message("other@other.example", send_at=at)], None)
    await store.close()
    ruin_leaf(path, "ready", 300)
    monkeypatch.setattr(promoting, "LOOK_S", 0.0)
    store = await SqliteStore.open(path, clock=now.clock)
    now.ms += DAY_MS
    for _ in range(3):
        await store.promote(now.ms)
    (due,) = [due for due in await store.due() if due.domain == "other.example"]
    assert len(await store.claim(due.destination, 10, UNTIL)) == 1
    await store.close()
    other = apsw.Connection(str(path))
    assert other.execute("SELECT count(*) FROM waiting").fetchall() == [(60,)]
    other.close()


async def test_all_that_is_due_is_tried_at_once_again(
    path: Path, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_S", "APART_S"):
        monkeypatch.setattr(promoting, name, 0.0)
    store = await SqliteStore.open(path, clock=now.clock)
    promote, calls = store._parts.waiting.promote, []

    def damaged_once(tx: Transaction, moments: Sequence[int]) -> list[None]:
        calls.append(moments)
        if len(calls) == 1:
            raise apsw.CorruptError("database disk image is malformed")
        return promote(tx, moments)

    monkeypatch.setattr(store._parts.waiting, "promote", damaged_once)
    await store.enqueue(post.message(send_at=START_MS + HOUR_MS))
    assert await store.promote(START_MS) == START_MS
    assert await store.promote(START_MS) == START_MS + HOUR_MS
    assert len(calls) == 2
    await store.close()


async def test_a_damaged_message_does_not_keep_others_from_expiring(
    path: Path, post: Post, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    mail = [post.message(f"u{n}@example.com") for n in range(5)]
    await store.enqueue_all(mail, None)
    await store.close()
    alter(path, f"UPDATE recipient SET reply = {_NO_TEXT} WHERE message = ?", mail[2].id)
    store = await SqliteStore.open(path, clock=now.clock)
    now.ms += 6 * DAY_MS
    assert await store.expire(now.ms) == 4
    assert await store.expire(now.ms) == 0
    assert store.backlog().messages == 1
    assert caplog.text.count("does not expire") == 1
    await store.close()


async def test_where_the_table_of_ends_is_damaged_the_sweeper_goes_on(
    path: Path, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await SqliteStore.open(path, clock=now.clock)

    def corrupt(*_: object) -> list[object]:
        raise apsw.CorruptError("database disk image is malformed")

    for name in ("step", "pass_over"):
        monkeypatch.setattr(store._expiring._expiry, name, corrupt)
    for _ in range(2):
        assert await store.expire(now.ms) == 0
    assert caplog.text.count("messages do not expire") == 1
    await store.close()


async def test_a_message_that_was_damaged_is_not_counted_for_ever(path: Path, post: Post, now: Now) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    message = post.message("a@example.com", "b@example.com")
    await store.enqueue(message)
    other = apsw.Connection(str(path))
    other.execute("UPDATE message SET envelope_sender = 'shoq@example.org'")
    assert await addresses(store) == []
    assert store.backlog().messages == 1
    now.ms += 400 * DAY_MS
    await store.sweep(now.ms)
    assert await store.message(message.uuid, None) is None
    await store.expire(now.ms)
    assert store.backlog().messages == 0
    assert other.execute("SELECT count(*) FROM pending").fetchall() == [(0,)]
    other.close()
    await store.close()


async def test_a_name_that_is_no_text_keeps_nobody_from_starting(path: Path, post: Post, now: Now) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    await store.enqueue_all([post.message("a@example.com"), post.message("b@example.org", key="news")], None)
    await store.close()
    alter(path, f"UPDATE destination SET domain = {_NO_TEXT} WHERE domain = 'example.com'")
    alter(path, f"UPDATE key_ref SET name = {_NO_TEXT} WHERE name = 'news'")
    store = await SqliteStore.open(path, clock=now.clock)
    dues = {due.domain: due for due in await store.due()}
    assert dues.keys() == {"", "example.org"}
    (claimed,) = await store.claim(dues["example.org"].destination, 10, UNTIL)
    assert claimed.key == ""
    await store.close()


async def test_a_text_that_is_none_is_damage(path: Path, post: Post, now: Now) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    await store.enqueue(post.message("a@example.com"))
    await store.close()
    alter(path, f"UPDATE recipient SET reply = {_NO_TEXT}")
    store = await SqliteStore.open(path, clock=now.clock)
    with pytest.raises(StoreError, match="a text in it is none"):
        await store.find(Filter())
    await store.close()


@pytest.mark.parametrize("where", ["the sum", "the row alone"])
async def test_mail_for_a_damaged_name_is_taken_under_another_number(
    path: Path, post: Post, now: Now, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    await store.enqueue(post.message("old@example.com"))
    await store.close()
    if where == "the sum":
        alter(path, "UPDATE destination SET seal = seal + 1")
    else:
        misspell(path, b"directexample.com", b"directexbmple.com")
    caplog.set_level(logging.ERROR)
    store = await SqliteStore.open(path, clock=now.clock)
    for _ in range(2):
        await store.enqueue(post.message("new@example.com"))
    await store.enqueue(post.message("other@exbmple.com"))
    assert caplog.text.count("the name of destination 1 is lost") == (1 if where == "the sum" else 2)
    assert [(due.route, due.domain) for due in await store.due()] == [
        ("", ""),
        ("direct", "example.com"),
        ("direct", "exbmple.com"),
    ]
    found = {due.domain: await store.claim(due.destination, 10, UNTIL) for due in await store.due()}
    assert {domain: len(claims) for domain, claims in found.items()} == {"": 1, "example.com": 2, "exbmple.com": 1}
    await store.close()


def misspell(path: Path, text: bytes, other: bytes) -> None:
    """In the table, not in its index."""
    content = bytearray(path.read_bytes())
    for start in range(0, len(content), PAGE_BYTES):
        at = content.find(text, start, start + PAGE_BYTES)
        if at >= 0 and content[start] == _LEAF_OF_A_TABLE:
            content[at : at + len(text)] = other
    path.write_bytes(content)


async def test_damage_that_is_met_at_the_end_of_a_start_names_the_file_and_the_way_out(
    path: Path, post: Post, now: Now
) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    await store.enqueue_all([post.message("a@example.com") for _ in range(300)], None)
    await store.close()
    ruin_leaf(path, "ready", 0)
    with pytest.raises(StoreError, match="restore a backup") as refusal:
        await SqliteStore.open(path, clock=now.clock)
    assert str(path) in str(refusal.value)
