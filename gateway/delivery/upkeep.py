"""What is done beside delivering: leases are taken back and renewed, what is too old expires, what is old is dropped.

Guarantees: each is a task of its own, so what is stuck elsewhere still expires and is given back; a store that cannot
be written ends none of them, and a step of the sweeper that fails none of the others; what this process has in hand is
never taken back from it. What a dead process had in hand is taken back at once after a start, but nobody waits for
it: those rows may be all over a large database. What was done is told as soon as it is, whatever fails next. It
delivers nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.delivery.figures import DeliveryFigures
from gateway.delivery.lifetime import Lifetime
from gateway.errors import StoreError
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Attempt, Queue, Reclaimed

LEASE_MS: Final = 15 * 60 * 1000
RENEW_S: Final = 5 * 60.0
RENEW_ROWS: Final = 1000  # of ten thousand at most: a few milliseconds of the writer

log = logging.getLogger("gateway.delivery")


class Upkeep:
    """`in_hand` says what is, as (recipient, fence); `expire_in_hand` fails what is too old of it and was not begun;
    `tell` is given what was failed otherwise, and is written down."""

    def __init__(
        self,
        queue: Queue,
        figures: DeliveryFigures,
        *,
        clock: Clock,
        life: Lifetime,
        in_hand: Callable[[], Sequence[tuple[int, int]]],
        expire_in_hand: Callable[[int], Awaitable[None]],
        tell: Callable[[Sequence[Attempt]], None],
        sweep_s: float,
    ) -> None:
        self._queue = queue
        self._figures = figures
        self._clock = clock
        self._life = life
        self._in_hand = in_hand
        self._expire_in_hand = expire_in_hand
        self._tell = tell
        self._sweep_s = sweep_s
        self._renewed_s = clock.monotonic()

    def start(self, supervisor: Supervisor) -> None:
        supervisor.start(self._take_back(), name="lease-reclaim", critical=True)
        supervisor.start(self._sweep(), name="sweeper", critical=True)
        supervisor.start(self._renew(), name="lease-renewal", critical=True)

    async def _take_back(self) -> None:
        """What is still in hand then, the sweeper finds."""
        try:
            reclaimed = await self._queue.reclaim(self._clock.now_ms())
        except StoreError as error:
            log.error("the sweeper cannot work: %s", error)  # noqa: TRY400 - cause in the text
            return
        if reclaimed.given_back:
            text = "%d recipients were in hand when the last process ended; they are tried again"
            log.warning(text, reclaimed.given_back)
        self._tell_reclaimed(reclaimed)

    async def _sweep(self) -> None:
        steps = (self._reclaim, self._expire, self._expire_in_hand, self._queue.sweep)
        while True:
            await asyncio.sleep(self._sweep_s)
            now = self._life.now_ms()
            for step in steps:
                try:
                    await step(now)
                except StoreError as error:
                    log.error("the sweeper cannot work: %s", error)  # noqa: TRY400 - cause in the text

    async def _reclaim(self, now: int) -> None:
        """Not what is in hand here: after a time without renewals (a full disk, a process that was stopped) that is
        renewed before anything is taken back."""
        if self._clock.monotonic() >= self._renewed_s + RENEW_S:
            await self._renew_all()
        reclaimed = await self._queue.reclaim(now)
        if reclaimed.given_back:
            log.warning("%d leases ran out; their recipients are tried again", reclaimed.given_back)
        self._tell_reclaimed(reclaimed)

    async def _expire(self, now: int) -> None:
        if expired := await self._queue.expire(now):
            self._figures.expired.value += expired
            log.warning("%d recipients expired in the queue", expired)

    def _tell_reclaimed(self, reclaimed: Reclaimed) -> None:
        """What was failed in place of being given back has lines of its own in the mail log."""
        self._figures.reclaimed.value += reclaimed.count
        if reclaimed.lost:
            text = "%d recipients may have been delivered and failed: their mail is to be delivered at most once"
            log.warning(text, len(reclaimed.lost))
            self._tell(reclaimed.lost)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew_all()
            except StoreError as error:
                log.error("leases cannot be renewed: %s", error)  # noqa: TRY400 - cause in the text

    async def _renew_all(self) -> None:
        recipients = self._in_hand()
        for start in range(0, len(recipients), RENEW_ROWS):
            until = self._clock.now_ms() + LEASE_MS
            await self._queue.renew(recipients[start : start + RENEW_ROWS], until)
        self._renewed_s = self._clock.monotonic()
