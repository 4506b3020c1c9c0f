"""Claiming: lanes, turns of keys, leases, fences."""

import asyncio
from collections import Counter

from gateway.message.model import Facts
from gateway.store.queue import INLINE_BYTES
from gateway.store.shown import Filter
from tests.store.conftest import Opener, Store
from tests.store.mail import LEASE_MS, START_MS, Post, claim_all, destination

UNTIL = START_MS + LEASE_MS


async def keys_of(store: Store, number: int, limit: int) -> list[str]:
    return [claimed.key for claimed in await store.claim(number, limit, UNTIL)]


async def test_a_claim_holds_what_an_attempt_needs(store: Store, post: Post) -> None:
    message = post.message("ann@example.com", "bob@example.com", "cid@example.net")
    await store.enqueue(message)
    (claimed,) = await store.claim(await destination(store), 10, UNTIL)
    assert claimed.uuid == message.uuid
    assert (claimed.account, claimed.key, claimed.envelope_sender, claimed.header_from, claimed.message_id) == (
        "acme",
        "shop",
        "sender@example.org",
        "from@example.org",
        "abc@example.org",
    )
    assert claimed.facts == Facts(message.facts.size, 18, b"h" * 32, True, False, True)
    assert (claimed.created_at, claimed.expires_at, claimed.priority) == (
        message.created_at,
        message.expires_at,
        1,
    )
    assert claimed.content == message.pieces[0][1]
    assert [(r.address, r.attempts, r.possible_duplicate) for r in claimed.recipients] == [
        ("ann@example.com", 0, False),
        ("bob@example.com", 0, False),
    ]


async def test_nothing_is_in_hand_twice(store: Store, post: Post) -> None:
    await store.enqueue(post.message())
    number = await destination(store)
    assert len(await store.claim(number, 10, UNTIL)) == 1
    assert not await store.claim(number, 10, UNTIL)
    assert not await store.due()


async def test_claims_at_once_share_nothing(store: Store, post: Post) -> None:
    await asyncio.gather(*[store.enqueue(post.message()) for _ in range(100)])
    number = await destination(store)
    parts = await asyncio.gather(*[store.claim(number, 30, UNTIL) for _ in range(6)])
    ids = [claimed.message for part in parts for claimed in part]
    assert len(ids) == len(set(ids)) == 100


async def test_a_destination_stays_due_while_something_is_left(store: Store, post: Post) -> None:
    for _ in range(3):
        await store.enqueue(post.message())
    number = await destination(store)
    await store.claim(number, 2, UNTIL)
    assert [due.destination for due in await store.due()] == [number]
    assert len(await store.claim(number, 2, UNTIL)) == 1
    assert not await store.due()


async def test_higher_lanes_go_first_and_each_by_age(store: Store, post: Post) -> None:
    order = [post.message(priority=priority) for priority in (2, 1, 0, 2, 1, 0)]
    for message in order:
        await store.enqueue(message)
    number = await destination(store)
    first = await store.claim(number, 3, UNTIL)
    rest = await store.claim(number, 10, UNTIL)
    assert [c.message for c in (*first, *rest)] == [order[n].id for n in (2, 5, 1, 4, 0, 3)]


async def test_keys_share_a_claim(store: Store, post: Post) -> None:
    for _ in range(30):
        await store.enqueue(post.message(key="bulk"))
    for _ in range(3):
        await store.enqueue(post.message(key="one"))
    await store.enqueue(post.message(key="two"))
    number = await destination(store)
    assert Counter(await keys_of(store, number, 12)) == {"bulk": 8, "one": 3, "two": 1}
    assert Counter(await keys_of(store, number, 100)) == {"bulk": 22}


async def test_keys_take_turns_when_one_recipient_is_claimed_at_a_time(store: Store, post: Post) -> None:
    for key in ("a", "a", "a", "b", "b", "b", "c", "c", "c"):
        await store.enqueue(post.message(key=key))
    number = await destination(store)
    served = [(await keys_of(store, number, 1))[0] for _ in range(9)]
    assert served == ["a", "b", "c"] * 3


async def test_who_gets_the_remainder_goes_round(store: Store, post: Post) -> None:
    for key in ("a", "b"):
        for _ in range(30):
            await store.enqueue(post.message(key=key))
    number = await destination(store)
    counts = [Counter(await keys_of(store, number, 3)) for _ in range(4)]
    assert [count.most_common(1)[0][0] for count in counts] == ["a", "b", "a", "b"]


async def test_more_keys_than_room_are_all_served_in_turn(store: Store, post: Post) -> None:
    for n in range(20):
        await store.enqueue(post.message(key=f"k{n:02}"))
    number = await destination(store)
    served = [key for _ in range(5) for key in await keys_of(store, number, 4)]
    assert served == [f"k{n:02}" for n in range(20)]


async def test_recipients_of_one_message_come_together(store: Store, post: Post) -> None:
    message = post.message(*[f"user{n}@example.com" for n in range(5)])
    await store.enqueue(message)
    number = await destination(store)
    (first,) = await store.claim(number, 3, UNTIL)
    (second,) = await store.claim(number, 3, UNTIL)
    assert [len(first.recipients), len(second.recipients)] == [3, 2]
    assert second.recipients[0].fence > first.recipients[0].fence


async def test_large_content_is_not_inlined(store: Store, post: Post) -> None:
    small, large = b"x" * INLINE_BYTES, b"x" * (INLINE_BYTES + 1)
    await store.enqueue(post.message(pieces=[(0, small)]))
    await store.enqueue(post.message(pieces=[(0, large)]))
    contents = [claimed.content for claimed in await claim_all(store, UNTIL)]
    assert contents == [small, None]


async def test_fences_rise_over_openings(opener: Opener, post: Post) -> None:
    fences = []
    for _ in range(3):
        store = await opener()
        await store.enqueue(post.message())
        (claimed,) = await claim_all(store, UNTIL)
        fences.append(claimed.recipients[0].fence)
        await store.close()
    assert fences == sorted(set(fences))


async def test_a_leased_recipient_says_so(store: Store, post: Post) -> None:
    message = post.message()
    await store.enqueue(message)
    await claim_all(store, UNTIL)
    (row,) = await store.find(Filter(uuid=message.uuid))
    assert row.recipient.blocked_by == "lease"


async def test_no_claim_of_nothing(store: Store, post: Post) -> None:
    await store.enqueue(post.message())
    assert not await store.claim(await destination(store), 0, UNTIL)
    assert not await store.claim(4711, 10, UNTIL)
