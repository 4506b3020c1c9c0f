"""Connections of both directions: how many there are, and how they are encrypted.

Guarantees: every connection that is one too many is counted; the log tells of one of each door in TELL_S at most.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.metrics import Metrics

TELL_S: Final = 10.0

log = logging.getLogger("gateway.connections")


class ConnectionFigures:
    """`open` is read by door; `tls` counts by direction (in, out) and version (TLSv1.2, TLSv1.3, none)."""

    def __init__(self, metrics: Metrics, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told_at: dict[str, float] = {}  # by door
        self.open = metrics.gauge("connections", "Connections of clients that are open now.", ("door",))
        self.refused = metrics.counter(
            "connections_refused_total", "Connections of clients that were one too many.", ("door",)
        )
        self.refusals = metrics.counter(
            "smtp_refusals_total",
            "Replies 4xx and 5xx to clients of SMTP, by code and enhanced code.",
            ("door", "reply"),
        )
        self.tls = metrics.counter(
            "tls_sessions_total",
            "Connections by direction and version of TLS; none: outgoing ones that stayed in clear.",
            ("direction", "version"),
        )

    def one_too_many(self, door: str, peer: str, from_peer: int, total: int) -> None:
        """A client of that address was turned away; so many connections are open from there, and in all."""
        self.refused.at(door).value += 1
        now = self._monotonic()
        if door not in self._told_at or now - self._told_at[door] >= TELL_S:
            self._told_at[door] = now
            log.warning("too many connections by %s: %s has %d of %d", door, peer, from_peer, total)
