"""SIGTERM under load: an orderly end within 30 s; nothing lost, nothing sent twice, no answer forgotten."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.load import Load
from tests.peers.daemon import ROOT, Daemon, broken_twin, relay_to
from tests.peers.sink import Sink

STOPS = 5
EXIT_S = 30.0

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Outcome:
    lost: set[str]  # acknowledged and never arrived
    repeated: set[str]
    unanswered: set[str]  # arrived although their client never heard of it
    codes: list[int]
    ends_s: list[float]


def _stop_under_load(directory: Path, *, source: Path = ROOT, stops: int = STOPS, seed: int = 1) -> Outcome:
    rng = random.Random(seed)
    codes, ends = [], []
    with Sink(dot_delay_s=0.02) as sink:
        daemon = Daemon(directory, relay_to(sink.port), source=source)
        with daemon, Load(daemon.http_port, daemon.smtp_port) as load:
            for _ in range(stops):
                load.wait_for(30)
                time.sleep(rng.uniform(0.1, 0.4))
                began = time.monotonic()
                codes.append(daemon.stop())
                ends.append(time.monotonic() - began)
                daemon.restart()
            load.wait_for(30)
            notes = load.stop()
            sink.wait_for_recipients(set(notes.acknowledged))
            codes.append(daemon.stop())
    arrivals = sink.by_recipient()
    return Outcome(
        lost=notes.acknowledged.keys() - arrivals.keys(),
        repeated={to for to, arrived in arrivals.items() if len(arrived) > 1},
        unanswered=arrivals.keys() - notes.acknowledged.keys(),
        codes=codes,
        ends_s=ends,
    )


def test_sigterm_drains(tmp_path: Path) -> None:
    outcome = _stop_under_load(tmp_path / "gw")
    assert outcome.codes == [0] * (STOPS + 1)
    assert max(outcome.ends_s) < EXIT_S
    assert outcome.lost == set()
    assert outcome.repeated == set()
    assert outcome.unanswered == set()


def test_an_end_without_drain_is_seen(tmp_path: Path) -> None:
    twin = broken_twin(tmp_path / "twin", "cli/serve.py", "        stop.set()\n", "        os._exit(0)\n")
    outcome = _stop_under_load(tmp_path / "gw", source=twin)
    assert outcome.repeated or outcome.unanswered, "a daemon that just ends looks as one that drains"
