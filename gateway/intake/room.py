"""May mail be taken now: is there room for it, and can it be written at all?

Guarantees: it is refused before anything breaks, at once and for both doors alike; what a client is told names no
path and no figure of ours.
"""

from collections.abc import Callable
from typing import Final

from gateway.errors import Reason, Refused

RETRY_S: Final = 30  # room comes back slowly

_NO_ROOM: Final = "There is no room for more mail now."
_AWAY: Final = "The mail store is not available now."

Take = Callable[[int], str]  # Space.take


class Room:
    """`take` says what there is no room in, `away` why nothing can be written; both "" where all is well."""

    def __init__(self, take: Take = lambda _count: "", away: Callable[[], str] = lambda: "") -> None:
        self._take = take
        self._away = away

    def check(self, count: int = 0) -> None:
        """So many bytes are about to be stored. Raises Refused."""
        if self._take(count):
            raise Refused(Reason.BACKLOG_FULL, _NO_ROOM, retry_after_s=RETRY_S)
        if self._away():
            raise Refused(Reason.STORAGE_UNAVAILABLE, _AWAY, retry_after_s=RETRY_S)
