"""What is counted in: a count, a distribution, and the families that hold one for each set of labels.

Guarantees: counting takes a tenth of a microsecond or two and no lock, so each cell has one thread that writes it; a
family has a bounded number of sets of labels, and what would be one more is counted under `other`. The library's own
cells are safe for any thread and cost ten times as much; these are turned into its values when somebody looks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

MOST_SERIES: Final = 1000  # unless a family says another number; each costs whoever stores it
OTHER: Final = "other"

Labels = tuple[str, ...]


class Count:
    """Add to `value`; it never falls."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Distribution:
    """How often a value was within each bound, and the sum of all values."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise; what is above the last one counts too."""
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many were within it)."""
        found: list[tuple[str, float]] = []
        within = 0
        for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), self.counts, strict=True):
            within += count
            found.append((bound, within))
        return found


Cell = TypeVar("Cell")


class _Family(Generic[Cell]):
    """Cells by their labels' values."""

    kind = ""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], make: Callable[[], Cell], most: int = MOST_SERIES
    ) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self._make = make
        self._most = most
        self._cells: dict[Labels, Cell] = {}

    def at(self, *values: str) -> Cell:
        """The cell of these labels' values, in the order of the names. Keep it where it is needed often."""
        cell = self._cells.get(values)
        return cell if cell is not None else self._new(values)

    def _new(self, values: Labels) -> Cell:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {values}")
        if len(self._cells) >= self._most:
            values = (OTHER,) * len(self.labels)
        return self._cells.setdefault(values, self._make())

    def cells(self) -> Iterable[tuple[Labels, Cell]]:
        return self._cells.copy().items()  # in one step: whoever looks may be another thread


class Counts(_Family[Count]):
    """A counter; its name ends in `_total`."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str], most: int = MOST_SERIES) -> None:
        super().__init__(name, text, labels, Count, most)

    def describe(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self.name, self.text, labels=self.labels)

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for values, cell in self.cells():
            family.add_metric(values, cell.value)
        yield family


class Distributions(_Family[Distribution]):
    """A histogram; its name ends in its unit."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, text, labels, lambda: Distribution(bounds))

    def describe(self) -> Iterator[Metric]:
        yield HistogramMetricFamily(self.name, self.text, labels=self.labels)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for values, cell in self.cells():
            family.add_metric(values, cell.buckets(), cell.total)
        yield family


class Gauge:
    """What is read when somebody looks: `read` gives values by the labels' values; until it is set there are none."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self.read: Callable[[], Mapping[Labels, float]] = dict

    def describe(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(self.name, self.text, labels=self.labels)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for values, value in self.read().items():
            family.add_metric(values, value)
        yield family
