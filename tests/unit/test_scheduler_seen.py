"""What the scheduler shows of a destination to who asks why a message waits."""

import asyncio
from pathlib import Path

from gateway.delivery import seen
from tests.fakes.desk import open_desk


async def test_a_lane_is_seen_while_something_is_in_hand(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        gate = desk.couriers.stuck["slow.example"] = asyncio.Event()
        lanes = desk.scheduler.lanes
        await desk.accept(8, "slow.example")
        (due,) = await desk.store.due()
        assert seen.of(lanes, due.route, due.domain) is None
        await desk.scheduler.start()
        await desk.until(lambda: desk.couriers.open > 0)
        lane = seen.of(lanes, due.route, due.domain)
        assert lane is not None
        assert lane.in_hand == 8
        assert lane.connections == lane.width == 8 - lane.pending
        assert (lane.slowed, lane.answers) == (False, True)
        gate.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 8 and desk.couriers.open == 0)
        assert seen.of(lanes, due.route, due.domain) is None
