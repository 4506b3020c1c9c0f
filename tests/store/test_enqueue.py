"""Accepting: all or nothing, idempotency, pieces."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.message.model import PIECE_BYTES
from gateway.store.newmail import Accepted, Conflict
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, Now, Post, claim_all


async def test_a_message_is_there_with_its_recipients_events_and_content(store: Store, post: Post) -> None:
    message = post.message("ann@example.com", "bob@example.net")
    assert await store.enqueue(message) == Accepted(message.uuid)

    view = await store.message(message.uuid, "acme")
    assert view is not None
    assert (view.key, view.door, view.subject, view.tags, view.metadata, view.size) == (
        "shop",
        "http",
        "Hello",
        '["a"]',
        '{"order":1}',
        message.facts.size,
    )
    assert [(r.address, r.state, r.route, r.domain, r.blocked_by) for r in view.recipients] == [
        ("ann@example.com", State.QUEUED, "direct", "example.com", "connections"),
        ("bob@example.net", State.QUEUED, "direct", "example.net", "connections"),
    ]
    events = await store.events(message.uuid)
    assert [(event.recipient, event.type) for event in events] == [
        ("ann@example.com", EventType.ACCEPTED),
        ("bob@example.net", EventType.ACCEPTED),
    ]
    assert events[0].data == '{"door":"http","client":"192.0.2.1"}'
    assert await store.content(message.uuid) == message.pieces[0][1]


async def test_another_account_sees_nothing(store: Store, post: Post) -> None:
    message = post.message()
    await store.enqueue(message)
    assert await store.message(message.uuid, "other") is None
    assert await store.message(message.uuid, None) is not None


async def test_it_survives_reopening(opener: Opener, post: Post) -> None:
    store = await opener()
    message = post.message()
    await store.enqueue(message)
    await store.close()
    again = await opener()
    assert [due.domain for due in await again.due()] == ["example.com"]
    assert await again.content(message.uuid) == message.pieces[0][1]


async def test_ready_is_told_once_for_a_group_and_after_the_commit(opener: Opener, post: Post) -> None:
    told = asyncio.Event()
    store = await opener(on_ready=told.set)
    assert not told.is_set()
    await store.enqueue(post.message())
    assert told.is_set()
    assert len(await store.due()) == 1


async def test_the_same_key_and_content_is_replayed(store: Store, post: Post) -> None:
    first = post.message(idempotency=("order-1", b"a"))
    await store.enqueue(first)
    second = post.message(idempotency=("order-1", b"a"))
    assert await store.enqueue(second) == Accepted(first.uuid, replayed=True)
    assert await store.message(second.uuid, None) is None


async def test_the_same_key_with_other_content_conflicts(store: Store, post: Post) -> None:
    await store.enqueue(post.message(idempotency=("order-1", b"a")))
    assert await store.enqueue(post.message(idempotency=("order-1", b"b"))) == Conflict()
    assert len(await claim_all(store, LEASE_MS)) == 1


async def test_keys_of_accounts_do_not_meet(store: Store, post: Post) -> None:
    await store.enqueue(post.message(idempotency=("order-1", b"a")))
    other = post.message(account="other", idempotency=("order-1", b"b"))
    assert await store.enqueue(other) == Accepted(other.uuid)


async def test_a_hundred_at_once_are_one_message(store: Store, post: Post) -> None:
    messages = [post.message(idempotency=("order-1", b"a")) for _ in range(100)]
    outcomes = await asyncio.gather(*[store.enqueue(message) for message in messages])
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(accepted) == 100
    assert len({outcome.uuid for outcome in accepted}) == 1
    assert sum(not outcome.replayed for outcome in accepted) == 1
    claimed = await claim_all(store, LEASE_MS)
    assert [one.uuid for one in claimed] == [accepted[0].uuid]


async def test_a_mixture_at_once_keeps_one_and_refuses_the_other_content(store: Store, post: Post) -> None:
    messages = [post.message(idempotency=("order-1", b"a" if n % 2 else b"b")) for n in range(40)]
    outcomes = await asyncio.gather(*[store.enqueue(message) for message in messages])
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 20
    assert len(await claim_all(store, LEASE_MS)) == 1


async def test_an_idempotency_key_ends_after_a_day(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message(idempotency=("order-1", b"a")))
    now.ms += DAY_MS - 1
    assert await store.enqueue(post.message(idempotency=("order-1", b"b"))) == Conflict()
    now.ms += 1
    late = post.message(idempotency=("order-1", b"b"))
    assert await store.enqueue(late) == Accepted(late.uuid)


async def test_pieces_come_before_their_message(store: Store, post: Post) -> None:
    pieces = [b"Subject: x\r\n\r\n" + b"a" * (PIECE_BYTES - 14), b"b" * PIECE_BYTES, b"c" * 10]
    id_ = post.ids.next()
    await store.put_piece(id_, 1, pieces[1])
    await store.put_piece(id_, 2, pieces[2])
    message = post.message(id_=id_, pieces=[(0, pieces[0])], piece_count=3)
    await store.enqueue(message)
    assert await store.content(message.uuid) == b"".join(pieces)
    assert [await store.piece(id_, index) for index in range(3)] == pieces
    (claimed,) = await claim_all(store, LEASE_MS)
    assert claimed.content is None
    assert claimed.piece_count == 3


async def test_a_message_with_a_missing_piece_is_not_accepted(store: Store, post: Post) -> None:
    id_ = post.ids.next()
    await store.put_piece(id_, 1, b"b")
    message = post.message(id_=id_, piece_count=3)
    with pytest.raises(StoreError, match="missing"):
        await store.enqueue(message)
    assert await store.message(message.uuid, None) is None
    assert not await store.due()


async def test_a_missing_piece_is_an_error(store: Store, post: Post) -> None:
    message = post.message()
    await store.enqueue(message)
    with pytest.raises(StoreError, match="missing"):
        await store.piece(message.id, 7)


async def test_ids_never_come_again_when_the_clock_went_back(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    message = post.message("a@example.com", "b@example.com", "c@example.com")
    await store.enqueue(message)
    await store.close()
    now.ms -= DAY_MS
    again = await opener()
    assert again.last_id >= message.recipients[-1].id


async def test_ids_of_a_process_that_died_never_come_again(opener: Opener, post: Post, tmp_path: Path) -> None:
    store = await opener()
    first = post.message()
    await store.enqueue(first)
    # An earlier message with a later recipient: the highest id is not the last message's.
    early = post.ids.next()
    late = post.message()
    await store.enqueue(late)
    message = post.message("a@example.com", id_=early)
    await store.enqueue(message)
    image = tmp_path / "image"
    image.mkdir()
    for name in ("queue.db", "queue.db-wal"):
        (image / name).write_bytes((tmp_path / name).read_bytes())
    again = await Store.open(image / "queue.db")
    try:
        assert again.last_id >= message.recipients[-1].id
    finally:
        await again.close()


async def test_close_finishes_what_is_queued(opener: Opener, post: Post) -> None:
    store = await opener()
    messages = [post.message() for _ in range(50)]
    writes = asyncio.gather(*[store.enqueue(message) for message in messages])
    await asyncio.sleep(0)  # let them be queued
    await store.close()
    assert len(await writes) == 50
    with pytest.raises(StoreError, match="closed"):
        await store.enqueue(post.message())
    with pytest.raises(StoreError, match="closed"):
        await store.counts()
    again = await opener()
    assert len(await claim_all(again, LEASE_MS)) == 50


async def test_a_caller_that_gives_up_does_not_undo_its_write(opener: Opener, post: Post) -> None:
    store = await opener()
    message = post.message()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.enqueue(message)
    await store.enqueue(post.message())
    assert await store.message(message.uuid, None) is not None
