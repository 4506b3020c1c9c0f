"""Who works when: claims what is due, keeps every lane busy and none in another's way, settles what came of it.

Guarantees: a lane (one destination of one route) holds at most `LANE_MESSAGES` and `width` connections, so a slow or
dead destination costs only its own; a worker takes its next message only after the result of the last one is
committed, so where state cannot be written delivering stops by itself; whatever was claimed and not tried is given
back at a stop. What a result means is not decided here.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec.structs import replace

from gateway.config import Delivery
from gateway.delivery import telling
from gateway.delivery.waits import Waits
from gateway.errors import StoreError
from gateway.events import State
from gateway.observe import MailLog
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Attempt, Claimed, Due, Queue, Result

LANE_MESSAGES: Final = 100  # claimed at once for a lane that keeps up; a new lane starts with FIRST_CLAIM
FIRST_CLAIM: Final = 10
MESSAGES_IN_HAND: Final = 10_000  # all lanes; a claim is a few hundred bytes without its content
CONTENT_IN_HAND: Final = 64 * 1024 * 1024  # bytes of content kept with claims; above it content is read at the attempt
CLAIMS_AT_ONCE: Final = 32  # destinations claimed in one group commit
LEASE_MS: Final = 15 * 60 * 1000
RENEW_S: Final = 5 * 60.0
SWEEP_S: Final = 30.0
IDLE_S: Final = 60.0  # the longest wait without a look at the queue
WRITE_RETRY_S: Final = 1.0
_SENT: Final = frozenset({State.DELIVERED, State.CAPTURED})

log = logging.getLogger("gateway.delivery")


@dataclass(slots=True)
class Lane:
    """What is in hand for one destination."""

    due: Due
    width: int  # connections it may use now
    pending: deque[Claimed] = field(default_factory=deque)
    workers: int = 0
    claim_size: int = FIRST_CLAIM
    more: bool = False  # the last claim came back full: there is probably more


class Carrier(Protocol):
    """One worker's hold on its destination: keeps a connection between messages."""

    async def deliver(self, claimed: Claimed) -> Sequence[Attempt]:
        """Try all recipients; never raises for what a peer does."""

    def close(self) -> None:
        """Give the connection back."""


class Couriers(Protocol):
    """Makes carriers (attempt.py)."""

    def carrier(self, due: Due) -> Carrier: ...


class Scheduler:
    """Drives delivery until `stop`."""

    def __init__(
        self,
        settings: Delivery,
        queue: Queue,
        couriers: Couriers,
        supervisor: Supervisor,
        *,
        clock: Clock,
        log: MailLog,
        waits: Waits | None = None,
    ) -> None:
        """`waits` learns of every attempt that was written down."""
        self._settings = settings
        self._queue = queue
        self._couriers = couriers
        self._supervisor = supervisor
        self._clock = clock
        self._log = log
        self._waits = waits
        self._lanes: dict[int, Lane] = {}
        self._hand: dict[int, int] = {}  # recipient -> fence, for the renewal of leases
        self._content_bytes = 0
        self._full = False  # a claim was not made because too much was in hand
        self._kicked = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._workers = 0
        self._stopping = False

    def kick(self) -> None:
        """Something became claimable, or waits for an earlier time than was known."""
        self._kicked.set()

    async def start(self) -> None:
        """Take back what a dead process had in hand, then deliver."""
        given_back = await self._queue.reclaim(self._clock.now_ms())
        if given_back:
            log.warning("%d recipients were in hand when the last process ended; they are tried again", given_back)
        self._supervisor.start(self._run(), name="scheduler", critical=True)
        self._supervisor.start(self._sweep(), name="sweeper", critical=True)
        self._supervisor.start(self._renew(), name="lease-renewal", critical=True)

    async def stop(self, timeout_s: float) -> None:
        """Claim nothing new, give back what was not begun, wait for what is on the wire."""
        self._stopping = True
        self._kicked.set()
        waiting = []
        for lane in self._lanes.values():
            waiting.append((lane, list(lane.pending)))
            lane.pending.clear()
        for lane, messages in waiting:
            if messages:
                await self._give_back(lane, messages)
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.warning("%d deliveries were still on the wire at the deadline", self._workers)

    async def _run(self) -> None:
        while not self._stopping:
            # Cleared first: what happens from here on is a reason for another turn.
            self._kicked.clear()
            try:
                next_at = await self._queue.promote(self._clock.now_ms())
                await self._claim_due()
            except StoreError as error:
                # A store that is away is waited for; the sweeper and every worker do the same.
                log.error("the queue cannot be read or written: %s", error)  # noqa: TRY400 - the cause is in the text
                await asyncio.sleep(WRITE_RETRY_S)
                continue
            pause_s = IDLE_S if next_at is None else min(max(next_at - self._clock.now_ms(), 0) / 1000, IDLE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._kicked.wait(), pause_s)

    async def _claim_due(self) -> None:
        wanted: list[tuple[Lane, int]] = []
        for due in await self._queue.due():
            lane = self._lanes.get(due.destination) or Lane(due, width=self._settings.concurrency_initial)
            room = lane.claim_size - len(lane.pending)
            if len(self._hand) >= MESSAGES_IN_HAND:
                self._full = True
            elif room * 2 < lane.claim_size:
                lane.more = True  # its worker asks again when half of it is gone
            else:
                wanted.append((lane, room))
        for start in range(0, len(wanted), CLAIMS_AT_ONCE):
            group = wanted[start : start + CLAIMS_AT_ONCE]
            until = self._clock.now_ms() + LEASE_MS
            claims = [self._queue.claim(lane.due.destination, room, until) for lane, room in group]
            taken = [await claims[0]] if len(claims) == 1 else await asyncio.gather(*claims)
            for (lane, room), claimed in zip(group, taken, strict=True):
                await self._take(lane, room, claimed)

    async def _take(self, lane: Lane, room: int, claimed: Sequence[Claimed]) -> None:
        if self._stopping:
            await self._give_back(lane, claimed)
            return
        if not claimed:
            return
        self._lanes[lane.due.destination] = lane
        count = 0
        for message in claimed:
            kept = message
            if message.content is not None:
                if self._content_bytes > CONTENT_IN_HAND:
                    kept = replace(message, content=None)
                else:
                    self._content_bytes += len(message.content)
            lane.pending.append(kept)
            for recipient in message.recipients:
                self._hand[recipient.id] = recipient.fence
            count += len(message.recipients)
        lane.more = count >= room
        self._staff(lane)

    def _staff(self, lane: Lane) -> None:
        """As many workers as there is work for, within the lane's width."""
        missing = min(lane.width, lane.workers + len(lane.pending)) - lane.workers
        for _ in range(missing):
            lane.workers += 1
            self._workers += 1
            self._idle.clear()
            self._supervisor.start(self._work(lane), name=f"deliver {lane.due.route} {lane.due.domain}")

    async def _work(self, lane: Lane) -> None:
        carrier = self._couriers.carrier(lane.due)
        try:
            while lane.pending:
                claimed = lane.pending.popleft()
                if lane.more and len(lane.pending) * 2 <= lane.claim_size:
                    lane.more = False
                    self._kicked.set()
                attempts = await carrier.deliver(claimed)
                await self._settle(attempts)
                self._forget(claimed)
                self._pace(lane, attempts)
        finally:
            carrier.close()
            lane.workers -= 1
            self._workers -= 1
            if not lane.workers and not lane.pending:
                self._lanes.pop(lane.due.destination, None)
            if not self._workers:
                self._idle.set()

    def _pace(self, lane: Lane, attempts: Sequence[Attempt]) -> None:
        """A lane that delivers grows, one that cannot be reached goes back to its beginnings."""
        if any(result.state in _SENT for attempt in attempts for result in attempt.results):
            lane.claim_size = min(lane.claim_size * 2, LANE_MESSAGES)
            if lane.width < self._settings.concurrency:
                lane.width += 1
                self._staff(lane)
        else:
            lane.claim_size = FIRST_CLAIM

    async def _settle(self, attempts: Sequence[Attempt]) -> None:
        """Until it is written: a worker that cannot record a delivery must not make another."""
        while True:
            try:
                await self._queue.settle(attempts)
                break
            except StoreError as error:
                log.error("results cannot be written, delivering waits: %s", error)  # noqa: TRY400 - cause in the text
                await asyncio.sleep(WRITE_RETRY_S)
        if self._log.enabled:
            for attempt in attempts:
                telling.tell(self._log, attempt)
        if self._waits is not None:
            self._waits.tell(attempts)

    def _forget(self, claimed: Claimed) -> None:
        if claimed.content is not None:
            self._content_bytes -= len(claimed.content)
        for recipient in claimed.recipients:
            self._hand.pop(recipient.id, None)
        if self._full and len(self._hand) * 2 <= MESSAGES_IN_HAND:
            self._full = False
            self._kicked.set()

    async def _give_back(self, lane: Lane, messages: Sequence[Claimed]) -> None:
        now = self._clock.now_ms()
        attempts = [give_back(message, lane.due, now) for message in messages]
        for message in messages:
            self._forget(message)
        try:
            await self._queue.settle(attempts)
        except StoreError as error:
            # They stay leased and are taken back at the next start.
            log.warning("%d messages could not be given back: %s", len(messages), error)

    async def _sweep(self) -> None:
        """Its own task, so that what is stuck elsewhere still expires and is given back."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._clock.now_ms()
            try:
                run_out = await self._queue.reclaim(now)
                expired = await self._queue.expire(now)
                await self._queue.sweep(now)
            except StoreError as error:
                log.error("the sweeper cannot work: %s", error)  # noqa: TRY400 - cause in the text
                continue
            if run_out:
                log.warning("%d leases ran out; their recipients are tried again", run_out)
            if expired:
                log.warning("%d recipients expired in the queue", expired)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            if self._hand:
                try:
                    await self._queue.renew(list(self._hand.items()), self._clock.now_ms() + LEASE_MS)
                except StoreError as error:
                    log.error("leases cannot be renewed: %s", error)  # noqa: TRY400 - cause in the text


def give_back(claimed: Claimed, due: Due, now: int) -> Attempt:
    """Claimed and not tried: back to the queue, nothing counted, nothing told."""
    return Attempt(
        message=claimed.message,
        uuid=claimed.uuid,
        destination=due.destination,
        route=due.route,
        started_at=now,
        ended_at=now,
        results=tuple(
            Result(r.id, r.fence, State.QUEUED, event=None, attempts=r.attempts, to=r.address)
            for r in claimed.recipients
        ),
    )
