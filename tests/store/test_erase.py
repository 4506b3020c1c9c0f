"""Removing a person from all that is stored, while mail goes on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec
import pytest

from gateway.config import Retention, Suppression
from gateway.errors import StoreError
from gateway.events import State
from gateway.message import notify
from gateway.store.connection import Database
from gateway.store.db import Transaction
from gateway.store.erasing import Erased, Erasing
from gateway.store.erasure import Done, Erasure, Removed, Trace, Wanted
from gateway.store.newmail import Accepted, NewMessage
from gateway.store.person import Person
from gateway.store.queue import Reclaimed
from gateway.store.shown import Filter, Order, Verb
from gateway.store.suppression import Entry, Kind, Reason
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, HOUR_MS, LEASE_MS, Now, Post, attempt, claim_all

BOB = "Bob.Stone@example.com"
ANN = "ann@example.com"
HASHED = "hash:bobs"
NUMBER = -7
LETTER = b"To: Bob.Stone@example.com\r\nSubject: Hello\r\n\r\nDear bob.stone@EXAMPLE.com\r\n"
KEEPING = Retention(content_delivered_s=86_400, content_failed_s=86_400)


def erasing(store: Store) -> Erasing:
    return store.erasing


async def erase(store: Store, now: Now, *, account: str | None = None, patience_s: float = 0) -> Erased:
    trace = Trace(Person(BOB.upper()), HASHED, NUMBER)
    return await store.erasing.erase(trace, account, now=lambda: now.ms, patience_s=patience_s)


def letter(post: Post, *to: str, **more: object) -> NewMessage:
    return post.message(*to, pieces=[(0, LETTER)], **more)  # type: ignore[arg-type]


async def deliver(store: Store, now: Now, reply: str = f"250 <{BOB}> ok") -> None:
    for claimed in await claim_all(store, now.ms + LEASE_MS):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms, reply=reply)])


def left(store_path: Path, text: str = BOB) -> int:
    """How often a text is in the files of the database."""
    found = 0
    for path in store_path.parent.glob(f"{store_path.name}*"):
        found += path.read_bytes().lower().count(text.lower().encode())
    return found


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return reader.execute(sql).fetchall()
    finally:
        reader.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


async def test_a_message_to_nobody_else_goes_whole(store: Store, post: Post, now: Now, path: Path) -> None:
    message = letter(post, BOB)
    other = post.message(ANN)
    await store.enqueue(message)
    await store.enqueue(other)
    await deliver(store, now)
    done = await erase(store, now)
    assert done.removed == Removed(messages=1, events=2, changed=2)  # the reply to Ann's quotes it, too
    assert (done.in_hand, done.rewritten) == (0, True)
    assert await store.message(message.uuid, None) is None
    view = await store.message(other.uuid, None)
    assert view is not None
    assert view.recipients[0].reply == "250 <erased> ok"
    assert left(path) == 0
    assert left(path, ANN) > 0


async def test_what_is_queued_is_cancelled_and_not_sent(store: Store, post: Post, now: Now, path: Path) -> None:
    for message in (
        letter(post, BOB),
        letter(post, BOB, send_at=now.ms + DAY_MS),
        letter(post, BOB, notify=notify.FAILURE),
    ):
        await store.enqueue(message)
    await store.operate(Filter(uuid=message.uuid), Order(Verb.HOLD), now.ms)
    assert store.backlog().messages == 3
    assert (await erase(store, now)).removed.messages == 3
    assert store.backlog().messages == 0
    assert await claim_all(store, now.ms + 2 * DAY_MS) == []
    assert await store.counts() == []
    assert not await store.reports(now.ms + DAY_MS, 10)  # nobody is told of it
    assert left(path) == 0


async def test_others_still_get_theirs_and_the_content_goes_after_them(
    opener: Opener, post: Post, now: Now, path: Path
) -> None:
    store = await opener(KEEPING)
    message = letter(post, ANN, BOB, "carl@example.net")
    await store.enqueue(message)
    done = await erase(store, now)
    assert done.removed == Removed(recipients=1, events=2, later=1)
    await store.sweep(now.ms + HOUR_MS)
    claimed = await claim_all(store, now.ms + LEASE_MS)
    assert sorted(one.address for each in claimed for one in each.recipients) == [ANN, "carl@example.net"]
    assert claimed[0].content == LETTER
    for one in claimed:
        await store.settle([attempt(one, State.DELIVERED, at=now.ms)])
    view = await store.message(message.uuid, None)
    assert view is not None
    assert [one.address for one in view.recipients] == [ANN, "carl@example.net"]
    await store.sweep(now.ms + 2 * HOUR_MS)
    assert await store.content(message.uuid) is None
    assert (await erase(store, now)).removed == Removed()
    assert left(path) == 0


async def test_the_content_of_a_final_message_goes_at_once(opener: Opener, post: Post, now: Now, path: Path) -> None:
    store = await opener(KEEPING)
    message = letter(post, ANN, BOB)
    await store.enqueue(message)
    await deliver(store, now)
    done = await erase(store, now)
    assert done.removed == Removed(recipients=1, events=2, changed=2, contents=1)
    assert await store.content(message.uuid) is None
    assert left(path) == 0


async def test_what_was_sent_by_the_person_goes(store: Store, post: Post, now: Now, path: Path) -> None:
    message = post.message(ANN, "carl@example.net", sender=BOB.lower())
    await store.enqueue(message)
    assert (await erase(store, now)).removed == Removed(messages=1, events=4)
    assert await store.message(message.uuid, None) is None
    assert left(path) == 0


async def test_what_a_dead_process_had_in_hand_is_erased(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    message = letter(post, BOB)
    await store.enqueue(message)
    assert await claim_all(store, now.ms + LEASE_MS)
    await store.close()
    store = await opener()
    done = await erase(store, now)
    assert (done.removed.messages, done.in_hand) == (1, 0)
    assert await store.message(message.uuid, None) is None
    assert await store.reclaim(now.ms + DAY_MS) == Reclaimed(0)


async def test_what_is_in_hand_is_left_to_its_attempt(store: Store, post: Post, now: Now, path: Path) -> None:
    message = letter(post, BOB)
    await store.enqueue(message)
    (claimed,) = await claim_all(store, now.ms + LEASE_MS)
    done = await erase(store, now)
    assert (done.removed, done.in_hand) == (Removed(), 1)
    assert await store.content(message.uuid) == LETTER
    waiting = asyncio.create_task(erase(store, now, patience_s=60))  # noqa: TID251 - awaited below
    assert await store.settle([attempt(claimed, State.BOUNCED, at=now.ms, reply=f"550 {BOB}")]) == 1
    done = await waiting
    assert (done.removed.messages, done.in_hand) == (1, 0)
    assert left(path) == 0


async def test_events_and_fields_that_name_the_person(store: Store, post: Post, now: Now, path: Path) -> None:
    """A redirected recipient, an original one, labels: what remains says a word in place of the address."""
    redirected = letter(post, BOB)
    await store.enqueue(redirected)
    order = Order(Verb.REDIRECT, address=ANN)
    await store.operate(Filter(uuid=redirected.uuid), order, now.ms)
    labelled = msgspec.structs.replace(
        post.message(ANN, subject=f"For {BOB}"),
        metadata=msgspec.json.encode({"who": f"mailto:{BOB}", "not": "x-" + BOB, "lines": f"a\n{BOB}\t{BOB}"}).decode(),
        envid=f"QQ={BOB}",
        original_to=(BOB, "carl@example.net"),
    )
    await store.enqueue(labelled)
    only = msgspec.structs.replace(post.message(ANN), original_to=(BOB,))
    await store.enqueue(only)
    done = await erase(store, now)
    assert done.removed.messages == 1
    assert done.removed.changed == 4  # a row of each of two, and an event
    assert done.removed.later == 2
    assert await store.message(only.uuid, None) is None
    view = await store.message(labelled.uuid, None)
    assert view is not None
    assert view.subject == "For erased"
    assert msgspec.json.decode(view.metadata) == {
        "who": "mailto:erased",
        "not": "x-" + BOB,
        "lines": "a\nerased\terased",
    }
    claimed = await claim_all(store, now.ms + LEASE_MS)
    assert len(claimed) == 2  # their rows are sealed
    for one in claimed:
        await store.settle([attempt(one, State.DELIVERED, at=now.ms)])
    assert (await erase(store, now)).removed == Removed()
    assert left(path) == 1, "the address that only holds it"


async def test_a_clients_own_names_for_requests(store: Store, post: Post, now: Now, path: Path) -> None:
    gone = letter(post, BOB, idempotency=("order-1", b"1"))
    await store.enqueue(gone)
    named = post.message(ANN, idempotency=(f"hello {BOB}", b"2"))
    await store.enqueue(named)
    kept = post.message(ANN, idempotency=("order-2", b"3"))
    await store.enqueue(kept)
    assert (await erase(store, now)).removed.idempotency == 2
    again = post.message(ANN, idempotency=("order-2", b"3"))
    assert await store.enqueue(again) == Accepted(kept.uuid, replayed=True)
    assert await store.enqueue(post.message(ANN, idempotency=("order-1", b"4"))) is not None
    assert left(path) == 0


async def test_a_suppression_keeps_a_hash(store: Store, now: Now, path: Path) -> None:
    entry = Entry("acme", "", Kind.ADDRESS, BOB.lower(), Reason.COMPLAINT, f"said {BOB}", now.ms, None)
    store.reconfigure(Retention(), Suppression())
    await store.suppressed.add([entry])
    assert (await erase(store, now)).removed.suppressions == 1
    assert rows(path, "SELECT value, reason, note FROM suppression") == [(HASHED, "complaint", "")]
    assert left(path) == 0


async def test_whom_keys_know(store: Store, post: Post, now: Now, path: Path) -> None:
    await store.enqueue(post.message(ANN, key="shop"))
    await store.brakes.acquaint([("shop", NUMBER, now.ms), ("news", NUMBER, now.ms), ("shop", 8, now.ms)])
    assert (await erase(store, now)).removed.acquaintances == 2
    assert rows(path, "SELECT hash FROM acquaintance") == [(8,)]


async def test_of_one_account(store: Store, post: Post, now: Now) -> None:
    ours, theirs = letter(post, BOB, account="acme"), letter(post, BOB, account="other")
    await store.enqueue(ours)
    await store.enqueue(theirs)
    await store.suppressed.add([Entry("acme", "", Kind.ADDRESS, BOB.lower(), Reason.BOUNCE, "", now.ms, None)])
    assert (await erase(store, now, account="acme")).removed == Removed(messages=1, events=2)
    assert await store.message(ours.uuid, None) is None
    assert await store.message(theirs.uuid, None) is not None


async def test_an_original_recipient_in_the_words_of_smtp(store: Store, post: Post, now: Now, path: Path) -> None:
    message = post.message(ANN)
    (ann,) = message.recipients
    ann = msgspec.structs.replace(ann, orcpt="rfc822;bob+2Btag@example.com")
    await store.enqueue(msgspec.structs.replace(message, recipients=(ann,)))
    trace = Trace(Person("Bob+Tag@example.com"))
    done = await store.erasing.erase(trace, None, now=lambda: now.ms, patience_s=0)
    assert (done.removed.messages, done.removed.changed) == (0, 1)
    assert left(path, "2Btag") == 0


async def test_counting_changes_nothing(store: Store, post: Post, now: Now, path: Path) -> None:
    messages: Sequence[NewMessage] = [letter(post, BOB), letter(post, ANN, BOB), post.message(ANN, sender=BOB)]
    for message in messages:
        await store.enqueue(message)
    (claimed,) = await store.claim((await store.due())[0].destination, 1, now.ms + LEASE_MS)
    counted = await store.erasing.count(Person(BOB), None)
    assert counted == Erased(Removed(messages=2, recipients=1, later=1), in_hand=1)
    assert (await store.erasing.count(Person(BOB), "other")).removed == Removed()
    assert all([await store.message(message.uuid, None) is not None for message in messages])
    assert claimed.content == LETTER
    assert left(path) > 0


async def test_readers_of_the_log_miss_nothing_after_a_restart(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    await store.enqueue(post.message(ANN))
    await store.enqueue(letter(post, BOB))
    last = store.event_log.last
    await erase(store, now)
    await store.close()
    store = await opener()
    await store.enqueue(post.message(ANN))
    assert store.event_log.last > last


async def test_many_messages_large_ones_and_a_pause_for_others(store: Store, post: Post, now: Now, path: Path) -> None:
    messages = [
        post.message(*((BOB,) if number % 3 else (ANN, BOB)), pieces=[(0, LETTER * (1 + number % 7 * 40))])
        for number in range(150)
    ]
    await store.enqueue_all(messages[:75], None)
    await deliver(store, now)
    await store.enqueue_all(messages[75:], None)
    removing = asyncio.create_task(erase(store, now))  # noqa: TID251 - awaited below
    extra = post.message(ANN)
    await store.enqueue(extra)
    done = await removing
    assert (done.removed.messages, done.removed.recipients) == (100, 50)
    await deliver(store, now)
    await store.sweep(now.ms)
    await erase(store, now)
    assert left(path) == 0
    assert await store.message(extra.uuid, None) is not None


async def test_a_reader_that_keeps_the_log_is_waited_for(
    store: Store, post: Post, now: Now, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it stays too long, that is said: a trace may be left."""
    monkeypatch.setattr("gateway.store.erasing.AGAIN_S", 0.01)
    await store.enqueue(letter(post, BOB))
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM message").fetchall() == [(1,)]
        done = await erase(store, now)
        assert (done.removed.messages, done.rewritten) == (1, False)
    finally:
        reader.close()
    assert (await erase(store, now)).rewritten
    assert left(path) == 0


async def test_a_full_disk_keeps_nothing_but_traces(
    store: Store, post: Post, now: Now, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was removed is told, and mail goes on."""

    def full(*_: object) -> list[bool]:
        raise apsw.FullError("database or disk is full")

    await store.enqueue(letter(post, BOB))
    with monkeypatch.context() as patched:
        patched.setattr(Database, "rewrite", full)
        patched.setattr(Erasure, "give_back", full)
        done = await erase(store, now)
    assert (done.removed.messages, done.rewritten) == (1, False)
    assert path.with_name(f"{path.name}-wal").stat().st_size == 0
    await store.enqueue(post.message(ANN))
    assert (await erase(store, now)).rewritten
    assert left(path) == 0


async def test_a_store_that_is_closed_erases_nothing(store: Store, now: Now) -> None:
    await store.close()
    with pytest.raises(StoreError):
        await erase(store, now)
    for future in (store.erasing._writer.rewrite(), store.erasing._writer.empty_log()):
        with pytest.raises(StoreError):
            await future


async def test_endpoints_are_not_told_of_what_is_gone(store: Store, post: Post, now: Now, path: Path) -> None:
    """Neither what is parked nor what is dead; what is about others stays."""
    await store.enqueue(letter(post, BOB))
    await store.enqueue(post.message(ANN))
    seqs = [seq for (seq,) in rows(path, "SELECT seq FROM event ORDER BY seq")]
    other = apsw.Connection(str(path))
    try:
        other.set_busy_timeout(10_000)
        columns = "uuid, account, url, format, secret_wrapped, types, keys, tags, final_only, state, why, cursor"
        values = "x'01', 'acme', 'https://a.test', 'native', x'02', '[]', '[]', '[]', 0, 'active', '', 0, 0, 0"
        other.execute(f"INSERT INTO webhook ({columns}, created_at, updated_at) VALUES ({values})")
        for seq in seqs:
            other.execute("INSERT INTO webhook_parked VALUES (1, ?, 1, 1, 0)", (seq,))
            other.execute("INSERT INTO webhook_dead VALUES (1, ?, 1, 0, 'x')", (seq,))
    finally:
        other.close()
    assert (await erase(store, now)).removed == Removed(messages=1, events=2, webhooks=2)
    assert rows(path, "SELECT seq FROM webhook_parked") == rows(path, "SELECT seq FROM webhook_dead") == [(seqs[1],)]


async def test_steps_are_small_however_many_recipients_there_are(
    store: Store, post: Post, now: Now, path: Path
) -> None:
    many = [f"r{number}@example.com" for number in range(250)]
    for to in ([ANN], many, [ANN], [ANN], many[:60], many[:60]):
        await store.enqueue(post.message(*to, sender=BOB))
    sizes: list[int] = []
    messages = store.erasing._work.messages

    def counted(tx: Transaction, steps: Sequence[Wanted]) -> list[Done]:
        sizes.extend(len(step.numbers) for step in steps)
        return messages(tx, steps)

    store.erasing._work.messages = counted  # type: ignore[method-assign]
    assert (await erase(store, now)).removed.messages == 6
    assert sizes == [1, 1, 3, 1]
    assert store.backlog().messages == 0
    assert left(path) == 0
