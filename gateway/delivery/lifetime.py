"""How late it is for the life of mail: the wall clock, but for steps forward that it has only just made.

A clock that is set a year ahead, by mistake or because it was a year behind, makes everything queued look too old at
once. Guarantees: after a step forward nothing expires, is swept or comes out of hand by it for four hours, in which
each recipient is tried once more; a step back that undoes it ends that at once; each step is logged. Time that a
suspended machine slept through is a step, too. It does not move what waits for a time (a later try, a time to be sent
at): a step forward makes it due, and it is tried at the pace of any mail. It knows nothing of steps that were made
while no daemon ran.
"""

import logging
from typing import Final

from gateway.runtime import Clock

STEP_MS: Final = 10 * 60 * 1000  # what a clock is set by, less than a lease; less moves no mail's life noticeably
HELD_S: Final = 4 * 3600.0  # the longest pause between two tries by default

_HOUR_MS: Final = 3600 * 1000

log = logging.getLogger("gateway.delivery")


class Lifetime:
    """Used in the loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_ms = clock.now_ms()
        self._monotonic_s = clock.monotonic()
        self._held_ms = 0
        self._until_s = 0.0

    def now_ms(self) -> int:
        """Unix milliseconds by which lifetimes, leases and retention are judged."""
        wall_ms, monotonic_s = self._clock.now_ms(), self._clock.monotonic()
        step_ms = wall_ms - self._wall_ms - int((monotonic_s - self._monotonic_s) * 1000)
        self._wall_ms, self._monotonic_s = wall_ms, monotonic_s
        if step_ms >= STEP_MS:
            self._forward(step_ms, monotonic_s)
        elif step_ms <= -STEP_MS:
            self._back(-step_ms)
        elif self._held_ms and monotonic_s >= self._until_s:
            self._held_ms = 0
            log.warning("the clock is believed from now on: what is too old by it expires")
        return wall_ms - self._held_ms

    def end_of(self, expires_at: int) -> int:
        """The end of a life, on the wall clock."""
        self.now_ms()
        return expires_at + self._held_ms

    def _forward(self, step_ms: int, monotonic_s: float) -> None:
        self._held_ms += step_ms
        self._until_s = monotonic_s + HELD_S
        log.warning(
            "the clock was set forward by %.1f h: is it right? Nothing expires by that for %d h",
            step_ms / _HOUR_MS,
            HELD_S / 3600,
        )

    def _back(self, step_ms: int) -> None:
        self._held_ms = max(0, self._held_ms - step_ms)
        log.warning(
            "the clock was set back by %.1f h: mail that waits for another try waits longer by as much",
            step_ms / _HOUR_MS,
        )
