"""Messages to be sent later: until then they are scheduled, from then on they are as any other."""

import asyncio
import json

from gateway.events import EventType, State
from gateway.store.shown import Filter, MessageView
from gateway.store.waiting import PROMOTE_ROWS
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, HOUR_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all

UNTIL = START_MS + LEASE_MS
LATER = START_MS + HOUR_MS


async def view_of(store: Store, uuid: bytes) -> MessageView:
    view = await store.message(uuid, None)
    assert view is not None
    return view


async def test_a_scheduled_message_waits_for_its_time(opener: Opener, post: Post) -> None:
    store = await opener()
    message = post.message("ann@example.com", "bob@example.net", send_at=LATER)
    await store.enqueue(message)
    assert not await store.due()
    for recipient in (await view_of(store, message.uuid)).recipients:
        assert (recipient.state, recipient.blocked_by, recipient.next_at) == (State.SCHEDULED, "schedule", LATER)
    assert [(c.domain, c.ready, c.waiting, c.next_at) for c in await store.counts()] == [
        ("example.com", 0, 1, LATER),
        ("example.net", 0, 1, LATER),
    ]
    assert len(await store.find(Filter(state=State.SCHEDULED))) == 2
    assert [event.type for event in await store.events(message.uuid)] == [EventType.ACCEPTED, EventType.ACCEPTED]
    await store.close()

    again = await opener()
    assert await again.promote(LATER - 1) == LATER
    assert not await again.due()
    assert await again.promote(LATER) is None
    assert len(await again.due()) == 2
    for recipient in (await view_of(again, message.uuid)).recipients:
        assert (recipient.state, recipient.blocked_by, recipient.next_at) == (State.QUEUED, "connections", post.now.ms)
        assert recipient.updated_at == LATER
    assert not await again.find(Filter(state=State.SCHEDULED))


async def test_from_then_on_it_is_as_any_other(store: Store, post: Post) -> None:
    message = post.message("ann@example.com", "bob@example.net", send_at=LATER)
    await store.enqueue(message)
    await store.promote(LATER)
    first, second = await claim_all(store, LATER + LEASE_MS)
    assert first.content == message.pieces[0][1]
    later = LATER + MINUTE_MS
    await store.settle([attempt(first, State.DEFERRED, at=LATER, next_at=later, reply="451 later")])
    await store.settle([attempt(second, State.DELIVERED, at=LATER)])
    waiting, delivered = (await view_of(store, message.uuid)).recipients
    assert (waiting.state, waiting.blocked_by, delivered.state) == (State.DEFERRED, "backoff", State.DELIVERED)
    assert await store.promote(later) is None
    # Of a retry that became claimable the state stays, as that of one that waits.
    assert (await view_of(store, message.uuid)).recipients[0].state is State.DEFERRED
    (again,) = await claim_all(store, later + LEASE_MS)
    assert again.recipients[0].attempts == 1
    await store.settle([attempt(again, State.DELIVERED, at=later)])
    assert await store.content(message.uuid) is None


async def test_a_time_that_has_come_is_no_schedule(store: Store, post: Post, now: Now) -> None:
    for send_at in (now.ms, now.ms - 1, 1):
        message = post.message(send_at=send_at)
        await store.enqueue(message)
        assert (await view_of(store, message.uuid)).recipients[0].state is State.QUEUED
    assert len(await claim_all(store, UNTIL)) == 3


async def test_very_many_of_one_time(store: Store, post: Post) -> None:
    count = 2 * PROMOTE_ROWS + 7
    await asyncio.gather(*[store.enqueue(post.message(send_at=LATER)) for _ in range(count)])
    assert await store.promote(LATER) is None
    assert not await store.find(Filter(state=State.SCHEDULED, limit=1))
    assert len(await claim_all(store, UNTIL, limit=2 * count)) == count


async def test_an_earlier_time_is_told(opener: Opener, post: Post, now: Now) -> None:
    calls: list[None] = []
    store = await opener(on_ready=lambda: calls.append(None))
    assert await store.promote(now.ms) is None
    await store.enqueue(post.message(send_at=LATER))
    assert len(calls) == 1
    assert await store.promote(now.ms) == LATER
    await store.enqueue(post.message(send_at=LATER + 1))
    assert len(calls) == 1
    await store.enqueue(post.message(send_at=LATER - 1))
    assert len(calls) == 2
    assert await store.promote(now.ms) == LATER - 1
    assert not await store.due()


async def test_the_time_of_a_retry_is_told_too(opener: Opener, post: Post, now: Now) -> None:
    calls: list[None] = []
    store = await opener(on_ready=lambda: calls.append(None))
    await store.enqueue(post.message(send_at=LATER))
    await store.enqueue(post.message())
    assert await store.promote(now.ms) == LATER
    (claimed,) = await claim_all(store, UNTIL)
    calls.clear()
    await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + MINUTE_MS)])
    assert len(calls) == 1
    assert await store.promote(now.ms) == now.ms + MINUTE_MS


async def test_the_time_is_exact_after_the_first_is_gone(store: Store, post: Post, now: Now) -> None:
    first = post.message(send_at=LATER)
    expiring = post.message(send_at=LATER + 1, lifetime_ms=MINUTE_MS)
    for message in (first, expiring, post.message(send_at=LATER + 2)):
        await store.enqueue(message)
    assert await store.promote(now.ms) == LATER
    assert await store.retry(Filter(uuid=first.uuid), now.ms) == 1
    assert await store.promote(now.ms) == LATER + 1
    assert await store.expire(now.ms + MINUTE_MS) == 1
    assert await store.promote(now.ms) == LATER + 2


async def test_asking_costs_no_statement_while_nothing_is_due(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message(send_at=LATER))
    await store.promote(now.ms)
    await store.close()
    # A writer that is gone could not be asked.
    assert await store.promote(LATER - 1) == LATER


async def test_it_expires_at_its_time_and_no_sooner(store: Store, post: Post, now: Now) -> None:
    message = post.message(send_at=now.ms + 10 * DAY_MS, lifetime_ms=DAY_MS)
    await store.enqueue(message)
    await store.sweep(now.ms + DAY_MS - 1)
    assert await store.expire(now.ms + DAY_MS - 1) == 0
    assert await store.expire(now.ms + DAY_MS) == 1
    (recipient,) = (await view_of(store, message.uuid)).recipients
    assert (recipient.state, recipient.blocked_by, recipient.bounce_class) == (State.FAILED, "", "MessageExpired")
    event = (await store.events(message.uuid))[-1]
    assert (event.type, json.loads(event.data)["stage"]) == (EventType.EXPIRED, "expire")
    assert await store.promote(now.ms + 20 * DAY_MS) is None
    assert not await store.counts()
    assert not await store.due()


async def test_the_sweep_keeps_what_is_scheduled_far_ahead(store: Store, post: Post, now: Now) -> None:
    far = now.ms + 300 * DAY_MS
    message = post.message(send_at=far, lifetime_ms=301 * DAY_MS)
    await store.enqueue(message)
    await store.sweep(now.ms + 299 * DAY_MS)
    assert await store.promote(far) is None
    (claimed,) = await claim_all(store, far + LEASE_MS)
    assert claimed.content == message.pieces[0][1]


async def test_an_operator_sends_early_only_what_is_named(store: Store, post: Post, now: Now) -> None:
    waiting, named, others = post.message(), post.message(send_at=LATER), [post.message(send_at=LATER) for _ in "ab"]
    await store.enqueue(waiting)
    (claimed,) = await claim_all(store, UNTIL)
    await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + DAY_MS)])
    for message in (named, *others):
        await store.enqueue(message)

    now.ms += MINUTE_MS
    assert await store.retry(Filter(), now.ms) == 1
    assert [one.uuid for one in await claim_all(store, UNTIL)] == [waiting.uuid]
    assert await store.retry(Filter(uuid=named.uuid), now.ms) == 1
    assert [one.uuid for one in await claim_all(store, UNTIL)] == [named.uuid]
    (recipient,) = (await view_of(store, named.uuid)).recipients
    assert (recipient.state, recipient.blocked_by, recipient.updated_at) == (State.QUEUED, "lease", now.ms)
    assert await store.retry(Filter(state=State.SCHEDULED), now.ms) == 2
    assert len(await claim_all(store, UNTIL)) == 2
    assert await store.promote(LATER) is None


async def test_a_replay_schedules_nothing(store: Store, post: Post) -> None:
    first = post.message(send_at=LATER, idempotency=("order-1", b"a"))
    await store.enqueue(first)
    await store.enqueue(post.message(send_at=LATER, idempotency=("order-1", b"a")))
    assert [count.waiting for count in await store.counts()] == [1]
