"""The service manager is told that we are well (sd_watchdog_enabled(3)), and is not where we are not.

Guarantees: a sign of life leaves only when the event loop turns and every vital part was well a moment before; one part
that hangs is named in the log before the manager ends us. What well means is the parts' to say.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.runtime import notify_systemd

_AGAIN: Final = 10  # looks in one pause, while something is not well

log = logging.getLogger("gateway.watchdog")

Check = Callable[[], Awaitable[bool]]


def period_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often the manager wants to hear from this process; None where it does not."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 1_000_000


@dataclass(slots=True)
class Watchdog:
    """Gives signs of life until its task is cancelled. `parts` are those without which the daemon is none, by name."""

    period_s: float
    parts: Mapping[str, Check]

    async def run(self) -> None:
        pause_s = self.period_s / 2  # as sd_watchdog_enabled(3) recommends
        while True:
            if await self._well(pause_s):
                notify_systemd("WATCHDOG=1")
                await asyncio.sleep(pause_s)
            else:
                await asyncio.sleep(pause_s / _AGAIN)

    async def _well(self, within_s: float) -> bool:
        for name, check in self.parts.items():
            try:
                if await asyncio.wait_for(check(), within_s):
                    continue
                log.error("%s makes no progress", name)
            except TimeoutError:
                log.error("%s does not answer for %.1f s", name, within_s)  # noqa: TRY400 - that is all there is
            return False
        return True
