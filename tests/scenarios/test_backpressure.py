"""Back-pressure (S25): mail comes faster than it goes, until the queue is as long as it may be.

From then on both doors say "later" at once; what was acknowledged is kept, what was refused is not; and when the next
hop takes mail again the queue empties, and mail is taken while it does.
"""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.load import Load, Notes
from tests.peers.client import http_send, message_json
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

MOST = 150  # messages in the queue
WORKERS = 4  # of each door
REFUSALS = 25  # that are waited for, of each door
WAIT_S = 60.0
LATER = {"http": re.compile(r"503 .*backlog_full"), "smtp": re.compile(r"452 .*4\.3\.1 ")}

pytestmark = pytest.mark.slow


class Gate:
    """A next hop that takes nobody until it is opened."""

    def __init__(self) -> None:
        self.open = False

    def __call__(self, line: str) -> str | None:
        return None if self.open or not line.startswith("MAIL") else "450 4.2.0 not now"


def _by_door(notes: Notes) -> Counter[str]:
    """Refusals that say "later" in the way of their door; any other counts as "else"."""
    said = Counter[str]()
    for reply in list(notes.refused.values()):
        said[next((door for door, pattern in LATER.items() if pattern.search(reply)), "else")] += 1
    return said


def _queued(daemon: Daemon) -> int:
    return int(sum(daemon.json("queue", "summary")["total"].values()))


def test_the_queue_fills_to_its_limit_and_drains(tmp_path: Path) -> None:
    gate = Gate()
    settings = {"limits": {"backlog": {"messages": MOST}}, "delivery": {"retry": ["1h"]}}
    with Sink(answer=gate) as sink, Daemon(tmp_path / "gw", relay_to(sink.port) | settings) as daemon:
        with Load(daemon.http_port, daemon.smtp_port, http=WORKERS, smtp=WORKERS) as load:
            wait_until(
                lambda: min(_by_door(load.notes)[door] for door in LATER) >= REFUSALS,
                f"{REFUSALS} refusals by each door\n{daemon.tail(5)}",
                WAIT_S,
            )
            # Those that were being written when it became full are more than the limit; no door takes further mail.
            wait_until(lambda: MOST <= len(load.notes.acknowledged) == _queued(daemon), "every commit", WAIT_S)
            assert len(load.notes.acknowledged) <= MOST + 2 * WORKERS
            answer = http_send(daemon.http_port, message_json("refused@example.net"))
            assert (answer.status, answer.body["error"]["code"]) == (503, "backlog_full"), json.dumps(answer.body)
            assert int(answer.headers["Retry-After"]) > 0

            gate.open = True
            daemon.cli("queue", "retry", "--all")
            load.wait_for(MOST, WAIT_S)  # taken while it empties
            notes = load.stop()
        sink.wait_for_recipients(set(notes.acknowledged), WAIT_S)
        wait_until(lambda: _queued(daemon) == 0, "an empty queue", WAIT_S)
        assert daemon.stop() == 0, daemon.tail()
    arrivals = sink.by_recipient()
    assert notes.unanswered == set()
    assert set(_by_door(notes)) == set(LATER)  # nobody heard anything else
    assert arrivals.keys() == notes.acknowledged.keys()
    assert {len(arrived) for arrived in arrivals.values()} == {1}
