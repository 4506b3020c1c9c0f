"""What becomes of requests to endpoints, as metrics."""

from gateway.metrics import Metrics


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
