"""Waiting for what becomes of a message, over a real store: nobody waits longer than it can be of use."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from gateway.delivery.waits import Outcome, Waits
from gateway.events import State
from gateway.store.queue import Claimed, Queue
from gateway.store.shown import MessageView
from gateway.store.sqlite import SqliteStore
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all

MINUTE_S = 60.0  # a test that waits so long has failed


class Desk:
    """A store, and who waits on it. A `claim` takes what is ready, a `settle` writes a result down and tells of it."""

    def __init__(self, store: SqliteStore, now: Now) -> None:
        self.store = store
        self.now = now
        self.post = Post(now)
        self.waits = Waits(store, now.clock)

    async def accept(self, *to: str, send_at: int = 0, lifetime_ms: int = 86_400_000) -> bytes:
        message = self.post.message(*to, send_at=send_at, lifetime_ms=lifetime_ms)
        await self.store.enqueue(message)
        return message.uuid

    async def claim(self) -> list[Claimed]:
        return await claim_all(self.store, self.now.ms + LEASE_MS)

    async def settle(self, claimed: Claimed, state: State, *, next_at: int = 0) -> None:
        made = attempt(claimed, state, at=self.now.ms, next_at=next_at)
        await self.store.settle([made])
        self.waits.tell([made])

    async def outcome(self, uuid: bytes, wait_s: float = MINUTE_S, waits: Waits | None = None) -> Outcome:
        async with asyncio.timeout(30):
            found = await (waits or self.waits).outcome(uuid, "acme", wait_s)
        assert found is not None
        return found


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    now = Now()
    store = await SqliteStore.open(tmp_path / "q.db", clock=now.clock)
    yield Desk(store, now)
    await store.close()


def states(outcome: Outcome) -> list[State]:
    return [recipient.state for recipient in outcome.view.recipients]


async def begun(waiting: Awaitable[Outcome], waits: Waits) -> "asyncio.Future[tuple[Outcome]]":
    """It waits by now."""
    running = asyncio.gather(waiting)
    async with asyncio.timeout(30):
        while not waits.count:
            await asyncio.sleep(0)
    return running


async def test_a_delivery_ends_the_wait_and_is_told_of(desk: Desk) -> None:
    uuid = await desk.accept()
    waiting = await begun(desk.outcome(uuid), desk.waits)
    (claimed,) = await desk.claim()
    await desk.settle(claimed, State.DELIVERED)
    [outcome] = await waiting
    assert states(outcome) == [State.DELIVERED]
    assert [result.reply for made in outcome.attempts for result in made.results] == ["250 ok"]
    assert desk.waits.count == 0


async def test_every_recipient_is_waited_for(desk: Desk) -> None:
    uuid = await desk.accept("ann@example.com", "bob@example.net", "cid@example.org")
    waiting = await begun(desk.outcome(uuid), desk.waits)
    ann, bob, cid = await desk.claim()
    await desk.settle(ann, State.DELIVERED)
    await desk.settle(bob, State.BOUNCED)
    await asyncio.sleep(0)
    assert not waiting.done()
    await desk.settle(cid, State.CAPTURED)
    [outcome] = await waiting
    assert states(outcome) == [State.DELIVERED, State.BOUNCED, State.CAPTURED]
    assert [made.results[0].state for made in outcome.attempts] == states(outcome)


async def test_a_retry_beyond_the_deadline_is_not_waited_for(desk: Desk) -> None:
    uuid = await desk.accept("ann@example.com", "bob@example.net")
    waiting = await begun(desk.outcome(uuid, 30), desk.waits)
    ann, bob = await desk.claim()
    await desk.settle(ann, State.DEFERRED, next_at=START_MS + 30_001)
    await asyncio.sleep(0)
    assert not waiting.done()
    await desk.settle(bob, State.DELIVERED)
    [outcome] = await waiting
    assert states(outcome) == [State.DEFERRED, State.DELIVERED]


async def test_a_retry_before_the_deadline_is_waited_for(desk: Desk) -> None:
    uuid = await desk.accept()
    waiting = await begun(desk.outcome(uuid, 30), desk.waits)
    (claimed,) = await desk.claim()
    await desk.settle(claimed, State.DEFERRED, next_at=START_MS + 10_000)
    await asyncio.sleep(0)
    assert not waiting.done()
    desk.now.ms += 10_000
    await desk.store.promote(desk.now.ms)
    (claimed,) = await desk.claim()
    await desk.settle(claimed, State.DELIVERED)
    [outcome] = await waiting
    assert states(outcome) == [State.DELIVERED]
    assert len(outcome.attempts) == 2


async def test_the_deadline(desk: Desk) -> None:
    uuid = await desk.accept()
    outcome = await desk.outcome(uuid, 0.02)
    assert (states(outcome), outcome.attempts) == ([State.QUEUED], ())
    assert desk.waits.count == 0


async def test_what_is_decided_outside_an_attempt_is_seen_at_the_deadline(desk: Desk) -> None:
    wait_s = 0.1
    while True:
        uuid = await desk.accept(lifetime_ms=1000)
        waiting = await begun(desk.outcome(uuid, wait_s), desk.waits)
        desk.now.ms += 1000
        assert await desk.store.expire(desk.now.ms) == 1
        if not waiting.done():
            break
        wait_s *= 3  # it was over before it came to that
    [outcome] = await waiting
    assert (states(outcome), outcome.attempts) == ([State.FAILED], ())


async def test_nothing_is_waited_for_where_nothing_will_happen(desk: Desk) -> None:
    delivered, deferred = await desk.accept(), await desk.accept()
    for claimed in await desk.claim():
        state = State.DELIVERED if claimed.uuid == delivered else State.DEFERRED
        await desk.settle(claimed, state, next_at=START_MS + 61_000)
    assert states(await desk.outcome(delivered)) == [State.DELIVERED]
    assert states(await desk.outcome(deferred)) == [State.DEFERRED]
    assert states(await desk.outcome(await desk.accept(send_at=START_MS + 120_000))) == [State.SCHEDULED]


@pytest.mark.parametrize("wait_s", [0, -1])
async def test_without_a_wait_it_is_as_it_stands(desk: Desk, wait_s: float) -> None:
    outcome = await desk.outcome(await desk.accept(), wait_s)
    assert (states(outcome), outcome.attempts) == ([State.QUEUED], ())


@pytest.mark.parametrize("wait_s", [0, 60])
async def test_another_accounts_message_is_nobodys(desk: Desk, wait_s: float) -> None:
    uuid = await desk.accept()
    assert await desk.waits.outcome(uuid, "other", wait_s) is None
    assert await desk.waits.outcome(b"\0" * 16, "acme", wait_s) is None
    assert desk.waits.count == 0


class Slow:
    """A store whose answer is read before something happens and comes after it, or is read only after it."""

    def __init__(self, store: SqliteStore, happens: Callable[[], Awaitable[None]], *, before: bool) -> None:
        self._store = store
        self._happens = happens
        self._before = before
        self._first = True

    async def message(self, uuid: bytes, account: str | None) -> MessageView | None:
        first, self._first = self._first, False
        view = await self._store.message(uuid, account)
        if first:
            await self._happens()
        return view if first and self._before else await self._store.message(uuid, account)


@pytest.mark.parametrize("before", [True, False])
async def test_what_is_decided_while_the_store_is_asked_is_not_missed(desk: Desk, before: bool) -> None:
    uuid = await desk.accept()
    (claimed,) = await desk.claim()
    slow = Slow(desk.store, lambda: desk.settle(claimed, State.DELIVERED), before=before)
    desk.waits = Waits(cast(Queue, slow), desk.now.clock)
    outcome = await desk.outcome(uuid)
    assert states(outcome) == [State.DELIVERED]
    assert len(outcome.attempts) == 1


async def test_two_wait_for_one_message(desk: Desk) -> None:
    uuid = await desk.accept()
    waiting = await begun(desk.outcome(uuid), desk.waits)
    short = await desk.outcome(uuid, 0.01)
    assert states(short) == [State.QUEUED]
    (claimed,) = await desk.claim()
    await desk.settle(claimed, State.DELIVERED)
    [outcome] = await waiting
    assert states(outcome) == [State.DELIVERED]


async def test_more_than_a_number_do_not_wait(desk: Desk) -> None:
    few = Waits(desk.store, desk.now.clock, at_once=1)
    uuid, other = await desk.accept(), await desk.accept()
    waiting = await begun(desk.outcome(uuid, waits=few), few)
    assert states(await desk.outcome(other, waits=few)) == [State.QUEUED]
    few.close()
    await waiting


async def test_a_stop_ends_every_wait_with_what_is_known(desk: Desk) -> None:
    uuid = await desk.accept("ann@example.com", "bob@example.net")
    waiting = await begun(desk.outcome(uuid), desk.waits)
    ann, _ = await desk.claim()
    await desk.settle(ann, State.DELIVERED)
    desk.waits.close()
    [outcome] = await waiting
    assert states(outcome) == [State.DELIVERED, State.QUEUED]
    assert len(outcome.attempts) == 1
    assert states(await desk.outcome(uuid)) == [State.DELIVERED, State.QUEUED]


async def test_who_goes_away_leaves_nothing(desk: Desk) -> None:
    waiting = await begun(desk.outcome(await desk.accept()), desk.waits)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert desk.waits.count == 0
    assert not desk.waits._waiting
