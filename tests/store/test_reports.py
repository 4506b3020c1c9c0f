"""What submitters are to be told: by what becomes of their mail, and by what they asked for."""

import contextlib
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace

from gateway.events import EventType, State
from gateway.message.model import TLS_OPTIONAL
from gateway.message.notify import ASKED, BY_SMTP, DELAY, FAILURE, SUCCESS
from gateway.store.newmail import NewMessage
from gateway.store.queue import Attempt, Claimed, Report, Result
from gateway.store.reports import DELAY_AFTER_MS
from tests.store.conftest import Store
from tests.store.mail import (
    DAY_MS,
    EVER,
    HOUR_MS,
    LEASE_MS,
    MINUTE_MS,
    START_MS,
    Now,
    Post,
    attempt,
    claim_all,
    told,
)

UNTIL = START_MS + LEASE_MS
EVERYTHING = SUCCESS | FAILURE | DELAY


async def accepted(store: Store, message: NewMessage) -> Claimed:
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    return claimed


async def deferred(store: Store, message: NewMessage, now: Now) -> None:
    """An attempt of each recipient, now, that comes to nothing."""
    await store.promote(now.ms)
    for claimed in await claim_all(store, now.ms + LEASE_MS):
        assert claimed.message == message.id
        await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + MINUTE_MS, reply="451 no")])


def with_result(of: Attempt, result: Result) -> Attempt:
    return replace(of, results=(result,))


@pytest.mark.parametrize(
    ("state", "notify", "kind"),
    [
        (State.BOUNCED, FAILURE, FAILURE),
        (State.FAILED, BY_SMTP, FAILURE),
        (State.SUPPRESSED, BY_SMTP, FAILURE),
        (State.SUPPRESSED, 0, None),
        (State.DELIVERED, SUCCESS, SUCCESS),
        (State.DELIVERED, EVERYTHING | ASKED, SUCCESS),
        (State.DELIVERED, BY_SMTP, None),
        (State.BOUNCED, SUCCESS | DELAY, None),
        (State.FAILED, ASKED, None),  # NOTIFY=NEVER
        (State.FAILED, 0, None),
        (State.CAPTURED, EVERYTHING, None),
    ],
)
async def test_an_end_is_told_to_who_asked(
    store: Store, post: Post, now: Now, state: State, notify: int, kind: int | None
) -> None:
    claimed = await accepted(store, post.message(notify=notify))
    assert not await told(store)
    await store.settle([attempt(claimed, state, at=now.ms)])
    assert await told(store) == ([("ann@example.com", kind)] if kind else [])


@pytest.mark.parametrize("state", [State.BOUNCED, State.FAILED, State.DELIVERED])
async def test_the_null_sender_is_never_told(store: Store, post: Post, now: Now, state: State) -> None:
    message = post.message(notify=EVERYTHING, sender="")
    claimed = await accepted(store, message)
    now.ms += DELAY_AFTER_MS
    await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + 1)])
    await store.promote(now.ms + 1)
    (again,) = await claim_all(store, now.ms + LEASE_MS)
    await store.settle([attempt(again, state, at=now.ms)])
    await store.enqueue(post.message(notify=EVERYTHING, sender="", lifetime_ms=1))
    assert await store.expire(now.ms + 1) == 1
    assert not await told(store)


async def test_a_delivery_that_another_host_reports_is_not_told_here(store: Store, post: Post, now: Now) -> None:
    claimed = await accepted(store, post.message(notify=EVERYTHING))
    delivered = attempt(claimed, State.DELIVERED, at=now.ms)
    await store.settle([with_result(delivered, replace(delivered.results[0], dsn_passed=True))])
    assert not await told(store)


async def test_a_report_says_all_that_a_notification_holds(store: Store, post: Post, now: Now) -> None:
    message = replace(
        post.message("ann@example.com", "bob@example.com", notify=BY_SMTP), ret="FULL", tls_wish=TLS_OPTIONAL
    )
    claimed = await accepted(store, message)
    assert (claimed.ret, claimed.envid, claimed.tls_wish, claimed.at_most_once) == ("FULL", "QQ314159", 2, False)
    assert claimed.facts == message.facts
    assert [(one.notify, one.orcpt) for one in claimed.recipients] == [
        (BY_SMTP, "rfc822;ann@example.com"),
        (BY_SMTP, "rfc822;bob@example.com"),
    ]
    now.ms += 1000
    await store.settle([attempt(claimed, State.BOUNCED, at=now.ms, reply="550 5.1.1 who?")])
    (report,) = await store.reports(now.ms + 1, 10)
    ann, bob = report.recipients
    assert report == Report(
        message=message.id,
        uuid=message.uuid,
        account="acme",
        key="shop",
        route="direct",
        envelope_sender="sender@example.org",
        subject="Hello",
        message_id="abc@example.org",
        facts=message.facts,
        piece_count=1,
        ret="FULL",
        envid="QQ314159",
        created_at=START_MS,
        expires_at=START_MS + 5 * DAY_MS,
        recipients=(ann, bob),
        tls_wish=TLS_OPTIONAL,
    )
    assert (ann.recipient, ann.address, ann.orcpt) == (
        message.recipients[0].id,
        "ann@example.com",
        "rfc822;ann@example.com",
    )
    assert (ann.kind, ann.at, ann.state, ann.attempts) == (FAILURE, now.ms, State.BOUNCED, 1)
    assert (ann.reply, ann.host, ann.bounce_class, ann.stage) == (
        "550 5.1.1 who?",
        "mx.example.com",
        "InvalidRecipient",
        "rcpt",
    )
    assert bob.address == "bob@example.com"


async def test_a_message_whose_row_is_gone_keeps_no_other_from_being_told_of(
    store: Store, post: Post, now: Now, tmp_path: Path
) -> None:
    messages = [post.message("ann@example.com", notify=BY_SMTP) for _ in range(2)]
    for message in messages:
        claimed = await accepted(store, message)
        await store.settle([attempt(claimed, State.BOUNCED, at=now.ms, reply="550 5.1.1 who?")])
    with contextlib.closing(apsw.Connection(str(tmp_path / "queue.db"))) as foreign:
        foreign.execute("DELETE FROM message WHERE id = ?", (messages[0].id,))
    (report,) = await store.reports(now.ms + 1, 10)
    assert report.message == messages[1].id


async def test_what_was_queued_without_a_wish_has_none(store: Store, post: Post) -> None:
    claimed = await accepted(store, replace(post.message(), ret="", envid=""))
    assert (claimed.ret, claimed.envid, claimed.tls_wish) == ("", "", 0)
    assert claimed.recipients[0].notify == 0


# Delay


async def test_a_delay_is_told_once_after_four_hours(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=BY_SMTP)
    await store.enqueue(message)
    await deferred(store, message, now)
    now.ms += DELAY_AFTER_MS - 1
    await deferred(store, message, now)
    assert not await told(store)
    now.ms += MINUTE_MS
    await deferred(store, message, now)
    (report,) = await store.reports(now.ms + 1, 1)
    (one,) = report.recipients
    assert (one.kind, one.at, one.state, one.attempts) == (DELAY, now.ms, State.DEFERRED, 3)
    now.ms += HOUR_MS
    await deferred(store, message, now)
    assert await told(store) == [("ann@example.com", DELAY)]
    await store.report(report, ())
    now.ms += HOUR_MS
    await deferred(store, message, now)
    assert not await told(store)
    # What the next host is told of the wish is what came.
    await store.promote(now.ms + DAY_MS)
    (claimed,) = await claim_all(store, now.ms + LEASE_MS)
    assert claimed.recipients[0].notify == BY_SMTP


async def test_the_fourth_hour_ends_to_the_millisecond(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=DELAY)
    await store.enqueue(message)
    now.ms += DELAY_AFTER_MS
    await deferred(store, message, now)
    assert await told(store) == [("ann@example.com", DELAY)]


async def test_a_delay_is_not_told_to_who_did_not_ask(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=FAILURE | SUCCESS | ASKED)
    await store.enqueue(message)
    now.ms += DELAY_AFTER_MS
    await deferred(store, message, now)
    assert not await told(store)


async def test_the_delay_of_scheduled_mail_counts_from_its_time(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=BY_SMTP, send_at=now.ms + DAY_MS)
    await store.enqueue(message)
    now.ms += DAY_MS
    await deferred(store, message, now)
    now.ms += DELAY_AFTER_MS - 1
    await deferred(store, message, now)
    assert not await told(store)
    now.ms += MINUTE_MS
    await deferred(store, message, now)
    assert await told(store) == [("ann@example.com", DELAY)]


@pytest.mark.parametrize(("state", "left"), [(State.DELIVERED, []), (State.BOUNCED, [("ann@example.com", FAILURE)])])
async def test_who_ended_is_told_of_no_delay(
    store: Store, post: Post, now: Now, state: State, left: list[tuple[str, int]]
) -> None:
    message = post.message(notify=BY_SMTP)
    await store.enqueue(message)
    now.ms += DELAY_AFTER_MS
    await deferred(store, message, now)
    assert await told(store) == [("ann@example.com", DELAY)]
    await store.promote(now.ms + MINUTE_MS)
    (claimed,) = await claim_all(store, now.ms + LEASE_MS)
    await store.settle([attempt(claimed, state, at=now.ms)])
    assert await told(store) == left


async def test_an_expired_recipient_is_a_failure_and_no_delay(store: Store, post: Post, now: Now) -> None:
    message = post.message("ann@example.com", "bob@example.com", notify=BY_SMTP)
    await store.enqueue(message)
    now.ms += DELAY_AFTER_MS
    await deferred(store, message, now)
    silent = post.message("eve@example.com", notify=DELAY)
    await store.enqueue(silent)
    assert await store.expire(silent.expires_at) == 3
    assert await told(store) == [("ann@example.com", FAILURE), ("bob@example.com", FAILURE)]
    (report,) = await store.reports(EVER, 10)
    assert [(one.state, one.bounce_class, one.stage, one.reply) for one in report.recipients] == [
        (State.FAILED, "MessageExpired", "expire", "451 no")
    ] * 2


async def test_who_passed_through_was_told_in_its_own_session(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=EVERYTHING)
    to = message.recipients[0]
    result = Result(to.id, 0, State.BOUNCED, EventType.BOUNCED, 1, to.address, reply="550 no")
    tried = Attempt(message.id, message.uuid, 0, "direct", now.ms, now.ms, (result,))
    await store.record(message, [result], tried)
    assert not await told(store)
