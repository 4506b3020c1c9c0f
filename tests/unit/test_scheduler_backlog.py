"""A hundred thousand recipients: a restart with all of them due, and a queue with all of them deferred (D16)."""

import asyncio
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from gateway.delivery.hand import RECIPIENTS
from gateway.delivery.lane import FIRST_CLAIM
from gateway.delivery.scheduler import CLAIMS_AT_ONCE
from gateway.store.newmail import NewRecipient
from gateway.store.queue import Due
from tests.fakes.desk import DAY_MS, Desk, open_desk
from tests.peers.process import rss_mb
from tests.unit.test_scheduler_fair import Claims

pytestmark = pytest.mark.slow

DOMAINS = 10_000
EACH = 10
ROW = 1000  # recipients of a message


async def fill(desk: Desk, *, after_ms: int = 0) -> None:
    """EACH recipients at each of DOMAINS."""
    for start in [*range(0, DOMAINS, ROW)] * EACH:
        await desk.accept(1, recipients=spread(desk, start), after_ms=after_ms)


def spread(desk: Desk, start: int) -> Sequence[NewRecipient]:
    domains = [f"d{number}.test" for number in range(start, start + ROW)]
    return tuple(NewRecipient(desk.ids.next(), f"a@{domain}", domain) for domain in domains)


async def test_a_restart_with_everything_due_is_no_storm(tmp_path: Path) -> None:
    async with open_desk(tmp_path, initial=5, concurrency=20) as desk:
        await fill(desk)
        hold = asyncio.Event()
        desk.couriers.holds = lambda _claimed: hold
        claims = Claims(desk)
        await desk.scheduler.start()
        quarter, group = RECIPIENTS // 4, CLAIMS_AT_ONCE * FIRST_CLAIM
        await desk.until(lambda: len(desk.scheduler._hand.fences) >= quarter)
        # A claim each; lookups are by lane, carriers by worker.
        assert len(desk.scheduler._lanes) == len(claims.of) <= quarter + group
        assert claims.of.total() <= len(claims.of) + CLAIMS_AT_ONCE
        assert (await desk.leased()).total() <= quarter + group
        assert desk.couriers.most_open <= quarter + group
        hold.set()
        await desk.until(lambda: len(desk.couriers.delivered) >= RECIPIENTS // 2)  # and so it goes on
        assert len(desk.scheduler._hand.fences) <= RECIPIENTS + group


async def test_what_is_deferred_costs_a_turn_nothing(tmp_path: Path) -> None:
    before_mb = rss_mb([os.getpid()])
    async with open_desk(tmp_path) as desk:
        await fill(desk, after_ms=DAY_MS)
        claims = Claims(desk)
        await desk.scheduler.start()
        for count in range(1, 101):
            await desk.accept(1, "now.test")
            await desk.until(lambda count=count: len(desk.couriers.delivered) == count)  # type: ignore[misc]
        assert set(claims.of) == {desk.couriers.destinations["now.test"]}
        assert claims.of.total() <= 100
        assert claims.looked_at <= 200
        assert rss_mb([os.getpid()]) - before_mb < 150  # a daemon without mail has some 100 MB; of D16's 300


async def test_new_mail_costs_no_look_at_ten_thousand_that_found_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(tmp_path, hand=400) as desk:
        await desk.accept(1, "known.test")
        await desk.scheduler.start()
        await desk.until(lambda: len(desk.couriers.delivered) == 1)
        await desk.until(lambda: desk.couriers.open == 0)
        hold = asyncio.Event()
        desk.couriers.holds = lambda claimed: None if claimed.key == "shop" else hold
        await fill(desk)
        await desk.until(lambda: len(desk.scheduler._lobby) > DOMAINS - 200)
        await desk.quiet()
        looked = Looks(desk, monkeypatch)
        for count in range(2, 102):
            await desk.accept(1, "known.test", key="shop")
            await desk.until(lambda count=count: len(desk.couriers.delivered) == count)  # type: ignore[misc]
        assert looked.at <= 300  # of the message's own destination, and once more at the end of its lane
        hold.set()
        await desk.until(lambda: len(desk.couriers.delivered) >= 1000)  # and those that waited are served


class Looks:
    """Counts the destinations that the scheduler considers."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 0
        claim_some = desk.scheduler._claim_some

        async def counted(due: Sequence[Due], rush: Collection[int]) -> None:
            self.at += len(due)
            await claim_some(due, rush)

        monkeypatch.setattr(desk.scheduler, "_claim_some", counted)
