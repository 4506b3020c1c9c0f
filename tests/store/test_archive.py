"""An account's own mail: found by what it is, a page at a time, and nobody else's."""

import hashlib
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest

from gateway.events import EventType, State
from gateway.runtime import id_at
from gateway.store import archive, eventlog
from gateway.store.archive import NEWEST, MailFilter
from gateway.store.queue import Heard
from tests.store.conftest import Store
from tests.store.mail import DAY_MS, HOUR_MS, LEASE_MS, START_MS, Now, Post, attempt, claim_all, destination

UNTIL = START_MS + LEASE_MS


async def subjects(store: Store, which: MailFilter, account: str = "acme") -> list[str]:
    page = await store.archive.search(account, which, after=NEWEST, limit=100)
    assert page.after is None
    return [view.subject for view in page.messages]


async def test_the_newest_come_first_a_page_at_a_time(store: Store, post: Post) -> None:
    for number in range(5):
        await store.enqueue(post.message(subject=str(number)))
        await store.enqueue(post.message(subject="another's", account="other"))
    found = []
    after: int | None = NEWEST
    while after is not None:
        page = await store.archive.search("acme", MailFilter(), after=after, limit=2)
        found += [view.subject for view in page.messages]
        after = page.after
    assert found == ["4", "3", "2", "1", "0"]
    assert await subjects(store, MailFilter(), "nobody") == []


async def test_conditions(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message("Ann@example.com", "bob@example.com", subject="Order 100% ready"))
    now.ms += HOUR_MS
    await store.enqueue(post.message("carl@example.net", subject="order_2", key="news"))
    for which, expected in (
        (MailFilter(to="ann@example.com"), 1),
        (MailFilter(to="nn@example.com"), 0),
        (MailFilter(to="carl@example.net"), 1),
        (MailFilter(sender="FROM@example.org"), 2),
        (MailFilter(sender="sender@example.org"), 0),
        (MailFilter(tag="a"), 2),
        (MailFilter(tag="A"), 0),
        (MailFilter(key="news"), 1),
        (MailFilter(key="never used"), 0),
        (MailFilter(subject="ORDER"), 2),
        (MailFilter(subject="0%"), 1),
        (MailFilter(subject="r_2"), 1),
        (MailFilter(subject="r%2"), 0),
        (MailFilter(since=now.ms), 1),
        (MailFilter(before=now.ms), 1),
        (MailFilter(since=START_MS, before=now.ms, key="shop"), 1),
        (MailFilter(since=now.ms + 2 * DAY_MS), 0),
        (MailFilter(before=START_MS - 2 * DAY_MS), 0),
    ):
        assert len(await subjects(store, which)) == expected, which


async def test_state_is_that_of_the_message(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message("a@example.com", "b@example.net"))
    for claimed in await store.claim(await destination(store), 5, UNTIL):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    assert len(await subjects(store, MailFilter(state=State.DELIVERED))) == 1
    assert await subjects(store, MailFilter(state=State.DELIVERED, but_none_in=(State.QUEUED,))) == []
    assert len(await subjects(store, MailFilter(state=State.QUEUED, but_none_in=(State.HELD,)))) == 1


async def test_a_search_looks_at_a_bounded_number(store: Store, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SLICE_MESSAGES", 2)
    await store.enqueue(post.message(subject="the one"))
    await store.enqueue_all([post.message(subject="filler") for _ in range(12)], None)
    first = await store.archive.search("acme", MailFilter(subject="the one"), after=NEWEST, limit=5)
    assert first.messages == ()
    assert first.after is not None
    second = await store.archive.search("acme", MailFilter(subject="the one"), after=first.after, limit=5)
    assert [view.subject for view in second.messages] == ["the one"]
    assert second.after is None


async def test_what_is_older_than_asked_for_is_not_walked(
    store: Store, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SLICE_MESSAGES", 2)
    await store.enqueue_all([post.message() for _ in range(30)], None)
    now.ms += 10 * DAY_MS
    await store.enqueue_all([post.message(subject="new") for _ in range(3)], None)
    assert await subjects(store, MailFilter(since=now.ms)) == ["new"] * 3
    page = await store.archive.search("acme", MailFilter(before=START_MS + 1), after=NEWEST, limit=30)
    assert len(page.messages) == 10  # five slices, none of them of the newest
    assert page.after is not None
    assert page.after < id_at(now.ms)


async def test_opens_and_clicks(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.com")
    await store.enqueue(message)
    heard = (EventType.OPENED, EventType.OPENED, EventType.CLICKED)
    second = message.recipients[1].id
    assert all(await store.settle_late([Heard(message.id, second, type_, now.ms) for type_ in heard]))
    view = await store.message(message.uuid, "acme")
    assert view is not None
    assert [(one.opens, one.clicks) for one in view.recipients] == [(0, 0), (2, 1)]


async def test_content_in_pieces(store: Store, post: Post) -> None:
    parts = (b"Subject: x\r\n\r\n" + b"a" * 1000, b"b" * 500, b"c" * 7)
    message = post.message(pieces=tuple(enumerate(parts)), piece_count=3)
    await store.enqueue(message)
    found = await store.archive.content(message.uuid, "acme")
    assert found is not None
    assert found.size == sum(map(len, parts))
    read = [part async for part in store.archive.pieces(found)]
    assert hashlib.sha256(b"".join(read)).digest() == hashlib.sha256(b"".join(parts)).digest()
    assert await store.archive.content(message.uuid, "other") is None


async def test_content_that_was_erased(store: Store, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    for claimed in await claim_all(store, UNTIL):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    found = await store.archive.content(message.uuid, "acme")
    assert found is not None
    assert found.size is None


async def test_events_of_a_message(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com")
    await store.enqueue(post.message())
    await store.enqueue(message)
    for claimed in await claim_all(store, UNTIL):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    events = await store.archive.events(message.uuid, "acme", after=0, limit=10)
    assert events is not None
    assert [event.type for event in events] == [EventType.ACCEPTED, EventType.DELIVERED]
    assert events == [event for event in await store.event_log.read(0, 100) if event.uuid == message.uuid]
    assert await store.archive.events(message.uuid, "acme", after=events[0].seq, limit=10) == events[1:]
    assert await store.archive.events(message.uuid, "acme", after=events[1].seq, limit=10) == []
    assert await store.archive.events(message.uuid, "other", after=0, limit=10) is None
    assert await store.archive.events(bytes(16), "acme", after=0, limit=10) is None


@pytest.mark.parametrize(
    "damage", ["type = 'acceptee'", "data = CAST(x'7bff7d' AS TEXT)", "at = 'x'", "at = 1.5", "data = NULL"]
)
async def test_damaged_events_are_passed_over(store: Store, post: Post, tmp_path: Path, damage: str) -> None:
    """Also where they fill a page: who goes on is not stuck before them."""
    message = post.message(*(f"a{number}@example.com" for number in range(6)))
    await store.enqueue(message)
    with closing(apsw.Connection(str(next(tmp_path.glob("*.db"))))) as foreign:
        for statement in (  # a bad byte asks for no kind of column
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = replace(replace(sql, 'STRICT', ''), 'NOT NULL', '') WHERE name = 'event'",
            "PRAGMA writable_schema = RESET",
            f"UPDATE event SET {damage} WHERE seq BETWEEN 2 AND 4",
        ):
            foreign.execute(statement)
    for read in (
        partial(store.event_log.read, account="acme"),
        store.event_log.read,
        lambda after, limit: store.archive.events(message.uuid, "acme", after=after, limit=limit),
    ):
        assert [event.seq for event in await read(0, 2) or ()] == [1, 5]
        assert [event.seq for event in await read(1, 1) or ()] == [5]
        assert [event.seq for event in await read(0, 9) or ()] == [1, 5, 6]
    assert await store.event_log.one(3) is None


async def test_since_a_time_although_the_clock_was_behind(
    store: Store, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog, "SLICE_ROWS", 4)
    ages = [*[9] * 6, 2, 1, 30, 1, 0]  # in days: one of them by a clock that was a month behind
    for age in ages:
        now.ms = START_MS - age * DAY_MS
        await store.enqueue(post.message())
    first = ages.index(2) + 1
    assert await store.event_log.before(START_MS - 3 * DAY_MS) == first - 1
    assert await store.event_log.before(START_MS - 99 * DAY_MS) == 0
    assert await store.event_log.before(START_MS + 1) == len(ages)


async def test_a_page_of_large_messages_is_a_short_one(
    store: Store, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PAGE_RECIPIENTS", 5)
    for number in range(4):
        await store.enqueue(post.message(*(f"a{n}@example.com" for n in range(3)), subject=str(number)))
    first = await store.archive.search("acme", MailFilter(), after=NEWEST, limit=10)
    assert [view.subject for view in first.messages] == ["3", "2"]
    assert first.after is not None
    second = await store.archive.search("acme", MailFilter(), after=first.after, limit=10)
    assert [view.subject for view in second.messages] == ["1", "0"]
