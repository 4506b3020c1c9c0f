"""The depth of the queue as metrics: counted once in a while, by route, and not at all where it cannot be read."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from gateway.config import CaptureRoute, Config, Limits
from gateway.errors import StoreError
from gateway.metrics import PREFIX, Metrics
from gateway.runtime import Clock
from gateway.store import space
from gateway.store.depth import KEEP_S, Depth, DepthFigures
from gateway.store.queue import Queue
from gateway.store.shown import Backlog, Count, Suspension
from tests.unit.test_metrics import scraped

NOW = 1_800_000_000_000
SES = Count("ses", "", ready=3, waiting=6, leased=2, held=1, oldest_at=NOW - 60_000, next_at=None, scheduled=2)
FIRST = Count("direct", "a.example", ready=1, waiting=0, leased=0, held=0, oldest_at=NOW - 5_000, next_at=None)
SECOND = Count("direct", "b.example", ready=2, waiting=1, leased=0, held=0, oldest_at=NOW - 9_000, next_at=None)


@dataclass
class Counted:
    """A queue that tells what it is told to, and how often it was asked."""

    rows: Sequence[Count] = (SES, FIRST, SECOND)
    suspended: Sequence[Suspension] = ()
    error: StoreError | None = None
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def counts(self) -> Sequence[Count]:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.rows

    async def suspensions(self) -> Sequence[Suspension]:
        return self.suspended

    def backlog(self) -> Backlog:
        return Backlog(messages=17, bytes=4096)


class World:
    def __init__(self, data_dir: Path) -> None:
        self.queue = Counted()
        self.queue.gate.set()
        self.now_s = 0.0
        self.config = Config(
            data_dir=data_dir, routes={"spare": CaptureRoute("spare")}, limits=replace(Limits(), backlog_messages=99)
        )
        self.metrics = Metrics()
        clock = Clock(now_ms=lambda: NOW, monotonic=lambda: self.now_s)
        self.depth = Depth(cast(Queue, self.queue), DepthFigures(self.metrics), lambda: self.config, clock)

    async def scrape(self) -> dict[str, float]:
        """Names without the prefix."""
        await self.depth.refresh()
        return {name.removeprefix(PREFIX): value for name, value in scraped(self.metrics).items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_recipients_by_route_and_place(world: World) -> None:
    found = await world.scrape()
    assert {name: value for name, value in found.items() if name.startswith("queue_recipients") and value} == {
        "queue_recipients place=ready route=ses": 3,
        "queue_recipients place=waiting route=ses": 4,
        "queue_recipients place=scheduled route=ses": 2,
        "queue_recipients place=in_hand route=ses": 2,
        "queue_recipients place=held route=ses": 1,
        "queue_recipients place=ready route=direct": 3,
        "queue_recipients place=waiting route=direct": 1,
    }
    assert found["queue_recipients place=held route=spare"] == 0  # configured, and empty
    assert (found["queue_oldest_age_seconds route=ses"], found["queue_oldest_age_seconds route=direct"]) == (60, 9)
    assert (found["backlog_messages"], found["backlog_max_messages"], found["backlog_bytes"]) == (17, 99, 4096)


@pytest.mark.parametrize(
    ("given", "suspended"),
    [
        ({"route": "direct"}, 3),
        ({"route": "direct", "domain": "b.example"}, 2),
        ({"domain": "a.example"}, 1),
        ({}, 3),
        ({"route": "direct", "key": "shop"}, 0),  # some of it only: nobody knows how much
    ],
)
async def test_what_is_suspended_is_not_ready(world: World, given: dict[str, str], suspended: int) -> None:
    conditions = {"route": None, "domain": None, "key": None} | given
    world.queue.suspended = [Suspension(id=1, reason="", since=0, until=None, **conditions)]
    found = await world.scrape()
    assert found["queue_recipients place=ready route=direct"] == 3 - suspended
    assert found["queue_recipients place=suspended route=direct"] == suspended
    assert found["queue_suspensions"] == 1


async def test_the_queue_is_counted_once_in_a_while(world: World) -> None:
    world.queue.gate.clear()
    asking = [asyncio.ensure_future(world.scrape()) for _ in range(5)]  # noqa: TID251 - as many scrapers would
    while not world.queue.asked:
        await asyncio.sleep(0)
    world.queue.gate.set()
    await asyncio.gather(*asking)
    assert world.queue.asked == 1
    world.now_s = KEEP_S - 0.1
    await world.scrape()
    assert world.queue.asked == 1
    world.now_s = KEEP_S
    await world.scrape()
    assert world.queue.asked == 2


async def test_no_figures_are_better_than_old_ones(world: World) -> None:
    await world.scrape()
    world.now_s = KEEP_S
    world.queue.error = StoreError("away")
    found = await world.scrape()
    assert not any(name.startswith("queue_") for name in found)
    assert found["backlog_messages"] == 17


async def test_a_file_system_that_does_not_count_files_has_no_number_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = space.Disk(bytes=10**12, free_bytes=10**11, inodes=1000, free_inodes=900)
    monkeypatch.setattr(space, "look", lambda _: disk)
    found = await world.scrape()
    assert (found["disk_free_files"], found["disk_min_free_files"]) == (900, space.INODES)
    disk = replace(disk, inodes=0, free_inodes=0)
    found = await world.scrape()
    assert "disk_free_files" not in found
    assert found["disk_free_bytes"] == 10**11


async def test_the_disk_is_looked_at(world: World) -> None:
    found = await world.scrape()
    assert found["disk_free_bytes"] > 0
    assert 0 < found["disk_min_free_bytes"] <= world.config.limits.free_disk
    world.config = replace(world.config, data_dir=world.config.data_dir / "gone")
    assert "disk_free_bytes" not in await world.scrape()
