"""The scheduler over a real store: nothing forgotten, nobody starved, nothing delivered that cannot be recorded."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from gateway.config import Delivery
from gateway.delivery import scheduler as scheduling
from gateway.delivery.scheduler import Scheduler
from gateway.delivery.waits import Waits
from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.message.model import Facts
from gateway.observe import MailLog
from gateway.runtime import Clock, IdSource, Supervisor, uuid7
from gateway.store.queue import Attempt, Claimed, Due, NewMessage, NewRecipient, Result
from gateway.store.sqlite import SqliteStore

FACTS = Facts(size=10, header_size=5, body_hash=b"h" * 32, eight_bit=False, utf8_header=False, dot_lines=False)


class Couriers:
    """Delivers everything at once, but holds what goes to a domain in `stuck`; notes order and most at a time."""

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.stuck: dict[str, asyncio.Event] = {}
        self.open = 0
        self.most_open = 0

    def carrier(self, due: Due) -> "Carrier":
        return Carrier(self, due)


class Carrier:
    def __init__(self, couriers: Couriers, due: Due) -> None:
        self.couriers = couriers
        self.due = due
        couriers.open += 1
        couriers.most_open = max(couriers.most_open, couriers.open)

    def close(self) -> None:
        self.couriers.open -= 1

    async def deliver(self, claimed: Claimed) -> Sequence[Attempt]:
        if (stuck := self.couriers.stuck.get(self.due.domain)) is not None:
            await stuck.wait()
        results = []
        for recipient in claimed.recipients:
            self.couriers.delivered.append(recipient.address)
            results.append(
                Result(
                    recipient.id,
                    recipient.fence,
                    State.DELIVERED,
                    EventType.DELIVERED,
                    attempts=recipient.attempts + 1,
                    to=recipient.address,
                )
            )
        await asyncio.sleep(0)
        return [Attempt(claimed.message, claimed.uuid, self.due.destination, self.due.route, 0, 0, tuple(results))]


class Desk:
    def __init__(self, store: SqliteStore, *, concurrency: int = 5) -> None:
        self.store = store
        self.ids = IdSource(last=store.last_id)
        self.couriers = Couriers()
        self.deaths: list[str] = []
        self.supervisor = Supervisor(
            on_fatal=lambda name, error: self.deaths.append(f"{name}: {error!r}"),
            on_error=lambda name, error: self.deaths.append(f"{name}: {error!r}"),
        )
        settings = Delivery(concurrency=concurrency, concurrency_initial=min(2, concurrency))
        self.waits = Waits(store, Clock())
        self.scheduler = Scheduler(
            settings,
            store,
            self.couriers,
            self.supervisor,
            clock=Clock(),
            log=MailLog(io.StringIO()),
            waits=self.waits,
        )
        store.on_ready = self.scheduler.kick

    async def accept(self, count: int, domain: str = "example.com", *, after_ms: int = 0) -> list[bytes]:
        now = Clock().now_ms()
        uuids = [uuid7(now) for _ in range(count)]
        await asyncio.gather(
            *(
                self.store.enqueue(
                    NewMessage(
                        id=self.ids.next(),
                        uuid=uuids[number],
                        account="a",
                        key="k",
                        route="direct",
                        door="smtp",
                        envelope_sender="s@example.com",
                        header_from="s@example.com",
                        subject="",
                        message_id="m@example.com",
                        facts=FACTS,
                        tags="[]",
                        metadata="{}",
                        client="",
                        created_at=now,
                        expires_at=now + 86_400_000,
                        priority=1,
                        recipients=(NewRecipient(self.ids.next(), f"{number}@{domain}", domain),),
                        pieces=((0, b"A: b\r\n\r\n"),),
                        piece_count=1,
                        send_at=now + after_ms if after_ms else 0,
                    )
                )
                for number in range(count)
            )
        )
        return uuids

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def in_queue(self) -> int:
        return sum(c.ready + c.waiting + c.leased for c in await self.store.counts())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(await SqliteStore.open(tmp_path / "q.db"))
    yield made
    await made.supervisor.cancel_all()
    await made.store.close()
    assert made.deaths == []


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
    assert in_hand["slow.example"] <= scheduling.FIRST_CLAIM  # a lane that does not move holds little
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
