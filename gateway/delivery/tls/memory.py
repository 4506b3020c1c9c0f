"""Hosts with which opportunistic TLS failed: for a while they are contacted in clear at once.

Guarantees: bounded in number and time; a host whose TLS works is forgotten. Only who may send in clear asks here: where
a route or a policy demands TLS, nothing of this counts.
"""

import time
from collections.abc import Callable
from typing import Final

KEPT_S: Final = 3600.0  # a host that is mended has TLS again after that
HOSTS: Final = 10_000  # that are remembered; who is not costs one connection more

Place = tuple[str, int, str]  # address, port, lowest version of TLS


class TlsMemory:
    """Why TLS failed, by place."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._failed: dict[Place, tuple[str, float]] = {}

    def reason(self, place: Place) -> str | None:
        """Why TLS failed there not long ago; None: try it."""
        known = self._failed.get(place)
        if known is None:
            return None
        if known[1] <= self._monotonic():
            del self._failed[place]
            return None
        return known[0]

    def remember(self, place: Place, reason: str) -> None:
        """TLS has just failed there."""
        self._failed.pop(place, None)
        while len(self._failed) >= HOSTS:
            del self._failed[next(iter(self._failed))]
        self._failed[place] = (reason, self._monotonic() + KEPT_S)

    def forget(self, place: Place) -> None:
        """TLS works there."""
        self._failed.pop(place, None)

    def __len__(self) -> int:
        return len(self._failed)
