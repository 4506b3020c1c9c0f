"""While the disk takes nothing: who waits for it, how it is found out that it does again, what is told.

Guarantees: what must be written is tried at once, for room is made for it (writer.py), and then waits until it is
written; nobody but one small write a second asks the disk meanwhile, and all go on when that succeeds; the log has a
line when it begins and one when it ends, however often it is tried. After a failed fsync nothing is waited for: then
the store has failed, and who waits learns it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from gateway.errors import StoreError, StoreFull
from gateway.store.connection import Damaged, Unwritable
from gateway.store.db import Statements, Transaction
from gateway.store.writer import Verb, Writer

RETRY_S: Final = 1.0
TOLD_S: Final = 3.0  # it has ended when it was over for so long
DAMAGED_S: Final = 300.0  # the longest pause before something is tried again that a damaged page does not take

AWAY: Final = (StoreFull, Unwritable)  # what is waited for

Argument = TypeVar("Argument")
Result = TypeVar("Result")

log = logging.getLogger("gateway.store")


class Hardship:
    """For one event loop. `on_over` is called whenever writing goes on."""

    def __init__(self, writer: Writer, sql: Statements, *, on_over: Callable[[], None]) -> None:
        self._writer = writer
        self._put = sql["instance_put"]
        self._on_over = on_over
        self._over: asyncio.Future[None] | None = None  # there is none while all is well
        self._telling: asyncio.TimerHandle | None = None
        self._since: float | None = None  # what was told last: that it began then
        self.reason = ""

    @property
    def is_on(self) -> bool:
        return self._over is not None

    async def insist(self, verb: Verb[Argument, Result], argument: Argument, size: int = 0) -> Result:
        """Call a verb of the writer until it is written. Raises StoreError where the store has failed or is closed,
        and what the verb raised."""
        pause_s = RETRY_S
        while True:
            try:
                return await self._writer.submit(verb, argument, size, needed=True)
            except AWAY as error:
                self.begin(error)
            except Damaged as error:
                # What happened is not forgotten, and not tried anew by anybody, as long as this process lives.
                log.error("what became of a delivery cannot be written: %s", error)  # noqa: TRY400 - cause in the text
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, DAMAGED_S)
            if self._over is not None:
                await asyncio.shield(self._over)

    async def heed(self, written: Awaitable[Result]) -> Result:
        """A write of the background: where the disk is the reason that it failed, everybody waits for that."""
        try:
            return await written
        except AWAY as error:
            self.begin(error)
            raise

    def begin(self, error: StoreError) -> None:
        """A write failed for want of room, or of a disk."""
        if self._over is not None:
            return
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        self.reason = str(error)
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._since is None:
            self._since = loop.time()
            log.error("the queue cannot be written: no mail is taken, delivering waits. %s", error)
        loop.call_later(RETRY_S, self._try)

    def _try(self) -> None:
        self._writer.submit(self._probe, None).add_done_callback(self._tried)

    def _probe(self, tx: Transaction, calls: Sequence[None]) -> list[None]:
        tx.cursor.execute(self._put, ("probe", 1))
        return [None] * len(calls)

    def _tried(self, future: "asyncio.Future[None]") -> None:
        if self._over is None or future.cancelled():
            return
        loop = future.get_loop()
        if isinstance(future.exception(), AWAY):
            loop.call_later(RETRY_S, self._try)
            return
        self._over.set_result(None)
        self._over = None
        if future.exception() is None:
            self._telling = loop.call_later(TOLD_S, self._tell_end)
            self._on_over()

    def _tell_end(self) -> None:
        if self._since is not None:
            waited_s = asyncio.get_running_loop().time() - self._since
            self._since = None
            log.warning("the queue can be written again, after %.0f s", waited_s)
