"""What is done beside delivering: leases are taken back and renewed, what is too old expires, what is old is dropped.

Guarantees: each is a task of its own, so what is stuck elsewhere still expires and is given back; a store that cannot
be written ends none of them. What a dead process had in hand is taken back at once after a start, but nobody waits for
it: those rows may be all over a large database. It delivers nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.delivery.figures import DeliveryFigures
from gateway.delivery.lifetime import Lifetime
from gateway.errors import StoreError
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Queue

LEASE_MS: Final = 15 * 60 * 1000
RENEW_S: Final = 5 * 60.0
RENEW_ROWS: Final = 1000  # of ten thousand at most: a few milliseconds of the writer

log = logging.getLogger("gateway.delivery")


class Upkeep:
    """`in_hand` says what is, as (recipient, fence); `expire_in_hand` fails what is too old of it and was not begun,
    and returns how many recipients that were."""

    def __init__(
        self,
        queue: Queue,
        figures: DeliveryFigures,
        *,
        clock: Clock,
        life: Lifetime,
        in_hand: Callable[[], Sequence[tuple[int, int]]],
        expire_in_hand: Callable[[int], Awaitable[int]],
        sweep_s: float,
    ) -> None:
        self._queue = queue
        self._figures = figures
        self._clock = clock
        self._life = life
        self._in_hand = in_hand
        self._expire_in_hand = expire_in_hand
        self._sweep_s = sweep_s

    def start(self, supervisor: Supervisor) -> None:
        supervisor.start(self._take_back(), name="lease-reclaim", critical=True)
        supervisor.start(self._sweep(), name="sweeper", critical=True)
        supervisor.start(self._renew(), name="lease-renewal", critical=True)

    async def _take_back(self) -> None:
        """What is still in hand then, the sweeper finds."""
        try:
            given_back = await self._queue.reclaim(self._clock.now_ms())
        except StoreError as error:
            log.error("the sweeper cannot work: %s", error)  # noqa: TRY400 - cause in the text
            return
        if given_back:
            self._figures.reclaimed.value += given_back
            text = "%d recipients were in hand when the last process ended; they are tried again, if twice is allowed"
            log.warning(text, given_back)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            now = self._life.now_ms()
            try:
                run_out = await self._queue.reclaim(now)
                unclaimed = await self._queue.expire(now)
                self._figures.reclaimed.value += run_out
                self._figures.expired.value += unclaimed
                late = unclaimed + await self._expire_in_hand(now)
                await self._queue.sweep(now)
            except StoreError as error:
                log.error("the sweeper cannot work: %s", error)  # noqa: TRY400 - cause in the text
                continue
            if run_out:
                log.warning("%d leases ran out; their recipients are tried again", run_out)
            if late:
                log.warning("%d recipients expired in the queue", late)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            recipients = self._in_hand()
            try:
                for start in range(0, len(recipients), RENEW_ROWS):
                    until = self._clock.now_ms() + LEASE_MS
                    await self._queue.renew(recipients[start : start + RENEW_ROWS], until)
            except StoreError as error:
                log.error("leases cannot be renewed: %s", error)  # noqa: TRY400 - cause in the text
