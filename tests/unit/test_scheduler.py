"""The scheduler over a real store: nothing forgotten, nobody starved, nothing delivered that cannot be recorded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.delivery import lane as lanes
from gateway.delivery import ledger
from gateway.delivery import scheduler as scheduling
from gateway.errors import StoreError, StoreFull
from gateway.events import State
from gateway.runtime import Clock
from gateway.store.connection import Damaged
from gateway.store.queue import Attempt, Claimed
from tests.fakes.desk import Carrier, Couriers, Desk, open_desk


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
    await asyncio.gather(desk.accept(1, "later.example", after_ms=1000), desk.accept(1, "sooner.example", after_ms=200))
    await desk.until(lambda: len(desk.couriers.delivered) == 3)  # nothing else wakes it for a minute
    assert desk.couriers.delivered == ["0@now.example", "0@sooner.example", "0@later.example"]
    assert Clock().monotonic() - begun >= 0.99
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
    monkeypatch.setattr(ledger, "WRITE_RETRY_S", 0.01)
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


def fails_to_write(desk: Desk, monkeypatch: pytest.MonkeyPatch, *verbs: str) -> asyncio.Event:
    """These verbs find a full disk until the event is set."""
    over = asyncio.Event()
    transact = desk.store._writer._transact

    def full(group: Any) -> Any:
        if not over.is_set() and any(job.verb.__name__ in verbs for job in group):
            raise StoreFull("no room")
        return transact(group)

    monkeypatch.setattr(desk.store._writer, "_transact", full)
    return over


async def test_a_stop_on_a_full_disk_takes_its_time_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.couriers.stuck["example.com"] = asyncio.Event()
    await desk.accept(10)
    await desk.scheduler.start()
    await desk.until(lambda: desk.couriers.open == 2)
    over = fails_to_write(desk, monkeypatch, "settle", "_probe")
    async with asyncio.timeout(60):
        await desk.scheduler.stop(0.2)
    assert [(c.ready, c.leased) for c in await desk.store.counts()] == [(0, 10)]
    over.set()


async def test_a_stop_gives_all_lanes_back_in_one_commit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    desk.couriers.holds = lambda _claimed: gate
    for number in range(20):
        await desk.accept(5, f"d{number}.example")
    await desk.scheduler.start()
    await desk.until(lambda: desk.couriers.open == 40)
    calls, settle = list[int](), desk.store.settle

    async def counting(attempts: Sequence[Attempt]) -> int:
        calls.append(len(attempts))
        return await settle(attempts)

    monkeypatch.setattr(desk.store, "settle", counting)
    stopping = asyncio.gather(desk.scheduler.stop(60))
    await desk.until(lambda: calls != [])
    gate.set()
    await stopping
    assert calls[0] == 60
    assert [c.leased for c in await desk.store.counts()] == [0] * 20


async def test_nothing_is_claimed_after_a_stop(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        await desk.accept(1, f"d{number}.example")
    asked, held, claim = list[int](), asyncio.Event(), desk.store.claim

    async def slowly(destination: int, limit: int, until: int) -> Sequence[Claimed]:
        asked.append(destination)
        await held.wait()
        return await claim(destination, limit, until)

    monkeypatch.setattr(desk.store, "claim", slowly)
    await desk.scheduler.start()
    await desk.until(lambda: asked != [])
    under_way = len(asked)
    stopping = asyncio.gather(desk.scheduler.stop(60))
    await asyncio.sleep(0)
    held.set()
    await stopping  # what was under way is given back by then
    for _ in range(100):
        await desk.store.answers()
    assert len(asked) == under_way < 200
    assert not await desk.leased()


async def test_a_damaged_page_of_what_waits_keeps_nobody_else_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def promote(_now: int) -> int | None:
        raise Damaged("database disk image is malformed")

    monkeypatch.setattr(desk.store, "promote", promote)
    await desk.scheduler.start()
    for name in "abc":
        await desk.accept(1, f"{name}.example")
        await desk.until(partial(desk.couriers.delivered.__contains__, f"0@{name}.example"))
    assert caplog.text.count("mail that waits for its time is not tried") == 1


async def test_a_claim_that_fails_drops_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "WRITE_RETRY_S", 0.01)
    for name in "abc":
        await desk.accept(3, f"{name}.example")
    claim, failures = desk.store.claim, [StoreError("away")]

    async def failing(destination: int, limit: int, until: int) -> Sequence[Claimed]:
        if failures:
            raise failures.pop()
        return await claim(destination, limit, until)

    monkeypatch.setattr(desk.store, "claim", failing)
    await desk.scheduler.start()
    await desk.until(lambda: len(desk.couriers.delivered) == 9)


async def test_a_scheduler_that_waits_for_the_disk_is_alive(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives back what a claim for urgent mail took too much."""
    gate = desk.couriers.stuck["example.com"] = asyncio.Event()
    await desk.scheduler.start()
    await desk.accept(30)
    await desk.until(lambda: desk.couriers.open == 2)
    await desk.quiet()
    over = fails_to_write(desk, monkeypatch, "settle", "_probe")
    await desk.accept_high()
    await desk.until(lambda: bool(desk.store.away))
    assert [await desk.scheduler.progresses() for _ in range(3)] == [True] * 3
    over.set()
    gate.set()
    await desk.until(lambda: len(desk.couriers.delivered) == 31)


async def test_a_slow_message_keeps_nobody_waiting_who_found_no_room_once(tmp_path: Path) -> None:
    """After a start the hand is full of unknown destinations; then it is not, and the lane could have more workers."""
    async with open_desk(tmp_path, initial=5) as desk:
        slow, others = asyncio.Event(), asyncio.Event()

        def holds(claimed: Claimed) -> asyncio.Event | None:
            to = claimed.recipients[0].address
            return slow if to == "0@d.example" else others if to.endswith(".crowd") else None

        desk.couriers.holds = holds
        for number in range(160):
            await desk.accept(1, f"x{number}.crowd")
        await desk.accept(6, "d.example")
        for number in range(160, 320):
            await desk.accept(1, f"x{number}.crowd")
        await desk.scheduler.start()
        await desk.until(lambda: "0@d.example" in desk.couriers.begun)
        await desk.quiet()
        assert "1@d.example" not in desk.couriers.begun  # no room
        others.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 325)
        slow.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 326)


class Crowded(Carrier):
    """Its host takes as many connections as the couriers have `places`; a carrier keeps what it has."""

    places = 2
    connected: ClassVar[set["Crowded"]] = set()

    async def deliver(self, claimed: Claimed) -> Sequence[Attempt]:
        if len(self.connected | {self}) > self.places:
            return ()
        self.connected.add(self)
        await asyncio.sleep(0)
        return await super().deliver(claimed)

    def close(self) -> None:
        self.connected.discard(self)
        super().close()


async def test_who_is_refused_a_connection_leaves_its_message_to_who_has_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Couriers, "carrier", lambda self, due: Crowded(couriers=self, due=due))
    Crowded.connected.clear()
    await desk.accept(100)
    await desk.scheduler.start()
    await desk.until(lambda: len(desk.couriers.delivered) == 100)
    assert len(set(desk.couriers.delivered)) == 100
    await desk.scheduler.stop(60)
    assert await desk.in_queue() == 0
    assert len(desk.scheduler._hand.fences) == 0


async def test_what_would_be_left_to_another_worker_is_given_back_after_a_stop(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def refused(self: Carrier, claimed: Claimed) -> Sequence[Attempt]:
        await gate.wait()
        return ()

    monkeypatch.setattr(Carrier, "deliver", refused)
    await desk.accept(1)
    await desk.scheduler.start()
    await desk.until(lambda: desk.couriers.open == 1)
    stopping = asyncio.gather(desk.scheduler.stop(60))
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert [(c.ready, c.leased) for c in await desk.store.counts()] == [(1, 0)]
