"""No cost grows with the backlog: SQLite's own count of its steps, on a store with few queued and on one with many."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from benchmarks.backlog import GIANT, Shape, fill
from gateway.config import Retention
from gateway.events import State
from gateway.runtime import IdSource
from gateway.store import sweep
from gateway.store.db import Cursor
from gateway.store.expiry import START, Look, Step
from gateway.store.queue import Claimed
from gateway.store.sqlite import SqliteStore
from tests.store.mail import DAY_MS, HOUR_MS, START_MS, Now, Post, attempt

FEW = 4000
MANY = [pytest.param(16_000, id="16k"), pytest.param(100_000, id="100k", marks=pytest.mark.slow)]
MOST = 1.2
UNTIL = START_MS + HOUR_MS
_STEPS = "SQLITE_STMTSTATUS_VM_STEP"


@dataclass(slots=True)
class Counted:
    """A store over a backlog, and the steps of all statements of its writer."""

    store: SqliteStore
    post: Post
    giant: int
    steps: int = 0
    hand: list[Claimed] = field(default_factory=list)

    def note(self, event: dict[str, Any]) -> None:
        self.steps += event["stmt_status"][_STEPS]

    async def cost(self, work: Awaitable[object]) -> int:
        before = self.steps
        await work
        return self.steps - before


@asynccontextmanager
async def backlog(directory: Path, recipients: int) -> AsyncIterator[Counted]:
    """A store with so many recipients, some of them due."""
    path = directory / f"{recipients}.db"
    fill(path, Shape(recipients, domains=200, small=20, size=100), now_ms=START_MS)
    now = Now()
    store = await SqliteStore.open(path, clock=now.clock, retention=Retention(content_failed_s=0.0))
    try:
        giant = next(due.destination for due in await store.due() if due.domain == GIANT)
        post = Post(now)
        post.ids = IdSource(now.clock, last=store.last_id)
        counted = Counted(store, post, giant)
        store._writer._database._connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, counted.note)
        yield counted
    finally:
        await store.close()


async def enqueue(one: Counted) -> None:
    for _ in range(10):
        await one.store.enqueue(one.post.message("new@d0.test", key="new"))


async def claim(one: Counted) -> None:
    one.hand = list(await one.store.claim(one.giant, 20, UNTIL))
    assert len(one.hand) == 20


async def settle(one: Counted) -> None:
    states = [State.DELIVERED] * 12 + [State.DEFERRED] * 4 + [State.BOUNCED] * 4
    results = [
        attempt(claimed, state, at=START_MS, next_at=START_MS + 1)
        for claimed, state in zip(one.hand, states, strict=True)
    ]
    assert await one.store.settle(results) == 20


async def renew(one: Counted) -> None:
    one.hand = list(await one.store.claim(one.giant, 5, UNTIL))
    await one.store.renew([(r.id, r.fence) for claimed in one.hand for r in claimed.recipients], UNTIL + 1)


async def promote(one: Counted) -> None:
    await one.store.promote(START_MS + 1)  # those that were deferred


async def promote_a_night(one: Counted) -> None:
    """Nearly all that waits has come due: still by steps of a size."""
    await one.store.promote(START_MS + DAY_MS - HOUR_MS)


async def nothing_to_do(one: Counted) -> None:
    assert (await one.store.reclaim(START_MS)).count == await one.store.expire(START_MS) == 0
    await one.store.sweep(START_MS)


async def expire_step(one: Counted) -> None:
    """All are too old."""
    step: Step = await one.store._writer.submit(one.store._expiring._expiry.step, Look(START, START_MS + 6 * DAY_MS))
    assert step.expired
    assert step.position is not None


WORK: Sequence[Callable[[Counted], Awaitable[None]]] = (
    enqueue,
    claim,
    settle,
    promote,
    renew,
    nothing_to_do,
    promote_a_night,
    expire_step,
)


@pytest.mark.parametrize("many", MANY)
async def test_no_verb_costs_more_where_more_is_queued(tmp_path: Path, many: int) -> None:
    async with backlog(tmp_path, FEW) as small, backlog(tmp_path, many) as large:
        costs = {work.__name__: (await small.cost(work(small)), await large.cost(work(large))) for work in WORK}
    assert all(costs[name][0] > 0 for name in costs)
    assert not {name: cost for name, cost in costs.items() if cost[1] > cost[0] * MOST}, costs


@pytest.mark.slow
async def test_expiring_everything_at_once_lets_others_write(tmp_path: Path) -> None:
    async with backlog(tmp_path, FEW) as one:
        expiring = asyncio.get_running_loop().create_task(one.store.expire(START_MS + 6 * DAY_MS))
        for _ in range(10):
            await one.store.enqueue(one.post.message("new@d0.test"))
        assert not expiring.done()
        expiring.cancel()
        assert 0 < await one.store.expire(START_MS + 6 * DAY_MS) < FEW  # the rest


@pytest.mark.slow
async def test_sweeping_what_is_old_goes_by_steps_and_gives_the_file_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "FREE_PAGES", 100)
    later = START_MS + 400 * DAY_MS
    costs: list[int] = []
    sizes: list[int] = []
    for recipients in (FEW // 2, FEW * 2):
        path = tmp_path / f"{recipients}.db"
        async with backlog(tmp_path, recipients) as one:
            sizes.append(path.stat().st_size)
            await one.store.expire(START_MS + 6 * DAY_MS)
            for step in (one.store._parts.sweep.messages, one.store._parts.sweep.old_events):
                cost = await one.cost(one.store._writer.submit(step, later))
                costs.append(cost)
            await one.store.sweep(later)
            for table in ("message", "recipient", "event", "attempt", "content"):
                assert await one.store._readers.read(partial(_count, table=table)) == 0
        sizes.append(path.stat().st_size)
    assert costs[2] <= costs[0] * MOST
    assert costs[3] <= costs[1] * MOST
    assert sizes[3] * 3 < sizes[2]
    assert sizes[3] <= sizes[1] * MOST  # whatever there was


def _count(cursor: Cursor, table: str) -> int:
    return int(cursor.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])
