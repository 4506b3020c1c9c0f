"""Recipients that are not queued from the start: held by their key, suppressed, on a route of the gateway's own."""

import json
from typing import Any

from msgspec.structs import replace

from gateway.config import CAPTURED, Retention
from gateway.events import EventType, State
from gateway.message import notify
from gateway.message.priority import HIGH
from gateway.store.newmail import IdempotencyKey, NewMessage
from gateway.store.shown import Filter, MessageView, Order, Verb
from tests.store.conftest import Opener, Store
from tests.store.mail import HOUR_MS, LEASE_MS, START_MS, Post, attempt, claim_all

UNTIL = START_MS + LEASE_MS
LATER = START_MS + HOUR_MS


def beginning(message: NewMessage, *changes: dict[str, Any]) -> NewMessage:
    """With its recipients changed, in their order."""
    rows = [replace(row, **change) for row, change in zip(message.recipients, changes, strict=True)]
    return replace(message, recipients=tuple(rows))


def held(why: str = "the key holds its mail") -> dict[str, Any]:
    return {"state": State.HELD, "why": why}


SUPPRESSED = {"state": State.SUPPRESSED, "why": "it complained"}


async def view_of(store: Store, message: NewMessage) -> MessageView:
    view = await store.message(message.uuid, None)
    assert view is not None
    return view


async def told(store: Store, message: NewMessage) -> list[tuple[EventType, str]]:
    """Events, with why."""
    return [(event.type, json.loads(event.data).get("note", "")) for event in await store.events(message.uuid)]


async def test_held_mail_waits_for_an_operator(store: Store, post: Post) -> None:
    message = beginning(post.message("ann@example.com", "bob@example.com", priority=HIGH), held(), held())
    await store.enqueue(message)
    assert not await store.due()
    assert not store.urgent()
    assert {(one.state, one.blocked_by) for one in (await view_of(store, message)).recipients} == {("held", "held")}
    assert [(count.held, count.ready) for count in await store.counts()] == [(2, 0)]
    assert store.backlog().messages == 1
    note = "the key holds its mail"
    assert await told(store, message) == [(EventType.ACCEPTED, ""), (EventType.HELD, note)] * 2

    assert await store.operate(Filter(key="shop"), Order(Verb.RELEASE), START_MS) == 2
    (claimed,) = await claim_all(store, UNTIL)
    await store.settle([attempt(claimed, State.DELIVERED, at=START_MS)])
    assert {one.state for one in (await view_of(store, message)).recipients} == {State.DELIVERED}
    assert store.backlog().messages == 0


async def test_what_is_held_and_for_later_waits_for_both(store: Store, post: Post) -> None:
    message = beginning(post.message(send_at=LATER), held())
    await store.enqueue(message)
    await store.operate(Filter(key="shop"), Order(Verb.RELEASE), START_MS)
    (recipient,) = (await view_of(store, message)).recipients
    assert (recipient.state, recipient.next_at) == (State.SCHEDULED, LATER)
    await store.promote(LATER)
    assert len(await claim_all(store, LATER + LEASE_MS)) == 1


async def test_what_is_held_for_later_stays_held_when_its_time_has_come(store: Store, post: Post) -> None:
    message = beginning(post.message(send_at=LATER), held())
    await store.enqueue(message)
    await store.promote(LATER)
    assert not await store.due()
    await store.operate(Filter(key="shop"), Order(Verb.RELEASE), LATER)
    assert len(await claim_all(store, LATER + LEASE_MS)) == 1


async def test_held_mail_expires(store: Store, post: Post) -> None:
    message = beginning(post.message(lifetime_ms=HOUR_MS), held())
    await store.enqueue(message)
    assert await store.expire(LATER) == 1
    assert (await view_of(store, message)).recipients[0].state is State.FAILED
    assert not await store.operate(Filter(key="shop"), Order(Verb.RELEASE), LATER)


async def test_who_is_suppressed_has_ended_from_the_start(opener: Opener, post: Post) -> None:
    store = await opener(Retention(content_failed_s=0))
    message = beginning(post.message("ann@example.com", "bob@example.net"), {}, SUPPRESSED)
    await store.enqueue(message)
    ann, bob = (await view_of(store, message)).recipients
    assert (ann.state, bob.state, bob.blocked_by) == (State.QUEUED, State.SUPPRESSED, "")
    expected = [(EventType.ACCEPTED, ""), (EventType.ACCEPTED, ""), (EventType.SUPPRESSED, "it complained")]
    assert await told(store, message) == expected
    (claimed,) = await claim_all(store, UNTIL)
    assert [one.address for one in claimed.recipients] == ["ann@example.com"]
    await store.settle([attempt(claimed, State.DELIVERED, at=START_MS)])
    assert store.backlog().messages == 0, "nobody is open any more"
    assert await store.content(message.uuid) is None


async def test_a_message_that_was_not_delivered_to_all_is_kept_as_one_that_failed(opener: Opener, post: Post) -> None:
    store = await opener(Retention(content_delivered_s=0, content_failed_s=60))
    message = beginning(post.message("ann@example.com", "bob@example.net"), {}, SUPPRESSED)
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    await store.settle([attempt(claimed, State.DELIVERED, at=START_MS)])
    assert await store.content(message.uuid) is not None


async def test_a_message_of_which_nobody_is_left_is_over_at_once(opener: Opener, post: Post) -> None:
    store = await opener(Retention(content_failed_s=0))
    one = beginning(post.message("ann@example.com"), SUPPRESSED)
    two = beginning(post.message("ann@example.com", "bob@example.net"), SUPPRESSED, SUPPRESSED)
    for message in (one, two):
        await store.enqueue(message)
        assert await store.content(message.uuid) is None
    assert store.backlog().messages == 0
    assert not await store.due()
    assert await store.expire(START_MS + 10 * HOUR_MS * 24) == 0


async def test_recipients_of_one_message_go_their_own_ways(store: Store, post: Post) -> None:
    captured = {"route": CAPTURED, "domain": "", "why": "not allowed"}
    message = beginning(post.message("ann@example.com", "bob@example.net"), {}, captured)
    message = replace(message, original_to=("carl@example.com",))
    await store.enqueue(message)
    assert {(due.route, due.domain) for due in await store.due()} == {("direct", "example.com"), (CAPTURED, "")}
    assert [note for _, note in await told(store, message)] == ["", "not allowed"]
    data = [json.loads(event.data) for event in await store.events(message.uuid)]
    assert [one["original_to"] for one in data] == [["carl@example.com"]] * 2
    assert [one["client"] for one in data] == ["192.0.2.1"] * 2


async def test_what_a_message_began_as(store: Store, post: Post) -> None:
    """For the answer to a client that asks again."""
    mixed = {"route": CAPTURED, "domain": ""}
    plain, holds = post.message(idempotency=("one", b"1")), beginning(post.message(), held())
    captured = beginning(post.message("a@example.com", "b@example.com"), mixed, SUPPRESSED)
    some = beginning(post.message("a@example.com", "b@example.com"), mixed, {})
    for message in (plain, holds, captured, some):
        await store.enqueue(message)
    began = [await store.earlier.beginning(message.uuid) for message in (plain, holds, captured, some)]
    assert began == ["", "held", "captured", ""]
    await store.operate(Filter(key="shop"), Order(Verb.HOLD), START_MS + 1)
    assert await store.earlier.beginning(plain.uuid) == "", "an operator held it later"

    assert plain.idempotency is not None
    assert await store.earlier.is_named(plain.idempotency)
    assert not await store.earlier.is_named(IdempotencyKey("acme", "two", b""))


async def test_who_asked_is_told_of_those_that_are_suppressed(store: Store, post: Post) -> None:
    asks, asks_not = {**SUPPRESSED, "notify": notify.FAILURE}, {**SUPPRESSED, "notify": 0}
    message = beginning(post.message("ann@example.com", "bob@example.net", "cy@example.net"), {}, asks, asks_not)
    await store.enqueue(message)
    (report,) = await store.reports(START_MS + HOUR_MS, 10)
    assert [(one.address, one.kind, one.state) for one in report.recipients] == [
        ("bob@example.net", notify.FAILURE, State.SUPPRESSED)
    ]
    assert {one.reply for one in report.recipients} == {"550 5.7.1 it complained"}
    assert [one.reply for one in (await view_of(store, message)).recipients] == ["", *["550 5.7.1 it complained"] * 2]
