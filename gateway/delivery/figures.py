"""What attempts came to, and what they needed, as metrics.

Guarantees: labels are names of routes, outcomes and bounce classes; a route that the configuration does not know any
more keeps its name for as long as mail of it is queued. Of more than MOST_ROUTES the last ones share the name `other`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from gateway.events import BounceClass, EventType
from gateway.metrics import Count, Distribution, Metrics
from gateway.metrics.cells import OTHER
from gateway.store.queue import Attempt

UNQUEUED_ROUTE: Final = "pass_through"  # of all mail for relays that requests name
MOST_ROUTES: Final = 999  # and `other`
_ATTEMPT_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DELIVERY_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28_800, 86_400, 432_000)
_SIGNING_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_OUTCOMES: Final = (
    EventType.DELIVERED,
    EventType.DEFERRED,
    EventType.BOUNCED,
    EventType.FAILED,
    EventType.EXPIRED,
    EventType.CAPTURED,
    EventType.SUPPRESSED,
)
_DELIVERED: Final = EventType.DELIVERED
_TIME_BYTES: Final = 6  # of a UUIDv7, that say when its message was accepted


class _Route:
    """The cells of one route."""

    __slots__ = ("arrived", "attempts", "delivered", "outcomes", "took")

    def __init__(
        self, attempts: Count, outcomes: dict[EventType, Count], took: Distribution, arrived: Distribution
    ) -> None:
        self.attempts = attempts
        self.outcomes = outcomes
        self.delivered = outcomes[_DELIVERED]  # to look it up would take as long as all the rest
        self.took = took
        self.arrived = arrived


class DeliveryFigures:
    def __init__(self, metrics: Metrics) -> None:
        self._attempts = metrics.counter(
            "attempts_total",
            "Attempts to deliver a message to one destination; not those that ended before a host was asked, because "
            "none had answered there a moment ago.",
            ("route",),
        )
        self._outcomes = metrics.counter(
            "recipient_outcomes_total",
            "What attempts came to, by recipient: delivered, deferred, bounced, failed, expired, captured, suppressed.",
            ("route", "outcome"),
            most=len(_OUTCOMES) * (MOST_ROUTES + 1),
        )
        self._classes = metrics.counter(
            "recipients_not_delivered_total",
            "Recipients that an attempt did not deliver to, by what came of it and its bounce class.",
            ("outcome", "class"),
        )
        self._took = metrics.distribution("attempt_seconds", "How long attempts took.", _ATTEMPT_S, ("route",))
        self._arrived = metrics.distribution(
            "delivery_seconds",
            "From acceptance to delivery, by recipient; of mail to be sent later, too.",
            _DELIVERY_S,
            ("route",),
        )
        self.expired = metrics.counter(
            "queue_expired_total", "Recipients whose time ended in the queue, between attempts."
        ).at()
        self.reclaimed = metrics.counter(
            "queue_reclaimed_total", "Recipients that were in hand of a process that died, or for too long."
        ).at()
        self._routes: dict[str, _Route] = {}

    def know(self, routes: Iterable[str]) -> None:
        """These are configured: each has its figures from now on, zeros where nothing was sent by it."""
        for name in routes:
            self._of(name)

    def settled(self, attempts: Sequence[Attempt], route: str | None = None) -> None:
        """These are written down. `route`: the name to count them under, unless it is their own."""
        for attempt in attempts:
            cells = self._of(route or attempt.route)
            ended_at = attempt.ended_at
            for result in attempt.results:
                event = result.event
                if event is _DELIVERED:
                    cells.delivered.value += 1
                    cells.arrived.observe(_seconds(int.from_bytes(attempt.uuid[:_TIME_BYTES]), ended_at))
                elif event is not None:
                    self._not_delivered(cells, event, result.bounce_class)
            if attempt.tried:
                cells.attempts.value += 1
                cells.took.observe(_seconds(attempt.started_at, ended_at))

    def _not_delivered(self, cells: _Route, event: EventType, bounce_class: BounceClass | None) -> None:
        cells.outcomes[event].value += 1  # an event of no attempt would be a mistake
        if bounce_class is not None:
            self._classes.at(event.value, bounce_class.value).value += 1

    def _of(self, name: str) -> _Route:
        return self._routes.get(name) or self._new(name)

    def _new(self, name: str) -> _Route:
        if len(self._routes) >= MOST_ROUTES and name != OTHER:
            return self._of(OTHER)
        outcomes = {event: self._outcomes.at(name, event.value) for event in _OUTCOMES}
        cells = _Route(self._attempts.at(name), outcomes, self._took.at(name), self._arrived.at(name))
        self._routes[name] = cells
        return cells


def _seconds(since_ms: int, until_ms: int) -> float:
    """Never less than nothing, though the clock may have been set back: sums do not fall."""
    return max(0, until_ms - since_ms) / 1000


class OutgoingFigures:
    """Connections to next hops, and the signing process."""

    def __init__(self, metrics: Metrics) -> None:
        self.connections = metrics.gauge(
            "outgoing_connections", "Connections to next hops: in_use (those being opened too) and idle.", ("state",)
        )
        self.most = metrics.gauge("outgoing_connections_max", "How many there may be (delivery.connections).")
        self.failed = metrics.counter(
            "outgoing_connections_failed_total", "Connections that could not be made, by how far they came.", ("stage",)
        )
        self.signing = metrics.distribution(
            "signing_seconds", "From asking for a DKIM signature to having it.", _SIGNING_S
        ).at()
        self.restarts = metrics.counter(
            "signer_restarts_total", "How often the signing process ended and was started again."
        ).at()
