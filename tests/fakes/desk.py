"""A scheduler over a real store, with couriers that do what the test says in place of a network."""

import asyncio
import contextlib
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config import Delivery
from gateway.delivery.hand import Hand
from gateway.delivery.scheduler import Scheduler
from gateway.delivery.waits import Waits
from gateway.events import EventType, State
from gateway.message.model import Facts
from gateway.observe import MailLog
from gateway.runtime import Clock, IdSource, Supervisor, uuid7
from gateway.store.newmail import NewMessage, NewRecipient
from gateway.store.queue import Attempt, Claimed, Due, Result
from gateway.store.sqlite import SqliteStore

FACTS = Facts(size=10, header_size=5, body_hash=b"h" * 32, eight_bit=False, utf8_header=False, dot_lines=False)
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Fate:
    """What an attempt comes to; a deferred recipient waits for an hour."""

    state: State = State.DELIVERED
    reply: str = "250 2.0.0 ok"
    host: str = "mx.test"
    stage: str = "dot"


SENT = Fate()
SILENT = Fate(State.DEFERRED, "cannot connect to mx.test", stage="connect")
NO_DNS = Fate(State.DEFERRED, "451 4.4.3 the DNS lookup failed", host="", stage="dns")
SLOWER = Fate(State.DEFERRED, "421 4.7.0 slow down", stage="mail")


@dataclass(slots=True)
class Couriers:
    """Tries everything at once, but holds what goes to a domain in `stuck`, and what `holds` has an event for;
    notes order and most at a time. `fate` says what comes of an attempt."""

    delivered: list[str] = field(default_factory=list)
    stuck: dict[str, asyncio.Event] = field(default_factory=dict)
    holds: Callable[[Claimed], asyncio.Event | None] = lambda _claimed: None
    fate: Callable[[Claimed, Due], Fate] = lambda _claimed, _due: SENT
    begun: list[str] = field(default_factory=list)
    destinations: dict[str, int] = field(default_factory=dict)  # by domain, once it had a carrier
    open: int = 0
    most_open: int = 0
    open_by_domain: Counter[str] = field(default_factory=Counter)

    def carrier(self, due: Due) -> "Carrier":
        return Carrier(self, due)


class Carrier:
    def __init__(self, couriers: Couriers, due: Due) -> None:
        self.couriers = couriers
        self.due = due
        couriers.destinations[due.domain] = due.destination
        couriers.open += 1
        couriers.open_by_domain[due.domain] += 1
        couriers.most_open = max(couriers.most_open, couriers.open)

    def close(self) -> None:
        self.couriers.open -= 1
        self.couriers.open_by_domain[self.due.domain] -= 1

    async def deliver(self, claimed: Claimed) -> Sequence[Attempt]:
        couriers = self.couriers
        couriers.begun += [recipient.address for recipient in claimed.recipients]
        if (stuck := couriers.stuck.get(self.due.domain)) is not None:
            await stuck.wait()
        if (held := couriers.holds(claimed)) is not None:
            await held.wait()
        fate = couriers.fate(claimed, self.due)
        results = tuple(self._result(claimed, index, fate) for index in range(len(claimed.recipients)))
        await asyncio.sleep(0)
        return [Attempt(claimed.message, claimed.uuid, self.due.destination, self.due.route, 0, 0, results)]

    def _result(self, claimed: Claimed, index: int, fate: Fate) -> Result:
        recipient = claimed.recipients[index]
        if fate.state is State.DELIVERED:
            self.couriers.delivered.append(recipient.address)
        return Result(
            recipient.id,
            recipient.fence,
            fate.state,
            EventType(fate.state.value),
            attempts=recipient.attempts + 1,
            to=recipient.address,
            next_at=Clock().now_ms() + 3_600_000 if fate.state is State.DEFERRED else 0,
            reply=fate.reply,
            host=fate.host,
            stage=fate.stage,
        )


class Desk:
    """`late_ms` is time that has passed for the scheduler, by both of its clocks."""

    def __init__(self, store: SqliteStore, *, concurrency: int = 5, initial: int = 2, hand: int | None = None) -> None:
        self.store = store
        self.ids = IdSource(last=store.last_id)
        self.couriers = Couriers()
        self.deaths: list[str] = []
        self.supervisor = Supervisor(
            on_fatal=lambda name, error: self.deaths.append(f"{name}: {error!r}"),
            on_error=lambda name, error: self.deaths.append(f"{name}: {error!r}"),
        )
        self.late_ms = 0
        self.waits = Waits(store, Clock())
        self.scheduler = Scheduler(
            Delivery(concurrency=concurrency, concurrency_initial=min(initial, concurrency)),
            store,
            self.couriers,
            self.supervisor,
            clock=Clock(
                now_ms=lambda: Clock().now_ms() + self.late_ms,
                monotonic=lambda: Clock().monotonic() + self.late_ms / 1000,
            ),
            log=MailLog(io.StringIO()),
            listeners=(self.waits.tell,),
        )
        if hand is not None:
            self.scheduler._hand = self.scheduler._crew._hand = Hand(hand)
        store.on_ready = self.scheduler.kick

    async def accept(self, count: int, domain: str = "example.com", *, after_ms: int = 0, **more: Any) -> list[bytes]:
        """Enqueue messages to 0@, 1@, … of a domain; `more` are fields of NewMessage."""
        now = Clock().now_ms()
        uuids = [uuid7(now) for _ in range(count)]
        await asyncio.gather(
            *(
                self.store.enqueue(self._message(uuid, f"{number}@{domain}", now, after_ms, more))
                for number, uuid in enumerate(uuids)
            )
        )
        return uuids

    async def accept_high(self, domain: str = "example.com", *, local: str = "high") -> None:
        """A message of high priority to high@domain, to which something went before."""
        message = self._message(uuid7(0), f"{local}@{domain}", Clock().now_ms(), 0, {"priority": 0, "key": "other"})
        await self.store.enqueue(message)

    def _message(self, uuid: bytes, to: str, now: int, after_ms: int, more: dict[str, Any]) -> NewMessage:
        fields: dict[str, Any] = {
            "account": "a",
            "key": "k",
            "route": "direct",
            "door": "smtp",
            "envelope_sender": "s@example.com",
            "header_from": "s@example.com",
            "subject": "",
            "message_id": "m@example.com",
            "facts": FACTS,
            "tags": "[]",
            "metadata": "{}",
            "client": "",
            "created_at": now,
            "expires_at": now + DAY_MS,
            "priority": 1,
            "pieces": ((0, b"A: b\r\n\r\n"),),
            "piece_count": 1,
            "send_at": now + after_ms if after_ms else 0,
        }
        fields["recipients"] = (NewRecipient(self.ids.next(), to, to.partition("@")[2]),)
        return NewMessage(id=self.ids.next(), uuid=uuid, **fields | more)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def quiet(self) -> None:
        """Until the scheduler has done what it can: its turn is over and nothing makes it take another."""
        for _ in range(5):
            await self.store.promote(0)
            await self.until(lambda: not self.scheduler._kicked.is_set())

    async def in_queue(self) -> int:
        return sum(c.ready + c.waiting + c.leased for c in await self.store.counts())

    async def leased(self) -> Counter[str]:
        """How many recipients are in hand, by domain."""
        return Counter({count.domain: count.leased for count in await self.store.counts() if count.leased})


@contextlib.asynccontextmanager
async def open_desk(directory: Path, **more: int) -> AsyncIterator[Desk]:
    """A desk whose scheduler is not started; at the end nothing may have died."""
    desk = Desk(await SqliteStore.open(directory / "q.db"), **more)
    try:
        yield desk
    finally:
        await desk.supervisor.cancel_all()
        await desk.store.close()
    assert desk.deaths == []
