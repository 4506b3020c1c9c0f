"""Suppression of the whole daemon: a bounce teaches it, both doors refuse, an operator takes it back."""

import csv
import json
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json
from tests.peers.daemon import ROOT, SECRET, Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink
from tests.peers.status import status

pytestmark = pytest.mark.slow  # a daemon each

ANN, BOB = "ann@example.net", "bob@example.net"
GONE = "550 5.1.1 no such user"
BLOCKED = "550 5.7.1 our list blocks 192.0.2.1: blocked using zen.spamhaus.org"


class NextHop(Sink):
    """Refuses whom it is told to."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        super().__init__(answer=self._judge)

    def _judge(self, line: str) -> str | None:
        return next((reply for to, reply in self.refused.items() if line.startswith(f"RCPT TO:<{to}>")), None)


@pytest.fixture
def next_hop() -> Iterator[NextHop]:
    with NextHop() as sink:
        yield sink


@pytest.fixture
def daemon(make_daemon: MakeDaemon, next_hop: NextHop) -> Iterator[Daemon]:
    with make_daemon(relay_to(next_hop.port)) as running:
        yield running


def bounce(daemon: Daemon, next_hop: NextHop, to: str, reply: str) -> None:
    """A message that is refused for good, to its end."""
    next_hop.refused[to] = reply
    sent = http_send(daemon.http_port, message_json(to))
    assert sent.status == 201, sent
    wait_until(lambda: state(daemon, sent.id) == {to: "bounced"}, f"a bounce\n{daemon.tail()}")
    del next_hop.refused[to]


def state(daemon: Daemon, id_: str) -> dict[str, str]:
    return {one["address"]: one["state"] for one in status(daemon, id_).body["data"]["recipients"]}


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = daemon.json("suppression", "list")["suppressions"]
    return entries


def smtp_refusal(daemon: Daemon, to: str) -> tuple[int, bytes]:
    """What a client of the SMTP door is told of a message to one recipient, at RCPT or after it."""
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30) as client:
        client.login("client", SECRET)
        client.mail("shop@example.com")
        code, text = client.rcpt(to)
        return (code, text) if code != 250 else client.data(message_bytes(to))


def take(daemon: Daemon, file: str, *arguments: str, stdin: str = "") -> Any:
    """What came of an import, of which some lines may be wrong."""
    command = [sys.executable, "-m", "gateway", "-c", str(daemon.config), "suppression", "import", file, "--json"]
    done = subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode in {0, 1}, done.stderr
    result = json.loads(done.stdout)
    assert done.returncode == (result["refused"] > 0)
    return result


def test_a_bounce_of_the_mailbox_suppresses_until_an_operator_removes_it(daemon: Daemon, next_hop: NextHop) -> None:
    bounce(daemon, next_hop, ANN, BLOCKED)  # not the recipient's fault
    assert listed(daemon) == []
    bounce(daemon, next_hop, ANN, GONE)
    (entry,) = listed(daemon)
    assert (entry["address"], entry["account"], entry["reason"]) == (ANN, "shop", "bounce")
    assert entry["expires_at"] is not None
    assert entry["event_id"].startswith("evt_")

    refused = http_send(daemon.http_port, message_json("Ann@example.net"))
    assert refused.status == 422
    assert refused.body["error"]["code"] == "recipient_suppressed"
    assert smtp_refusal(daemon, ANN) == (550, b"5.7.1 The recipient is suppressed: mail to it has bounced.")

    assert daemon.stop() == 0, daemon.tail()
    daemon.restart()
    assert http_send(daemon.http_port, message_json(ANN)).status == 422

    daemon.cli("suppression", "remove", ANN, "--account", "shop")
    assert listed(daemon) == []
    assert http_send(daemon.http_port, message_json(ANN)).status == 201
    next_hop.wait_for_recipients({ANN})


def test_one_of_two_is_left_out(daemon: Daemon, next_hop: NextHop) -> None:
    daemon.cli("suppression", "add", "--domain", "example.net", "--expires", "1h", "--note", "moved away")
    sent = http_send(daemon.http_port, message_json(ANN) | {"cc": ["her@example.org"]})
    assert sent.status == 201
    next_hop.wait_for_recipients({"her@example.org"})
    wait_until(lambda: state(daemon, sent.id)["her@example.org"] == "delivered", "the delivery")
    assert state(daemon, sent.id)[ANN] == "suppressed"
    assert ANN not in next_hop.by_recipient()


def test_what_was_queued_before_is_not_sent_either(daemon: Daemon, next_hop: NextHop) -> None:
    daemon.cli("queue", "suspend", "--route", "relay")
    sent = http_send(daemon.http_port, message_json(ANN) | {"cc": [BOB]})
    daemon.cli("suppression", "add", ANN, "--account", "shop")
    daemon.cli("queue", "resume", "--route", "relay")
    wait_until(lambda: set(state(daemon, sent.id).values()) <= {"suppressed", "delivered"}, "the end of it")
    assert state(daemon, sent.id) == {ANN: "suppressed", BOB: "delivered"}
    assert set(next_hop.by_recipient()) == {BOB}
    wait_until(lambda: f" suppressed id={sent.id} " in daemon.tail(), "its line")
    assert "traceback" not in daemon.tail()


def test_the_list_goes_out_and_in_as_a_file(daemon: Daemon, tmp_path: Path) -> None:
    first, second, foreign = tmp_path / "first.csv", tmp_path / "second.csv", tmp_path / "foreign.csv"
    daemon.cli("suppression", "add", ANN, "--note", 'said "never", twice', "--tag", "news, offers", "--expires", "9d")
    daemon.cli("suppression", "add", "--domain", "example.org", "--reason", "complaint")
    lines = "".join(f"p{number}@example.net\n" for number in range(700))
    foreign.write_text(f"\ufeffEmail\n{lines}no address\n\n{BOB}\n")
    took = take(daemon, str(foreign), "--reason", "unsubscribe")
    assert (took["added"], took["refused"]) == (701, 1)
    assert [problem["line"] for problem in took["problems"]] == [702]
    daemon.cli("suppression", "export", str(first))
    with first.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["address"], rows[0]["note"], rows[0]["tag"]) == (ANN, 'said "never", twice', "news, offers")
    assert (rows[1]["address"], rows[1]["reason"], rows[1]["expires_at"]) == ("example.org", "complaint", "")
    assert len(rows) == 703

    for row in rows[:2]:
        daemon.cli("suppression", "remove", row["address"])
    took = take(daemon, "-", stdin=first.read_text())
    assert (took["added"], took["refused"]) == (703, 0)
    daemon.cli("suppression", "export", str(second))
    assert sorted(first.read_text().splitlines()) == sorted(second.read_text().splitlines())
