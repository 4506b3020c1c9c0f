"""New mail and what is tried again share a destination; neither waits behind the other."""

from collections import Counter

import pytest

from gateway.events import State
from gateway.store.newmail import NewMessage
from gateway.store.queue import Claimed
from gateway.store.shown import Filter, Order, Verb
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, START_MS, Now, Post, attempt, claim_all, destination

UNTIL = START_MS + LEASE_MS


async def enqueue(store: Store, post: Post, count: int, *, priority: int = 1, key: str = "shop") -> list[NewMessage]:
    messages = [post.message(priority=priority, key=key) for _ in range(count)]
    for message in messages:
        await store.enqueue(message)
    return messages


async def fail(store: Store, now: Now, claimed: list[Claimed], *, in_ms: int = 1) -> None:
    await store.settle([attempt(one, State.DEFERRED, at=now.ms, next_at=now.ms + in_ms) for one in claimed])


async def retries(store: Store, post: Post, now: Now, count: int, *, priority: int = 1) -> list[int]:
    """Messages that have failed once and are due again."""
    messages = await enqueue(store, post, count, priority=priority)
    await fail(store, now, await claim_all(store, UNTIL))
    now.ms += 1
    await store.promote(now.ms)
    return [message.id for message in messages]


async def take(store: Store, limit: int) -> list[int]:
    return [claimed.message for claimed in await store.claim(await destination(store), limit, UNTIL)]


async def test_new_mail_has_half_of_each_claim_however_many_are_tried_again(store: Store, post: Post, now: Now) -> None:
    old = await retries(store, post, now, 60)
    new = [message.id for message in await enqueue(store, post, 15)]
    assert await take(store, 10) == new[:5] + old[:5]
    assert await take(store, 10) == new[5:10] + old[5:10]
    assert await take(store, 20) == new[10:] + old[10:25]  # what one half leaves is the other's
    assert await take(store, 10) == old[25:35]


async def test_what_is_tried_again_does_not_starve_behind_new_mail(store: Store, post: Post, now: Now) -> None:
    old = await retries(store, post, now, 3)
    new = [message.id for message in await enqueue(store, post, 30)]
    assert await take(store, 20) == new[:10] + old + new[10:17]


@pytest.mark.parametrize("limit", [1, 3])
async def test_the_odd_one_goes_to_either_in_turn(store: Store, post: Post, now: Now, limit: int) -> None:
    old = await retries(store, post, now, 30)
    await enqueue(store, post, 30)
    claims = [await take(store, limit) for _ in range(4)]
    counts = [sum(id_ in old for id_ in claim) for claim in claims]
    assert counts == [limit // 2, limit // 2 + 1] * 2


async def test_high_priority_goes_first_tried_before_or_not(store: Store, post: Post, now: Now) -> None:
    high = await retries(store, post, now, 2, priority=0)
    normal = [message.id for message in await enqueue(store, post, 2)]
    low = await retries(store, post, now, 1, priority=2)
    # That one's making tried the normal ones, too.
    assert await take(store, 10) == high + normal + low


async def test_keys_take_turns_among_what_is_tried_again(store: Store, post: Post, now: Now) -> None:
    await enqueue(store, post, 20, key="bulk")
    await enqueue(store, post, 2, key="shop")
    await fail(store, now, await claim_all(store, UNTIL))
    now.ms += 1
    await store.promote(now.ms)
    claimed = await store.claim(await destination(store), 6, UNTIL)
    assert Counter(one.key for one in claimed) == {"bulk": 4, "shop": 2}


async def test_what_is_given_back_or_taken_back_stays_what_it_was(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    old = await retries(store, post, now, 2)
    new = [message.id for message in await enqueue(store, post, 2)]
    first, *_, last = await claim_all(store, UNTIL)
    assert (first.message, last.message) == (new[0], old[1])
    await store.settle([attempt(one, State.QUEUED, at=now.ms) for one in (first, last)])
    assert await take(store, 1) == [new[0]]
    assert await take(store, 1) == [old[1]]
    await store.close()
    store = await opener()
    await store.reclaim(now.ms)
    assert await take(store, 2) == [new[0], old[0]]
    assert await take(store, 2) == [new[1], old[1]]


async def test_what_expires_while_it_is_due_again_is_gone(store: Store, post: Post, now: Now) -> None:
    await retries(store, post, now, 2)
    await enqueue(store, post, 1)
    assert await store.expire(now.ms + 5 * DAY_MS) == 3
    assert await claim_all(store, UNTIL) == []
    assert await store.counts() == []


async def test_what_an_operator_cancels_while_it_is_due_again_is_gone(store: Store, post: Post, now: Now) -> None:
    await retries(store, post, now, 2)
    await enqueue(store, post, 1)
    assert await store.operate(Filter(), Order(Verb.CANCEL), now.ms) == 3
    assert await claim_all(store, UNTIL) == []
    assert await store.counts() == []
