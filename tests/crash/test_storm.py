"""A restart after an outage: everything is overdue, and the next hop is asked no faster than ever."""

import smtplib
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.peers.client import message_bytes, smtp_transaction
from tests.peers.daemon import SECRET, Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

COUNT = 120
MOST = 4  # connections to one destination
PAUSE_S = 3600  # after the second attempt

pytestmark = pytest.mark.slow


class Busy:
    """A next hop that takes nobody; it counts who is asked for, and how many connections there are meanwhile."""

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.asked: Counter[str] = Counter()
        self.most = 0

    def __call__(self, line: str) -> str | None:
        if not line.startswith("RCPT"):
            return None
        assert self.sink is not None
        self.asked[line.partition(">")[0]] += 1
        self.most = max(self.most, sum(connection.open for connection in self.sink.connections))
        return "451 4.3.0 come back later"


def _submit(daemon: Daemon) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
        client.login("client", SECRET)
        for n in range(COUNT):
            to = f"u{n}@example.net"
            smtp_transaction(client, "shop@example.com", [to], message_bytes(to))


def _tried(daemon: Daemon, attempts: int) -> list[float]:
    """Wait until each was tried so often, at least; when they are tried next (Unix seconds)."""
    rows: list[dict[str, Any]] = []

    def reached() -> bool:
        rows[:] = daemon.json("queue", "list", "--limit", "1000")
        return len(rows) == COUNT and all(row["attempts"] >= attempts and row["next_attempt_at"] for row in rows)

    wait_until(reached, f"{attempts} attempts of each", 60)
    return [datetime.fromisoformat(row["next_attempt_at"]).timestamp() for row in rows]


def test_trap_12_a_restart_is_no_storm_of_retries(tmp_path: Path) -> None:
    settings = {"delivery": {"retry": ["3s", f"{PAUSE_S}s"], "concurrency": {"initial": 2, "maximum": MOST}}}
    busy = Busy()
    with Sink(answer=busy) as sink, Daemon(tmp_path / "gw", {**relay_to(sink.port), **settings}) as daemon:
        busy.sink = sink
        _submit(daemon)
        due = _tried(daemon, 1)
        daemon.kill()
        soon = [at for at in due if at < time.time() + PAUSE_S / 2]
        wait_until(lambda: time.time() > max(soon, default=0), "everything to be overdue")
        busy.most = 0
        daemon.restart()
        due = _tried(daemon, 2)
        assert daemon.stop() == 0, daemon.tail()
    # Each was asked for once more (the kill may have met some in the act), on few connections, and they part.
    assert set(busy.asked.values()) <= {2, 3}
    assert busy.asked.total() <= 2 * COUNT + MOST
    assert busy.most <= 2 * MOST  # one that is gone may be counted for a moment
    assert max(due) - min(due) > PAUSE_S / 6
    minutes = Counter(int(at // 60) for at in due)
    assert max(minutes.values()) < COUNT / 4
