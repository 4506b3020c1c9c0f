"""Settling: states, events, fences, the end of a message."""

import asyncio
import json

from msgspec.structs import replace

from gateway.config import Retention
from gateway.events import EventType, State
from gateway.store.queue import Result
from gateway.store.settlement import REPLY_CHARACTERS
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all

UNTIL = START_MS + LEASE_MS


async def test_delivered(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    now.ms += 1000
    assert await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)]) == 1

    view = await store.message(message.uuid, None)
    assert view is not None
    (recipient,) = view.recipients
    assert (recipient.state, recipient.attempts, recipient.reply, recipient.host) == (
        State.DELIVERED,
        1,
        "250 ok",
        "mx.example.com",
    )
    assert (recipient.updated_at, recipient.next_at, recipient.blocked_by) == (now.ms, None, "")
    event = (await store.events(message.uuid))[-1]
    assert (event.type, event.at, event.recipient) == (EventType.DELIVERED, now.ms, "ann@example.com")
    data = json.loads(event.data)
    assert data.pop("attempt_id") > 0
    assert data == {
        "reply": "250 ok",
        "host": "mx.example.com",
        "address": "192.0.2.25",
        "tls": "TLSv1.3",
        "stage": "dot",
        "route": "direct",
        "attempt": 1,
    }
    assert not await store.due()
    assert not await store.counts()


async def test_the_address_and_name_that_a_route_has_of_its_own_are_in_the_event(
    store: Store, post: Post, now: Now
) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    tried = attempt(claimed, State.DELIVERED, at=now.ms)
    result = replace(tried.results[0], source="192.0.2.7", ehlo="out.example.org")
    await store.settle([replace(tried, results=(result,))])
    data = json.loads((await store.events(message.uuid))[-1].data)
    assert (data["source"], data["ehlo"]) == ("192.0.2.7", "out.example.org")


async def test_content_is_erased_with_the_last_delivery(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.net", "c@example.org")
    await store.enqueue(message)
    claims = await claim_all(store, UNTIL)
    for claimed in claims[:2]:
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
        assert await store.content(message.uuid) is not None
    await store.settle([attempt(claims[2], State.DELIVERED, at=now.ms)])
    assert await store.content(message.uuid) is None


async def test_content_of_a_failure_is_kept_for_its_time(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.net")
    await store.enqueue(message)
    first, second = await claim_all(store, UNTIL)
    await store.settle([attempt(first, State.BOUNCED, at=now.ms), attempt(second, State.DELIVERED, at=now.ms)])
    await store.sweep(now.ms + 3 * DAY_MS - 1)
    assert await store.content(message.uuid) is not None
    await store.sweep(now.ms + 3 * DAY_MS)
    assert await store.content(message.uuid) is None


async def test_delivered_content_is_kept_where_retention_says_so(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(content_delivered_s=3600))
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    assert await store.content(message.uuid) is not None
    await store.sweep(now.ms + 3_600_000)
    assert await store.content(message.uuid) is None


async def test_large_content_is_erased_whole(store: Store, post: Post, now: Now) -> None:
    id_ = post.ids.next()
    for index in range(1, 4):
        await store.put_piece(id_, index, b"x" * 1000)
    message = post.message(id_=id_, piece_count=4)
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    assert await store.content(message.uuid) is None
    again = post.message(id_=post.ids.next(), piece_count=1)
    await store.enqueue(again)
    assert await store.content(again.uuid) is not None


async def test_a_stale_fence_changes_nothing(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    stale = attempt(claimed, State.BOUNCED, at=now.ms, fence=claimed.recipients[0].fence - 1)
    assert await store.settle([stale]) == 0
    view = await store.message(message.uuid, None)
    assert view is not None
    assert (view.recipients[0].state, view.recipients[0].blocked_by) == (State.QUEUED, "lease")
    assert len(await store.events(message.uuid)) == 1
    assert await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)]) == 1


async def test_a_result_counts_once(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    done = attempt(claimed, State.DELIVERED, at=now.ms)
    assert await store.settle([done, done]) == 1
    assert await store.settle([done]) == 0
    assert sorted(await asyncio.gather(store.settle([done]), store.settle([done]))) == [0, 0]
    assert [event.type for event in await store.events(message.uuid)] == [
        EventType.ACCEPTED,
        EventType.DELIVERED,
    ]


async def test_deferred_waits_and_comes_back(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    later = now.ms + MINUTE_MS
    await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=later, reply="451 4.7.1 greylisted")])
    assert not await store.due()
    view = await store.message(message.uuid, None)
    assert view is not None
    assert (view.recipients[0].state, view.recipients[0].next_at, view.recipients[0].blocked_by) == (
        State.DEFERRED,
        later,
        "backoff",
    )
    assert await store.promote(later - 1) == later
    assert not await store.due()
    assert await store.promote(later) is None
    (again,) = await claim_all(store, UNTIL)
    assert (again.recipients[0].attempts, again.recipients[0].possible_duplicate) == (1, False)
    assert again.recipients[0].fence > claimed.recipients[0].fence


async def test_given_back_counts_no_attempt(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    assert await store.settle([attempt(claimed, State.QUEUED, at=now.ms)]) == 1
    assert len(await store.events(message.uuid)) == 1
    (again,) = await claim_all(store, UNTIL)
    assert again.recipients[0].attempts == 0


async def test_recipients_of_one_attempt_end_each_their_way(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.com", "c@example.com")
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    delivered = attempt(claimed, State.DELIVERED, at=now.ms)
    a = delivered.results[0]
    b = attempt(claimed, State.BOUNCED, at=now.ms).results[1]
    c = attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + MINUTE_MS).results[2]
    assert await store.settle([replace(delivered, results=(a, b, c))]) == 3
    view = await store.message(message.uuid, None)
    assert view is not None
    assert [r.state for r in view.recipients] == [State.DELIVERED, State.BOUNCED, State.DEFERRED]
    assert [r.bounce_class for r in view.recipients] == ["", "InvalidRecipient", ""]
    assert await store.content(message.uuid) is not None


async def test_a_doubtful_result_marks_the_recipient_for_good(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    lost = attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + 1)
    doubtful: Result = replace(lost.results[0], possible_duplicate=True)
    await store.settle([replace(lost, results=(doubtful,))])
    await store.promote(now.ms + 1)
    (again,) = await claim_all(store, UNTIL)
    assert again.recipients[0].possible_duplicate
    await store.settle([attempt(again, State.DELIVERED, at=now.ms)])
    events = await store.events(message.uuid)
    assert [json.loads(event.data).get("possible_duplicate") for event in events] == [None, True, True]


async def test_a_hostile_reply_is_cut_and_stored(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    reply = "550 \udcff\x00é" + "x" * 10_000
    assert await store.settle([attempt(claimed, State.BOUNCED, at=now.ms, reply=reply)]) == 1
    view = await store.message(message.uuid, None)
    assert view is not None
    assert view.recipients[0].reply == ("550 ?\x00é" + "x" * 10_000)[:REPLY_CHARACTERS]
    assert json.loads((await store.events(message.uuid))[-1].data)["reply"] == view.recipients[0].reply


async def test_many_settle_at_once(store: Store, post: Post, now: Now) -> None:
    messages = [post.message(f"u@d{n}.example") for n in range(60)]
    await asyncio.gather(*[store.enqueue(message) for message in messages])
    claims = await claim_all(store, UNTIL)
    counts = await asyncio.gather(*[store.settle([attempt(one, State.DELIVERED, at=now.ms)]) for one in claims])
    assert counts == [1] * 60
    assert not await store.counts()
