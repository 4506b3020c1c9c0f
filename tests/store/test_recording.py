"""Mail that was delivered without the queue: written down, and nothing more."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, State
from gateway.store.newmail import NewMessage
from gateway.store.queue import Attempt, Result
from gateway.store.shown import Filter
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, Now, Post, claim_all

EVENTS = {State.DELIVERED: EventType.DELIVERED, State.BOUNCED: EventType.BOUNCED, State.FAILED: EventType.FAILED}


def results(message: NewMessage, *states: State) -> list[Result]:
    return [
        Result(
            recipient=recipient.id,
            fence=0,
            state=state,
            event=EVENTS.get(state),
            attempts=1,
            to=recipient.address,
            reply="250 ok" if state is State.DELIVERED else "550 no \udcff",
            bounce_class=None if state is State.DELIVERED else BounceClass.INVALID_RECIPIENT,
            stage="dot" if state is State.DELIVERED else "rcpt",
            host="relay.example",
            address="192.0.2.25",
            tls="TLSv1.3",
        )
        for recipient, state in zip(message.recipients, states, strict=True)
    ]


def try_of(message: NewMessage, now: Now) -> Attempt:
    return Attempt(message.id, message.uuid, 0, message.route, now.ms - 50, now.ms, ())


async def rows_of(store: Store, table: str) -> int:
    rows = await store._readers.read(lambda cursor: cursor.execute(f"SELECT count(*) FROM {table}").fetchall())
    return int(rows[0][0])


async def test_it_is_in_status_with_its_ends(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    message = post.message("ann@example.com", "bob@example.net", route="pass-through", account="net")
    await store.record(message, results(message, State.DELIVERED, State.BOUNCED), try_of(message, now))
    await store.close()

    again = await opener()
    assert await again.message(message.uuid, "other") is None
    view = await again.message(message.uuid, "net")
    assert view is not None
    assert (view.key, view.subject, view.size, view.created_at) == ("shop", "Hello", message.facts.size, now.ms)
    ann, bob = view.recipients
    assert (ann.state, ann.attempts, ann.reply, ann.host, ann.blocked_by, ann.route) == (
        State.DELIVERED,
        1,
        "250 ok",
        "relay.example",
        "",
        "pass-through",
    )
    assert (bob.state, bob.reply, bob.bounce_class, bob.next_at) == (
        State.BOUNCED,
        "550 no ?",
        "InvalidRecipient",
        None,
    )


async def test_its_events_are_those_of_any_other(store: Store, post: Post, now: Now) -> None:
    message = post.message("ann@example.com", "bob@example.net")
    await store.record(message, results(message, State.DELIVERED, State.FAILED), try_of(message, now))
    events = await store.events(message.uuid)
    assert [(event.recipient, event.type) for event in events] == [
        ("ann@example.com", EventType.ACCEPTED),
        ("bob@example.net", EventType.ACCEPTED),
        ("ann@example.com", EventType.DELIVERED),
        ("bob@example.net", EventType.FAILED),
    ]
    assert events[0].data == '{"door":"http","client":"192.0.2.1"}'
    data = json.loads(events[2].data)
    assert data.pop("attempt_id") > 0
    assert data == {
        "reply": "250 ok",
        "host": "relay.example",
        "address": "192.0.2.25",
        "tls": "TLSv1.3",
        "stage": "dot",
        "route": "direct",
        "attempt": 1,
    }
    sql = """SELECT a.message, d.route, d.domain, a.started_at, a.ended_at, a.host, a.recipients
        FROM attempt a JOIN destination d ON d.id = a.destination"""
    rows = await store._readers.read(lambda cursor: cursor.execute(sql).fetchall())
    assert rows == [(message.id, "direct", "example.com", now.ms - 50, now.ms, "relay.example", 2)]


@pytest.mark.parametrize("states", [[State.DELIVERED], [State.FAILED], [State.DELIVERED, State.BOUNCED]])
async def test_nothing_is_claimable_and_no_content_is_kept(
    opener: Opener, post: Post, now: Now, states: list[State]
) -> None:
    calls: list[None] = []
    store = await opener(on_ready=lambda: calls.append(None))
    to = [f"u{n}@example.com" for n in range(len(states))]
    id_ = post.ids.next()
    await store.put_piece(id_, 1, b"a piece that was stored before")
    message = post.message(*to, id_=id_, piece_count=2, send_at=now.ms + 5)
    await store.record(message, results(message, *states), try_of(message, now))
    assert not calls
    assert not await store.due()
    assert not await store.counts()
    assert not await store.find(Filter())
    assert not await claim_all(store, now.ms + DAY_MS)
    assert await store.promote(now.ms + DAY_MS) is None
    assert await store.expire(now.ms + 90 * DAY_MS) == 0
    assert await store.content(message.uuid) is None
    for table in ("content", "piece", "staging", "pending", "expiry", "erase", "leased", "idempotency"):
        assert await rows_of(store, table) == 0, table


async def test_it_goes_with_its_age(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.record(message, results(message, State.FAILED), try_of(message, now))
    await store.sweep(now.ms + 90 * DAY_MS - 1000)
    assert await store.message(message.uuid, None) is not None
    await store.sweep(now.ms + 90 * DAY_MS + 1000)
    assert await store.message(message.uuid, None) is None
    for table in ("message", "recipient", "event", "attempt"):
        assert await rows_of(store, table) == 0, table


async def test_its_ids_never_come_again(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    message = post.message("a@example.com", "b@example.com")
    await store.record(message, results(message, State.DELIVERED, State.DELIVERED), try_of(message, now))
    await store.close()
    assert (await opener()).last_id >= message.recipients[-1].id


async def test_what_is_not_whole_is_not_written(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.com")
    whole = results(message, State.DELIVERED, State.DELIVERED)
    wrong = [
        whole[:1],
        [*whole, whole[0]],
        [whole[0], whole[0]],
        [whole[0], replace(whole[1], recipient=7)],
        [whole[0], replace(whole[1], state=State.DEFERRED)],
        [whole[0], replace(whole[1], state=State.QUEUED)],
    ]
    for some in wrong:
        with pytest.raises(ValueError, match="recipient"):
            await store.record(message, some, try_of(message, now))
    nobody = replace(message, recipients=())
    with pytest.raises(ValueError, match="recipient"):
        await store.record(nobody, [], try_of(message, now))
    assert await store.message(message.uuid, None) is None
    assert not await store.events(message.uuid)


async def test_one_that_fails_takes_nobody_with_it(store: Store, post: Post, now: Now) -> None:
    first = post.message("a@new.example", key="new")
    twin = post.message("b@new.example", id_=first.id)
    last = post.message("c@new.example", key="new")
    await store.record(first, results(first, State.DELIVERED), try_of(first, now))
    outcomes = await asyncio.gather(
        *[store.record(one, results(one, State.DELIVERED), try_of(one, now)) for one in (twin, last)],
        store.enqueue(post.message()),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], StoreError)
    assert outcomes[1] is None
    assert await store.message(last.uuid, "acme") is not None
    assert await store.message(twin.uuid, None) is None
