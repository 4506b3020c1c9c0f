"""kill -9 under load: nothing acknowledged is lost, and only what was in doubt arrives twice.

In doubt is the last transaction of a connection to the next hop that ended with the daemon: its dot was
read, and the result may not have been recorded. A daemon takes the next message of a connection only
after it recorded the last.

MAIL_GATEWAY_KILLS sets how many kills (10).
"""

import os
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.load import Load
from tests.peers.daemon import ROOT, Daemon, broken_twin, relay_to
from tests.peers.sink import Sink, Transaction
from tests.peers.status import status

KILLS = int(os.environ.get("MAIL_GATEWAY_KILLS", "10"))
BETWEEN_S = 0.2, 0.6
RESTART_S = 10.0  # 3 s are promised on a machine that does nothing else

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Outcome:
    acknowledged: int
    lost: list[str]  # recipients
    repeated: list[Transaction]  # every arrival of a recipient but its last
    in_doubt: list[Transaction]
    restarts_s: list[float]  # from the start of the process to its first delivery
    unmarked: list[str]  # ids that arrived twice and do not say `possible_duplicate`


def _crash(directory: Path, *, source: Path = ROOT, kills: int = KILLS, seed: int = 1) -> Outcome:
    rng = random.Random(seed)
    restarts = []
    with Sink(dot_delay_s=0.01) as sink:
        daemon = Daemon(directory, relay_to(sink.port), source=source)
        with daemon, Load(daemon.http_port, daemon.smtp_port) as load:
            for _ in range(kills):
                load.wait_for(20)
                time.sleep(rng.uniform(*BETWEEN_S))
                daemon.kill()
                restarts.append(_restart(daemon, sink))
            load.wait_for(20)
            notes = load.stop()
            _drain(daemon, sink, set(notes.acknowledged))
            arrivals = sink.by_recipient()
            repeated = [one for arrived in arrivals.values() for one in arrived[:-1]]
            ids = {notes.acknowledged[to] for one in repeated for to in one.recipients if to in notes.acknowledged}
            unmarked = [id_ for id_ in ids if not _marked(daemon, id_)]
            assert daemon.stop() == 0, daemon.tail()
    lost = sorted(notes.acknowledged.keys() - arrivals.keys())
    return Outcome(len(notes.acknowledged), lost, repeated, sink.in_doubt, restarts, unmarked)


def _restart(daemon: Daemon, sink: Sink) -> float:
    started = time.monotonic()
    daemon.restart()
    sink.wait_for(len(sink.accepted) + 1)  # none that the killed process had begun
    return time.monotonic() - started


def _drain(daemon: Daemon, sink: Sink, wanted: set[str], timeout_s: float = 60.0) -> None:
    """Wait until the queue is empty, or everything wanted is there."""
    deadline = time.monotonic() + timeout_s
    while wanted - sink.by_recipient().keys() and time.monotonic() < deadline:
        total = daemon.json("queue", "summary")["total"]
        if not any(total.values()):
            return
        time.sleep(0.2)


def _marked(daemon: Daemon, id_: str) -> bool:
    recipients = status(daemon, id_).body["data"]["recipients"]
    return any(recipient["possible_duplicate"] for recipient in recipients)


def test_kill_loses_nothing_and_repeats_only_what_was_in_doubt(tmp_path: Path) -> None:
    outcome = _crash(tmp_path / "gw")
    print(
        f"{outcome.acknowledged} acknowledged, {len(outcome.lost)} lost, {len(outcome.repeated)} repeated of "
        f"{len(outcome.in_doubt)} in doubt, restart to first delivery {max(outcome.restarts_s):.2f} s at most"
    )
    assert outcome.lost == []
    assert [one.recipients for one in outcome.repeated if one not in outcome.in_doubt] == []
    assert outcome.unmarked == []
    assert statistics.median(outcome.restarts_s) < RESTART_S


def test_an_answer_before_the_commit_is_seen(tmp_path: Path) -> None:
    twin = broken_twin(
        tmp_path / "twin",
        "intake/receiving.py",
        "outcome = await self._queue.enqueue(",
        "outcome = await _answer_first(self._queue)(",
        more=(
            "\n\nimport asyncio\n\n\ndef _answer_first(queue):\n"
            "    async def later(message):\n"
            "        await asyncio.sleep(0.1)\n"
            "        await queue.enqueue(message)\n"
            "    async def enqueue(message):\n"
            "        _later.add(asyncio.get_running_loop().create_task(later(message)))\n"
            "        return Accepted(message.uuid)\n"
            "    return enqueue\n\n\n_later = set()\n"
        ),
    )
    outcome = _crash(tmp_path / "gw", source=twin, kills=2)
    assert outcome.lost, "messages that were acknowledged before they were stored survive a kill"
