"""kill -9 at named points of a message's way: what each may cost, and nothing more.

One daemon is killed again and again at one point, on one data directory; deliveries go one after another, so that at
most one is in doubt at a kill. Mail by HTTP may come twice (its key delivers at least once), mail by SMTP may not.
The killing of a migration is told in test_migration_kill.

MAIL_GATEWAY_POINT_KILLS sets how many kills at each point (5; 20 before a release).
"""

import contextlib
import http.client
import os
import random
import signal
import smtplib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.crash import points
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import SECRET, Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink
from tests.peers.status import status

KILLS = int(os.environ.get("MAIL_GATEWAY_POINT_KILLS", "5"))
ONCE = "once-key-of-thirty-characters00"
SENDER = "shop@example.com"
LARGE = 600_000  # octets: several pieces
BURST = 8  # messages, and then a pause in which the log is copied
PAUSE_S = 0.5
MOST = 400  # messages until a daemon that was to die has failed to

pytestmark = pytest.mark.slow


class Doomed(Daemon):
    """A daemon that can be told where to die."""

    def _command(self, *arguments: str) -> list[str]:
        return ["tests.crash.points" if word == "gateway" else word for word in super()._command(*arguments)]

    def __enter__(self) -> Self:
        return self

    def start_doomed(self, point: str, passages: int) -> None:
        """Start; from READY=1 on, it has so many passages of the point to live."""
        armed = self.directory / "armed"
        armed.unlink(missing_ok=True)
        self._environment |= {points.AT: f"{point}:{passages}", points.ARMED: str(armed)}
        self.start()
        armed.touch()

    def start_spared(self) -> None:
        self._environment.pop(points.AT, None)
        self.start()


class Door:
    """A next hop that takes nobody until it is opened."""

    def __init__(self, *, is_open: bool) -> None:
        self.open = is_open

    def __call__(self, line: str) -> str | None:
        return None if self.open or not line.startswith("MAIL") else "450 4.2.0 not now"


@dataclass(slots=True)
class Mail:
    """Submitted, by recipient; each once."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # -> message id
    unanswered: set[str] = field(default_factory=set)
    count: int = 0

    def submit(self, daemon: Daemon, *, size: int) -> None:
        """One message, by one door or the other. Raises what a client raises whose server is gone."""
        self.count += 1
        by_http = self.count % 2 == 1
        to = f"{'http' if by_http else 'smtp'}{self.count}@example.net"
        self.unanswered.add(to)
        if by_http:
            text = "It works, at length.\r\n" * (size // 22 + 1)
            id_ = http_send(daemon.http_port, message_json(to, text=text)).id
        else:
            content = message_bytes(to, sender=SENDER, size=size)
            id_ = smtp_send(daemon.smtp_port, SENDER, [to], content, secret=ONCE)
        self.unanswered.discard(to)
        self.acknowledged[to] = id_


@dataclass(frozen=True, slots=True)
class Outcome:
    lost: set[str]  # acknowledged, did not arrive, and no sender was told
    repeated: list[str]  # recipients, once for each arrival that is one too many
    unmarked: set[str]  # repeated without `possible_duplicate`
    uncertain: set[str]  # failed, because they may have arrived
    unanswered: dict[str, int]  # recipients whose client never heard -> arrivals


def _daemon(directory: Path, port: int) -> Doomed:
    directory.mkdir()
    keys = {}
    for name, secret, duplicates in (("shop", SECRET, "at_least_once"), ("once", ONCE, "at_most_once")):
        path = directory / f"{name}.secret"
        path.write_text(secret)
        path.chmod(0o600)
        keys[name] = {"secret": {"file": str(path)}, "account": "shop", "duplicates": duplicates}
    delivery = {"concurrency": {"initial": 1, "maximum": 1}}
    return Doomed(directory, {**relay_to(port), "keys": keys, "delivery": delivery})


def _crash(directory: Path, point: str, *, delivering: bool, size: int = 0) -> Outcome:
    """Kill KILLS times at the point, then let everything be delivered."""
    rng = random.Random(point)
    door, mail = Door(is_open=delivering), Mail()
    with Sink(answer=door) as sink, _daemon(directory, sink.port) as daemon:
        for _ in range(KILLS):
            daemon.start_doomed(point, rng.randint(1, 6))
            _submit_until_it_dies(daemon, mail, size)
        door.open = True
        daemon.start_spared()
        daemon.cli("queue", "retry", "--all")
        wait_until(lambda: not any(daemon.json("queue", "summary")["total"].values()), "an empty queue", 60)
        outcome = _outcome(daemon, sink, mail)
        assert daemon.stop() == 0, daemon.tail()
    print(f"{point}: {mail.count} submitted, {len(outcome.repeated)} repeated, {len(outcome.uncertain)} uncertain")
    return outcome


def _submit_until_it_dies(daemon: Doomed, mail: Mail, size: int) -> None:
    end = mail.count + MOST
    while daemon.running:
        assert mail.count < end, f"the daemon never died\n{daemon.tail()}"
        try:
            mail.submit(daemon, size=size)
        except (OSError, EOFError, http.client.HTTPException, smtplib.SMTPException) as error:
            wait_until(lambda: not daemon.running, f"the end of a daemon that said {error!r}", 30)
        if mail.count % BURST == 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(PAUSE_S)
    assert daemon.wait() == -signal.SIGKILL, daemon.tail()


def _outcome(daemon: Daemon, sink: Sink, mail: Mail) -> Outcome:
    arrivals = {to: len(arrived) for to, arrived in sink.by_recipient().items() if to != SENDER}
    shown: dict[str, dict[str, Any]] = {
        to: status(daemon, id_).body["data"]["recipients"][0] for to, id_ in mail.acknowledged.items()
    }
    uncertain = {to for to, one in shown.items() if one["bounce_class"] == "Uncertain"}
    repeated = [to for to, count in arrivals.items() for _ in range(count - 1)]
    return Outcome(
        lost=shown.keys() - arrivals.keys() - uncertain,
        repeated=repeated,
        unmarked={to for to in repeated if to in shown and not shown[to]["possible_duplicate"]},
        uncertain=uncertain,
        unanswered={to: arrivals.get(to, 0) for to in mail.unanswered},
    )


def _held(outcome: Outcome, unanswered: int | None) -> None:
    """Where nothing was being delivered at the kills; `unanswered` mail arrives so often, None: it may or may not."""
    assert outcome.lost == set()
    assert outcome.repeated == []
    assert outcome.uncertain == set()
    if unanswered is not None:
        assert list(outcome.unanswered.values()) == [unanswered] * KILLS


def test_after_a_piece_was_stored_there_is_no_message(tmp_path: Path) -> None:
    _held(_crash(tmp_path / "gw", "after_spool_write", delivering=False, size=LARGE), 0)


def test_after_the_commit_there_is_one_though_nobody_knows(tmp_path: Path) -> None:
    _held(_crash(tmp_path / "gw", "after_commit", delivering=False), 1)


def test_during_a_checkpoint_nothing_is_lost(tmp_path: Path) -> None:
    _held(_crash(tmp_path / "gw", "during_checkpoint", delivering=False), None)


@pytest.mark.parametrize("point", ["after_dot", "after_reply"])
def test_what_is_in_doubt_comes_twice_and_says_so_or_fails_and_says_so(point: str, tmp_path: Path) -> None:
    outcome = _crash(tmp_path / "gw", point, delivering=True)
    assert outcome.lost == set()
    assert outcome.unmarked == set()
    assert [to for to in outcome.repeated if to.startswith("smtp")] == []
    assert [to for to in outcome.uncertain if to.startswith("http")] == []
    assert 1 <= len(outcome.repeated) + len(outcome.uncertain) <= KILLS  # some kills meet what tells the sender


def test_after_the_result_was_stored_nothing_is_in_doubt(tmp_path: Path) -> None:
    outcome = _crash(tmp_path / "gw", "after_result_commit", delivering=True)
    assert outcome.lost == set()
    assert outcome.repeated == []
    assert outcome.uncertain == set()
