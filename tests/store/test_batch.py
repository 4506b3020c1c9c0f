"""Several messages in one request: all or none, and once under the client's name for it."""

import asyncio
import hashlib

import pytest
from msgspec.structs import replace

from gateway.errors import StoreError
from gateway.events import State
from gateway.store.newmail import Accepted, Conflict, NewMessage, Replayed, RequestKey
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, HOUR_MS, LEASE_MS, START_MS, Now, Post, claim_all

UNTIL = START_MS + LEASE_MS
LATER = START_MS + HOUR_MS


def request(text: str = "batch-1", content: bytes = b"a", *, account: str = "acme", answer: str = "A") -> RequestKey:
    return RequestKey(account, text, hashlib.sha256(content).digest(), answer)


async def queued(store: Store) -> set[bytes]:
    return {claimed.uuid for claimed in await claim_all(store, UNTIL)}


async def test_each_message_is_accepted(store: Store, post: Post) -> None:
    messages = [post.message(), post.message("b@example.net", "c@example.org"), post.message(send_at=LATER)]
    assert await store.enqueue_all(messages, None) == [Accepted(message.uuid) for message in messages]
    assert await queued(store) == {message.uuid for message in messages[:2]}
    for message in messages:
        assert await store.content(message.uuid) == message.pieces[0][1]
    assert await store.enqueue_all([], None) == []


async def test_it_survives_reopening_with_its_record(opener: Opener, post: Post) -> None:
    store = await opener()
    messages = [post.message() for _ in range(20)]
    await store.enqueue_all(messages, request(answer='{"ok":true}'))
    await store.close()
    again = await opener()
    assert await again.enqueue_all([post.message()], request()) == Replayed('{"ok":true}')
    assert await queued(again) == {message.uuid for message in messages}


async def test_one_that_cannot_be_stored_takes_all_with_it(store: Store, post: Post) -> None:
    messages = [post.message(), replace(post.message(), piece_count=2), post.message(send_at=LATER)]
    with pytest.raises(StoreError, match="missing"):
        await store.enqueue_all(messages, request())
    for message in messages:
        assert await store.message(message.uuid, None) is None
    assert not await store.due()
    assert await store.promote(LATER) is None
    # Nor is the request known.
    good = [post.message()]
    assert await store.enqueue_all(good, request()) == [Accepted(good[0].uuid)]


async def test_a_bad_batch_fails_alone(store: Store, post: Post) -> None:
    bad = [post.message(), replace(post.message(), piece_count=2)]
    good = [[post.message(f"u@d{n}.example"), post.message()] for n in range(5)]
    outcomes = await asyncio.gather(
        *[store.enqueue_all(messages, request(f"r{n}")) for n, messages in enumerate(good)],
        store.enqueue_all(bad, request("bad")),
        store.enqueue(post.message("single@example.com")),
        return_exceptions=True,
    )
    assert outcomes[:5] == [[Accepted(message.uuid) for message in messages] for messages in good]
    assert isinstance(outcomes[5], StoreError)
    assert len(await queued(store)) == 11


async def test_pieces_stored_before_belong_to_their_message(store: Store, post: Post, now: Now) -> None:
    id_ = post.ids.next()
    await store.put_piece(id_, 1, b"more")
    large = post.message(id_=id_, piece_count=2)
    await store.enqueue_all([post.message(), large], request())
    await store.sweep(now.ms + 2 * HOUR_MS)
    assert await store.content(large.uuid) == large.pieces[0][1] + b"more"


async def test_messages_of_a_batch_have_keys_of_their_own(store: Store, post: Post) -> None:
    earlier = post.message(idempotency=("o1", b"a"))
    await store.enqueue(earlier)
    keys = [("o1", b"a"), ("o1", b"b"), ("o2", b"a"), ("o2", b"a"), ("o2", b"b"), None]
    messages = [post.message(idempotency=key) for key in keys]
    third = messages[2].uuid
    assert await store.enqueue_all(messages, None) == [
        Accepted(earlier.uuid, replayed=True),
        Conflict(),
        Accepted(third),
        Accepted(third, replayed=True),
        Conflict(),
        Accepted(messages[5].uuid),
    ]
    assert await queued(store) == {earlier.uuid, third, messages[5].uuid}


async def test_the_same_request_is_replayed_and_another_one_conflicts(store: Store, post: Post) -> None:
    first = [post.message(), post.message()]
    await store.enqueue_all(first, request(answer="the first answer"))
    assert await store.enqueue_all([post.message()], request(answer="another")) == Replayed("the first answer")
    assert await store.enqueue_all([post.message()], request(content=b"b")) == Conflict()
    other = post.message(account="other")
    assert await store.enqueue_all([other], request(account="other", content=b"b")) == [Accepted(other.uuid)]
    assert await queued(store) == {*(message.uuid for message in first), other.uuid}


async def test_a_request_of_which_nothing_was_stored_is_known_all_the_same(store: Store, post: Post) -> None:
    assert await store.enqueue_all([], request(answer="none")) == []
    assert await store.enqueue_all([], request()) == Replayed("none")
    assert await store.enqueue_all([post.message()], request(content=b"b")) == Conflict()
    assert not await store.due()


async def test_names_of_messages_and_of_requests_do_not_mix(store: Store, post: Post) -> None:
    await store.enqueue(post.message(idempotency=("o1", b"a")))
    assert await store.enqueue_all([post.message()], request("o1")) == Conflict()
    await store.enqueue_all([post.message()], request("o2"))
    assert await store.enqueue(post.message(idempotency=("o2", b"a"))) == Conflict()
    assert await store.enqueue_all([post.message(idempotency=("o2", b"a"))], None) == [Conflict()]
    assert len(await queued(store)) == 2


async def test_a_name_of_a_request_ends_after_a_day(store: Store, post: Post, now: Now) -> None:
    await store.enqueue_all([post.message()], request())
    now.ms += DAY_MS - 1
    assert await store.enqueue_all([post.message()], request()) == Replayed("A")
    now.ms += 1
    # A message takes the name over, and no answer stays behind.
    late = post.message(idempotency=("batch-1", b"a"))
    assert await store.enqueue(late) == Accepted(late.uuid)
    assert await store.enqueue(post.message(idempotency=("batch-1", b"a"))) == Accepted(late.uuid, replayed=True)
    now.ms += DAY_MS
    await store.sweep(now.ms)
    sql = "SELECT count(*) FROM idempotency"
    assert await store._readers.read(lambda cursor: cursor.execute(sql).fetchone()) == (0,)


async def test_the_same_request_fifty_times_at_once_is_accepted_once(store: Store, post: Post) -> None:
    batches: list[list[NewMessage]] = [[post.message(), post.message()] for _ in range(50)]
    keys = [request(answer=f"answer {n}") for n in range(50)]
    outcomes = await asyncio.gather(*map(store.enqueue_all, batches, keys))
    accepted = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, list)]
    assert len(accepted) == 1
    (first,) = accepted
    assert outcomes[first] == [Accepted(message.uuid) for message in batches[first]]
    assert [outcome for n, outcome in enumerate(outcomes) if n != first] == [Replayed(f"answer {first}")] * 49
    assert await queued(store) == {message.uuid for message in batches[first]}


async def test_messages_and_requests_of_one_name_at_once(store: Store, post: Post) -> None:
    singles = [store.enqueue(post.message(idempotency=("x", b"a"))) for _ in range(20)]
    batches = [store.enqueue_all([post.message()], request("x")) for _ in range(20)]
    one, all_ = await asyncio.gather(asyncio.gather(*singles), asyncio.gather(*batches))
    # Whichever kind came first has the name; the other kind conflicts.
    assert (one.count(Conflict()), all_.count(Conflict())) in {(0, 20), (20, 0)}
    assert len(await queued(store)) == 1


async def test_a_request_with_a_name_is_whole(store: Store, post: Post) -> None:
    with pytest.raises(ValueError, match="answer"):
        await store.enqueue_all([post.message()], request(answer=""))
    with pytest.raises(ValueError, match="none of its own"):
        await store.enqueue_all([post.message(idempotency=("o", b"a"))], request())
    assert not await store.due()


async def test_a_thousand_messages_are_one_request(store: Store, post: Post) -> None:
    messages = [post.message(f"u{n}@d{n % 7}.example") for n in range(1000)]
    outcome = await store.enqueue_all(messages, request())
    assert outcome == [Accepted(message.uuid) for message in messages]
    assert len(await queued(store)) == 1000
    view = await store.message(messages[-1].uuid, "acme")
    assert view is not None
    assert view.recipients[0].state is State.QUEUED
