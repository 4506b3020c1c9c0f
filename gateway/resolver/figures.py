"""DNS lookups, as metrics."""

from gateway.metrics import Metrics


class ResolverFigures:
    """Outcomes: cached (no question was asked), found, no_record, no_name, failed."""

    def __init__(self, metrics: Metrics) -> None:
        self.lookups = metrics.counter(
            "dns_lookups_total",
            "Lookups by type of record and outcome: cached (nothing was asked), found, no_record, no_name, failed.",
            ("type", "outcome"),
        )
