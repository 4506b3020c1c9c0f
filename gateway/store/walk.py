"""A walk over a table in the order of its keys, in small steps, begun again when it is worth it.

Guarantees: what comes of age behind the last position is met at the next call; what stayed is looked at again, at once
where it is little, else after a pause that grows with it: a walk takes a share of the writer's time that does not grow
with the database. It knows no statement.
"""

from dataclasses import dataclass
from typing import Final

_FEW: Final = 100  # rows that stayed: they are looked at again each time
_PAUSE_MS: Final = 10  # for each row, which is about five microseconds of work
_LONGEST_MS: Final = 24 * 3600 * 1000


@dataclass(slots=True)
class Walk:
    """`after` is the last position."""

    after: int = 0
    _stayed: int = 0
    _again_at: int | None = None  # None: this walk is not at its end

    def begin(self, now: int) -> int:
        """The position to go on from: the start where the last walk came to its end long enough ago."""
        again_at = self._again_at
        # Further away than that: the clock was set back.
        if again_at is not None and not now < again_at <= now + _LONGEST_MS:
            self.after, self._stayed, self._again_at = 0, 0, None
        return self.after

    def went(self, last: int | None, *, stayed: int, more: bool, now: int) -> None:
        """A step was done up to `last` (None: there was nothing), and so many of its rows are still there; without
        `more` the walk is at its end, for now."""
        self.after = self.after if last is None else last
        self._stayed += stayed
        if not more and self._again_at is None:
            pause_ms = self._stayed * _PAUSE_MS if self._stayed >= _FEW else 0
            self._again_at = now + min(_LONGEST_MS, pause_ms)
