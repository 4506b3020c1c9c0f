"""Delivery at most once: what may have been delivered is not tried again."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from gateway.config import Retention
from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, State
from gateway.message.notify import BY_SMTP, FAILURE
from gateway.store import leases
from gateway.store.db import Transaction
from gateway.store.leases import UNCERTAIN_REPLY, Leases
from gateway.store.queue import Claimed, Reclaimed
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all

UNTIL = START_MS + LEASE_MS


def hands(*claims: Claimed) -> list[tuple[int, int]]:
    return [(one.id, one.fence) for claimed in claims for one in claimed.recipients]


async def test_what_is_marked_fails_and_says_so(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    message = post.message("ann@example.com", notify=BY_SMTP, at_most_once=True)
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    assert claimed.at_most_once
    await store.mark(hands(claimed))
    await store.close()

    again = await opener()
    now.ms += 7
    reclaimed = await again.reclaim(now.ms)
    assert reclaimed.given_back == 0
    (lost,) = reclaimed.lost
    (result,) = lost.results
    assert (lost.uuid, lost.route, lost.tried) == (message.uuid, "direct", False)
    assert (result.to, result.attempts, result.event) == ("ann@example.com", 1, EventType.FAILED)
    assert (result.bounce_class, result.reply) == (BounceClass.UNCERTAIN, UNCERTAIN_REPLY)
    assert (await again.reclaim(now.ms)).count == 0
    assert not await again.due()
    assert not await again.counts()
    view = await again.message(message.uuid, None)
    assert view is not None
    (ann,) = view.recipients
    assert (ann.state, ann.attempts, ann.bounce_class, ann.reply) == (State.FAILED, 1, "Uncertain", UNCERTAIN_REPLY)
    assert (ann.possible_duplicate, ann.updated_at, ann.next_at, ann.blocked_by) == (True, now.ms, None, "")
    event = (await again.events(message.uuid))[-1]
    assert (event.type, event.at, event.recipient) == (EventType.FAILED, now.ms, "ann@example.com")
    assert json.loads(event.data) == {
        "reply": UNCERTAIN_REPLY,
        "bounce_class": "Uncertain",
        "scope": "infrastructure",
        "stage": "dot",
        "route": "direct",
        "attempt": 1,
        "possible_duplicate": True,
    }
    (report,) = await again.reports(now.ms + 1, 10)
    assert [(one.kind, one.bounce_class, one.at) for one in report.recipients] == [(FAILURE, "Uncertain", now.ms)]
    # A result that comes too late changes nothing.
    assert await again.settle([attempt(claimed, State.DELIVERED, at=now.ms)]) == 0


async def test_what_is_not_marked_was_not_delivered_and_is_tried_again(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    await store.enqueue(post.message("ann@example.com", at_most_once=True))
    await store.enqueue(post.message("bob@example.com"))
    await claim_all(store, UNTIL)
    await store.close()
    again = await opener()
    assert (await again.reclaim(now.ms)).count == 2
    claims = await claim_all(again, UNTIL)
    assert {one.address: one.possible_duplicate for claimed in claims for one in claimed.recipients} == {
        "ann@example.com": False,
        "bob@example.com": True,
    }


async def test_a_mark_is_forgotten_with_the_attempt(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message(at_most_once=True))
    (claimed,) = await claim_all(store, UNTIL)
    await store.mark(hands(claimed))
    # The other side answered after all: 451.
    await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + 1)])
    await store.promote(now.ms + 1)
    await claim_all(store, UNTIL)
    assert (await store.reclaim(UNTIL)).count == 1
    (again,) = await claim_all(store, UNTIL)
    assert (again.recipients[0].attempts, again.recipients[0].possible_duplicate) == (1, False)


async def test_who_lost_the_lease_may_not_send_the_dot(store: Store, post: Post) -> None:
    await store.enqueue(post.message("a@example.com", "b@example.com", at_most_once=True))
    (claimed,) = await claim_all(store, UNTIL)
    assert (await store.reclaim(UNTIL)).count == 2
    (again,) = await claim_all(store, UNTIL + LEASE_MS)
    with pytest.raises(StoreError, match="no longer in hand"):
        await store.mark(hands(claimed))
    with pytest.raises(StoreError, match="no longer in hand"):
        await store.mark([*hands(again)[:1], (again.recipients[1].id, claimed.recipients[1].fence)])
    # Nothing of it was marked; whoever asked at the same time was.
    await store.enqueue(post.message("c@example.net", at_most_once=True))
    (other,) = await claim_all(store, UNTIL + LEASE_MS)
    outcomes = await asyncio.gather(store.mark(hands(claimed)), store.mark(hands(other)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError, type(None)]
    assert (await store.reclaim(UNTIL + LEASE_MS)).count == 3
    claims = await claim_all(store, UNTIL + 2 * LEASE_MS)
    assert sorted(one.address for claimed in claims for one in claimed.recipients) == ["a@example.com", "b@example.com"]


async def test_a_lease_that_runs_out_after_the_mark_fails_too(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.com", "c@example.net", at_most_once=True)
    await store.enqueue(message)
    await store.enqueue(post.message("d@example.com"))
    claims = await claim_all(store, UNTIL)
    await store.mark(hands(*[claimed for claimed in claims if claimed.message == message.id][:1]))
    assert (await store.reclaim(UNTIL)).count == 4
    view = await store.message(message.uuid, None)
    assert view is not None
    assert [one.state for one in view.recipients] == [State.FAILED, State.FAILED, State.QUEUED]
    assert len(await claim_all(store, UNTIL)) == 2


async def test_its_content_goes_as_that_of_any_failure(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(content_failed_s=0))
    told, untold = post.message(notify=FAILURE, at_most_once=True), post.message(at_most_once=True)
    for message in (told, untold):
        await store.enqueue(message)
    await store.mark(hands(*await claim_all(store, UNTIL)))
    assert (await store.reclaim(UNTIL)).count == 2
    assert await store.content(untold.uuid) is None
    assert await store.content(told.uuid) is not None
    (report,) = await store.reports(UNTIL + 1, 10)
    await store.report(report, ())
    await store.sweep(now.ms + DAY_MS)
    assert await store.content(told.uuid) is None
    assert await store.expire(now.ms + 30 * DAY_MS) == 0


async def test_very_many_marked_are_taken_in_steps(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    messages = [post.message(f"u@d{n % 3}.example", at_most_once=n % 2 == 0) for n in range(1204)]
    await asyncio.gather(*map(store.enqueue, messages))
    claims = await claim_all(store, UNTIL, limit=2000)
    await store.mark(hands(*[claimed for claimed in claims if claimed.at_most_once]))
    await store.close()
    again = await opener()
    reclaimed = await again.reclaim(now.ms + MINUTE_MS)
    assert (reclaimed.given_back, len(reclaimed.lost)) == (602, 602)
    assert len(await claim_all(again, UNTIL, limit=2000)) == 602


async def test_what_was_done_before_the_disk_failed_is_known(
    opener: Opener, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opener()
    monkeypatch.setattr(leases, "RECLAIM_ROWS", 1)
    for _ in range(3):
        await store.enqueue(post.message(at_most_once=True))
    await store.mark(hands(*await claim_all(store, UNTIL)))
    reclaim, calls = Leases.reclaim, [0]

    def failing(self: Leases, tx: Transaction, moments: Sequence[int]) -> list[Reclaimed]:
        calls[0] += 1
        if calls[0] == 2:
            raise StoreError("no")
        return reclaim(self, tx, moments)

    monkeypatch.setattr(Leases, "reclaim", failing)
    assert len((await store.reclaim(UNTIL)).lost) == 1
    calls[0] = 1
    with pytest.raises(StoreError):
        await store.reclaim(UNTIL)
    assert len((await store.reclaim(UNTIL)).lost) == 2
