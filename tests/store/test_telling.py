"""Telling submitters: once, whatever dies between, and with the content still there."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from gateway.config import Retention
from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.message.notify import BY_SMTP, FAILURE, SUCCESS
from gateway.runtime import show_id
from gateway.store import reports
from gateway.store.newmail import NewMessage
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all, told

UNTIL = START_MS + LEASE_MS


async def rows_of(store: Store, table: str) -> int:
    rows = await store._readers.read(lambda cursor: cursor.execute(f"SELECT count(*) FROM {table}").fetchall())
    return int(rows[0][0])


async def failed(store: Store, post: Post, now: Now, *to: str) -> NewMessage:
    message = post.message(*to, notify=BY_SMTP)
    await store.enqueue(message)
    for claimed in await claim_all(store, UNTIL):
        await store.settle([attempt(claimed, State.BOUNCED, at=now.ms)])
    return message


def notice(post: Post) -> NewMessage:
    return post.message("sender@example.org", sender="", subject="Undelivered")


async def test_what_is_told_is_queued_and_forgotten_at_once(opener: Opener, post: Post, now: Now) -> None:
    ready: list[None] = []
    store = await opener(on_ready=lambda: ready.append(None))
    message = await failed(store, post, now, "ann@example.com", "bob@example.net")
    (report,) = await store.reports(now.ms + 1, 10)
    now.ms += 5000
    ready.clear()
    bounce = notice(post)
    await store.report(report, [bounce])
    assert ready
    assert not await told(store)
    (claimed,) = await claim_all(store, UNTIL)
    assert (claimed.uuid, claimed.envelope_sender) == (bounce.uuid, "")
    events = [event for event in await store.events(message.uuid) if event.type is EventType.REPORTED]
    assert [(event.recipient, event.at) for event in events] == [
        ("ann@example.com", now.ms),
        ("bob@example.net", now.ms),
    ]
    assert [json.loads(event.data) for event in events] == [
        {"kind": "failure", "notice": show_id("eml_", bounce.uuid)}
    ] * 2


async def test_it_is_told_once(store: Store, post: Post, now: Now) -> None:
    message = await failed(store, post, now)
    (report,) = await store.reports(now.ms + 1, 10)
    await asyncio.gather(store.report(report, [notice(post)]), store.report(report, [notice(post)]))
    await store.report(report, [notice(post)])
    assert len(await claim_all(store, UNTIL)) == 1
    assert [event.type for event in await store.events(message.uuid)].count(EventType.REPORTED) == 1


async def test_what_cannot_be_queued_is_to_be_told_still(store: Store, post: Post, now: Now) -> None:
    message = await failed(store, post, now)
    (report,) = await store.reports(now.ms + 1, 10)
    with pytest.raises(StoreError):
        await store.report(report, [notice(post), replace(notice(post), piece_count=2)])
    assert await told(store) == [("ann@example.com", FAILURE)]
    assert not await store.due()
    assert EventType.REPORTED not in [event.type for event in await store.events(message.uuid)]


async def test_it_outlives_the_process(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    await failed(store, post, now)
    await store.close()
    again = await opener()
    (report,) = await again.reports(now.ms + 1, 10)
    await again.report(report, [notice(post)])
    await again.close()
    assert not await told(await opener())


async def test_what_comes_while_it_is_told_is_told_next(store: Store, post: Post, now: Now) -> None:
    message = post.message("ann@example.com", "bob@example.net", notify=BY_SMTP)
    await store.enqueue(message)
    first, second = await claim_all(store, UNTIL)
    await store.settle([attempt(first, State.BOUNCED, at=now.ms)])
    (report,) = await store.reports(now.ms + 1, 10)
    await store.settle([attempt(second, State.BOUNCED, at=now.ms)])
    await store.report(report, [notice(post)])
    assert await told(store) == [("bob@example.net", FAILURE)]


async def test_nothing_may_be_told_and_no_event_says_it_was(store: Store, post: Post, now: Now) -> None:
    message = await failed(store, post, now)
    (report,) = await store.reports(now.ms + 1, 10)
    await store.report(report, ())
    assert not await told(store)
    assert not await store.due()
    assert EventType.REPORTED not in [event.type for event in await store.events(message.uuid)]


async def test_the_oldest_come_first_and_the_young_not_yet(store: Store, post: Post, now: Now) -> None:
    messages = []
    for _ in range(5):
        messages.append(await failed(store, post, now, "ann@example.com", "bob@example.net"))
        now.ms += 1000
    found = await store.reports(START_MS + 3001, 10)
    assert [report.message for report in found] == [message.id for message in messages[:4]]
    assert [report.message for report in await store.reports(START_MS + 3001, 3)] == [m.id for m in messages[:3]]
    assert not await store.reports(START_MS, 10)
    assert not await store.reports(now.ms, 0)


async def test_a_large_message_hides_no_other_and_comes_in_parts(
    store: Store, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PART_ROWS", 4)
    to = [f"u{n}@d{n}.example" for n in range(10)]
    large = post.message(*to, notify=BY_SMTP)
    await store.enqueue(large)
    for claimed in await claim_all(store, UNTIL):
        now.ms += 1  # a time of its own for each row
        await store.settle([attempt(claimed, State.BOUNCED, at=now.ms)])
    small = await failed(store, post, now)
    found = await store.reports(now.ms + 1, 2)
    assert [report.message for report in found] == [large.id, small.id]
    parts = []
    while found:
        parts.append([one.address for one in found[0].recipients])
        await store.report(found[0], ())
        found = await store.reports(now.ms + 1, 2)
    assert [len(part) for part in parts] == [4, 4, 2, 1]
    assert sorted([address for part in parts[:3] for address in part]) == sorted(to)


# Content and age


async def test_content_waits_for_what_is_to_be_told(store: Store, post: Post, now: Now) -> None:
    message = post.message(notify=SUCCESS)
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    await store.sweep(now.ms + MINUTE_MS)
    assert await store.content(message.uuid) == message.pieces[0][1]
    (report,) = await store.reports(now.ms + 1, 1)
    await store.report(report, [notice(post)])
    await store.sweep(now.ms + 2 * MINUTE_MS)
    assert await store.content(message.uuid) is None
    assert await rows_of(store, "erase") == 0


@pytest.mark.parametrize("last", [State.DELIVERED, State.BOUNCED])
async def test_content_waits_for_an_earlier_recipient_of_several(
    opener: Opener, post: Post, now: Now, last: State
) -> None:
    store = await opener(Retention(content_failed_s=0))
    message = post.message("ann@example.com", "bob@example.net", notify=FAILURE)
    quiet = replace(message, recipients=(message.recipients[0], replace(message.recipients[1], notify=0)))
    await store.enqueue(quiet)
    first, second = await claim_all(store, UNTIL)
    await store.settle([attempt(first, State.BOUNCED, at=now.ms)])
    await store.settle([attempt(second, last, at=now.ms)])
    await store.sweep(now.ms)
    assert await store.content(message.uuid) is not None
    (report,) = await store.reports(now.ms + 1, 1)
    await store.report(report, ())
    await store.sweep(now.ms + 2 * MINUTE_MS)
    assert await store.content(message.uuid) is None


async def test_content_of_what_expired_waits_too(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(content_failed_s=0))
    loud, silent = post.message(notify=FAILURE), post.message()
    for message in (loud, silent):
        await store.enqueue(message)
    await store.expire(loud.expires_at)
    assert await store.content(silent.uuid) is None
    assert await store.content(loud.uuid) is not None
    await store.sweep(loud.expires_at)
    assert await store.content(loud.uuid) is not None


async def test_a_message_is_not_dropped_before_it_is_told(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(messages_s=3600))
    message = await failed(store, post, now)
    await store.sweep(now.ms + DAY_MS)
    (report,) = await store.reports(now.ms + 1, 1)
    await store.report(report, [notice(post)])
    await store.sweep(now.ms + DAY_MS)
    assert await store.message(message.uuid, None) is None
    assert await rows_of(store, "report") == 0
