"""Everything that is counted in the daemon, and the requests of the HTTP door, as metrics."""

import platform

import gateway
from gateway.api.trackwriter import TrackFigures
from gateway.delivery.figures import DeliveryFigures, OutgoingFigures
from gateway.intake.figures import IntakeFigures
from gateway.metrics import Description, Metrics
from gateway.metrics.connections import ConnectionFigures
from gateway.metrics.looplag import LoopLag
from gateway.resolver.figures import ResolverFigures
from gateway.store.depth import DepthFigures
from gateway.store.figures import StoreFigures
from gateway.webhooks.figures import WebhookFigures

UNKNOWN_PATH = "unknown"  # of requests that nothing serves: their own paths are anybody's words


class HttpFigures:
    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.counter(
            "http_requests_total",
            "Requests by the path that serves them ({} stands for its variable segment) and the status of the answer.",
            ("path", "status"),
        )


def describe() -> tuple[Description, ...]:
    """Every metric of the daemon but process_*, by name, for its documentation."""
    return Figures().metrics.describe()


class Figures:
    """One for each Gateway; its parts go to who counts in them."""

    def __init__(self) -> None:
        self.metrics = metrics = Metrics()
        self.connections = ConnectionFigures(metrics)
        self.intake = IntakeFigures(metrics)
        self.depth = DepthFigures(metrics)
        self.delivery = DeliveryFigures(metrics)
        self.outgoing = OutgoingFigures(metrics)
        self.store = StoreFigures(metrics)
        self.resolver = ResolverFigures(metrics)
        self.http = HttpFigures(metrics)
        self.webhooks = WebhookFigures(metrics)
        self.track = TrackFigures(metrics)
        self.loop = LoopLag(metrics)
        self.ready = metrics.gauge("ready", "1 while mail is taken, else 0; /health/ready says why.")
        build = metrics.gauge("build_info", "1; the version that runs.", ("version", "python"))
        build.read = lambda: {(gateway.__version__, platform.python_version()): 1}
        metrics.watch_process()
