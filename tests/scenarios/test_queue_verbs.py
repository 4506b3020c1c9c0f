"""The operator's night: a relay that is down, and every verb of `queue` on the running daemon."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_json
from tests.peers.daemon import Daemon
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink
from tests.peers.status import status, wait_for_state

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0


def settings(sink: Sink, **more: Any) -> dict[str, Any]:
    """Two relays: nobody listens where the usual one is."""
    clear = {"type": "relay", "host": "127.0.0.1", "tls": "none"}
    return {
        "routes": {"down": clear | {"port": free_port()}, "up": clear | {"port": sink.port}},
        "default_route": "down",
        "delivery": {"retry": ["1h"]},
    } | more


@pytest.fixture
def daemon(make_daemon: MakeDaemon, sink: Sink) -> Iterator[Daemon]:
    with make_daemon(settings(sink)) as running:
        yield running


def put_off(daemon: Daemon, *to: str) -> list[str]:
    """Messages that nobody took."""
    ids = [str(http_send(daemon.http_port, message_json(address)).id) for address in to]
    for id_ in ids:
        wait_for_state(daemon, id_, "deferred", PATIENCE_S)
    return ids


def recipient(daemon: Daemon, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = status(daemon, id_).body["data"]["recipients"][0]
    return found


def fails(daemon: Daemon, *arguments: str) -> str:
    """What a command that is refused says."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "-c", str(daemon.config), *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def log_says(daemon: Daemon, text: str) -> None:
    wait_until(lambda: text in daemon.tail(1000), text, PATIENCE_S)


def test_every_queued_recipient_says_why_and_when(daemon: Daemon) -> None:
    (id_,) = put_off(daemon, "a@example.net")
    listed = daemon.json("queue", "list", "--to", "a@example.net")[0]
    shown = daemon.json("queue", "show", id_)["recipients"][0]
    said = recipient(daemon, id_)
    for one in (listed, shown, said):
        assert one["blocked_by"] == "backoff"
        assert one["next_attempt_at"] == said["next_attempt_at"]
        assert one["last_reply"]
    assert "pause before a try" in daemon.cli("queue", "list")
    explained = daemon.cli("queue", "explain", id_)
    assert "The last try failed; it is tried again then." in explained
    assert f"next attempt:    {said['next_attempt_at']}" in explained
    assert "\nWay 1: route down (relay)\n" in explained
    assert "host:            127.0.0.1 [127.0.0.1]:" in explained
    assert "what to do:      No host answers." in explained
    assert daemon.json("queue", "explain", id_)["daemon"] is True


def test_held_and_let_go(daemon: Daemon) -> None:
    (id_,) = put_off(daemon, "a@example.net")
    assert "1 recipient would be held." in daemon.cli("queue", "hold", "--id", id_, "--dry-run")
    assert recipient(daemon, id_)["state"] == "deferred"
    assert daemon.cli("queue", "hold", "--id", id_, "--reason", "asking the sender") == "1 recipient held.\n"
    assert (recipient(daemon, id_)["state"], recipient(daemon, id_)["blocked_by"]) == ("held", "held")
    assert "asking the sender" in daemon.cli("queue", "show", id_)
    daemon.kill()
    daemon.restart()
    assert recipient(daemon, id_)["state"] == "held"
    assert daemon.json("queue", "release", "--state", "held") == {"released": 1, "in_hand": 0, "suspensions": 0}
    wait_until(lambda: recipient(daemon, id_)["attempts"] == 2, "the next try", PATIENCE_S)
    log_says(daemon, "queue release (state=held): 1 recipients")


def test_given_up(daemon: Daemon, sink: Sink) -> None:
    cancelled, bounced = put_off(daemon, "a@example.net", "b@example.net")
    assert "1 recipient cancelled." in daemon.cli("queue", "cancel", "--to", "a@example.net")
    words = "550 5.7.1 this address is not ours to write to"
    assert "1 recipient bounced." in daemon.cli("queue", "bounce", "--to", "b@example.net", "--reason", words)
    assert recipient(daemon, cancelled)["state"] == "cancelled"
    told = recipient(daemon, bounced)
    assert (told["state"], told["last_reply"], told["next_attempt_at"]) == ("bounced", words, None)
    assert "1 recipient has its result already" in daemon.cli("queue", "explain", bounced)
    assert daemon.json("queue", "list", "--domain", "example.net") == []
    assert sink.transactions == []


def test_sent_another_way_to_another_address(daemon: Daemon, sink: Sink) -> None:
    (id_,) = put_off(daemon, "a@example.net")
    target = ("--new-route", "up", "--new-address", "new@example.org")
    assert "1 recipient would be redirected." in daemon.cli("queue", "redirect", "--all", "--dry-run", *target)
    assert daemon.json("queue", "redirect", "--route", "down", *target) == {"redirected": 1, "in_hand": 0, "waiting": 1}
    assert (recipient(daemon, id_)["address"], recipient(daemon, id_)["state"]) == ("new@example.org", "deferred")
    assert "1 recipient due now." in daemon.cli("queue", "retry", "--route", "up")
    (transaction,) = sink.wait_for(1, PATIENCE_S)
    assert transaction.recipients == ["new@example.org"]
    wait_for_state(daemon, id_, "delivered", PATIENCE_S)
    assert "from a@example.net to new@example.org, from the route down to up" in daemon.cli("queue", "show", id_)
    log_says(daemon, "queue redirect (route=down): 1 recipients, to the route up, to new@example.org")


def test_suspended_over_a_restart(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(settings(sink, default_route="up")) as daemon:
        said = daemon.cli("queue", "suspend", "--route", "up", "--reason", "their storm")
        assert "Suspended as number 1, until: mail-gateway queue resume 1." in said
        id_ = str(http_send(daemon.http_port, message_json("a@example.net")).id)
        assert recipient(daemon, id_)["blocked_by"] == "suspended"
        daemon.kill()
        daemon.restart()
        one = recipient(daemon, id_)
        assert (one["state"], one["blocked_by"], one["next_attempt_at"]) == ("queued", "suspended", None)
        assert "their storm" in daemon.cli("queue", "summary")
        explained = daemon.cli("queue", "explain", id_)
        assert "An operator suspended it: number 1 (their storm)." in explained
        assert "next attempt:    when an operator says so" in explained
        assert sink.transactions == []
        assert "1 suspension ended." in daemon.cli("queue", "resume", "1")
        sink.wait_for(1, PATIENCE_S)
        log_says(daemon, "queue resume: number 1, route up")

        made = daemon.json("queue", "suspend", "--key", "shop", "--for", "2s")["suspended"]
        later = str(http_send(daemon.http_port, message_json("b@example.net")).id)
        sink.wait_for(2, PATIENCE_S)  # it ends by itself
        wait_for_state(daemon, later, "delivered", PATIENCE_S)
        assert made["until"] <= recipient(daemon, later)["updated_at"]
        assert daemon.json("queue", "summary")["suspensions"] == []


def test_mistakes_are_explained_and_change_nothing(daemon: Daemon) -> None:
    (id_,) = put_off(daemon, "a@example.net")
    assert "say which: " in fails(daemon, "queue", "cancel")
    assert "There is no message nonsense." in fails(daemon, "queue", "explain", "nonsense")
    wrong = fails(daemon, "queue", "redirect", "--all", "--new-route", "pu")
    assert "there is no route pu; the routes are: down, up" in wrong
    wrong = fails(daemon, "queue", "suspend", "--route", "up", "--domain", "example.net")
    assert "use queue hold --domain example.net" in wrong
    assert recipient(daemon, id_)["state"] == "deferred"
