"""Nobody in another's way: priorities, keys, dead destinations, slow ones, restarts, backlogs, counted in messages."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from gateway.delivery import lane as lanes
from gateway.delivery import scheduler as scheduling
from gateway.delivery import upkeep
from gateway.delivery.lane import FIRST_CLAIM, MOST
from gateway.runtime import Clock
from gateway.store.queue import Claimed, Due
from tests.fakes.desk import DAY_MS, NO_DNS, SENT, SILENT, SLOWER, Desk, Fate, open_desk

MINUTE_MS = 60_000


async def test_high_priority_does_not_wait_for_bulk_that_has_every_connection_it_may_have(tmp_path: Path) -> None:
    async with open_desk(tmp_path, initial=5) as desk:
        gate = asyncio.Event()
        desk.couriers.holds = lambda claimed: gate if claimed.priority else None
        await desk.accept(100)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 4)  # of five
        for number in range(30):  # more than are claimed at once
            await desk.accept_high(local=f"high{number}")
        await desk.until(lambda: len(desk.couriers.delivered) == 30)
        assert desk.couriers.delivered == [f"high{number}@example.com" for number in range(30)]
        await desk.until(lambda: desk.couriers.open == 4)  # the last result is written
        async with asyncio.timeout(10):  # what was claimed behind them is given back
            while (await desk.leased())["example.com"] > MOST + 4:
                await asyncio.sleep(0.005)
        gate.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 130)
        assert desk.couriers.most_open == 5


async def test_high_priority_that_comes_in_a_heap_is_claimed_to_its_end(tmp_path: Path) -> None:
    async with open_desk(tmp_path, initial=3, concurrency=3) as desk:
        gate = asyncio.Event()
        desk.couriers.holds = lambda claimed: gate if claimed.priority else None
        await desk.accept(50)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 2)
        await desk.accept(60, priority=0)
        await desk.accept_high()  # the one hint that there is
        await desk.until(lambda: len(desk.couriers.delivered) == 61)
        gate.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 111)


async def test_a_keys_single_message_waits_for_few_of_anothers_bulk(tmp_path: Path) -> None:
    async with open_desk(tmp_path, initial=5) as desk:
        await desk.accept(250, key="bulk")
        held = asyncio.Event()
        desk.couriers.stuck["example.com"] = held
        held.set()
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) >= 100)
        held.clear()
        await desk.accept(1, key="shop", pieces=((0, b"A: single\r\n\r\n"),), envelope_sender="single@example.com")
        before = len(desk.couriers.delivered)
        singles: list[int] = []

        def fate(claimed: Claimed, _due: Due) -> Fate:
            if claimed.key == "shop":
                singles.append(len(desk.couriers.delivered) - before)
            return SENT

        desk.couriers.fate = fate
        held.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 251)
        assert len(singles) == 1
        assert singles[0] <= MOST + 5  # what is in hand, and what is on the wire


async def test_what_a_host_says_about_pace_narrows_its_lane_alone_and_is_remembered(tmp_path: Path) -> None:
    async with open_desk(tmp_path, initial=4, concurrency=8) as desk:
        slow = [True]
        desk.couriers.fate = lambda _claimed, due: SLOWER if due.domain == "slow.test" and slow[0] else SENT
        await desk.accept(3, "slow.test")
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 3)
        await desk.until(lambda: desk.couriers.open == 0)
        slow[0] = False
        gates = {domain: asyncio.Event() for domain in ("slow.test", "other.test")}
        desk.couriers.stuck |= gates
        await desk.accept(20, "slow.test")
        await desk.accept(20, "other.test")
        await desk.until(lambda: desk.couriers.open_by_domain["other.test"] == 3)  # of four, one is kept free
        await desk.until(lambda: desk.couriers.open_by_domain["slow.test"] == 2)
        begun = Counter(to.partition("@")[2] for to in desk.couriers.begun)
        assert begun == {"slow.test": 3 + 2, "other.test": 3}
        for gate in gates.values():
            gate.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 40)


async def test_a_host_that_cannot_be_reached_narrows_nothing(tmp_path: Path) -> None:
    async with open_desk(tmp_path, initial=4, concurrency=8) as desk:
        desk.couriers.fate = lambda _claimed, _due: SILENT
        await desk.accept(10)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 10)
        await desk.until(lambda: desk.couriers.open == 0)
        desk.couriers.stuck["example.com"] = asyncio.Event()
        await desk.accept(10)
        await desk.until(lambda: desk.couriers.open == 3)
        desk.couriers.stuck["example.com"].set()


async def test_workers_above_a_narrowed_width_go(tmp_path: Path) -> None:
    async with open_desk(tmp_path, initial=8, concurrency=8) as desk:
        first, later = asyncio.Event(), asyncio.Event()
        desk.couriers.fate = lambda claimed, _due: SLOWER if claimed.key == "first" else SENT
        desk.couriers.holds = lambda claimed: (
            None if claimed.key == "first" else first if len(desk.couriers.begun) <= 8 else later
        )
        await desk.accept(1, key="first", priority=0)
        await desk.accept(30, priority=0)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 8)
        first.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 7)
        await desk.until(lambda: desk.couriers.open == 4)
        assert len(desk.couriers.begun) == 8 + 4
        later.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 30)


async def test_where_there_is_little_room_everybody_is_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "CLAIMS_AT_ONCE", 1)
    async with open_desk(tmp_path, hand=4) as desk:  # room for one
        await desk.accept(3, "one.test")
        for number in range(10):
            await desk.accept(1, f"d{number}.test")
        await desk.scheduler.start()  # nothing else wakes it
        await desk.until(lambda: len(desk.couriers.delivered) == 13)


async def test_one_alone_is_served_to_its_end_where_there_is_room_for_one(tmp_path: Path) -> None:
    async with open_desk(tmp_path, hand=4) as desk:
        await desk.accept(3)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) == 3)


async def test_who_was_turned_away_is_asked_again_when_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "CLAIMS_AT_ONCE", 1)
    async with open_desk(tmp_path, hand=40) as desk:
        desk.couriers.fate = lambda _claimed, _due: SILENT
        domains = [f"d{number}.test" for number in range(10)]
        for domain in domains:
            await desk.accept(1, domain)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 10)
        await desk.until(lambda: desk.couriers.open == 0)
        gate = asyncio.Event()
        desk.couriers.fate = lambda _claimed, _due: SENT
        desk.couriers.stuck = dict.fromkeys(domains, gate)
        for domain in domains:
            await desk.accept(1, domain)
        await desk.until(lambda: desk.couriers.open == 5)
        await desk.until(lambda: desk.scheduler._hand._gone is not None)
        gate.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 10)


async def test_dead_destinations_leave_room_in_the_hand_and_are_all_served_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "CLAIMS_AT_ONCE", 2)
    async with open_desk(tmp_path, hand=200) as desk:
        dead = [f"dead{number}.test" for number in range(60)]
        desk.couriers.stuck = {domain: asyncio.Event() for domain in dead}
        desk.couriers.fate = lambda _claimed, due: NO_DNS if due.domain in desk.couriers.stuck else SENT
        for domain in dead:
            await desk.accept(6, domain)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.scheduler._hand.fences) >= 50)
        in_hand = await desk.leased()
        group = 2 * FIRST_CLAIM
        assert in_hand.total() <= 50 + group  # a quarter
        assert len(in_hand) > 15  # few of many, not many of few
        assert desk.couriers.most_open <= 50 + group
        await desk.accept(3, "good.test")
        for domain in dead:
            desk.couriers.stuck[domain].set()
        await desk.until(lambda: len(desk.couriers.begun) == 60 * 6 + 3)
        await desk.until(lambda: desk.couriers.open == 0)
        assert (await desk.leased()).total() == 0
        assert sorted(desk.couriers.delivered) == [f"{number}@good.test" for number in range(3)]


async def test_known_destinations_do_not_notice_the_dead_ones(tmp_path: Path) -> None:
    async with open_desk(tmp_path, hand=40) as desk:
        await desk.accept(1, "good.test")
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) == 1)
        await desk.until(lambda: desk.couriers.open == 0)
        for number in range(10):
            desk.couriers.stuck[f"dead{number}.test"] = asyncio.Event()
            await desk.accept(5, f"dead{number}.test")
        await desk.until(lambda: len(desk.scheduler._hand.fences) >= 10)
        claims = Claims(desk)
        for count in range(1, 6):
            await desk.accept(20, "good.test")
            await desk.until(lambda count=count: len(desk.couriers.delivered) == 1 + 20 * count)  # type: ignore[misc]
        assert not any(to.startswith("dead") for to in desk.couriers.delivered)
        assert claims.of.keys() == {desk.couriers.destinations["good.test"]}


async def test_a_restart_with_much_that_is_due_begins_a_bounded_number_of_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "CLAIMS_AT_ONCE", 4)
    async with open_desk(tmp_path, hand=200) as desk:
        domains = [f"d{number}.test" for number in range(150)]
        for domain in domains:
            await desk.accept(2, domain)
        gate = asyncio.Event()
        desk.couriers.stuck = dict.fromkeys(domains, gate)
        claims = Claims(desk)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.scheduler._hand.fences) >= 50)
        assert len(desk.scheduler._lanes) <= 50 + 4
        assert desk.couriers.most_open <= 50 + 4 * 2
        assert sum(claims.of.values()) <= 50 + 4
        gate.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 300)
        assert desk.couriers.most_open <= 150 + 4 * FIRST_CLAIM


async def test_a_turn_costs_what_is_due_and_nothing_for_what_waits(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        for number in range(20):
            await desk.accept(50, f"later{number}.test", after_ms=DAY_MS)
        claims = Claims(desk)
        await desk.scheduler.start()
        for count in range(1, 21):
            await desk.accept(1, "now.test")
            await desk.until(lambda count=count: len(desk.couriers.delivered) == count)  # type: ignore[misc]
        assert claims.of.keys() == {desk.couriers.destinations["now.test"]}
        assert claims.of.total() <= 20
        assert claims.looked_at == 20 or claims.looked_at < 45  # a commit of a result may wake it once more
        assert len(await desk.store.due()) == 0


async def test_a_lane_that_keeps_up_claims_by_the_half_of_its_hand(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.accept(400)
        claims = Claims(desk)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) == 400)
        assert claims.of.total() <= 400 // (MOST // 2) + 5


async def test_what_expires_in_hand_is_not_tried(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        gate = desk.couriers.stuck["example.com"] = asyncio.Event()
        uuids = await desk.accept(8, expires_at=Clock().now_ms() + MINUTE_MS)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 2)
        desk.late_ms = MINUTE_MS
        gate.set()
        await desk.until(lambda: desk.couriers.open == 0)
        assert len(desk.couriers.begun) == 2  # what was on the wire ends as its host says
        assert sorted([await last_event(desk, uuid) for uuid in uuids]) == ["delivered"] * 2 + ["expired"] * 6
        assert await desk.in_queue() == 0


async def test_what_expires_behind_something_that_does_not_end_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "SWEEP_S", 0.01)
    async with open_desk(tmp_path) as desk:
        gate = desk.couriers.stuck["example.com"] = asyncio.Event()
        await desk.accept(10, expires_at=Clock().now_ms() + MINUTE_MS)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.begun) == 2)
        desk.late_ms = MINUTE_MS
        async with asyncio.timeout(10):
            while await desk.in_queue() > 2:  # on the wire
                await asyncio.sleep(0.01)
        assert (await desk.leased()).total() == 2
        gate.set()
        await desk.until(lambda: desk.couriers.open == 0)
        assert len(desk.couriers.delivered) == 2
        assert await desk.in_queue() == 0


async def test_what_a_worker_broke_down_over_runs_out_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "SWEEP_S", 0.01)
    async with open_desk(tmp_path) as desk:
        broken = [True]

        def fate(claimed: Claimed, _due: Due) -> Fate:
            if claimed.key == "evil" and broken:
                raise RuntimeError(broken.pop())
            return SENT

        desk.couriers.fate = fate
        await desk.accept(1, key="evil")
        await desk.accept(20)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) == 20)
        await desk.until(lambda: desk.couriers.open == 0)
        assert (await desk.leased()).total() == 1
        assert not desk.scheduler._hand.fences  # nobody renews it
        assert len(desk.deaths) == 1
        desk.deaths.clear()
        desk.late_ms = upkeep.LEASE_MS
        await desk.until(lambda: len(desk.couriers.delivered) == 21)


async def test_who_was_turned_away_comes_first_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "CLAIMS_AT_ONCE", 1)
    async with open_desk(tmp_path, hand=200) as desk:
        domains = [f"d{number}.test" for number in range(24)]
        for domain in domains:
            await desk.accept(1, domain)
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) == 24)
        await desk.until(lambda: desk.couriers.open == 0)
        gate = asyncio.Event()
        desk.couriers.stuck = dict.fromkeys(domains, gate)
        for domain in domains:  # they answer, and have more than there is room for
            await desk.accept(30, domain)
        gate.set()
        last = domains[-1]
        await desk.until(lambda: len(desk.couriers.delivered) == 24 + 24 * 30)
        # Before the others have had all of theirs.
        assert [to.partition("@")[2] for to in desk.couriers.delivered].index(last, 24) < 330


async def test_a_lane_holds_few(tmp_path: Path) -> None:
    assert lanes.MOST <= 3 * 20
    async with open_desk(tmp_path, initial=5, concurrency=20) as desk:
        await desk.accept(300)
        gate = desk.couriers.stuck["example.com"] = asyncio.Event()
        gate.set()
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) >= 200)
        gate.clear()
        assert (await desk.leased())["example.com"] <= MOST + 20
        gate.set()
        await desk.until(lambda: len(desk.couriers.delivered) == 300)


class Claims:
    """Counts what the scheduler asks of the store: claims by destination, and the destinations it looks at."""

    def __init__(self, desk: Desk) -> None:
        self.of: Counter[int] = Counter()
        self.looked_at = 0
        claim, due = desk.store.claim, desk.store.due

        async def counted_claim(destination: int, limit: int, until: int) -> list[Claimed]:
            self.of[destination] += 1
            return list(await claim(destination, limit, until))

        async def counted_due() -> list[Due]:
            found = list(await due())
            self.looked_at += len(found)
            return found

        desk.store.claim = counted_claim  # type: ignore[method-assign]
        desk.store.due = counted_due  # type: ignore[method-assign]


async def last_event(desk: Desk, uuid: bytes) -> str:
    return [event.type.value for event in await desk.store.events(uuid)][-1]
