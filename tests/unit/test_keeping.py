"""What is done beside delivering is told as soon as it is done, whatever fails next (delivery/upkeep.py)."""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from gateway.delivery import telling, untried
from gateway.delivery.figures import DeliveryFigures
from gateway.delivery.ledger import Ledger
from gateway.delivery.lifetime import Lifetime
from gateway.delivery.upkeep import Upkeep
from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.metrics import PREFIX, Metrics
from gateway.observe import MailLog
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Attempt, Claimed, Queue, Reclaimed, Result
from gateway.store.sqlite import SqliteStore
from tests.store.mail import LEASE_MS, START_MS, Now, Post, claim_all
from tests.unit.test_metrics import attempt, scraped

LOST = attempt("direct", (EventType.FAILED, None))


@dataclass
class Stubborn:
    """A queue that does what it is told, until it is asked for what it cannot do."""

    reclaimed: Reclaimed = field(default_factory=lambda: Reclaimed(0))
    expired: int = 0
    fails: str = ""
    swept: int = 0

    def _do(self, what: str) -> None:
        if self.fails == what:
            raise StoreError(f"{what}: away")

    async def reclaim(self, _: int) -> Reclaimed:
        self._do("reclaim")
        return self.reclaimed

    async def expire(self, _: int) -> int:
        self._do("expire")
        return self.expired

    async def sweep(self, _: int) -> None:
        self.swept += 1
        self._do("sweep")


@dataclass
class World:
    queue: Stubborn
    metrics: Metrics = field(default_factory=Metrics)
    told: list[Attempt] = field(default_factory=list)
    late: int = 0

    @asynccontextmanager
    async def running(self, sweep_s: float) -> AsyncIterator[None]:
        supervisor = Supervisor(on_fatal=lambda *_: None, on_error=lambda *_: None)
        Upkeep(
            cast(Queue, self.queue),
            DeliveryFigures(self.metrics),
            clock=Clock(),
            life=Lifetime(Clock()),
            in_hand=lambda: (),
            expire_in_hand=self._expire_in_hand,
            tell=self.told.extend,
            sweep_s=sweep_s,
        ).start(supervisor)
        yield
        await supervisor.cancel_all()

    async def _expire_in_hand(self, _: int) -> None:
        self.late += 1
        if self.queue.fails == "in hand":
            raise StoreError("in hand: away")

    def count(self, name: str) -> float:
        return scraped(self.metrics)[f"{PREFIX}{name}"]


def deferred(claimed: Claimed, at: int) -> Attempt:
    (recipient,) = claimed.recipients
    result = Result(
        recipient.id,
        recipient.fence,
        State.DEFERRED,
        EventType.DEFERRED,
        attempts=1,
        to=recipient.address,
        next_at=at + 1,
        reply="450 4.2.0 greylisted",
        host="mx.example.com",
    )
    return Attempt(claimed.message, claimed.uuid, 1, "direct", at, at, (result,))


async def until(seen: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not seen():
            await asyncio.sleep(0.001)


async def test_after_a_start_what_comes_back_and_what_is_lost_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Stubborn(Reclaimed(3, (LOST, LOST))))
    async with world.running(3600):
        await until(lambda: len(caplog.records) == 2)
    assert [record.getMessage() for record in caplog.records] == [
        "3 recipients were in hand when the last process ended; they are tried again",
        "2 recipients may have been delivered and failed: their mail is to be delivered at most once",
    ]
    assert world.told == [LOST, LOST]
    assert world.count("queue_reclaimed_total") == 5


@pytest.mark.parametrize("fails", ["in hand", "sweep"])
async def test_what_was_done_is_told_though_the_store_fails_next(caplog: pytest.LogCaptureFixture, fails: str) -> None:
    world = World(Stubborn(Reclaimed(1), 7, fails))
    with caplog.at_level(logging.WARNING):
        async with world.running(0.001):
            await until(lambda: f"{fails}: away" in caplog.text)
    texts = [record.getMessage() for record in caplog.records]
    assert "1 leases ran out; their recipients are tried again" in texts
    assert "7 recipients expired in the queue" in texts  # those in hand have lines of their own
    assert world.count("queue_expired_total") == 7 * texts.count("7 recipients expired in the queue")


async def test_what_fails_after_a_kill_has_its_line_and_its_figures(tmp_path: Path) -> None:
    """A store is opened again by another process, as it were, with the dot of a message on the wire."""
    store = await SqliteStore.open(tmp_path / "gateway.db")
    now = Now(START_MS)
    await store.enqueue(Post(now).message("ann@example.com", at_most_once=True))
    (claimed,) = await claim_all(store, START_MS + LEASE_MS)
    await store.mark([(one.id, one.fence) for one in claimed.recipients])
    await store.close()
    store = await SqliteStore.open(tmp_path / "gateway.db")
    log, world = io.StringIO(), World(Stubborn(await store.reclaim(now.ms)))
    ledger = Ledger(store, DeliveryFigures(world.metrics), clock=Clock(), log=MailLog(log))
    ledger.tell(world.queue.reclaimed.lost)
    await store.close()
    assert " failed id=eml_" in log.getvalue()
    assert " to=ann@example.com route=direct attempt=1 ms=0 " in log.getvalue()
    assert " class=Uncertain possible_duplicate=true" in log.getvalue()
    assert world.count("recipient_outcomes_total outcome=failed route=direct") == 1
    assert world.count("recipients_not_delivered_total class=Uncertain outcome=failed") == 1


async def test_what_expires_in_hand_is_told_with_what_was_said_last(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "gateway.db")
    now = Now(START_MS)
    await store.enqueue(Post(now).message("ann@example.com"))
    (claimed,) = await claim_all(store, START_MS + LEASE_MS)
    await store.settle([deferred(claimed, now.ms)])
    await store.promote(now.ms + 1)
    (due,) = await store.due()
    (again,) = await claim_all(store, START_MS + LEASE_MS)
    log = io.StringIO()
    ended = untried.expired(again, due, now.ms)
    await store.settle([ended])
    telling.tell(MailLog(log), [ended])
    assert 'host=mx.example.com attempt=1 ms=0 reply="450 4.2.0 greylisted" class=MessageExpired' in log.getvalue()
    view = await store.message(again.uuid, None)
    assert view is not None
    assert (view.recipients[0].reply, view.recipients[0].host) == ("450 4.2.0 greylisted", "mx.example.com")
    await store.close()
