"""The scheduler over a real store: nothing forgotten, nobody starved, nothing delivered that cannot be recorded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.delivery import lane as lanes
from gateway.delivery import scheduler as scheduling
from gateway.errors import StoreError
from gateway.events import State
from gateway.runtime import Clock
from gateway.store.queue import Attempt
from tests.fakes.desk import Desk, open_desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as made:
        yield made


async def test_everything_accepted_before_and_after_the_start_is_delivered_once(desk: Desk) -> None:
    await desk.accept(150)
    await desk.scheduler.start()
    for _ in range(10):
        await desk.accept(30)
    await desk.until(lambda: len(desk.couriers.delivered) >= 450)
    assert sorted(desk.couriers.delivered) == sorted(
        [f"{n}@example.com" for n in range(150)] + 10 * [f"{n}@example.com" for n in range(30)]
    )
    await desk.scheduler.stop(5)
    assert await desk.in_queue() == 0
    assert desk.couriers.most_open <= 5
    assert desk.couriers.open == 0


async def test_a_stuck_destination_holds_up_nobody_else(desk: Desk) -> None:
    desk.couriers.stuck["slow.example"] = asyncio.Event()
    await desk.accept(200, "slow.example")
    await desk.scheduler.start()
    await desk.accept(100)
    await desk.until(lambda: len(desk.couriers.delivered) == 100)
    assert not any(to.endswith("slow.example") for to in desk.couriers.delivered)
    in_hand = {count.domain: count.leased for count in await desk.store.counts()}
    assert in_hand["slow.example"] <= lanes.FIRST_CLAIM  # a lane that does not move holds little
    desk.couriers.stuck["slow.example"].set()
    await desk.until(lambda: len(desk.couriers.delivered) == 300)


async def test_what_comes_to_a_full_lane_is_not_forgotten(desk: Desk) -> None:
    gate = desk.couriers.stuck["example.com"] = asyncio.Event()
    await desk.scheduler.start()
    await desk.accept(8)  # less than a claim: the lane believes that there is no more
    await desk.until(lambda: desk.couriers.open > 0)
    await desk.accept(50)
    gate.set()
    await desk.until(lambda: len(desk.couriers.delivered) == 58)


async def test_a_scheduled_message_is_sent_at_its_time_whatever_was_known_before(desk: Desk) -> None:
    await desk.accept(1, "much.later", after_ms=3_600_000)
    await desk.scheduler.start()
    await desk.accept(1, "now.example")
    await desk.until(lambda: len(desk.couriers.delivered) == 1)
    begun = Clock().monotonic()
    await desk.accept(1, "later.example", after_ms=400)
    await desk.accept(1, "sooner.example", after_ms=200)
    await desk.until(lambda: len(desk.couriers.delivered) == 3)  # nothing else wakes it for a minute
    assert desk.couriers.delivered == ["0@now.example", "0@sooner.example", "0@later.example"]
    assert Clock().monotonic() - begun >= 0.39
    await desk.until(lambda: desk.couriers.open == 0)  # the last result is written
    assert [(c.domain, c.waiting) for c in await desk.store.counts()] == [("much.later", 1)]


async def test_who_waits_for_a_message_is_told_once_it_is_written(desk: Desk) -> None:
    gate = desk.couriers.stuck["example.com"] = asyncio.Event()
    await desk.scheduler.start()
    [uuid] = await desk.accept(1)
    waiting = asyncio.gather(desk.waits.outcome(uuid, "a", 60))
    await desk.until(lambda: desk.couriers.open == 1)
    assert not waiting.done()
    gate.set()
    async with asyncio.timeout(5):
        [outcome] = await waiting
    assert outcome is not None
    assert outcome.view.recipients[0].state is State.DELIVERED
    assert [made.uuid for made in outcome.attempts] == [uuid]


async def test_a_stop_gives_back_what_was_not_begun(desk: Desk) -> None:
    gate = desk.couriers.stuck["example.com"] = asyncio.Event()
    await desk.accept(10)
    await desk.scheduler.start()
    await desk.until(lambda: desk.couriers.open == 2)
    stopping = asyncio.gather(desk.scheduler.stop(5))
    await desk.until(
        lambda: not desk.scheduler._lanes or not any(lane.pending for lane in desk.scheduler._lanes.values())
    )
    gate.set()
    await stopping
    assert len(desk.couriers.delivered) == 2  # what was on the wire ended
    assert [(c.ready, c.leased) for c in await desk.store.counts()] == [(8, 0)]


async def test_a_deadline_leaves_the_rest_to_the_next_start(desk: Desk) -> None:
    desk.couriers.stuck["example.com"] = asyncio.Event()
    await desk.accept(2)
    await desk.scheduler.start()
    await desk.until(lambda: desk.couriers.open == 2)
    await desk.scheduler.stop(0.05)
    assert [(c.ready, c.leased) for c in await desk.store.counts()] == [(0, 2)]


async def test_where_results_cannot_be_written_delivering_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "WRITE_RETRY_S", 0.01)
    settle, failures = desk.store.settle, [StoreError("disk full")] * 20

    async def failing(attempts: Sequence[Attempt]) -> int:
        if failures and attempts[0].results[0].event is not None:
            assert len(desk.couriers.delivered) <= 2  # one for each worker, and no more
            raise failures.pop()
        return await settle(attempts)

    monkeypatch.setattr(type(desk.store), "settle", lambda self, attempts: failing(attempts))
    await desk.accept(20)
    await desk.scheduler.start()
    await desk.until(lambda: len(desk.couriers.delivered) == 20)
    await desk.scheduler.stop(5)
    assert sorted(set(desk.couriers.delivered)) == sorted(desk.couriers.delivered)  # nothing twice
    assert await desk.in_queue() == 0
