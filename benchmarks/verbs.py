"""`python -m benchmarks.verbs [--recipients N]`: what the store's verbs cost with and without a backlog.

The same work on two stores, side by side and in turn: one holds a thousand queued recipients, the other a million.
CPU is that of the whole process (the loop and the writer's thread), time is from call to answer. Asserts nothing:
compare the columns, and believe a ratio rather than a figure.
"""

import argparse
import asyncio
import resource
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import backlog
from benchmarks.backlog import Shape
from benchmarks.systems import scratch
from gateway.events import BounceClass, EventType, Scope, State
from gateway.message.model import Facts
from gateway.runtime import Clock, IdSource, uuid7
from gateway.store.newmail import NewMessage, NewRecipient
from gateway.store.queue import Attempt, Claimed, Result
from gateway.store.shown import Filter
from gateway.store.sqlite import SqliteStore

SMALL: Final = 1000
ROUNDS: Final = 7
MESSAGES: Final = 1600  # a round
AT_ONCE: Final = 32  # callers
CLAIM: Final = 50
DOMAIN: Final = "bench.test"
_CONTENT: Final = b"Subject: bench\r\n\r\n" + b"x" * 76 + b"\r\n" * 2500
_FACTS: Final = Facts(len(_CONTENT), 18, b"h" * 32, eight_bit=False, utf8_header=False, dot_lines=False)
_LATER: Final = "451 4.3.0 later"


@dataclass(slots=True)
class Cost:
    """Of one verb, a sample a round: microseconds of CPU and of time for each message (or call)."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


class Bench:
    """An open store and what its verbs cost so far."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.ids = IdSource(last=store.last_id)
        self.costs: dict[str, Cost] = {}

    async def round(self) -> None:
        """Everything once."""
        await self._time("enqueue", MESSAGES, self._enqueue())
        due = next(due.destination for due in await self.store.due() if due.domain == DOMAIN)
        hand: list[Claimed] = []
        await self._time("claim", MESSAGES, self._claim(due, hand))
        at = Clock().now_ms()
        await self._time("settle", MESSAGES, self._settle(due, hand, at))
        # A tenth was deferred until before the backlog's time has come.
        await self._time("promote", MESSAGES // 10, self._promote(at + 2000))
        hand.clear()
        await self._claim(due, hand)
        await self._settle(due, hand, at)  # those delivered now
        await self._time("due", 100, self._repeat(100, self.store.due))
        await self._time("expire, nothing due", 20, self._repeat(20, partial(self.store.expire, at)))
        await self._time("reclaim, nothing lost", 20, self._repeat(20, partial(self.store.reclaim, at)))
        await self._time("sweep, nothing old", 5, self._repeat(5, partial(self.store.sweep, at)))
        await self._time("counts (queue summary)", 1, self.store.counts())
        await self._time("find 100 (queue list)", 1, self.store.find(Filter()))

    async def _enqueue(self) -> None:
        async def caller() -> None:
            for _ in range(MESSAGES // AT_ONCE):
                await self.store.enqueue(self._message())

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))

    async def _claim(self, destination: int, hand: list[Claimed]) -> None:
        until = Clock().now_ms() + 600_000
        while taken := await self.store.claim(destination, CLAIM, until):
            hand += taken

    async def _settle(self, destination: int, hand: list[Claimed], at: int) -> None:
        for start in range(0, len(hand), CLAIM):
            some = enumerate(hand[start : start + CLAIM])
            await self.store.settle([_attempt(claimed, destination, at, later=n % 10 == 0) for n, claimed in some])

    async def _promote(self, now: int) -> None:
        await self.store.promote(now)

    async def _repeat(self, times: int, call: Callable[[], Awaitable[object]]) -> None:
        for _ in range(times):
            await call()

    async def _time(self, name: str, count: int, work: Awaitable[object]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        await work
        cost = self.costs.setdefault(name, Cost())
        cost.cpu.append((time.process_time() - cpu) * 1e6 / count)
        cost.wall.append((time.perf_counter() - wall) * 1e6 / count)

    def _message(self) -> NewMessage:
        now = Clock().now_ms()
        sender = "a@example.com"
        return NewMessage(
            id=self.ids.next(),
            uuid=uuid7(now),
            account="shop",
            key="shop",
            route="direct",
            door="smtp",
            envelope_sender=sender,
            header_from=sender,
            subject="bench",
            message_id="b@example.com",
            facts=_FACTS,
            tags="[]",
            metadata="{}",
            client="192.0.2.1",
            created_at=now,
            expires_at=now + backlog.DAY_MS,
            priority=1,
            recipients=(NewRecipient(self.ids.next(), f"you@{DOMAIN}", DOMAIN),),
            pieces=((0, _CONTENT),),
            piece_count=1,
        )


def _attempt(claimed: Claimed, destination: int, at: int, *, later: bool) -> Attempt:
    later = later and not claimed.recipients[0].attempts
    state, event = (State.DEFERRED, EventType.DEFERRED) if later else (State.DELIVERED, EventType.DELIVERED)
    (leased,) = claimed.recipients
    result = Result(
        leased.id,
        leased.fence,
        state,
        event,
        attempts=leased.attempts + 1,
        to=leased.address,
        next_at=at + 1000 if later else 0,
        reply=_LATER if later else "250 2.0.0 ok",
        bounce_class=BounceClass.TRANSIENT_FAILURE if later else None,
        scope=Scope.RECIPIENT if later else None,
        host="mx.test",
        stage="dot",
    )
    return Attempt(claimed.message, claimed.uuid, destination, "direct", at, at, (result,))


async def measure(directory: Path, recipients: int, made: Path | None) -> None:
    """Make both stores (or copy the large one), run the rounds, print."""
    small, large = directory / "small.db", directory / "large.db"
    backlog.fill(small, Shape(recipients=SMALL, domains=100))
    if made is None:
        backlog.fill(large, Shape(recipients=recipients))
    else:
        shutil.copyfile(made, large)
    benches = []
    for path in (small, large):
        cpu, wall = time.process_time(), time.perf_counter()
        bench = Bench(await SqliteStore.open(path))
        opened = Cost([(time.process_time() - cpu) * 1e6], [(time.perf_counter() - wall) * 1e6])
        bench.costs["open (start)"] = opened
        benches.append(bench)
    for bench in benches:
        await bench.round()  # warms up
        for cost in list(bench.costs.values())[1:]:
            cost.cpu.clear()
            cost.wall.clear()
    for _ in range(ROUNDS):
        for bench in benches:
            await bench.round()
    _print(benches, recipients)
    for bench in benches:
        await bench.store.close()


def _print(benches: list[Bench], recipients: int) -> None:
    first, second = (bench.costs for bench in benches)
    print(f"µs a message or call; CPU with {SMALL} and {recipients} queued, ratio of rounds side by side, and time")
    print(f"{'':26}{'CPU':>12}{'CPU':>12}{'ratio':>8}{'time':>12}{'time':>12}")
    for name, few in first.items():
        many = second[name]
        ratio = statistics.median(b / a for a, b in zip(few.cpu, many.cpu, strict=True))
        figures = [statistics.median(some) for some in (few.cpu, many.cpu, few.wall, many.wall)]
        print(f"{name:26}{figures[0]:12.1f}{figures[1]:12.1f}{ratio:8.2f}{figures[2]:12.1f}{figures[3]:12.1f}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak of this process, both stores open: {peak_mb:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verbs", description=__doc__)
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--made", type=Path, help="a file of benchmarks.backlog with so many, to be copied")
    arguments = parser.parse_args()
    with scratch() as directory:
        asyncio.run(measure(directory, arguments.recipients, arguments.made))


if __name__ == "__main__":
    main()
