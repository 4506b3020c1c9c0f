"""What becomes of requests to endpoints, as metrics."""

from collections.abc import Callable, Sequence

from gateway.metrics import Metrics
from gateway.store.webhook import Standing
from gateway.webhooks.backlog import Backlog


class WebhookFigures:
    """Outcomes are those of schedule.py."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.counter(
            "webhook_requests_total",
            "Requests to webhook endpoints by outcome: delivered (2xx), refused (another answer), gone (410), timeout, "
            "unreachable, blocked (an address that is not allowed).",
            ("outcome",),
        )
        self.given_up = metrics.counter("webhook_dead_total", "Events that were given up after their last retry.").at()
        self.endpoints = metrics.gauge("webhook_endpoints", "Webhook endpoints, by state.", ("state",))
        self.parked = metrics.gauge("webhook_parked_events", "Events that failed, or wait behind one that did.")
        self.lag = metrics.gauge(
            "webhook_lag_events", "Events in the log that the slowest active endpoint has not come to yet."
        )

    def read(self, backlogs: Callable[[], Sequence[Backlog]], last: Callable[[], int]) -> None:
        """What is looked up for whoever asks; `last`: the number of the last event that was read. The store may go on
        from a far higher one, after a restoration."""
        self.endpoints.read = lambda: _states(backlogs())
        self.parked.read = lambda: {(): sum(one.parked for one in backlogs())}
        self.lag.read = lambda: {(): _lag(backlogs(), last())}


def _states(backlogs: Sequence[Backlog]) -> dict[tuple[str, ...], float]:
    counts: dict[tuple[str, ...], float] = {(state.value,): 0 for state in Standing}
    for one in backlogs:
        counts[one.record.state.value,] += 1
    return counts


def _lag(backlogs: Sequence[Backlog], last: int) -> int:
    return max((max(0, last - one.cursor) for one in backlogs if one.active), default=0)
