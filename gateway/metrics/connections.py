"""Connections of both directions: how many there are, and how they are encrypted."""

from gateway.metrics import Metrics


class ConnectionFigures:
    """`open` is read by door; `tls` counts by direction (in, out) and version (TLSv1.2, TLSv1.3, none)."""

    def __init__(self, metrics: Metrics) -> None:
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
