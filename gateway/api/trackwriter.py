"""Openings and clicks on their way into the event log: in the background, so that nobody waits for the disk.

Guarantees: what is asked for is answered whatever becomes of the event; of one recipient MOST_A_MINUTE openings and as
many clicks are written a minute, those of people and of machines apart, and the others only counted; memory is
bounded, and what finds no room, or a store that fails, is lost and counted. What was noted before a stop is written.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.errors import StoreError
from gateway.metrics import Metrics
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Heard

MOST_A_MINUTE: Final = 20  # events of one recipient and kind: a person does not do more, and a link is anybody's
MOST_WAITING: Final = 4096  # events of at most some 9 KB: 36 MB, and usually a twentieth
STOP_S: Final = 5.0
BATCH: Final = 128  # written in one transaction
_MOST_RECIPIENTS: Final = 50_000  # whose events are counted in one minute
_MINUTE_S: Final = 60

Settle = Callable[[Sequence[Heard]], Awaitable[Sequence[bool]]]
_Key = tuple[int, int, str, bool]

log = logging.getLogger("gateway.api")


class TrackFigures:
    def __init__(self, metrics: Metrics) -> None:
        self.visits = metrics.counter(
            "visits_total",
            "Openings and clicks by what became of them: written, unchanged (nothing of it is kept any more), too_many"
            " (of one recipient), lost (no room, or the store failed).",
            ("type", "fate"),
        )


class TrackWriter:
    """`settle` is the store's."""

    def __init__(self, settle: Settle, clock: Clock, figures: TrackFigures | None = None) -> None:
        self._settle = settle
        self._clock = clock
        self._visits = (figures or TrackFigures(Metrics())).visits
        self._waiting: deque[Heard] = deque()
        self._noted = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._minute = -1
        self._counts: dict[_Key, int] = {}

    def start(self, supervisor: Supervisor) -> None:
        supervisor.start(self._run(), name="tracking", critical=True)

    async def stop(self) -> None:
        """Returns when what was noted is written or lost, at most STOP_S later. After it `note` is of no use."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._written.wait()

    def note(self, heard: Heard) -> None:
        """An OPENED or CLICKED, to be written soon."""
        if not self.allows(heard):
            self._count(heard, "too_many")
        elif len(self._waiting) >= MOST_WAITING:
            self._count(heard, "lost")
        else:
            self._waiting.append(heard)
            self._written.clear()
            self._noted.set()

    def allows(self, heard: Heard) -> bool:
        """Whether one more of this recipient and kind is written in this minute; it counts."""
        minute = int(self._clock.monotonic()) // _MINUTE_S
        if minute != self._minute or len(self._counts) >= _MOST_RECIPIENTS:
            self._minute = minute
            self._counts.clear()
        key = (heard.message, heard.recipient, heard.type.value, bool(heard.machine))
        count = self._counts.get(key, 0)
        if count >= MOST_A_MINUTE:
            return False
        self._counts[key] = count + 1
        return True

    async def _run(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            while self._waiting:
                await self._write([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])
            self._written.set()

    async def _write(self, batch: Sequence[Heard]) -> None:
        try:
            changed = await self._settle(batch)
        except StoreError as error:
            log.warning("openings and clicks are lost: %s", error)
        except Exception:  # what strangers ask for must never end the daemon
            log.exception("openings and clicks cannot be written")
        else:
            for heard, written in zip(batch, changed, strict=True):
                self._count(heard, "written" if written else "unchanged")
            return
        for heard in batch:
            self._count(heard, "lost")

    def _count(self, heard: Heard, fate: str) -> None:
        self._visits.at(heard.type.value, fate).value += 1
