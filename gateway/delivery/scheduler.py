"""Who works when: claims what is due, keeps every lane busy and none in another's way.

Guarantees: a lane (one destination of one route) holds a bounded number of messages and no more connections than its
pace allows, so a slow or dead destination costs only its own; mail of high priority finds a connection of the lane and
room in the hand; after a stop nothing is claimed, and whatever was claimed and not tried is given back, within the time
that the stop has. A turn looks at what changed: a destination that found no room, or has as much as it may, costs
nothing until there is room or its worker asks (lobby.py).

Why many thousands that become due at once (a restart, the end of an outage, a night without the daemon) are no storm:
mail that was never tried shares each claim by halves with what is tried again (store/picking.py); unknown destinations
come into the hand by 300, and twice as many each second (hand.py); a host that has not answered is connected to once
(pool.py), then its lane has the connections it has at first, and one more for each delivery (pacing.py); and what fails
again comes back at times spread by a fifth (verdict.py).

What a result means is not decided here, nor who may hold how much, what is next in a lane (lane.py), how wide it is,
what a worker does (crew.py) and what is done beside it (upkeep.py).
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Final

from gateway.config import Delivery
from gateway.delivery.crew import Calls, Couriers, Crew
from gateway.delivery.figures import DeliveryFigures
from gateway.delivery.hand import Hand
from gateway.delivery.lane import FIRST_CLAIM, MOST, Lane
from gateway.delivery.ledger import WRITE_RETRY_S, Ledger, Listener
from gateway.delivery.lifetime import Lifetime
from gateway.delivery.lobby import Lobby
from gateway.delivery.pacing import Paces
from gateway.delivery.upkeep import LEASE_MS, Upkeep
from gateway.errors import StoreError
from gateway.message.priority import HIGH
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.runtime import Clock, Supervisor
from gateway.store.connection import Damaged
from gateway.store.queue import Claimed, Due, Queue

CLAIMS_AT_ONCE: Final = 32  # destinations claimed in one group commit
SWEEP_S: Final = 30.0
IDLE_S: Final = 60.0  # the longest wait without a look at the queue
OPENING_S: Final = 1.0  # the same after the start, while more and more unknown destinations are tried (hand.py)
DAMAGE_S: Final = 300.0  # between two lines of the log that say the same of a damaged database
LOOKS: Final = 1000  # destinations that are looked at without a rest
REST_S: Final = 0.002  # some five times what those looks take, so that new mail costs no more where many are due

log = logging.getLogger("gateway.delivery")


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
        listeners: Sequence[Listener] = (),
        figures: DeliveryFigures | None = None,
        life: Lifetime | None = None,
    ) -> None:
        """`listeners` are told of every attempt that was written down."""
        self._queue = queue
        self._supervisor = supervisor
        self._clock = clock
        figures = figures or DeliveryFigures(Metrics())
        self._ledger = Ledger(queue, figures, clock=clock, log=log, listeners=listeners)
        self._life = life or Lifetime(clock)
        self._lanes: dict[int, Lane] = {}
        self._paces = Paces(settings.concurrency_initial, settings.concurrency)
        self._hand = Hand()
        self._rush: set[int] = set()  # destinations to be asked for mail of high priority
        self._lobby = Lobby()
        self._crew = Crew(
            couriers,
            supervisor,
            self._ledger,
            self._hand,
            life=self._life,
            calls=Calls(begins=self._begins, over=self._over, room=self.kick),
        )
        self._upkeep = Upkeep(
            queue,
            figures,
            clock=clock,
            life=self._life,
            in_hand=lambda: tuple(self._hand.fences.items()),
            expire_in_hand=self._expire_pending,
            tell=self._ledger.tell,
            sweep_s=SWEEP_S,
        )
        self._began = clock.monotonic()
        self._kicked = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._damage_told_s = float("-inf")
        self._resting = False  # nothing is due, or the store is waited for
        self._steps = 0  # turns and claims so far
        self._seen = -1  # of them, when somebody last asked

    @property
    def on_the_wire(self) -> int:
        """Messages that are being delivered."""
        return self._crew.workers

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
        self._running = self._supervisor.start(self._run(), name="scheduler", critical=True)
        self._upkeep.start(self._supervisor)

    async def stop(self, timeout_s: float) -> None:
        """Claim nothing new, give back what was not begun, wait for what is on the wire: all within that time. What
        could not be given back by then stays leased until the next start."""
        self._stopping = self._crew.stopping = True
        self._kicked.set()
        waiting = [(lane, message) for lane in self._lanes.values() for message in lane.pending.take_all()]
        for lane, message in waiting:
            self._hand.drop(lane, message)
        give_back = self._ledger.give_back([(lane.due, message) for lane, message in waiting])
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(give_back, self._crew.idle.wait(), self._claims_end())
        except TimeoutError:
            log.warning("at the deadline of the stop %d deliveries were still on the wire", self._crew.workers)

    async def _claims_end(self) -> None:
        """A claim may be under way, and be given back."""
        if self._running is not None:
            await asyncio.wait({self._running})

    async def _run(self) -> None:
        while not self._stopping:
            # Cleared first: what happens from here on is a reason for another turn.
            self._kicked.clear()
            self._resting = False
            self._steps += 1
            try:
                next_at = await self._promote()
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

    async def _promote(self) -> int | None:
        """When the next one is due that waits for its time. What waits on a damaged page keeps nobody else waiting."""
        try:
            return await self._queue.promote(self._clock.now_ms())
        except Damaged as error:
            now_s = self._clock.monotonic()
            if now_s >= self._damage_told_s + DAMAGE_S:
                self._damage_told_s = now_s
                text = "the database is damaged, mail that waits for its time is not tried (%s); see docs/baddays.md"
                log.error(text, error)  # noqa: TRY400 - cause in the text
            return None

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
        if lane.pending or not lane.room(MOST):
            self._lobby.excuse(due.destination)
        else:  # its workers may be busy for long, and there could be others
            self._lobby.turn_away(due, lane.pace.standing, begun=True)
        return []

    def _new_lane(self, due: Due) -> Lane:
        return Lane(due, self._paces.take(due.destination, self._clock.monotonic()))

    async def _claim(self, wanted: Sequence["_Wish"]) -> None:
        """In one group commit. Who cannot be claimed for keeps nobody else waiting; raises StoreError in the end."""
        if self._stopping:
            return
        until = self._clock.now_ms() + LEASE_MS
        self._steps += 1
        refused: list[tuple[Due, Claimed]] = []
        failure: BaseException | None = None
        taken = await _all([self._queue.claim(lane.due.destination, limit, until) for lane, _, limit in wanted])
        for (lane, room, limit), claimed in zip(wanted, taken, strict=True):
            if isinstance(claimed, BaseException):
                failure = failure or claimed
                refused += self._take(lane, (), limit, only_high=not room)
            else:
                refused += self._take(lane, claimed, limit, only_high=not room)
        self._resting = True  # the store may be waited for
        await self._ledger.give_back(refused)
        self._resting = False
        if failure is not None:
            raise failure

    def _take(
        self, lane: Lane, claimed: Sequence[Claimed], limit: int, *, only_high: bool
    ) -> list[tuple[Due, Claimed]]:
        """Into the hand; returns what is not to be delivered now."""
        if self._stopping:
            return [(lane.due, message) for message in claimed]
        count = 0
        refused = []
        for message in claimed:
            count += len(message.recipients)
            if only_high and message.priority != HIGH:
                refused.append((lane.due, message))
            else:
                self._hand.add(lane, message)
        lane.more = count >= limit
        lane.more_high = only_high and lane.more and not refused
        if lane.pending or lane.workers:
            self._lanes[lane.due.destination] = lane
            self._lobby.leave(lane.due.destination)
            self._crew.staff(lane)
        else:
            self._paces.rest(lane.due.destination, lane.pace, self._clock.monotonic())
        return refused

    # What the workers say

    def _begins(self, lane: Lane) -> None:
        """Ask for more, where there is more and room for it."""
        if lane.more and lane.hungry:
            lane.more = False
            self._lobby.leave(lane.due.destination)
            self._kicked.set()
        if lane.more_high and not lane.pending.high:
            lane.more_high = False
            self._rush.add(lane.due.destination)
            self._kicked.set()

    def _over(self, lane: Lane) -> None:
        destination = lane.due.destination
        self._lanes.pop(destination, None)
        self._lobby.leave(destination)
        self._paces.rest(destination, lane.pace, self._clock.monotonic())
        if lane.more or lane.more_high:
            self._kicked.set()

    async def _expire_pending(self, now: int) -> None:
        """What waits in hand behind something that does not end."""
        late = [(lane, claimed) for lane in self._lanes.values() for claimed in lane.pending.take_late(now)]
        for lane, claimed in late:
            await self._crew.expire(lane, claimed, now)


async def _all(
    claims: Sequence[Coroutine[None, None, Sequence[Claimed]]],
) -> Sequence[Sequence[Claimed] | BaseException]:
    """What each came to."""
    if len(claims) > 1:
        return await asyncio.gather(*claims, return_exceptions=True)
    try:  # without a task for it
        return [await claims[0]]
    except StoreError as error:
        return [error]


_Wish = tuple[Lane, int, int]  # a lane, for how many recipients it has room, and how many to claim
