"""`python -m benchmarks.soak [--minutes 60] [--rate 100]`: a daemon under steady load, a line of figures every minute.

A real daemon takes mail by both doors and relays it to a sink that greylists some, refuses some and drops connections.
It must take mail in every minute, and all but one message in a thousand of what it is offered. At the end, everything
acknowledged must have arrived or been refused, and after the first sixth of the time nothing may have grown: memory by
less than 5 %, descriptors and tasks not at all, the write-ahead log never past 64 MB.
Exit code 1 where that is not so. Latencies are printed and judge nothing: other programs share the machine.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import apsw

from benchmarks import watched
from benchmarks.systems import scratch
from tests.peers.client import HttpClient, SmtpClient, message_bytes, message_json
from tests.peers.daemon import Daemon, dkim_domain, relay_to
from tests.peers.process import descendants, rss_mb
from tests.peers.sink import Sink

SENDER = "soak@example.com"
WORKERS = 10  # of each door, on kept connections
LARGE = 50  # one message in so many has 300 KB: past what is stored in one piece
PLACES = "ready", "waiting", "leased", "held"  # tables of the queue
GREYLISTED, REFUSED, DROPPED = 0.10, 0.02, 0.005  # shares of the recipients
RETRY = ["15s", "30s", "60s"]
MOST_GROWTH = 0.05
MOST_WAL_MB = 64.0
MOST_FAILED = 0.001  # of what was accepted
SPARE = 0.10  # descriptors and tasks go up and down with connections; this much of them, or 8, is no trend


@dataclass(slots=True)
class Fates:
    """What is to become of every recipient, decided by its number alone, and what has."""

    rng_seed: int = 1
    tried: set[str] = field(default_factory=set)
    arrived: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    twice: int = 0

    def answer(self, line: str) -> str | None:
        """The sink's answer to a command, None where it may accept."""
        if not line.startswith("RCPT"):
            return None
        to = line.partition("<")[2].partition(">")[0]
        chance = random.Random(f"{self.rng_seed} {to}").random()
        first = to not in self.tried
        self.tried.add(to)
        if chance < REFUSED:
            self.refused.add(to)
            return "550 5.1.1 nobody of that name"
        if first and chance < REFUSED + GREYLISTED:
            return "451 4.7.1 greylisted, come back later"
        if first and chance < REFUSED + GREYLISTED + DROPPED:
            return "421 4.3.2 closing"
        return None


@dataclass(slots=True)
class Load:
    """Submits by both doors at a steady rate until `stop` is set; counts and remembers what was acknowledged."""

    http_port: int
    smtp_port: int
    rate: float
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: set[str] = field(default_factory=set)
    failed: int = 0
    accept_s: list[float] = field(default_factory=list)

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        numbers = itertools.count()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._http(HttpClient(self.http_port), numbers))
                group.create_task(self._smtp(SmtpClient(self.smtp_port), numbers))

    async def _http(self, client: HttpClient, numbers: Iterator[int]) -> None:
        async for to, large in self._paced(numbers):
            text = "The quick brown fox jumps over the lazy dog, and again.\n" * (5_400 if large else 90)
            body = json.dumps(message_json(to, sender=SENDER, text=text)).encode()
            try:
                status, _ = await client.post(body)
            except (OSError, EOFError):
                status = 0
            self._note(to, accepted=status == 201, client=client)

    async def _smtp(self, client: SmtpClient, numbers: Iterator[int]) -> None:
        async for to, large in self._paced(numbers):
            content = message_bytes(to, sender=SENDER, size=300_000 if large else 5_000)
            try:
                code, _ = await client.send(SENDER, to, content)
            except (OSError, EOFError):
                code = 0
            self._note(to, accepted=code == 250, client=client)

    async def _paced(self, numbers: Iterator[int]) -> AsyncIterator[tuple[str, bool]]:
        """One recipient each time it is this worker's turn."""
        every = 2 * WORKERS / self.rate
        due = time.monotonic() + random.random() * every
        while not self.stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            number = next(numbers)
            began = time.monotonic()
            yield f"n{number}@example.net", number % LARGE == 0
            self.accept_s.append(time.monotonic() - began)
            due = max(due + every, time.monotonic() - every)

    def _note(self, to: str, *, accepted: bool, client: HttpClient | SmtpClient) -> None:
        if accepted:
            self.acknowledged.add(to)
        else:
            self.failed += 1
            client.close()


@dataclass(frozen=True, slots=True)
class Minute:
    """One line: what the daemon holds at its end, and what happened in it."""

    minute: int
    rss_mb: float
    fds: int
    threads: int
    tasks: int
    wal_mb: float
    db_mb: float
    queued: int
    accepted: int
    delivered: int
    p99_ms: float
    lag_ms: int

    @staticmethod
    def heading() -> str:
        return "".join(f"{one.name:>10}" for one in fields(Minute))

    def __str__(self) -> str:
        values = (getattr(self, one.name) for one in fields(self))
        return "".join(f"{value:10.1f}" if isinstance(value, float) else f"{value:10}" for value in values)


@dataclass(slots=True)
class Observer:
    """Looks at the daemon from outside."""

    daemon: Daemon
    sink: Sink
    load: Load
    fates: Fates
    watched: Path
    _accepted: int = 0

    def look(self, minute: int, lag_ms: int) -> Minute:
        pids = descendants(self.daemon.pid)
        accepted, times = len(self.load.acknowledged), sorted(self.load.accept_s)
        self.load.accept_s.clear()
        before, self._accepted = self._accepted, accepted
        return Minute(
            minute=minute,
            rss_mb=rss_mb(pids),
            fds=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
            threads=sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids),
            tasks=self.told()[0],
            wal_mb=self._size_mb("gateway.db-wal"),
            db_mb=self._size_mb("gateway.db"),
            queued=queued(self.daemon),
            accepted=accepted - before,
            delivered=self.collect(),
            p99_ms=times[int(len(times) * 0.99)] * 1000 if times else 0.0,
            lag_ms=lag_ms,
        )

    def told(self) -> tuple[int, int]:
        """(tasks, the loop's lag in milliseconds) as the daemon itself says."""
        tasks, lag = self.watched.read_text().split() if self.watched.exists() else ("0", "0")
        return int(tasks), int(lag)

    def collect(self) -> int:
        """Take from the sink what arrived, so that it need not remember; returns how much."""
        transactions = self.sink.transactions
        # The sink's thread appends; what is in flight stays where it is.
        done = next((place for place, one in enumerate(transactions) if self._open(place)), len(transactions))
        taken = transactions[:done]
        del transactions[:done]
        count = 0
        for one in taken:
            if one.accepted:
                count += 1
                self._arrived(to for to in one.recipients if to != SENDER)  # who is told of what was refused
        return count

    def _arrived(self, recipients: Iterable[str]) -> None:
        for to in recipients:
            self.fates.twice += to in self.fates.arrived
            self.fates.arrived.add(to)

    def _open(self, place: int) -> bool:
        one = self.sink.transactions[place]
        return not one.accepted and any(c.open and c.last is one for c in self.sink.connections[-500:])

    def _size_mb(self, name: str) -> float:
        path = self.daemon.data / name
        return path.stat().st_size / 1e6 if path.exists() else 0.0


def queued(daemon: Daemon) -> int:
    """Recipients, counted on the disk: a command would take its share of the machine."""
    database = apsw.Connection(str(daemon.data / "gateway.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = [database.execute(f"SELECT count(*) FROM {place}").fetchall() for place in PLACES]
    finally:
        database.close()
    return sum(int(str(row[0][0])) for row in rows)


class WatchedDaemon(Daemon):
    """Started through `benchmarks.watched`."""

    def _command(self, *arguments: str) -> list[str]:
        command = super()._command(*arguments)
        return [word if word != "gateway" else "benchmarks.watched" for word in command]


def judge(minutes: list[Minute], *, missing: int, twice: int, failed: int) -> list[str]:
    """What is not as it should be."""
    faults = []
    settled = minutes[max(1, len(minutes) // 6) :]
    part = max(1, len(settled) // 5)
    early, late = settled[:part], settled[-part:]
    growth = _mean(late, "rss_mb") / _mean(early, "rss_mb") - 1
    print(f"after the first sixth: memory {growth:+.1%}, from {_mean(early, 'rss_mb'):.1f} MB", end="")
    for name in ("fds", "threads", "tasks"):
        before, after = _mean(early, name), _mean(late, name)
        print(f", {name} {before:.0f} to {after:.0f}", end="")
        if after > before + max(8, before * SPARE):
            faults.append(f"{name} grow")
    wal = max(minute.wal_mb for minute in minutes)
    print(f", longest log {wal:.1f} MB")
    print(f"{missing} acknowledged and neither arrived nor refused, {twice} arrived twice, {failed} not accepted")
    if growth >= MOST_GROWTH:
        faults.append("memory grows")
    if wal >= MOST_WAL_MB:
        faults.append("the log grows")
    if missing or twice:
        faults.append("mail is lost or repeated")
    return faults + _not_taken(minutes, failed)


def _not_taken(minutes: list[Minute], failed: int) -> list[str]:
    """A daemon that takes no mail loses none and needs no memory: that is no pass."""
    faults = [f"nothing was accepted in minute {one.minute}" for one in minutes if not one.accepted]
    if failed > MOST_FAILED * sum(one.accepted for one in minutes):
        faults.append("mail is not accepted")
    return faults


def _mean(minutes: list[Minute], name: str) -> float:
    return statistics.fmean(getattr(minute, name) for minute in minutes)


@contextmanager
def _daemon(directory: Path, sink: Sink, told: Path) -> Iterator[Daemon]:
    domains, _ = dkim_domain(directory / "dkim")
    settings = {**relay_to(sink.port), **domains, "delivery": {"retry": RETRY}}
    with WatchedDaemon(directory / "gateway", settings, environment={watched.FILE: str(told)}) as daemon:
        yield daemon
        daemon.stop()


def run(minutes: int, rate: float, minute_s: float = 60.0) -> list[str]:
    """Returns what is wrong."""
    fates = Fates()
    with scratch() as directory, Sink(answer=fates.answer) as sink:
        told = directory / "told"
        with _daemon(directory, sink, told) as daemon:
            load = Load(daemon.http_port, daemon.smtp_port, rate)
            observer = Observer(daemon, sink, load, fates, told)
            thread = threading.Thread(target=load.run, name="load", daemon=True)
            thread.start()
            print(Minute.heading(), flush=True)
            lines = []
            began = time.monotonic()
            for minute in range(1, minutes + 1):
                lines.append(observer.look(minute, _worst_lag(observer, began + minute * minute_s)))
                print(lines[-1], flush=True)
            load.stop.set()
            thread.join(60)
            missing = _drain(observer)
        return judge(lines, missing=missing, twice=fates.twice, failed=load.failed)


def _worst_lag(observer: Observer, end: float) -> int:
    worst = 0
    while time.monotonic() < end:
        time.sleep(1)
        worst = max(worst, observer.told()[1])
    return worst


def _drain(observer: Observer, timeout_s: float = 300.0) -> int:
    """Wait for what is on its way; returns how many of the acknowledged went nowhere."""
    deadline = time.monotonic() + timeout_s
    fates, load = observer.fates, observer.load
    while time.monotonic() < deadline:
        observer.collect()
        if not load.acknowledged - fates.arrived - fates.refused:
            break
        time.sleep(1)
    return len(load.acknowledged - fates.arrived - fates.refused)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second")
    parser.add_argument("--minute", type=float, default=60.0, metavar="SECONDS", help="how long a minute is, for a try")
    arguments = parser.parse_args()
    faults = run(arguments.minutes, arguments.rate, arguments.minute)
    print("failed: " + ", ".join(faults) if faults else "passed")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
