"""What is queued, as metrics: looked up when somebody asks, at most every few seconds.

Guarantees: however often it is scraped, the queue is counted once in KEEP_S, in a reader's thread and not on the loop;
where it cannot be read there are no values rather than old ones.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.config import Config
from gateway.errors import StoreError
from gateway.metrics import Metrics
from gateway.metrics.cells import Labels
from gateway.runtime import Clock
from gateway.store import space
from gateway.store.queue import Queue
from gateway.store.shown import Count, Suspension

KEEP_S: Final = 5.0
_PLACES: Final = ("ready", "waiting", "scheduled", "in_hand", "held", "suspended")


class DepthFigures:
    def __init__(self, metrics: Metrics) -> None:
        self.recipients = metrics.gauge(
            "queue_recipients",
            "Queued recipients: ready, waiting (for another try), scheduled (for the time they are to be sent at), "
            "in_hand, held, or suspended (ready, but an operator suspended their route or domain).",
            ("route", "place"),
        )
        self.oldest = metrics.gauge(
            "queue_oldest_age_seconds", "How long ago the oldest queued message was accepted.", ("route",)
        )
        self.suspensions = metrics.gauge("queue_suspensions", "Suspensions in force, those of keys too.")
        self.messages = metrics.gauge("backlog_messages", "Messages with a queued recipient.")
        self.most_messages = metrics.gauge(
            "backlog_max_messages", "No mail is taken above it (limits.backlog.messages)."
        )
        self.bytes = metrics.gauge("backlog_bytes", "Bytes in use in the database.")
        self.most_bytes = metrics.gauge("backlog_max_bytes", "No mail is taken above it (limits.backlog.bytes).")
        self.free = metrics.gauge("disk_free_bytes", "Free for us on the file system of the data directory.")
        self.free_files = metrics.gauge(
            "disk_free_files", "Files that can still be made there; none where the file system does not count them."
        )
        self.least_files = metrics.gauge("disk_min_free_files", "No mail is taken below it.")
        text = "No mail is taken below it (limits.free_disk, or less where the file system is small)."
        self.least_free = metrics.gauge("disk_min_free_bytes", text)


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found, by the labels of the gauges; `oldest` are times (Unix ms)."""

    recipients: Mapping[Labels, float] = field(default_factory=dict)
    oldest: Mapping[str, int] = field(default_factory=dict)
    suspensions: Mapping[Labels, float] = field(default_factory=dict)


class Depth:
    """Counts one queue for the gauges; `config` gives the configuration in force."""

    def __init__(self, queue: Queue, figures: DepthFigures, config: Callable[[], Config], clock: Clock) -> None:
        self._queue = queue
        self._config = config
        self._clock = clock
        self._look = _Look()
        self._until = 0.0  # the look is good
        self._looking = asyncio.Lock()
        figures.recipients.read = lambda: self._look.recipients
        figures.oldest.read = self._ages
        figures.suspensions.read = lambda: self._look.suspensions
        figures.messages.read = lambda: {(): queue.backlog().messages}
        figures.bytes.read = lambda: {(): queue.backlog().bytes}
        figures.most_messages.read = lambda: {(): config().limits.backlog_messages}
        figures.most_bytes.read = lambda: {(): config().limits.backlog_bytes}
        figures.free.read = lambda: self._disk(lambda disk: disk.free_bytes)
        figures.free_files.read = lambda: self._disk(lambda disk: disk.free_inodes if disk.inodes else None)
        figures.least_files.read = lambda: {(): space.INODES}
        figures.least_free.read = lambda: self._disk(lambda disk: space.bound(config().limits.free_disk, disk.bytes))

    async def refresh(self) -> None:
        """Count anew where the last look is too old."""
        async with self._looking:  # who comes meanwhile has what the first one found
            if self._clock.monotonic() >= self._until:
                self._look = await self._count()
                self._until = self._clock.monotonic() + KEEP_S

    async def _count(self) -> _Look:
        try:
            counts, suspensions = await self._queue.counts(), await self._queue.suspensions()
        except StoreError:
            return _Look()
        # Ten thousand destinations would hold up the loop for some milliseconds.
        return await asyncio.to_thread(_sum, counts, suspensions, tuple(self._config().routes))

    def _ages(self) -> Mapping[Labels, float]:
        now = self._clock.now_ms()
        return {(route,): max(0, now - at) / 1000 for route, at in self._look.oldest.items()}

    def _disk(self, figure: Callable[[space.Disk], float | None]) -> Mapping[Labels, float]:
        try:
            found = figure(space.look(self._config().data_dir))
        except OSError:
            return {}
        return {} if found is None else {(): found}


def _sum(counts: Sequence[Count], suspensions: Sequence[Suspension], routes: Iterable[str]) -> _Look:
    """By route; those without mail have their zeros."""
    known = {*routes, *(count.route for count in counts)}
    recipients: Counter[Labels] = Counter({(route, place): 0 for route in known for place in _PLACES})
    oldest: dict[str, int] = {}
    for count in counts:
        route = count.route
        ready = "suspended" if any(_covers(one, count) for one in suspensions) else "ready"
        recipients[route, ready] += count.ready
        recipients[route, "waiting"] += count.waiting - count.scheduled
        recipients[route, "scheduled"] += count.scheduled
        recipients[route, "in_hand"] += count.leased
        recipients[route, "held"] += count.held
        if count.oldest_at is not None:
            oldest[route] = min(count.oldest_at, oldest.get(route, count.oldest_at))
    return _Look(dict(recipients), oldest, {(): len(suspensions)})


def _covers(suspension: Suspension, count: Count) -> bool:
    """Whether nothing at all of that destination is tried."""
    return (
        suspension.key is None and suspension.route in {None, count.route} and suspension.domain in {None, count.domain}
    )
