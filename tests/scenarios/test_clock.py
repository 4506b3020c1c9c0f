"""The wall clock is set while mail is queued, deferred and on the wire (A15): nothing expires, nothing comes twice.

By the wall clock are: times to be sent at, the Date of what is composed, `t=` of signatures, the ends of keys, and how
long a client's own name for a request is kept. By time that passes are all timeouts, limits and lifetimes.
"""

import re
import smtplib
import threading
import time
from collections import Counter
from pathlib import Path

import apsw
import pytest

from tests.peers.client import http_send, message_bytes, message_json, smtp_transaction
from tests.peers.daemon import SECRET, dkim_domain, relay_to
from tests.peers.process import wait_until
from tests.peers.shifted import ShiftedDaemon
from tests.peers.sink import Sink
from tests.peers.status import status, wait_for_state

HOUR_S = 3600
DAY_S = 24 * HOUR_S
COUNT = 20  # deferred messages
LIMITED = "limited-key-of-thirty-character"
SIGNED_AT = re.compile(rb"[; ]t=(\d+);")

pytestmark = pytest.mark.slow


class Later:
    """A next hop that takes nobody of `later.test` until it is opened; counts how often each was asked for. While it is
    held, it has read a final dot and does not answer."""

    def __init__(self) -> None:
        self.open = False
        self.asked: Counter[str] = Counter()
        self.holds = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def hold(self) -> None:
        self.holds.clear()
        self.goes_on.clear()

    def __call__(self, line: str) -> str | None:
        if line == "." and not self.goes_on.is_set():
            self.holds.set()
            assert self.goes_on.wait(60)
        if not line.startswith("RCPT") or "@later.test" not in line:
            return None
        self.asked[line.partition("<")[2].partition(">")[0]] += 1
        return None if self.open else "451 4.3.0 come back later"


def _daemon(directory: Path, port: int) -> ShiftedDaemon:
    directory.mkdir()
    keys = {}
    for name, secret, more in (("shop", SECRET, {}), ("few", LIMITED, {"limits": [{"messages": "1/day", "burst": 1}]})):
        path = directory / f"{name}.secret"
        path.write_text(secret)
        path.chmod(0o600)
        keys[name] = {"secret": {"file": str(path)}, "account": "shop", **more}
    domains, _ = dkim_domain(directory / "dkim")
    delivery = {"retry": ["1h"]}
    return ShiftedDaemon(directory, {**relay_to(port), **domains, "keys": keys, "delivery": delivery})


def _queued(daemon: ShiftedDaemon) -> int:
    return int(sum(daemon.json("queue", "summary")["total"].values()))


def _tried(daemon: ShiftedDaemon, attempts: int) -> None:
    """Wait until each that is deferred was tried so often and waits again."""

    def reached() -> bool:
        rows = daemon.json("queue", "list", "--state", "deferred", "--limit", "1000")
        return len(rows) == COUNT and all(row["attempts"] == attempts and row["next_attempt_at"] for row in rows)

    wait_until(reached, f"{attempts} attempts of each", 60)


def _ids(daemon: ShiftedDaemon) -> list[int]:
    """The numbers of messages by the time of their acceptance."""
    database = apsw.Connection(str(daemon.data / "gateway.db"), flags=apsw.SQLITE_OPEN_READONLY)
    found = database.execute("SELECT message FROM event WHERE type = 'accepted' ORDER BY seq").fetchall()
    database.close()
    return [int(str(row[0])) for row in found]


def _refused(daemon: ShiftedDaemon) -> bool:
    return http_send(daemon.http_port, message_json("few@example.net"), secret=LIMITED).status == 429


@pytest.mark.parametrize("step_s", [2 * HOUR_S, -2 * HOUR_S, 365 * DAY_S, -DAY_S])
def test_the_clock_is_set(step_s: int, tmp_path: Path) -> None:
    later = Later()
    with Sink(answer=later) as sink, _daemon(tmp_path / "gw", sink.port) as daemon:
        named = {"Idempotency-Key": "order-1"}
        ids = [http_send(daemon.http_port, message_json(f"m{n}@later.test")).id for n in range(COUNT - 1)]
        first = http_send(daemon.http_port, message_json("named@later.test"), headers=named)
        ids.append(first.id)
        assert http_send(daemon.http_port, message_json("few@example.net"), secret=LIMITED).status == 201
        assert _refused(daemon)
        sink.wait_for(1)
        _tried(daemon, 1)
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=60) as session:
            session.login("client", SECRET)
            later.hold()
            slow = smtp_transaction(session, "a@example.com", ["slow@example.net"], message_bytes("slow@example.net"))
            assert later.holds.wait(60)

            daemon.set_clock(step_s)
            daemon.wait_for_sweeps()
            later.goes_on.set()
            after = smtp_transaction(session, "a@example.com", ["now@example.net"], message_bytes("now@example.net"))
        wait_for_state(daemon, after, "delivered", 60)
        told = wait_for_state(daemon, slow, "delivered", 60)
        daemon.wait_for_sweeps()
        assert not told["possible_duplicate"]
        if step_s > 0:
            _tried(daemon, 2)  # it was due, once
        assert set(later.asked.values()) == {2 if step_s > 0 else 1}
        assert _refused(daemon)
        if step_s < DAY_S:
            again = http_send(daemon.http_port, message_json("named@later.test"), headers=named)
            assert (again.id, again.headers["Idempotent-Replayed"]) == (first.id, "true")

        (arrival,) = sink.by_recipient()["now@example.net"]
        signed_at = SIGNED_AT.search(arrival.content)
        assert signed_at is not None
        assert abs(int(signed_at[1]) - time.time() - step_s) < HOUR_S / 2
        numbers = _ids(daemon)
        assert numbers == sorted(numbers)

        daemon.set_clock(0)
        daemon.wait_for_sweeps()
        assert _queued(daemon) == COUNT
        later.open = True
        daemon.cli("queue", "retry", "--all")
        wait_until(lambda: _queued(daemon) == 0, "an empty queue", 60)
        states = {status(daemon, id_).body["data"]["recipients"][0]["state"] for id_ in ids}
        assert daemon.stop() == 0, daemon.tail()
    assert states == {"delivered"}
    assert {len(arrived) for arrived in sink.by_recipient().values()} == {1}
    assert f"set {'forward' if step_s > 0 else 'back'} by {abs(step_s) / HOUR_S:.1f} h" in daemon.log.read_text()
