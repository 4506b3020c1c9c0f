"""What time does to the queue: promotion, expiry, lost leases, and an operator who does not wait."""

import asyncio
import json

from gateway.events import EventType, State
from gateway.store.queue import Claimed
from gateway.store.shown import Filter
from gateway.store.waiting import PROMOTE_ROWS
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all

UNTIL = START_MS + LEASE_MS


async def defer(store: Store, claimed: Claimed, at: int, next_at: int) -> None:
    await store.settle([attempt(claimed, State.DEFERRED, at=at, next_at=next_at, reply="451 later")])


async def state_of(store: Store, uuid: bytes) -> tuple[State, str]:
    view = await store.message(uuid, None)
    assert view is not None
    return view.recipients[0].state, view.recipients[0].blocked_by


async def test_promotion_goes_by_time(store: Store, post: Post, now: Now) -> None:
    for minutes in (3, 1, 2):
        await store.enqueue(post.message(f"u{minutes}@example.com"))
        (claimed,) = await claim_all(store, UNTIL)
        await defer(store, claimed, now.ms, now.ms + minutes * MINUTE_MS)
    assert await store.promote(now.ms + 2 * MINUTE_MS) == now.ms + 3 * MINUTE_MS
    (first, second) = await claim_all(store, UNTIL)
    assert {first.recipients[0].address, second.recipients[0].address} == {"u1@example.com", "u2@example.com"}
    assert await store.promote(now.ms + 3 * MINUTE_MS) is None


async def test_promotion_of_very_many_with_one_time(store: Store, post: Post, now: Now) -> None:
    count = 2 * PROMOTE_ROWS + 7
    await asyncio.gather(*[store.enqueue(post.message(f"u@d{n % 9}.example")) for n in range(count)])
    claims = await claim_all(store, UNTIL, limit=count)
    await store.settle([attempt(c, State.DEFERRED, at=now.ms, next_at=now.ms + 5) for c in claims])
    assert await store.promote(now.ms + 5) is None
    again = await claim_all(store, UNTIL, limit=count)
    assert sorted(c.message for c in again) == sorted(c.message for c in claims)


async def test_retry_makes_claimable_what_matches(store: Store, post: Post, now: Now) -> None:
    messages = [post.message(f"u@d{n}.example", key=f"k{n % 2}") for n in range(6)]
    for message in messages:
        await store.enqueue(message)
    for claimed in await claim_all(store, UNTIL):
        await defer(store, claimed, now.ms, now.ms + DAY_MS)
    assert await store.retry(Filter(uuid=messages[0].uuid), now.ms) == 1
    assert await store.retry(Filter(uuid=messages[0].uuid), now.ms) == 0
    assert await store.retry(Filter(domain="d1.example"), now.ms) == 1
    assert await store.retry(Filter(key="k0", limit=1), now.ms) == 1
    assert await store.retry(Filter(route="elsewhere"), now.ms) == 0
    assert len(await claim_all(store, UNTIL)) == 3
    assert await store.retry(Filter(), now.ms) == 3


async def test_expiry_fails_what_waits_and_what_is_ready(store: Store, post: Post, now: Now) -> None:
    waiting = post.message("a@example.com")
    await store.enqueue(waiting)
    (claimed,) = await claim_all(store, UNTIL)
    await defer(store, claimed, now.ms, now.ms + 30 * DAY_MS)
    ready = post.message("b@example.net", "c@example.net")
    await store.enqueue(ready)
    now.ms += 5 * DAY_MS
    assert await store.expire(now.ms - 1) == 0
    assert await store.expire(now.ms) == 3
    assert await store.expire(now.ms) == 0

    for message in (waiting, ready):
        view = await store.message(message.uuid, None)
        assert view is not None
        assert {(r.state, r.bounce_class, r.blocked_by) for r in view.recipients} == {
            (State.FAILED, "MessageExpired", "")
        }
    event = (await store.events(waiting.uuid))[-1]
    assert event.type is EventType.EXPIRED
    assert json.loads(event.data) == {
        "reply": "451 later",
        "host": "mx.example.com",
        "bounce_class": "MessageExpired",
        "stage": "expire",
        "attempt": 1,
    }
    assert not await claim_all(store, UNTIL)
    assert await store.promote(now.ms + 60 * DAY_MS) is None
    assert not await store.counts()
    # It failed, so its content is kept for a while.
    assert await store.content(waiting.uuid) is not None
    await store.sweep(now.ms + 3 * DAY_MS)
    assert await store.content(waiting.uuid) is None
    assert await store.content(ready.uuid) is None


async def test_expiry_leaves_what_is_in_hand_to_its_attempt(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    now.ms += 6 * DAY_MS
    assert await store.expire(now.ms) == 0
    await defer(store, claimed, now.ms, now.ms + MINUTE_MS)
    assert await store.expire(now.ms) == 1
    assert await state_of(store, message.uuid) == (State.FAILED, "")


async def test_trap_16_whatever_is_stuck_age_ends_the_rest(store: Store, post: Post, now: Now) -> None:
    stuck = post.message("hand@example.com", lifetime_ms=MINUTE_MS)
    await store.enqueue(stuck)
    (in_hand,) = await claim_all(store, UNTIL)  # by an attempt that never ends
    waiting = post.message("waiting@example.com", lifetime_ms=MINUTE_MS)
    await store.enqueue(waiting)
    (claimed,) = await claim_all(store, UNTIL)
    await defer(store, claimed, now.ms, now.ms + 30 * DAY_MS)
    later = post.message("later@example.com", lifetime_ms=MINUTE_MS, send_at=now.ms + DAY_MS)
    ready = post.message("ready@example.com", lifetime_ms=MINUTE_MS)  # of a destination that nobody claims
    for message in (later, ready):
        await store.enqueue(message)
    assert await store.expire(now.ms + MINUTE_MS) == 3
    for message in (waiting, later, ready):
        assert await state_of(store, message.uuid) == (State.FAILED, "")
    # What is in hand ends once its lease has run out, before it is tried again.
    assert await state_of(store, stuck.uuid) == (State.QUEUED, "lease")
    assert (await store.reclaim(UNTIL)).count == 1
    assert await store.expire(UNTIL) == 1
    assert await state_of(store, stuck.uuid) == (State.FAILED, "")
    assert not await claim_all(store, UNTIL)
    assert await store.settle([attempt(in_hand, State.DELIVERED, at=now.ms)]) == 0


async def test_expiry_behind_many_in_hand(store: Store, post: Post, now: Now) -> None:
    # More messages than a step looks at are in hand; one behind them is not.
    await asyncio.gather(*[store.enqueue(post.message()) for _ in range(230)])
    await claim_all(store, UNTIL)
    await store.enqueue(post.message())
    assert await store.expire(now.ms + 5 * DAY_MS) == 1


async def test_a_message_expires_by_its_own_time(store: Store, post: Post, now: Now) -> None:
    slow = post.message("slow@example.com")
    quick = post.message("quick@example.com", lifetime_ms=MINUTE_MS)
    await store.enqueue(slow)
    await store.enqueue(quick)
    assert await store.expire(now.ms + MINUTE_MS) == 1
    assert await state_of(store, quick.uuid) == (State.FAILED, "")
    assert await state_of(store, slow.uuid) == (State.QUEUED, "connections")


async def test_a_partly_delivered_message_expires_for_the_rest(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.net")
    await store.enqueue(message)
    first, second = await claim_all(store, UNTIL)
    await store.settle([attempt(first, State.DELIVERED, at=now.ms)])
    await defer(store, second, now.ms, now.ms + MINUTE_MS)
    assert await store.expire(now.ms + 5 * DAY_MS) == 1
    view = await store.message(message.uuid, None)
    assert view is not None
    assert [r.state for r in view.recipients] == [State.DELIVERED, State.FAILED]


async def test_what_a_dead_process_had_in_hand_comes_back_marked(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    message = post.message("a@example.com", "b@example.net")
    await store.enqueue(message)
    before = await claim_all(store, UNTIL)
    await store.close()

    again = await opener()
    assert not await again.due()
    assert (await again.reclaim(now.ms)).count == 2
    assert (await again.reclaim(now.ms)).count == 0
    claims = await claim_all(again, UNTIL)
    assert [r.possible_duplicate for c in claims for r in c.recipients] == [True, True]
    # The dead one's results come too late.
    assert await again.settle([attempt(one, State.BOUNCED, at=now.ms) for one in before]) == 0
    await again.settle([attempt(one, State.DELIVERED, at=now.ms) for one in claims])
    events = [e for e in await again.events(message.uuid) if e.type is EventType.DELIVERED]
    assert [json.loads(event.data)["possible_duplicate"] for event in events] == [True, True]
    view = await again.message(message.uuid, None)
    assert view is not None
    assert all(recipient.possible_duplicate for recipient in view.recipients)


async def test_trap_15_a_lease_that_runs_out_comes_back_and_its_result_is_refused(
    store: Store, post: Post, now: Now
) -> None:
    await store.enqueue(post.message())
    (claimed,) = await claim_all(store, UNTIL)
    assert (await store.reclaim(UNTIL - 1)).count == 0
    assert (await store.reclaim(UNTIL)).count == 1
    assert await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)]) == 0
    (again,) = await claim_all(store, UNTIL)
    assert again.recipients[0].possible_duplicate


async def test_a_renewed_lease_does_not_run_out(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message("a@example.com", "b@example.net"))
    kept, lost = await claim_all(store, UNTIL)
    await store.renew([(r.id, r.fence) for r in kept.recipients], UNTIL + MINUTE_MS)
    await store.renew([(r.id, r.fence - 1) for r in lost.recipients], UNTIL + MINUTE_MS)
    assert (await store.reclaim(UNTIL)).count == 1
    assert await store.settle([attempt(kept, State.DELIVERED, at=now.ms)]) == 1
    assert await store.settle([attempt(lost, State.DELIVERED, at=now.ms)]) == 0


async def test_reclaiming_very_many(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    await asyncio.gather(*[store.enqueue(post.message()) for _ in range(1203)])
    assert len(await claim_all(store, UNTIL, limit=2000)) == 1203
    await store.close()
    again = await opener()
    assert (await again.reclaim(now.ms)).count == 1203
    assert len(await claim_all(again, UNTIL, limit=2000)) == 1203
