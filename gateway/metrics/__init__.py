"""Metrics for Prometheus: what is declared, and the text that is scraped.

Guarantees: names, units and HELP follow the conventions (a metric is declared where it changes, and a second of the
same name is a mistake that ends the start); no label is an address or free text; nothing is global: whoever counts is
given its cells by its constructor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from gateway.metrics.cells import MOST_SERIES, Count, Counts, Distribution, Distributions, Gauge

__all__ = ["PREFIX", "Count", "Counts", "Description", "Distribution", "Distributions", "Gauge", "Metrics"]

PREFIX: Final = "mailgateway_"  # one word, as the conventions have it

_Declared = TypeVar("_Declared", Counts, Distributions, Gauge)


@dataclass(frozen=True, slots=True)
class Description:
    """A metric as its reader looks it up. `kind` is counter, gauge or histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Metrics:
    """All metrics of a process. `registry` takes them; each gets one of its own unless one is given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = CollectorRegistry() if registry is None else registry
        self._declared: list[Counts | Distributions | Gauge] = []

    def counter(self, name: str, text: str, labels: Sequence[str] = (), *, most: int = MOST_SERIES) -> Counts:
        """`name` without the prefix, with `_total`; `most` sets of labels."""
        return self._declare(Counts(PREFIX + name, text, labels, most))

    def distribution(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> Distributions:
        """`bounds` in the unit that the name ends in."""
        return self._declare(Distributions(PREFIX + name, text, labels, bounds))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Set its `read`."""
        return self._declare(Gauge(PREFIX + name, text, labels))

    def watch_process(self) -> None:
        """Add process_*: memory, CPU, files and start of this process."""
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[Callable[[], bytes], str]:
        """The function that makes the text, and its content type, for an Accept field: OpenMetrics for whoever asks for
        it, else the text format 0.0.4. It may be called in a thread."""
        encode, content_type = choose_encoder(accept)
        return lambda: encode(self._registry), content_type

    def describe(self) -> tuple[Description, ...]:
        """What can be scraped but for process_*, by name."""
        found = [Description(one.name, one.kind, one.labels, one.text) for one in self._declared]
        return tuple(sorted(found, key=lambda one: one.name))

    def _declare(self, declared: _Declared) -> _Declared:
        self._registry.register(declared)
        self._declared.append(declared)
        return declared
