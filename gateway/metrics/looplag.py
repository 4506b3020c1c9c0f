"""How late the event loop is: while it is held up, nothing else in this process moves.

Guarantees: a hold-up of INTERVAL_S or more is seen, with its length but for that; the log tells of one above ALARM_S,
at most once a minute. What held it up is not known here.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.metrics import Metrics

INTERVAL_S: Final = 0.1  # between two looks
ALARM_S: Final = 1.0
MINUTE_S: Final = 60.0
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

log = logging.getLogger("gateway.runtime")


class LoopLag:
    """Looks at the loop that runs `watch`."""

    def __init__(self, metrics: Metrics, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen = metrics.distribution(
            "loop_lag_seconds", "How late the event loop ran a timer, looked at ten times a second.", _BOUNDS
        ).at()
        text = "The longest that the event loop was late, in this minute and the one before it."
        metrics.gauge("loop_lag_max_seconds", text).read = lambda: {(): max(self._worst, self._worst_before)}
        self._worst = self._worst_before = 0.0  # in this minute, in the one before
        self._minute_ends = monotonic() + MINUTE_S
        self._told_at: float | None = None

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            due = self._monotonic() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.note(max(0.0, self._monotonic() - due))

    def note(self, lag_s: float) -> None:
        """One look."""
        now = self._monotonic()
        if now >= self._minute_ends:
            # After a hold-up of more than a minute the one before it is long gone.
            self._worst_before = self._worst if now < self._minute_ends + MINUTE_S else 0.0
            self._worst = 0.0
            self._minute_ends = now + MINUTE_S
        self._seen.observe(lag_s)
        self._worst = max(self._worst, lag_s)
        if lag_s >= ALARM_S and (self._told_at is None or now - self._told_at >= MINUTE_S):
            self._told_at = now
            log.warning("the event loop was held up for %.1f s: all mail waited", lag_s)
