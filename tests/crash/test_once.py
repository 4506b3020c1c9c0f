"""kill -9 while the next hop holds the final dot: sent again and marked, or failed as uncertain, as the key has it."""

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.load import Load
from tests.peers.client import http_send, message_json
from tests.peers.daemon import ROOT, Daemon, broken_twin, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink
from tests.peers.status import status

SENDER = "shop@example.com"  # of what Load sends

RECIPIENT = "once@example.net"
HELD_S = 3600.0
KILLS = 3

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Outcome:
    arrivals: int
    recipient: dict[str, Any]  # as status shows it
    last: dict[str, Any]  # event
    log: str


class Holding:
    """A sink's answers: the first DATA is not answered before it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go = threading.Event()

    def __call__(self, line: str) -> str | None:
        if line == "DATA":
            self.asked.set()
            self.go.wait(60)
        return None


def _daemon(directory: Path, port: int, duplicates: str, *, source: Path = ROOT) -> Daemon:
    key = {"secret": {"file": str(directory / "shop.secret")}, "account": "shop", "duplicates": duplicates}
    return Daemon(directory, {**relay_to(port), "keys": {"shop": key}}, source=source)


def _end(daemon: Daemon, sink: Sink, id_: str) -> Outcome:
    """What became of it, once nothing is queued any more: then nothing can be sent either."""
    wait_until(lambda: not any(daemon.json("queue", "summary")["total"].values()), "an empty queue")
    (recipient,) = status(daemon, id_).body["data"]["recipients"]
    last = daemon.json("queue", "show", id_)["events"][-1]
    assert daemon.stop() == 0, daemon.tail()
    return Outcome(len(sink.by_recipient()[RECIPIENT]), recipient, last, daemon.tail())


def _cut_off(directory: Path, duplicates: str, *, source: Path = ROOT) -> Outcome:
    """Kill the daemon while the dot of its only message is held, and start it again."""
    with Sink(dot_delay_s=HELD_S) as sink, _daemon(directory, sink.port, duplicates, source=source) as daemon:
        id_ = http_send(daemon.http_port, message_json(RECIPIENT)).id
        wait_until(lambda: bool(sink.by_recipient()[RECIPIENT]), "the final dot at the sink")
        daemon.kill()
        sink.dot_delay_s = 0.0
        daemon.restart()
        return _end(daemon, sink, id_)


def test_at_least_once_it_comes_again_and_says_so(tmp_path: Path) -> None:
    outcome = _cut_off(tmp_path / "gw", "at_least_once")
    assert outcome.arrivals == 2
    assert (outcome.recipient["state"], outcome.recipient["possible_duplicate"]) == ("delivered", True)


def test_at_most_once_it_fails_and_came_once(tmp_path: Path) -> None:
    outcome = _cut_off(tmp_path / "gw", "at_most_once")
    assert outcome.arrivals == 1
    recipient = outcome.recipient
    assert (recipient["state"], recipient["bounce_class"]) == ("failed", "Uncertain")
    assert recipient["possible_duplicate"]
    assert "it may have been delivered" in recipient["last_reply"]
    last = outcome.last
    assert (last["type"], last["bounce_class"], last["possible_duplicate"]) == ("failed", "Uncertain", True)
    assert f"to={RECIPIENT} route=" in outcome.log
    assert " class=Uncertain possible_duplicate=true" in outcome.log
    assert "1 recipients may have been delivered and failed" in outcome.log


def test_at_most_once_what_had_not_been_sent_whole_is_sent_again(tmp_path: Path) -> None:
    holding = Holding()
    with Sink(answer=holding) as sink, _daemon(tmp_path / "gw", sink.port, "at_most_once") as daemon:
        id_ = http_send(daemon.http_port, message_json(RECIPIENT)).id
        assert holding.asked.wait(15), daemon.tail()
        daemon.kill()
        holding.go.set()
        daemon.restart()
        outcome = _end(daemon, sink, id_)
    assert outcome.arrivals == 1
    assert (outcome.recipient["state"], outcome.recipient["possible_duplicate"]) == ("delivered", False)


def test_at_most_once_under_load_nothing_comes_twice_and_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    rng = random.Random(1)
    # A dot that takes long: at every kill there are some whose answer has not been heard.
    with Sink(dot_delay_s=0.3) as sink, _daemon(tmp_path / "gw", sink.port, "at_most_once") as daemon:
        with Load(daemon.http_port, daemon.smtp_port) as load:
            for _ in range(KILLS):
                load.wait_for(20)
                time.sleep(rng.uniform(0.1, 0.3))
                daemon.kill()
                daemon.restart()
                sink.wait_for(len(sink.accepted) + 1)
            notes = load.stop()
        sink.dot_delay_s = 0.0
        wait_until(lambda: not any(daemon.json("queue", "summary")["total"].values()), "an empty queue")
        arrivals = sink.by_recipient()
        arrivals.pop(SENDER, None)  # it is told of each that is uncertain
        missing = {id_ for to, id_ in notes.acknowledged.items() if to not in arrivals}
        shown = [status(daemon, id_).body["data"]["recipients"][0] for id_ in missing]
        doubtful = {to for one in sink.in_doubt for to in one.recipients} & notes.acknowledged.keys()
        ends = [status(daemon, notes.acknowledged[to]).body["data"]["recipients"][0] for to in doubtful]
        assert daemon.stop() == 0, daemon.tail()
    assert [to for to, arrived in arrivals.items() if len(arrived) > 1] == []
    assert [one["bounce_class"] for one in shown] == ["Uncertain"] * len(missing)
    # The dot of some was read and their answer never heard, so the kills were in time to matter.
    assert "Uncertain" in {one["bounce_class"] for one in ends}


def test_a_mark_that_is_not_written_is_seen(tmp_path: Path) -> None:
    twin = broken_twin(
        tmp_path / "twin",
        "store/sqlite.py",
        "await self._writer.submit(self._parts.leases.mark, recipients, needed=True)",
        "pass",
    )
    assert _cut_off(tmp_path / "gw", "at_most_once", source=twin).arrivals == 2
