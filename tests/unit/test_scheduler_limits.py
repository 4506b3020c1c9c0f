"""The scheduler and real connections: a host that is well and takes only some of a client's connections."""

import io
from pathlib import Path

import pytest

from gateway.config import Delivery
from gateway.delivery.scheduler import Scheduler
from gateway.observe import MailLog
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from tests.fakes.carrying import desk, direct
from tests.fakes.desk import Desk
from tests.fakes.mx import Do, FakeMx

PLACES = 3
MESSAGES = 60


@pytest.mark.parametrize("refusal", ["421 4.7.0 too many connections from you", ""])
async def test_mail_waits_for_the_connections_that_there_are(tmp_path: Path, refusal: str) -> None:
    refused = 0

    def connect(_line: str) -> Do | None:
        nonlocal refused
        if sum(not one.ended.is_set() for one in host.conversations) <= PLACES:
            return None
        refused += 1
        return Do(refusal, drop=True)

    host = FakeMx({"connect": connect})
    async with host, desk([direct(host)]) as at:
        queue = Desk(await SqliteStore.open(tmp_path / "q.db"))
        at.couriers.queue = queue.store
        at.couriers.clock = Clock()
        scheduler = Scheduler(
            Delivery(), queue.store, at.couriers, queue.supervisor, clock=Clock(), log=MailLog(io.StringIO())
        )
        queue.store.on_ready = scheduler.kick
        await queue.accept(MESSAGES, "bare.test")
        await scheduler.start()
        await queue.until(lambda: len(host.transactions) == MESSAGES)
        await scheduler.stop(60)
        assert await queue.in_queue() == 0  # nothing was put off
        await queue.supervisor.cancel_all()
        await queue.store.close()
    assert 0 < refused < MESSAGES / 4
