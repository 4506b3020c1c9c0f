"""Who works when: claims what is due, keeps every lane busy and none in another's way, settles what came of it.

Guarantees: a lane (one destination of one route) holds a bounded number of messages and no more connections than its
pace allows, so a slow or dead destination costs only its own; mail of high priority finds a connection of the lane and
room in the hand; a worker takes its next message only after the result of the last one is committed, so where state
cannot be written delivering stops by itself; what expires in hand is not tried; whatever was claimed and not tried is
given back at a stop. A turn looks at what changed: a destination that found no room, or has as much as it may, costs
nothing until there is room or its worker asks (lobby.py).

Why many thousands that become due at once (a restart, the end of an outage, a night without the daemon) are no storm:
mail that was never tried shares each claim by halves with what is tried again (store/picking.py); unknown destinations
come into the hand by 300, and twice as many each second (hand.py); a host that has not answered is connected to once
(pool.py), then its lane has the connections it has at first, and one more for each delivery (pacing.py); and what fails
again comes back at times spread by a fifth (verdict.py).

What a result means is not decided here, nor who may hold how much, what is next in a lane (lane.py), how wide it is and
what is done beside it (upkeep.py).
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Protocol

from gateway.config import Delivery
from gateway.delivery import pacing, telling, untried
from gateway.delivery.figures import DeliveryFigures
from gateway.delivery.hand import Hand
from gateway.delivery.lane import FIRST_CLAIM, MOST, Lane
from gateway.delivery.lifetime import Lifetime
from gateway.delivery.lobby import Lobby
from gateway.delivery.pacing import Outcome, Paces
from gateway.delivery.upkeep import LEASE_MS, Upkeep
from gateway.delivery.waits import Waits
from gateway.errors import StoreError
from gateway.message.priority import HIGH
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Attempt, Claimed, Due, Queue

CLAIMS_AT_ONCE: Final = 32  # destinations claimed in one group commit
SWEEP_S: Final = 30.0
IDLE_S: Final = 60.0  # the longest wait without a look at the queue
OPENING_S: Final = 1.0  # the same after the start, while more and more unknown destinations are tried (hand.py)
WRITE_RETRY_S: Final = 1.0
LOOKS: Final = 1000  # destinations that are looked at without a rest
REST_S: Final = 0.002  # some five times what those looks take, so that new mail costs no more where many are due

log = logging.getLogger("gateway.delivery")


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
        figures: DeliveryFigures | None = None,
        life: Lifetime | None = None,
    ) -> None:
        """`waits` learns of every attempt that was written down."""
        self._queue = queue
        self._couriers = couriers
        self._supervisor = supervisor
        self._clock = clock
        self._log = log
        self._waits = waits
        self._figures = figures or DeliveryFigures(Metrics())
        self._life = life or Lifetime(clock)
        self._lanes: dict[int, Lane] = {}
        self._paces = Paces(settings.concurrency_initial, settings.concurrency)
        self._hand = Hand()
        self._rush: set[int] = set()  # destinations to be asked for mail of high priority
        self._lobby = Lobby()
        self._upkeep = Upkeep(
            queue,
            self._figures,
            clock=clock,
            life=self._life,
            in_hand=lambda: tuple(self._hand.fences.items()),
            expire_in_hand=self._expire_pending,
            sweep_s=SWEEP_S,
        )
        self._began = clock.monotonic()
        self._kicked = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._workers = 0
        self._stopping = False
        self._resting = False  # nothing is due, or the store is waited for
        self._steps = 0  # turns and claims so far
        self._seen = -1  # of them, when somebody last asked

    @property
    def on_the_wire(self) -> int:
        """Messages that are being delivered."""
        return self._workers

    async def progresses(self) -> bool:
        """Whether it rests, or has done something since this was last asked."""
        seen, self._seen = self._seen, self._steps
        return self._resting or self._stopping or seen != self._steps

    def kick(self) -> None:
        """Something became claimable, or waits for an earlier time than was known."""
        self._kicked.set()

    @property
    def lanes(self) -> Iterable[Lane]:
        """Those with something in hand, now and whenever it is looked at."""
        return self._lanes.values()

    def reconfigure(self, settings: Delivery) -> None:
        """For the connections of every destination, also of those that are being delivered to."""
        self._paces.bound(settings.concurrency_initial, settings.concurrency)
        for lane in self._lanes.values():
            lane.pace.bound(settings.concurrency)

    async def start(self) -> None:
        """Deliver, and take back what a dead process had in hand: at once, but nobody waits for it."""
        self._began = self._clock.monotonic()
        self._supervisor.start(self._run(), name="scheduler", critical=True)
        self._upkeep.start(self._supervisor)

    async def stop(self, timeout_s: float) -> None:
        """Claim nothing new, give back what was not begun, wait for what is on the wire."""
        self._stopping = True
        self._kicked.set()
        for lane, messages in [(lane, lane.pending.take_all()) for lane in self._lanes.values()]:
            for message in messages:
                self._hand.drop(lane, message)
            await self._give_back(lane, messages)
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.warning("%d deliveries were still on the wire at the deadline", self._workers)

    async def _run(self) -> None:
        while not self._stopping:
            # Cleared first: what happens from here on is a reason for another turn.
            self._kicked.clear()
            self._resting = False
            self._steps += 1
            try:
                next_at = await self._queue.promote(self._clock.now_ms())
                await self._claim_due()
            except StoreError as error:
                # A store that is away is waited for; the sweeper and every worker do the same.
                log.error("the queue cannot be read or written: %s", error)  # noqa: TRY400 - the cause is in the text
                self._resting = True
                await asyncio.sleep(WRITE_RETRY_S)
                continue
            pause_s = OPENING_S if self._lobby and self._hand.opening else IDLE_S
            if next_at is not None:
                pause_s = min(max(next_at - self._clock.now_ms(), 0) / 1000, pause_s)
            self._resting = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._kicked.wait()

    # Claiming

    async def _claim_due(self) -> None:
        """Claim for every lane that has room."""
        self._rush.update(self._queue.urgent())
        rush, self._rush = self._rush, set()
        self._hand.open(self._clock.monotonic() - self._began)
        await self._admit()
        due = self._lobby.others(await self._queue.due(), rush)
        for start in range(0, len(due), LOOKS):
            if start:
                await asyncio.sleep(REST_S)
            await self._claim_some(due[start : start + LOOKS], rush)
        if self._lobby:
            self._hand.turned_away()
            if not self._hand.fences:  # all of it went while we looked: nothing will wake us
                self._kicked.set()

    async def _admit(self) -> None:
        """Who was turned away comes first now, or those before it would take all room again."""
        while some := [due for _ in range(CLAIMS_AT_ONCE) if (due := self._lobby.take(self._hand.shares()))]:
            await self._claim_some(some, ())

    async def _claim_some(self, due_now: Sequence[Due], rush: Collection[int]) -> None:
        lanes = self._lanes
        shares = self._hand.shares()
        wanted: list[_Wish] = []
        for due in due_now:
            destination = due.destination
            lane = lanes.get(destination)
            if lane is not None:
                room = lane.room(shares[lane.pace.standing])
            else:
                room = min(FIRST_CLAIM, shares[self._paces.standing(destination)])
            if room:
                wanted.append((lane or self._new_lane(due), room, room))
            else:
                wanted += self._no_room(due, lane, rush=destination in rush)
            if len(wanted) == CLAIMS_AT_ONCE:
                await self._claim(wanted)
                wanted = []
                shares = self._hand.shares()
        if wanted:
            await self._claim(wanted)

    def _no_room(self, due: Due, lane: Lane | None, *, rush: bool) -> "Sequence[_Wish]":
        """Then only for mail of high priority, which a claim takes first."""
        able = rush and self._hand.spare
        if lane is None:
            self._lobby.turn_away(due, self._paces.standing(due.destination))
            return [(self._new_lane(due), 0, FIRST_CLAIM)] if able else []
        lane.more = True  # its worker asks again
        if able and not lane.pending.high:
            return [(lane, 0, FIRST_CLAIM)]
        lane.more_high = lane.more_high or rush
        self._lobby.excuse(due.destination)
        return []

    def _new_lane(self, due: Due) -> Lane:
        return Lane(due, self._paces.take(due.destination, self._clock.monotonic()))

    async def _claim(self, wanted: Sequence["_Wish"]) -> None:
        """In one group commit."""
        until = self._clock.now_ms() + LEASE_MS
        self._steps += 1
        claims = [self._queue.claim(lane.due.destination, limit, until) for lane, _, limit in wanted]
        taken = [await claims[0]] if len(claims) == 1 else await asyncio.gather(*claims)
        for (lane, room, limit), claimed in zip(wanted, taken, strict=True):
            await self._take(lane, claimed, limit, only_high=not room)

    async def _take(self, lane: Lane, claimed: Sequence[Claimed], limit: int, *, only_high: bool) -> None:
        if self._stopping:
            await self._give_back(lane, claimed)
            return
        count = 0
        refused = []
        for message in claimed:
            count += len(message.recipients)
            if only_high and message.priority != HIGH:
                refused.append(message)
            else:
                self._hand.add(lane, message)
        lane.more = count >= limit
        lane.more_high = only_high and lane.more and not refused
        if lane.pending or lane.workers:
            self._lanes[lane.due.destination] = lane
            self._lobby.leave(lane.due.destination)
            self._staff(lane)
        else:
            self._paces.rest(lane.due.destination, lane.pace, self._clock.monotonic())
        await self._give_back(lane, refused)

    def _staff(self, lane: Lane) -> None:
        """As many workers as there is work for, within the lane's width."""
        while lane.workers < lane.pace.width and (claimed := lane.take()) is not None:
            lane.workers += 1
            self._workers += 1
            self._idle.clear()
            self._supervisor.start(self._work(lane, claimed), name=f"deliver {lane.due.route} {lane.due.domain}")

    # Delivering

    async def _work(self, lane: Lane, first: Claimed) -> None:
        carrier = self._couriers.carrier(lane.due)
        claimed: Claimed | None = first
        try:
            while claimed is not None:
                self._ask(lane)
                if claimed.expires_at > (now := self._life.now_ms()):
                    await self._deliver(lane, claimed, carrier)
                else:
                    await self._expire(lane, claimed, now)
                lane.done(claimed)
                claimed = lane.take() if lane.workers <= lane.pace.width else None
                self._staff(lane)
        finally:
            carrier.close()
            if claimed is not None:
                self._lose(lane, claimed)
            self._leave(lane)

    def _ask(self, lane: Lane) -> None:
        """For more, where there is more and room for it."""
        if lane.more and lane.hungry:
            lane.more = False
            self._lobby.leave(lane.due.destination)
            self._kicked.set()
        if lane.more_high and not lane.pending.high:
            lane.more_high = False
            self._rush.add(lane.due.destination)
            self._kicked.set()

    def _lose(self, lane: Lane, claimed: Claimed) -> None:
        """A worker broke down or was cancelled: the lease runs out, and then it is tried again."""
        lane.done(claimed)
        self._hand.drop(lane, claimed)

    def _leave(self, lane: Lane) -> None:
        """A worker goes."""
        lane.workers -= 1
        self._workers -= 1
        if not lane.workers:
            for claimed in lane.pending.take_all():  # only where all of them broke down
                self._hand.drop(lane, claimed)
            destination = lane.due.destination
            self._lanes.pop(destination, None)
            self._lobby.leave(destination)
            self._paces.rest(destination, lane.pace, self._clock.monotonic())
            if lane.more or lane.more_high:
                self._kicked.set()
        if not self._workers:
            self._idle.set()

    async def _deliver(self, lane: Lane, claimed: Claimed, carrier: Carrier) -> None:
        era = lane.pace.era
        attempts = await carrier.deliver(claimed)
        await self._settle(attempts)
        self._drop(lane, claimed)
        said = pacing.outcome(attempts)
        if said is not Outcome.SENT or lane.claim_size < MOST or not lane.pace.full:
            self._learn(lane, said, era)

    def _learn(self, lane: Lane, said: Outcome, era: int) -> None:
        """A lane that delivers gets wider and holds more, one that does not goes back to its beginnings."""
        was_proven = lane.pace.proven
        lane.pace.see(said, era)
        self._hand.changed(lane, was_proven=was_proven)
        lane.claim_size = min(lane.claim_size * 2, MOST) if said is Outcome.SENT else FIRST_CLAIM

    async def _expire(self, lane: Lane, claimed: Claimed, now: int) -> None:
        await self._settle((untried.expired(claimed, lane.due, now),))
        self._drop(lane, claimed)

    def _drop(self, lane: Lane, claimed: Claimed) -> None:
        self._hand.drop(lane, claimed)
        if self._hand.has_room_again():
            self._kicked.set()

    async def _settle(self, attempts: Sequence[Attempt]) -> None:
        """Until it is written: a worker that cannot record a delivery must not make another."""
        while True:
            try:
                await self._queue.settle(attempts)
                break
            except StoreError as error:
                log.error("results cannot be written, delivering waits: %s", error)  # noqa: TRY400 - cause in the text
                await asyncio.sleep(WRITE_RETRY_S)
        self._figures.settled(attempts)
        if self._log.enabled:
            for attempt in attempts:
                telling.tell(self._log, attempt)
        if self._waits is not None:
            self._waits.tell(attempts)

    async def _give_back(self, lane: Lane, messages: Sequence[Claimed]) -> None:
        if not messages:
            return
        now = self._clock.now_ms()
        try:
            await self._queue.settle([untried.give_back(message, lane.due, now) for message in messages])
        except StoreError as error:
            # They stay leased: until their lease runs out, or the next start.
            log.warning("%d messages could not be given back: %s", len(messages), error)

    async def _expire_pending(self, now: int) -> int:
        """What waits in hand behind something that does not end; returns how many recipients."""
        late = [(lane, claimed) for lane in self._lanes.values() for claimed in lane.pending.take_late(now)]
        for lane, claimed in late:
            await self._expire(lane, claimed, now)
        return sum(len(claimed.recipients) for _, claimed in late)


_Wish = tuple[Lane, int, int]  # a lane, for how many recipients it has room, and how many to claim
