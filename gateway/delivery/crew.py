"""The workers: each delivers for one lane, a message at a time, until there is nothing left for it.

Guarantees: a lane has no more workers than its pace allows; a worker takes its next message only after the result of
the last one is committed, so where state cannot be written delivering stops by itself; what expired in hand is not
tried; who is refused a connection while another worker of the lane has one leaves its message to that one, and the lane
gets narrower. What is claimed, and when, is not decided here (scheduler.py).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.delivery import pacing, untried
from gateway.delivery.hand import Hand
from gateway.delivery.lane import FIRST_CLAIM, MOST, Lane
from gateway.delivery.ledger import Ledger
from gateway.delivery.lifetime import Lifetime
from gateway.delivery.pacing import Outcome
from gateway.runtime import Supervisor
from gateway.store.queue import Attempt, Claimed, Due


class Carrier(Protocol):
    """One worker's hold on its destination: keeps a connection between messages."""

    async def deliver(self, claimed: Claimed) -> Sequence[Attempt]:
        """Try all recipients; never raises for what a peer does. Empty: nobody was told of it, and it should wait for
        the connection that another carrier of its destination has."""

    def close(self) -> None:
        """Give the connection back."""


class Couriers(Protocol):
    """Makes carriers (attempt.py)."""

    def carrier(self, due: Due) -> Carrier: ...


@dataclass(frozen=True, slots=True)
class Calls:
    """What the workers say: `begins` before each message of a lane, `over` when the last one of a lane has gone, `room`
    when who was turned away should ask again."""

    begins: Callable[[Lane], None]
    over: Callable[[Lane], None]
    room: Callable[[], None]


class Crew:
    """`idle` is set while there are none. Once `stopping`, nothing is left to another worker any more."""

    def __init__(
        self, couriers: Couriers, supervisor: Supervisor, ledger: Ledger, hand: Hand, *, life: Lifetime, calls: Calls
    ) -> None:
        self._couriers = couriers
        self._supervisor = supervisor
        self._ledger = ledger
        self._hand = hand
        self._life = life
        self._calls = calls
        self.workers = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.stopping = False

    def staff(self, lane: Lane) -> None:
        """As many workers as there is work for, within the lane's width."""
        while lane.workers < lane.pace.width and (claimed := lane.take()) is not None:
            lane.workers += 1
            self.workers += 1
            self.idle.clear()
            self._supervisor.start(self._work(lane, claimed), name=f"deliver {lane.due.route} {lane.due.domain}")

    async def expire(self, lane: Lane, claimed: Claimed, now: int) -> None:
        """Its time was over before its turn came."""
        await self._ledger.settle((untried.expired(claimed, lane.due, now),))
        self._drop(lane, claimed)

    async def _work(self, lane: Lane, first: Claimed) -> None:
        carrier = self._couriers.carrier(lane.due)
        claimed: Claimed | None = first
        try:
            while claimed is not None:
                self._calls.begins(lane)
                stays = True
                if claimed.expires_at > (now := self._life.now_ms()):
                    stays = await self._deliver(lane, claimed, carrier)
                else:
                    await self.expire(lane, claimed, now)
                lane.done(claimed)
                claimed = lane.take() if stays and lane.workers <= lane.pace.width else None
                if stays:
                    self.staff(lane)
        finally:
            carrier.close()
            if claimed is not None:
                self._lose(lane, claimed)
            self._leave(lane)

    def _lose(self, lane: Lane, claimed: Claimed) -> None:
        """A worker broke down or was cancelled: the lease runs out, and then it is tried again."""
        lane.done(claimed)
        self._hand.drop(lane, claimed)

    def _leave(self, lane: Lane) -> None:
        """A worker goes."""
        lane.workers -= 1
        self.workers -= 1
        if not lane.workers:
            for claimed in lane.pending.take_all():  # only where all of them broke down
                self._hand.drop(lane, claimed)
            self._calls.over(lane)
        if not self.workers:
            self.idle.set()

    async def _deliver(self, lane: Lane, claimed: Claimed, carrier: Carrier) -> bool:
        """False: the lane has more workers than its host takes connections."""
        era = lane.pace.era
        attempts = await carrier.deliver(claimed)
        if not attempts:
            await self._leave_to_another(lane, claimed, era)
            return False
        await self._ledger.settle(attempts)
        self._drop(lane, claimed)
        said = pacing.outcome(attempts)
        if said is not None and (said is not Outcome.SENT or lane.claim_size < MOST or not lane.pace.full):
            self._learn(lane, said, era)
        return True

    async def _leave_to_another(self, lane: Lane, claimed: Claimed, era: int) -> None:
        """To a worker that has a connection. It is still there: nothing was awaited since the carrier said so."""
        self._learn(lane, Outcome.SLOWED, era)
        if not self.stopping:
            lane.pending.add(claimed)
            return
        self._hand.drop(lane, claimed)
        await self._ledger.give_back([(lane.due, claimed)])

    def _learn(self, lane: Lane, said: Outcome, era: int) -> None:
        """A lane that delivers gets wider and holds more, one that does not goes back to its beginnings."""
        was_proven = lane.pace.proven
        lane.pace.see(said, era)
        self._hand.changed(lane, was_proven=was_proven)
        lane.claim_size = min(lane.claim_size * 2, MOST) if said is Outcome.SENT else FIRST_CLAIM

    def _drop(self, lane: Lane, claimed: Claimed) -> None:
        self._hand.drop(lane, claimed)
        if self._hand.has_room_again():
            self._calls.room()
