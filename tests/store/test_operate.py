"""What operators do with queued recipients: hold, release, cancel, bounce, redirect, and who is left alone."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Retention
from gateway.events import EventType, State
from gateway.message.notify import DELAY, FAILURE
from gateway.store import finding
from gateway.store.newmail import NewMessage
from gateway.store.queue import Claimed
from gateway.store.reports import DELAY_AFTER_MS
from gateway.store.shown import Filter, Order, RecipientView, Standing, Verb
from tests.store.conftest import Opener, Store
from tests.store.mail import HOUR_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all, destination, told

UNTIL = START_MS + LEASE_MS
EVERYTHING = Filter(limit=1 << 60)
HOLD = Order(Verb.HOLD, "look into it")
RELEASE = Order(Verb.RELEASE)
CANCEL = Order(Verb.CANCEL, "a test")
BOUNCE = Order(Verb.BOUNCE, "550 5.7.1 not from here")


async def recipients(store: Store, message: NewMessage) -> dict[str, RecipientView]:
    view = await store.message(message.uuid, None)
    assert view is not None
    return {one.address: one for one in view.recipients}


async def state_of(store: Store, message: NewMessage, address: str = "ann@example.com") -> State:
    return (await recipients(store, message))[address].state


async def last_event(store: Store, message: NewMessage) -> tuple[EventType, dict[str, Any]]:
    event = (await store.events(message.uuid))[-1]
    return event.type, json.loads(event.data)


async def put_off(store: Store, now: Now, message: NewMessage) -> None:
    """Its recipients wait for a minute, after one try."""
    for claimed in await claim_all(store, now.ms + LEASE_MS):
        assert claimed.uuid == message.uuid
        await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + MINUTE_MS, reply="450 later")])


async def all_delivered(store: Store, now: Now) -> list[str]:
    """Whoever can be delivered to."""
    claims = await claim_all(store, now.ms + LEASE_MS)
    for claimed in claims:
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    return sorted(leased.address for claimed in claims for leased in claimed.recipients)


# Holding and releasing


async def test_what_is_ready_is_held_and_released(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    assert await store.operate(EVERYTHING, HOLD, now.ms) == 1
    (one,) = (await recipients(store, message)).values()
    assert (one.state, one.blocked_by, one.next_at) == (State.HELD, "held", None)
    assert await last_event(store, message) == (EventType.HELD, {"note": "look into it"})
    assert await claim_all(store, UNTIL) == []
    assert await store.operate(EVERYTHING, HOLD, now.ms) == 0  # it is held
    assert await store.operate(EVERYTHING, RELEASE, now.ms) == 1
    assert await state_of(store, message) is State.QUEUED
    assert (await last_event(store, message))[0] is EventType.RELEASED
    assert await all_delivered(store, now) == ["ann@example.com"]


async def test_what_waits_is_held_and_tried_at_once_when_released(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    await put_off(store, now, message)
    assert await store.promote(now.ms) == now.ms + MINUTE_MS
    assert await store.operate(EVERYTHING, HOLD, now.ms) == 1
    assert await store.promote(now.ms) is None  # nothing waits any more
    assert await store.operate(EVERYTHING, RELEASE, now.ms) == 1
    (one,) = (await recipients(store, message)).values()
    assert (one.state, one.blocked_by, one.attempts, one.reply) == (State.DEFERRED, "connections", 1, "450 later")
    assert await all_delivered(store, now) == ["ann@example.com"]


async def test_a_scheduled_one_that_was_held_waits_for_its_time_again(store: Store, post: Post, now: Now) -> None:
    message = post.message(send_at=now.ms + HOUR_MS)
    await store.enqueue(message)
    assert await store.operate(EVERYTHING, HOLD, now.ms) == 1
    assert await store.operate(EVERYTHING, RELEASE, now.ms) == 1
    (one,) = (await recipients(store, message)).values()
    assert (one.state, one.blocked_by, one.next_at) == (State.SCHEDULED, "schedule", now.ms + HOUR_MS)
    assert await store.promote(now.ms) == now.ms + HOUR_MS
    now.ms += HOUR_MS
    assert await store.promote(now.ms) is None
    assert await all_delivered(store, now) == ["ann@example.com"]


async def test_a_scheduled_one_released_late_goes_at_once(store: Store, post: Post, now: Now) -> None:
    message = post.message(send_at=now.ms + HOUR_MS)
    await store.enqueue(message)
    await store.operate(EVERYTHING, HOLD, now.ms)
    now.ms += 2 * HOUR_MS
    assert await store.operate(EVERYTHING, RELEASE, now.ms) == 1
    assert await state_of(store, message) is State.QUEUED
    assert await all_delivered(store, now) == ["ann@example.com"]


async def test_what_is_held_stays_so_over_a_restart_and_expires_all_the_same(
    opener: Opener, post: Post, now: Now
) -> None:
    store = await opener()
    message = post.message("a@example.com", "b@example.net")
    await store.enqueue(message)
    assert await store.operate(Filter(domain="example.net"), HOLD, now.ms) == 1
    await store.close()
    again = await opener()
    assert await all_delivered(again, now) == ["a@example.com"]
    assert await again.operate(Filter(state=State.HELD), RELEASE, now.ms) == 1
    assert await again.operate(EVERYTHING, HOLD, now.ms) == 1
    assert await again.expire(message.expires_at) == 1
    assert await state_of(again, message, "b@example.net") is State.FAILED
    assert await again.operate(EVERYTHING, RELEASE, now.ms) == 0


async def test_release_wakes_who_delivers(opener: Opener, post: Post, now: Now) -> None:
    calls: list[None] = []
    store = await opener(on_ready=lambda: calls.append(None))
    await store.enqueue(post.message())
    await store.operate(EVERYTHING, HOLD, now.ms)
    assert await claim_all(store, UNTIL) == []
    calls.clear()
    await store.operate(EVERYTHING, RELEASE, now.ms)
    assert calls


# Cancelling and bouncing


async def test_a_cancelled_message_is_gone_and_nobody_is_told(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=FAILURE)
    await store.enqueue(message)
    assert await store.operate(EVERYTHING, CANCEL, now.ms) == 1
    assert await state_of(store, message) is State.CANCELLED
    assert await last_event(store, message) == (EventType.CANCELLED, {"note": "a test"})
    assert await told(store) == []
    assert await claim_all(store, UNTIL) == []
    assert await store.find(EVERYTHING) == []
    assert await store.expire(message.expires_at) == 0


async def test_a_bounce_is_told_in_the_operators_words(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=FAILURE)
    await store.enqueue(message)
    await put_off(store, now, message)
    assert await store.operate(EVERYTHING, BOUNCE, now.ms) == 1
    (one,) = (await recipients(store, message)).values()
    assert (one.state, one.reply, one.host, one.scope) == (
        State.BOUNCED,
        "550 5.7.1 not from here",
        "",
        "infrastructure",
    )
    type_, data = await last_event(store, message)
    assert (type_, data["reply"]) == (EventType.BOUNCED, "550 5.7.1 not from here")
    (report,) = await store.reports(now.ms + 1, 10)
    assert [(who.address, who.reply, who.state) for who in report.recipients] == [
        ("ann@example.com", "550 5.7.1 not from here", State.BOUNCED)
    ]


async def test_a_delay_that_was_not_told_yet_is_not_told_of_what_is_cancelled(
    store: Store, post: Post, now: Now
) -> None:
    message = post.message(notify=FAILURE | DELAY)
    await store.enqueue(message)
    now.ms += DELAY_AFTER_MS
    await put_off(store, now, message)
    assert await told(store) == [("ann@example.com", DELAY)]
    await store.operate(EVERYTHING, CANCEL, now.ms)
    assert await told(store) == []


@pytest.mark.parametrize("order", [CANCEL, BOUNCE], ids=["cancel", "bounce"])
async def test_content_goes_with_the_last_recipient(opener: Opener, post: Post, now: Now, order: Order) -> None:
    store = await opener(Retention(content_failed_s=0))
    message = post.message("a@example.com", "b@example.net", "c@example.org")
    await store.enqueue(message)
    assert await store.operate(Filter(domain="example.net"), order, now.ms) == 1
    assert await store.content(message.uuid)
    await store.operate(Filter(domain="example.org"), HOLD, now.ms)
    assert await all_delivered(store, now) == ["a@example.com"]
    assert await store.content(message.uuid)
    assert await store.operate(Filter(uuid=message.uuid), order, now.ms) == 1
    assert await store.content(message.uuid) is None
    assert await store.expire(message.expires_at) == 0
    assert not await store.find(EVERYTHING)


async def test_content_of_what_failed_is_kept_as_long_as_retention_says(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(content_failed_s=60))
    message = post.message("a@example.com", "b@example.net")
    await store.enqueue(message)
    assert await store.operate(EVERYTHING, CANCEL, now.ms) == 2
    await store.sweep(now.ms)
    assert await store.content(message.uuid)
    await store.sweep(now.ms + 60_000)
    assert await store.content(message.uuid) is None


# Redirecting


async def test_another_route_takes_it_over_as_it_stood(store: Store, post: Post, now: Now) -> None:
    ready, late, held = post.message("a@example.com"), post.message("b@example.net"), post.message("c@example.org")
    await store.enqueue(late)
    await put_off(store, now, late)
    await store.enqueue(ready)
    await store.enqueue(held)
    await store.operate(Filter(uuid=held.uuid), HOLD, now.ms)
    order = Order(Verb.REDIRECT, "the block list", route="relay")
    assert await store.operate(Filter(route="direct", limit=9), order, now.ms) == 3
    assert [(c.route, c.domain, c.ready, c.waiting, c.held) for c in await store.counts()] == [("relay", "", 1, 1, 1)]
    assert await store.promote(now.ms) == now.ms + MINUTE_MS
    type_, data = await last_event(store, ready)
    assert (type_, data["old_route"], data["route"]) == (EventType.REDIRECTED, "direct", "relay")
    assert data["note"] == "from the route direct to relay: the block list"
    (claimed,) = await store.claim(await destination(store, ""), 9, UNTIL)
    assert claimed.uuid == ready.uuid
    assert await state_of(store, held, "c@example.org") is State.HELD


async def test_another_address_is_delivered_to_in_its_place(store: Store, post: Post, now: Now) -> None:
    message = post.message("old@example.com")
    await store.enqueue(message)
    order = Order(Verb.REDIRECT, address="new@example.net")
    assert await store.operate(Filter(address="old@example.com"), order, now.ms) == 1
    type_, data = await last_event(store, message)
    assert (type_, data["old_address"], data["address"]) == (
        EventType.REDIRECTED,
        "old@example.com",
        "new@example.net",
    )
    assert await all_delivered(store, now) == ["new@example.net"]
    assert await store.due() == ()  # the old destination is not asked in vain for ever
    assert [one.domain for one in (await recipients(store, message)).values()] == ["example.net"]


async def test_from_a_relay_to_mx_it_is_cut_by_domain(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message("a@example.com", "b@example.net"))
    await store.operate(EVERYTHING, Order(Verb.REDIRECT, route="relay"), now.ms)
    assert {(c.route, c.domain) for c in await store.counts()} == {("relay", "")}
    # A relay has no domains, its recipients do.
    assert [row.recipient.address for row in await store.find(Filter(domain="example.net"))] == ["b@example.net"]
    await store.operate(EVERYTHING, Order(Verb.REDIRECT, route="direct", by_domain=True), now.ms)
    assert {(c.route, c.domain) for c in await store.counts()} == {
        ("direct", "example.com"),
        ("direct", "example.net"),
    }
    assert await all_delivered(store, now) == ["a@example.com", "b@example.net"]


async def test_a_damaged_row_is_not_made_good_by_a_redirection(
    store: Store, post: Post, now: Now, tmp_path: Path
) -> None:
    message = post.message("ann@example.com")
    await store.enqueue(message)
    with closing(sqlite3.connect(tmp_path / "queue.db")) as database, database:
        database.execute("UPDATE recipient SET address = 'eve@example.com'")
    await store.operate(EVERYTHING, Order(Verb.REDIRECT, route="relay"), now.ms)
    assert await claim_all(store, UNTIL) == []
    assert await state_of(store, message, "eve@example.com") is State.FAILED


# Who is left alone


@pytest.mark.parametrize("verb", list(Verb))
async def test_what_is_in_hand_is_left_to_its_attempt(store: Store, post: Post, now: Now, verb: Verb) -> None:
    message = post.message("a@example.com", "b@example.net")
    await store.enqueue(message)
    (claimed,) = await store.claim(await destination(store), 5, UNTIL)
    order = Order(verb, "x", route="relay")
    assert await store.operate(EVERYTHING, order, now.ms) == (verb is not Verb.RELEASE)
    in_hand = await store.find(Filter(standing=Standing.IN_HAND))
    assert [(row.recipient.address, row.recipient.blocked_by) for row in in_hand] == [("a@example.com", "lease")]
    assert await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)]) == 1
    assert await state_of(store, message, "a@example.com") is State.DELIVERED
    assert await store.operate(Filter(address="a@example.com"), order, now.ms) == 0


async def test_orders_race_with_claims(store: Store, post: Post, now: Now) -> None:
    """Each recipient is either delivered or cancelled, never both and never neither."""
    await asyncio.gather(*[store.enqueue(post.message(f"u{n}@example.com")) for n in range(100)])
    number = await destination(store)

    async def claims() -> list[Claimed]:
        taken: list[Claimed] = []
        while batch := await store.claim(number, 7, UNTIL):
            taken += batch
        return taken

    cancelled, taken = await asyncio.gather(store.operate(EVERYTHING, CANCEL, now.ms), claims())
    assert cancelled + len(taken) == 100
    assert await store.settle([attempt(claimed, State.DELIVERED, at=now.ms) for claimed in taken]) == len(taken)
    assert not await store.find(EVERYTHING)
    assert not await store.counts()


async def test_what_moved_since_it_was_found_is_not_changed(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    both = asyncio.gather(
        store.operate(Filter(state=State.QUEUED), CANCEL, now.ms),
        store.operate(Filter(state=State.QUEUED), HOLD, now.ms),
        store.operate(Filter(state=State.QUEUED), BOUNCE, now.ms),
    )
    assert sorted(await both) == [0, 0, 1]
    assert sum(event.type is not EventType.ACCEPTED for event in await store.events(message.uuid)) == 1


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches of few rows go through every step that many take."""
    for name, size in (("SLICE_ROWS", 7), ("PAGE_ROWS", 20), ("STEP_ROWS", 3), ("SLICE_MESSAGES", 2), ("_FEW", 5)):
        monkeypatch.setattr(finding, name, size)


@pytest.mark.usefixtures("small_steps")
async def test_a_limit_is_kept_and_many_are_done_in_steps(store: Store, post: Post, now: Now) -> None:
    many = [f"u{n}@example.com" for n in range(53)]
    await store.enqueue(post.message(*many[:50]))
    for address in (*many[50:], "last@example.net"):
        await store.enqueue(post.message(address))
    for which in (Filter(limit=60), Filter(domain="example.com", limit=53)):
        assert [row.recipient.address for row in await store.find(which)][:53] == many
    assert await store.operate(Filter(domain="example.com", limit=8), HOLD, now.ms) == 8
    assert [row.recipient.address for row in await store.find(Filter(state=State.HELD))] == many[:8]
    assert await store.operate(EVERYTHING, HOLD, now.ms) == 46
    assert await store.operate(Filter(uuid=(await store.find(Filter()))[0].uuid, limit=99), RELEASE, now.ms) == 50
    assert await store.operate(Filter(standing=Standing.HELD, limit=99), CANCEL, now.ms) == 4
    assert await store.operate(EVERYTHING, CANCEL, now.ms) == 50
    assert not await store.counts()


@pytest.mark.usefixtures("small_steps")
async def test_few_are_found_among_many_destinations(store: Store, post: Post, now: Now) -> None:
    await asyncio.gather(*[store.enqueue(post.message(f"u@d{n}.example")) for n in range(15)])
    assert await store.operate(Filter(domain="d12.example"), HOLD, now.ms) == 1
    assert await store.operate(Filter(address="u@d13.example", route="direct"), HOLD, now.ms) == 1
    held = await store.find(Filter(state=State.HELD, route="direct"))
    assert [row.recipient.domain for row in held] == ["d12.example", "d13.example"]
    assert len(await store.find(Filter(route="direct"))) == 15
    assert await store.operate(Filter(route="direct", limit=99), CANCEL, now.ms) == 15


async def test_every_condition_is_heeded(store: Store, post: Post, now: Now) -> None:
    old = post.message("a@example.com", key="k1", account="one")
    await store.enqueue(old)
    now.ms += 1000
    await store.enqueue(post.message("b@example.com", "c@example.net", key="k2", account="two", route="relay"))
    for which, count in (
        (Filter(account="one"), 1),
        (Filter(key="k2"), 2),
        (Filter(key="never"), 0),
        (Filter(key="k1", domain="example.com"), 1),
        (Filter(key="k1", domain="example.net"), 0),
        (Filter(route="relay"), 2),
        (Filter(route="never"), 0),
        (Filter(domain="example.com"), 2),
        (Filter(domain="example.com", account="two"), 1),
        (Filter(address="c@example.net"), 1),
        (Filter(older_than=now.ms), 1),
        (Filter(uuid=old.uuid), 1),
        (Filter(uuid=old.uuid, route="relay"), 0),
        (Filter(state=State.DEFERRED), 0),
    ):
        assert await store.operate(which, HOLD, now.ms) == count, which
        assert len(await store.find(Filter(standing=Standing.HELD))) == count, which
        assert await store.operate(EVERYTHING, RELEASE, now.ms) == count
