"""What is done beside delivering, over a real store: nothing in hand is taken back, a step that fails is alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery import scheduler as scheduling
from gateway.errors import StoreFull
from gateway.store.connection import Damaged
from tests.fakes.desk import Desk, open_desk


class Rounds:
    """Of the sweeper; `sweep` is its last step."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.count = 0
        self._sweep = desk.store.sweep

    async def sweep(self, now: int) -> None:
        self.count += 1
        await self._sweep(now)

    async def pass_by(self, more: int) -> None:
        wanted = self.count + more
        await self.desk.until(lambda: self.count >= wanted)


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(scheduling, "SWEEP_S", 0.01)
    async with open_desk(tmp_path, concurrency=1) as made:
        yield made


@pytest.fixture
def rounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    made = Rounds(desk)
    monkeypatch.setattr(desk.store, "sweep", made.sweep)
    return made


@pytest.mark.parametrize("is_full", [True, False], ids=["full disk", "stopped process"])
async def test_what_is_in_hand_is_not_taken_back(
    desk: Desk, rounds: Rounds, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    """Nothing was renewed for longer than a lease; then all is well again, and every message is delivered once."""
    gate = desk.couriers.stuck["example.com"] = asyncio.Event()
    await desk.accept(8)
    await desk.scheduler.start()
    await desk.until(lambda: desk.couriers.open == 1)
    transact = desk.store._writer._transact

    def full(_group: Any) -> Any:
        raise StoreFull("no room")

    if is_full:
        monkeypatch.setattr(desk.store._writer, "_transact", full)
        gate.set()
        await desk.until(lambda: bool(desk.store.away))
    desk.late_ms += 16 * 60_000
    if is_full:
        await rounds.pass_by(2)
    monkeypatch.setattr(desk.store._writer, "_transact", transact)
    await rounds.pass_by(3)
    gate.set()
    await desk.until(lambda: len(desk.couriers.delivered) >= 8)
    await desk.scheduler.stop(60)
    assert sorted(desk.couriers.delivered) == [f"{number}@example.com" for number in range(8)]
    assert await desk.in_queue() == 0


async def test_a_step_that_fails_keeps_none_of_the_others_from_its_work(
    desk: Desk, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged(_now: int) -> Any:
        raise Damaged("database disk image is malformed")

    monkeypatch.setattr(desk.store, "reclaim", damaged)
    monkeypatch.setattr(desk.store, "expire", damaged)
    await desk.scheduler.start()
    await rounds.pass_by(2)


async def test_a_fault_of_who_listens_costs_no_delivery(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended the worker, and what it had in hand lay there until its lease ran out."""

    def faulty(_attempts: Any) -> None:
        raise KeyError("suppressed")

    ledger = desk.scheduler._ledger
    monkeypatch.setattr(ledger, "_listeners", (faulty, *ledger._listeners))
    await desk.accept(3)
    await desk.scheduler.start()
    await desk.until(lambda: caplog.text.count("what came of attempts is not told everywhere") == 3)
    assert len(desk.couriers.delivered) == 3
    assert desk.deaths == []
