"""What came of messages in hand is written down here; then it is counted, logged and told.

Guarantees: a result is written however long the store cannot be, and nobody hears of it before; a fault of who counts,
logs or listens costs the others and the worker nothing. What is given back and cannot be written stays leased: until
its lease runs out, or the next start.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway.delivery import telling, untried
from gateway.delivery.figures import DeliveryFigures
from gateway.errors import StoreError
from gateway.observe import MailLog
from gateway.runtime import Clock
from gateway.store.queue import Attempt, Claimed, Due, Queue

WRITE_RETRY_S: Final = 1.0

Listener = Callable[[Sequence[Attempt]], None]  # answers at once

log = logging.getLogger("gateway.delivery")


class Ledger:
    """`listeners` are told of every attempt that was written down."""

    def __init__(
        self,
        queue: Queue,
        figures: DeliveryFigures,
        *,
        clock: Clock,
        log: MailLog,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._listeners: Sequence[Listener] = (figures.settled, partial(telling.tell, log), *listeners)

    async def settle(self, attempts: Sequence[Attempt]) -> None:
        """Until it is written: a worker that cannot record a delivery must not make another."""
        while True:
            try:
                await self._queue.settle(attempts)
                break
            except StoreError as error:
                log.error("results cannot be written, delivering waits: %s", error)  # noqa: TRY400 - cause in the text
                await asyncio.sleep(WRITE_RETRY_S)
        self.tell(attempts)

    def tell(self, attempts: Sequence[Attempt]) -> None:
        """These are written down."""
        for listener in self._listeners:
            try:
                listener(attempts)
            except Exception:  # what was delivered is written down: nothing may end the worker for this
                log.exception("what came of attempts is not told everywhere")

    async def give_back(self, messages: Sequence[tuple[Due, Claimed]]) -> None:
        """Claimed and not tried, in one commit."""
        if not messages:
            return
        now = self._clock.now_ms()
        try:
            await self._queue.settle([untried.give_back(claimed, due, now) for due, claimed in messages])
        except StoreError as error:
            log.warning("%d messages could not be given back: %s", len(messages), error)
