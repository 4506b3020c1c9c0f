"""What is heard of mail after its attempts: once, with all that follows from it, or not at all."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.config import Retention, Suppression
from gateway.events import BounceClass, EventType, Scope, State
from gateway.message.notify import FAILURE, SUCCESS
from gateway.store.erasure import Trace
from gateway.store.late import MOST_EVENTS
from gateway.store.newmail import NewMessage
from gateway.store.person import Person
from gateway.store.queue import Heard
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, START_MS, Now, Post, attempt, claim_all, told

UNTIL = START_MS + LEASE_MS
ANN, BOB = "Ann@example.com", "bob@example.net"


async def delivered(store: Store, post: Post, now: Now, *to: str, notify: int = 0, **more: Any) -> NewMessage:
    message = post.message(*(to or (ANN,)), notify=notify, **more)
    await store.enqueue(message)
    for claimed in await claim_all(store, UNTIL):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    return message


def bounce(message: NewMessage, recipient: int = 0, **more: Any) -> Heard:
    facts: dict[str, Any] = {
        "reply": "550 5.1.1 no such user",
        "status": "5.1.1",
        "bounce_class": BounceClass.INVALID_RECIPIENT,
        "scope": Scope.RECIPIENT,
        "host": "mx.example.net",
    }
    return Heard(message.id, recipient, EventType.BOUNCED, START_MS + 5000, **(facts | more))


def heard(type_: EventType, message: NewMessage, recipient: int = 0, **more: Any) -> Heard:
    return Heard(message.id, recipient, type_, more.pop("at", START_MS + 5000), **more)


async def rows(store: Store, sql: str, *values: object) -> list[Any]:
    return await store._readers.read(lambda cursor: cursor.execute(sql, values).fetchall())


async def suppressed(store: Store) -> list[Any]:
    return await rows(store, "SELECT account, tag, value, reason, expires_at, cause FROM suppression ORDER BY id")


async def events(store: Store, message: NewMessage, type_: EventType) -> Sequence[dict[str, Any]]:
    return [json.loads(one.data) for one in await store.events(message.uuid) if one.type is type_]


async def states(store: Store, message: NewMessage) -> list[State]:
    view = await store.message(message.uuid, None)
    assert view is not None
    return [one.state for one in view.recipients]


async def test_a_late_bounce_is_a_bounce_with_all_that_follows(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now, notify=FAILURE)
    assert await store.settle_late([bounce(message)]) == [True]
    assert await states(store, message) == [State.BOUNCED]
    (event,) = await events(store, message, EventType.BOUNCED)
    assert event == {
        "reply": "550 5.1.1 no such user",
        "host": "mx.example.net",
        "bounce_class": "InvalidRecipient",
        "scope": "recipient",
        "stage": "late",
        "route": "direct",
        "attempt": 1,
        "late": True,
        "status": "5.1.1",
    }
    assert await told(store) == [(ANN, FAILURE)]
    ((account, tag, value, reason, expires_at, cause),) = await suppressed(store)
    assert (account, tag, value, reason) == ("acme", "", ANN.lower(), "bounce")
    assert expires_at == START_MS + 5000 + 90 * DAY_MS
    assert await rows(store, "SELECT type FROM event WHERE seq = ?1", cause) == [("bounced",)]


async def test_the_same_report_again_changes_nothing(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now, notify=FAILURE)
    assert await store.settle_late([bounce(message), bounce(message)]) == [True, False]
    assert await store.settle_late([bounce(message)]) == [False]
    assert len(await events(store, message, EventType.BOUNCED)) == 1
    assert await told(store) == [(ANN, FAILURE)]
    assert len(await suppressed(store)) == 1


async def test_only_what_was_delivered_can_bounce_later(store: Store, post: Post, now: Now) -> None:
    message = post.message(ANN)
    await store.enqueue(message)
    assert await store.settle_late([bounce(message)]) == [False]
    (claimed,) = await claim_all(store, UNTIL)
    looked = await store.look(message.id, 0)
    assert looked is not None
    assert (looked.uuid, looked.in_hand) == (message.uuid, True)
    assert await store.settle_late([bounce(message)]) == [False]
    await store.settle([attempt(claimed, State.BOUNCED, at=now.ms)])
    assert await store.settle_late([bounce(message)]) == [False]
    looked = await store.look(message.id, message.recipients[0].id)
    assert looked is not None
    assert (looked.address, looked.in_hand) == (ANN, False)


@pytest.mark.parametrize(
    ("class_", "scope"),
    [
        (BounceClass.REPUTATION_BLOCK, Scope.INFRASTRUCTURE),
        (BounceClass.QUOTA_ISSUES, Scope.RECIPIENT),
        (BounceClass.UNCATEGORIZED, Scope.CONTENT),
        (BounceClass.INVALID_RECIPIENT, Scope.CONTENT),
    ],
)
async def test_what_is_not_the_mailbox_suppresses_nobody(
    store: Store, post: Post, now: Now, class_: BounceClass, scope: Scope
) -> None:
    message = await delivered(store, post, now)
    assert await store.settle_late([bounce(message, bounce_class=class_, scope=scope)]) == [True]
    assert await states(store, message) == [State.BOUNCED]
    assert await suppressed(store) == []


async def test_of_several_recipients_the_address_decides(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now, ANN, BOB)
    unknown = bounce(message, addresses=("carl@example.com",))
    named = bounce(message, addresses=("carl@example.com", BOB.upper()))
    assert await store.settle_late([bounce(message), unknown, named]) == [False, False, True]
    assert await states(store, message) == [State.DELIVERED, State.BOUNCED]


async def test_what_is_heard_of_somebody_erased_is_about_nobody_else(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now, ANN, BOB)
    await store.erasing.erase(Trace(Person(ANN)), None, now=lambda: now.ms, patience_s=0)
    theirs = [bounce(message, addresses=(ANN,)), heard(EventType.COMPLAINED, message, addresses=(ANN,))]
    assert await store.settle_late([*theirs, bounce(message)]) == [False, False, False]
    assert await states(store, message) == [State.DELIVERED]
    assert await suppressed(store) == []
    assert await store.settle_late([bounce(message, addresses=(BOB,))]) == [True]


async def test_the_original_recipient_is_known_too(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now, ANN, BOB)
    message_rows = await rows(store, "SELECT orcpt FROM recipient WHERE message = ?1", message.id)
    assert message_rows == [(f"rfc822;{ANN}",), (f"rfc822;{BOB}",)]
    assert await store.settle_late([bounce(message, addresses=(f"{ANN.lower()}",))]) == [True]


async def test_who_was_told_of_a_delivery_is_told_of_the_bounce(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now, notify=FAILURE | SUCCESS)
    assert await told(store) == [(ANN, SUCCESS)]
    await store.settle_late([bounce(message)])
    assert sorted(await told(store)) == sorted([(ANN, SUCCESS), (ANN, FAILURE)])


async def test_nobody_is_told_of_mail_of_the_null_sender(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now, notify=FAILURE, sender="")
    assert await store.settle_late([bounce(message)]) == [True]
    assert await told(store) == []


async def test_a_complaint_is_about_all_mail_of_the_account(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    complaint = heard(EventType.COMPLAINED, message, reply="abuse", tag="news")
    assert await store.settle_late([complaint, complaint]) == [True, False]
    ((account, tag, value, reason, expires_at, _),) = await suppressed(store)
    assert (account, tag, value, reason, expires_at) == ("acme", "", ANN.lower(), "complaint", None)
    assert await events(store, message, EventType.COMPLAINED) == [{"reply": "abuse"}]
    assert await states(store, message) == [State.DELIVERED]


async def test_unsubscribing_twice_makes_one_entry_a_tag(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    calls = [heard(EventType.UNSUBSCRIBED, message, tag=tag) for tag in ("news", "news", "", "")]
    assert await store.settle_late(calls) == [True, False, True, False]
    assert [(row[1], row[3]) for row in await suppressed(store)] == [("news", "unsubscribe"), ("", "unsubscribe")]
    assert await events(store, message, EventType.UNSUBSCRIBED) == [{"tag": "news"}, {}]


async def test_who_was_let_in_again_can_leave_again(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    store.reconfigure(Retention(), Suppression(unsubscribe_s=60))
    at = START_MS + 5000
    assert await store.settle_late([heard(EventType.UNSUBSCRIBED, message)]) == [True]
    assert await store.settle_late([heard(EventType.UNSUBSCRIBED, message, at=at + 59_999)]) == [False]
    assert await store.settle_late([heard(EventType.UNSUBSCRIBED, message, at=at + 60_000)]) == [True]
    assert [row[4] for row in await suppressed(store)] == [at + 120_000]


async def test_no_entry_where_the_configuration_wants_none(store: Store, post: Post, now: Now) -> None:
    store.reconfigure(Retention(), Suppression(bounce_s=0, complaint_s=0, unsubscribe_s=0))
    message = await delivered(store, post, now)
    all_of_them = [bounce(message), heard(EventType.COMPLAINED, message), heard(EventType.UNSUBSCRIBED, message)]
    assert await store.settle_late(all_of_them) == [True, True, True]
    assert await store.settle_late(all_of_them) == [False, False, False]
    assert await suppressed(store) == []


async def test_opens_and_clicks_are_counted_but_not_those_of_machines(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    opened = heard(EventType.OPENED, message, client="192.0.2.7", user_agent="Mozilla")
    clicked = heard(EventType.CLICKED, message, url="https://example.com/")
    machine = heard(EventType.OPENED, message, machine="a scanner")
    assert await store.settle_late([opened, opened, clicked, machine]) == [True] * 4
    found = await rows(store, "SELECT message, recipient, opens, clicks, machine FROM engagement")
    assert found == [(message.id, message.recipients[0].id, 2, 1, 1)]
    person = {"client": "192.0.2.7", "user_agent": "Mozilla"}
    assert await events(store, message, EventType.OPENED) == [person, person, {"machine": "a scanner"}]
    assert await events(store, message, EventType.CLICKED) == [{"url": "https://example.com/"}]


async def test_a_link_that_is_fetched_without_end_writes_no_endless_log(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    many = MOST_EVENTS + 10
    assert await store.settle_late([heard(EventType.OPENED, message)] * many) == [True] * many
    machine = [heard(EventType.OPENED, message, machine="x")] * many
    assert await store.settle_late(machine) == [True] * MOST_EVENTS + [False] * 10
    assert len(await events(store, message, EventType.OPENED)) == 2 * MOST_EVENTS
    assert await rows(store, "SELECT opens, machine FROM engagement") == [(many, many)]


async def test_what_is_not_there_any_more_changes_nothing(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    other = post.message(BOB)  # never stored
    types = (EventType.OPENED, EventType.COMPLAINED, EventType.UNSUBSCRIBED)
    calls = [bounce(other), *[heard(type_, other) for type_ in types], heard(EventType.OPENED, message, 12345)]
    before = await rows(store, "SELECT max(seq) FROM event")
    assert await store.settle_late(calls) == [False] * len(calls)
    assert await rows(store, "SELECT max(seq) FROM event") == before
    assert await rows(store, "SELECT count(*) FROM engagement") == [(0,)]
    assert await store.look(other.id, 0) is None
    assert await store.settle_late([]) == ()


async def test_foreign_bytes_are_stored_as_text(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    assert await store.settle_late([bounce(message, reply="550 \udcff", host="\udcfe.example")]) == [True]
    (event,) = await events(store, message, EventType.BOUNCED)
    assert (event["reply"], event["host"]) == ("550 ?", "?.example")


async def test_the_events_are_the_accounts(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    message = await delivered(store, post, now)
    last = store.event_log.last
    await store.settle_late([bounce(message)])
    (event,) = await store.event_log.read(last, 10, account="acme")
    assert (event.type, event.uuid, event.address) == (EventType.BOUNCED, message.uuid, ANN)
    assert await store.event_log.read(last, 10, account="other") == []


async def test_only_what_is_heard_later_is_taken(store: Store, post: Post, now: Now) -> None:
    message = await delivered(store, post, now)
    with pytest.raises(ValueError, match="not heard of later"):
        await store.settle_late([heard(EventType.DELIVERED, message)])
