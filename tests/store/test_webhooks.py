"""Endpoints of webhooks in the store: what is kept of each, and what of it is bounded."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreError
from gateway.events import EventType
from gateway.store import connection
from gateway.store.sqlite import SqliteStore
from gateway.store.webhook import MOST_ATTEMPTS, Dead, Format, NewWebhook, Parked, Progress, Standing, Tried
from gateway.store.webhooks import TooMany
from tests.store.conftest import Opener
from tests.store.mail import START_MS, Post

UUID = bytes(range(16))
URL = "https://a.test/"


def new(uuid: bytes = UUID, account: str = "acme") -> NewWebhook:
    types = (EventType.DELIVERED, EventType.BOUNCED)
    return NewWebhook(uuid, account, URL, Format.SENDMUX, b"w", types, ("k",), ('t"',), True, START_MS)


def progress(id_: int, cursor: int, *, epoch: int = 0, **more: Any) -> Progress:
    return Progress(webhook=id_, epoch=epoch, cursor=cursor, failing_since=None, at=START_MS, **more)


async def test_a_record_comes_back_as_it_went(store: SqliteStore, post: Post) -> None:
    await store.enqueue(post.message())
    await store.webhooks.add(new(), most=1)
    with pytest.raises(TooMany):
        await store.webhooks.add(new(b"x" * 16), most=1)
    await store.webhooks.add(new(b"y" * 16, "other"), most=1)
    one = await store.webhooks.one(UUID)
    assert one is not None
    assert [one] == await store.webhooks.of("acme")
    assert (one.types, one.keys, one.tags) == ((EventType.DELIVERED, EventType.BOUNCED), ("k",), ('t"',))
    assert (one.state, one.final_only, one.format) == (Standing.PENDING, True, Format.SENDMUX)
    assert one.cursor == store.event_log.last == 1  # what was before is not told
    assert not await store.webhooks.begin(UUID, "https://b.test/", START_MS)  # it is not that one which answered
    assert await store.webhooks.begin(UUID, URL, START_MS)
    assert not await store.webhooks.begin(UUID, URL, START_MS)
    assert await store.webhooks.rotate(UUID, b"n", old_until=5, at=START_MS)
    again = await store.webhooks.one(UUID)
    assert again is not None
    assert (again.secret_wrapped, again.old_secret_wrapped, again.old_until) == (b"n", b"w", 5)
    assert not await store.webhooks.put_state(UUID, Standing.ACTIVE, "", None, START_MS, seen=Standing.PAUSED)
    assert await store.webhooks.put_state(UUID, Standing.DISABLED, "gone", None, START_MS)
    assert not await store.webhooks.change(again, START_MS, seen_url="https://b.test/")
    assert await store.webhooks.change(again, START_MS, seen_url=URL)  # as it was read before
    again = await store.webhooks.one(UUID)
    assert again is not None
    assert (again.state, again.why) == (Standing.DISABLED, "gone")
    assert await store.webhooks.remove(UUID)
    await store.webhooks.tried(again.id, Tried(0, START_MS, 1, 200, 1, ""))  # a test was under way
    assert await store.webhooks.attempts(again.id, 9) == []
    assert not await store.webhooks.remove(UUID)
    assert len(await store.webhooks.all()) == 1


async def test_progress_is_of_its_epoch_and_never_goes_back(store: SqliteStore, post: Post) -> None:
    for _ in range(5):
        await store.enqueue(post.message())
    await store.webhooks.add(new(), most=9)
    await store.webhooks.begin(UUID, URL, START_MS)
    parked = (Parked(2, 1, 3, 99), Parked(4, 1, 0, 0))
    dead = (Dead(1, 9, START_MS, "it answered 500"),)
    assert await store.webhooks.save(progress(1, 5, parked=parked, dead=dead))
    assert await store.webhooks.save(progress(1, 3, done=(2,)))
    one = await store.webhooks.one(UUID)
    assert one is not None
    assert one.cursor == 5
    assert await store.webhooks.parked(1) == [parked[1]]
    assert await store.webhooks.counts(1) == (1, 1)
    assert await store.webhooks.rewind(UUID, 3, START_MS)
    assert not await store.webhooks.save(progress(1, 9, parked=parked))  # of before
    one = await store.webhooks.one(UUID)
    assert one is not None
    assert (one.cursor, one.epoch) == (3, 1)
    assert await store.webhooks.counts(1) == (0, 1)  # what is told again is not told twice
    assert await store.webhooks.rewind(UUID, 5, START_MS)
    one = await store.webhooks.one(UUID)
    assert one is not None
    assert (one.cursor, one.epoch) == (3, 2)  # what it was not told yet is not left out
    assert await store.webhooks.revive(UUID, START_MS) == 1
    assert [(one.seq, one.attempts) for one in await store.webhooks.parked(1)] == [(1, 0)]
    assert not await store.webhooks.save(progress(77, 9))


async def test_what_is_remembered_of_requests_is_bounded(store: SqliteStore) -> None:
    await store.webhooks.add(new(), most=9)
    for start in range(0, 3 * MOST_ATTEMPTS, 60):
        tried = [Tried(0, START_MS, number, 200, 1, "") for number in range(start, start + 60)]
        assert await store.webhooks.save(progress(1, 0, tried=tried))
    found = await store.webhooks.attempts(1, 1000)
    numbers = [shown.what.attempt for shown in found if isinstance(shown.what, Tried)]
    assert numbers == list(range(299, 299 - MOST_ATTEMPTS, -1))


async def test_the_end_of_an_endpoint_is_an_event_in_the_same_transaction(store: SqliteStore) -> None:
    await store.webhooks.add(new(), most=9)
    await store.webhooks.begin(UUID, URL, START_MS)
    last = progress(1, 0, disabled="gone", event='{"reason":"gone"}')
    assert await asyncio.gather(*(store.webhooks.save(last) for _ in range(3))) == [True] * 3
    [event] = await store.event_log.read(0, 10)
    assert (event.type, event.account, event.data) == (EventType.WEBHOOK_DISABLED, "acme", '{"reason":"gone"}')
    one = await store.webhooks.one(UUID)
    assert one is not None
    assert (one.state, one.why) == (Standing.DISABLED, "gone")


async def test_a_damaged_row_keeps_no_other_from_being_read(
    store: SqliteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await store.webhooks.add(new(), most=9)
    await store.webhooks.add(new(b"y" * 16), most=9)
    database = connection.open_writer(tmp_path / "queue.db")
    database.cursor().execute("UPDATE webhook SET format = 'sendmuy' WHERE id = 1").fetchall()
    database.close()
    with caplog.at_level(logging.ERROR, "gateway.store"):
        assert [one.id for one in await store.webhooks.all()] == [2]
    assert "webhook 1 cannot be read" in caplog.text


async def test_a_new_one_is_told_of_all_that_comes_after_a_restart(opener: Opener, post: Post) -> None:
    store = await opener()
    with pytest.raises(StoreError, match="missing"):
        await store.enqueue(post.message(piece_count=2))  # its events had numbers, and are not written
    await store.webhooks.add(new(), most=9)
    await store.close()
    store = await opener()
    await store.enqueue(post.message())
    one = await store.webhooks.one(UUID)
    assert one is not None
    assert [event.type for event in await store.event_log.read(one.cursor, 9)] == [EventType.ACCEPTED]
