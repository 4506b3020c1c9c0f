"""The sweep: it drops what is past its time, and nothing that is queued."""

import asyncio

from gateway.config import Retention
from gateway.errors import StoreError
from gateway.events import State
from gateway.store.sweep import ORPHAN_MS
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, START_MS, Now, Post, attempt, claim_all

UNTIL = START_MS + LEASE_MS


async def deliver(store: Store, post: Post, now: Now) -> bytes:
    message = post.message()
    await store.enqueue(message)
    for claimed in await claim_all(store, UNTIL):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    return message.uuid


async def test_pieces_without_a_message_go_after_their_time(store: Store, post: Post, now: Now) -> None:
    orphan, slow = post.ids.next(), post.ids.next()
    await store.put_piece(orphan, 1, b"x")
    await store.put_piece(slow, 1, b"y")
    now.ms += ORPHAN_MS - 1
    await store.put_piece(slow, 2, b"z")
    await store.sweep(now.ms)
    assert await store.piece(orphan, 1) == b"x"
    now.ms += 2
    await store.sweep(now.ms)
    assert await gone(store, orphan, 1)
    assert await store.piece(slow, 1) == b"y"


async def gone(store: Store, message: int, index: int) -> bool:
    try:
        await store.piece(message, index)
    except StoreError:
        return True
    return False


async def test_pieces_of_an_accepted_message_stay(store: Store, post: Post, now: Now) -> None:
    # A message whose first piece was stored before as well: nothing of it is an orphan.
    id_ = post.ids.next()
    await store.put_piece(id_, 0, b"Subject: a\r\n\r\n")
    message = post.message(id_=id_)
    await store.enqueue(message)
    await store.sweep(now.ms + 2 * ORPHAN_MS)
    assert await store.content(message.uuid) == message.pieces[0][1]


async def test_old_messages_go_with_all_that_is_theirs(store: Store, post: Post, now: Now) -> None:
    old = await deliver(store, post, now)
    now.ms += 45 * DAY_MS
    young = await deliver(store, post, now)
    now.ms += 45 * DAY_MS + 1
    await store.sweep(now.ms)
    assert await store.message(old, None) is None
    assert not await store.events(old)
    assert await store.message(young, None) is not None
    assert len(await store.events(young)) == 2


async def test_a_queued_message_is_never_swept(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(messages_s=60))
    message = post.message("a@example.com", "b@example.net", lifetime_ms=400 * DAY_MS)
    await store.enqueue(message)
    first, second = await claim_all(store, UNTIL)
    await store.settle([attempt(first, State.DELIVERED, at=now.ms)])
    now.ms += 100 * DAY_MS
    await store.sweep(now.ms)
    view = await store.message(message.uuid, None)
    assert view is not None
    assert await store.content(message.uuid) is not None
    assert await store.settle([attempt(second, State.DELIVERED, at=now.ms)]) == 1


async def test_retention_counts_from_the_last_result(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(messages_s=3600))
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    now.ms += 10 * 3_600_000
    await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    await store.sweep(now.ms + 1_800_000)
    assert await store.message(message.uuid, None) is not None
    await store.sweep(now.ms + 3_600_001)
    assert await store.message(message.uuid, None) is None


async def test_events_go_by_their_own_time(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(events_s=3600))
    uuid = await deliver(store, post, now)
    await store.sweep(now.ms + 3_600_000)
    assert len(await store.events(uuid)) == 2
    await store.sweep(now.ms + 3_600_001)
    assert not await store.events(uuid)
    assert await store.message(uuid, None) is not None


async def test_a_clock_that_was_behind_takes_no_other_events_with_it(store: Store, post: Post, now: Now) -> None:
    for age in (2, 1, 1000, 0):
        now.ms = START_MS - age * DAY_MS
        await store.enqueue(post.message())
    await store.sweep(now.ms)
    assert [event.seq for event in await store.event_log.read(0, 9)] == [1, 2, 4]


async def test_event_numbers_are_not_used_again(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(events_s=3600))
    uuid = await deliver(store, post, now)
    last = (await store.events(uuid))[-1].seq
    await store.sweep(now.ms + DAY_MS)
    await store.close()
    again = await opener()
    later = await deliver(again, post, now)
    assert (await again.events(later))[0].seq > last


async def test_idempotency_records_are_dropped(store: Store, post: Post, now: Now) -> None:
    await asyncio.gather(*[store.enqueue(post.message(idempotency=(f"o{n}", b"a"))) for n in range(600)])
    rows = store._readers.read
    sql = "SELECT count(*) FROM idempotency"
    assert await rows(lambda cursor: cursor.execute(sql).fetchone()) == (600,)
    await store.sweep(now.ms + DAY_MS - 1)
    assert await rows(lambda cursor: cursor.execute(sql).fetchone()) == (600,)
    await store.sweep(now.ms + DAY_MS)
    assert await rows(lambda cursor: cursor.execute(sql).fetchone()) == (0,)


async def test_the_file_shrinks(store: Store, post: Post, now: Now) -> None:
    id_ = post.ids.next()
    for index in range(1, 121):
        await store.put_piece(id_, index, bytes(256 * 1024))

    async def pages() -> int:
        row = await store._readers.read(lambda cursor: cursor.execute("PRAGMA page_count").fetchone())
        assert row is not None
        return int(row[0])

    before = await pages()
    await store.sweep(now.ms + ORPHAN_MS + 1)
    after = await pages()
    assert before > 7000
    assert after < 4700
