"""Keys whose mail does not just go: held, redirected, captured but for some, braked; with the daemon and its CLI."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink
from tests.peers.status import status, wait_for_state

pytestmark = pytest.mark.slow


@pytest.fixture
def daemon(make_daemon: MakeDaemon, sink: Sink) -> Iterator[Daemon]:
    with make_daemon(relay_to(sink.port)) as running:
        yield running


def new_key(daemon: Daemon, name: str, *options: str) -> str:
    """The text of a new key."""
    return str(daemon.json("key", "create", name, *options)["secret"])


def events(daemon: Daemon, id_: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.json("queue", "show", id_)["events"]
    return found


def recipients(sink: Sink) -> list[str]:
    return [to for one in sink.accepted for to in one.recipients]


def test_a_key_that_holds_and_what_lets_its_mail_go(daemon: Daemon, sink: Sink) -> None:
    secret = new_key(daemon, "careful", "--mode", "hold")
    taken = http_send(daemon.http_port, message_json("a@example.net"), secret=secret)
    assert (taken.status, taken.body["data"]["status"]) == (201, "held")
    held = wait_for_state_of(daemon, taken.id, secret, "held")
    assert held["blocked_by"] == "held"
    assert [one["type"] for one in events(daemon, taken.id)] == ["accepted", "held"]
    assert events(daemon, taken.id)[1]["note"] == "the key holds its mail"

    free = http_send(daemon.http_port, message_json("b@example.net"))  # another key of the same daemon
    wait_for_state(daemon, free.id, "delivered")
    daemon.cli("key", "mode", "careful", "live")
    wait_for_state_of(daemon, http_send(daemon.http_port, message_json("c@example.net"), secret=secret).id, secret)
    assert recipients(sink) == ["b@example.net", "c@example.net"]

    daemon.cli("queue", "release", "--key", "careful")
    wait_for_state_of(daemon, taken.id, secret)
    assert recipients(sink) == ["b@example.net", "c@example.net", "a@example.net"]


def test_what_is_redirected_goes_to_one_address(daemon: Daemon, sink: Sink) -> None:
    secret = new_key(daemon, "staging", "--mode", "redirect:qa@example.org")
    content = message_bytes("a@example.net")
    id_ = smtp_send(daemon.smtp_port, "s@example.com", ["a@example.net", "b@example.net"], content, secret=secret)
    wait_for_state_of(daemon, id_, secret)
    assert recipients(sink) == ["qa@example.org"]
    assert b"\r\nTo: a@example.net\r\n" in sink.accepted[0].content
    accepted = events(daemon, id_)[0]
    assert (accepted["to"], accepted["original_to"]) == ("qa@example.org", ["a@example.net", "b@example.net"])


def test_only_those_that_are_allowed_get_mail(daemon: Daemon, sink: Sink) -> None:
    secret = new_key(daemon, "beta", "--mode", "allow:*@example.net,boss@example.org")
    to = ["a@example.net", "boss@example.org", "customer@example.com"]
    id_ = smtp_send(daemon.smtp_port, "s@example.com", to, message_bytes("a@example.net"), secret=secret)
    sink.wait_for_recipients(set(to[:2]))

    def states() -> dict[str, str]:
        return {one["to"]: one["state"] for one in daemon.json("queue", "show", id_)["recipients"]}

    expected = dict(zip(to, ("delivered", "delivered", "captured"), strict=True))
    wait_until(lambda: states() == expected, "all are final", 60)
    assert recipients(sink) == to[:2]
    told = [one for one in events(daemon, id_) if one["type"] == "accepted" and one["to"] == to[2]]
    assert "does not allow" in told[0]["note"]


@pytest.mark.parametrize("mode", ["capture", "allow:*@example.net", "redirect:qa@example.net"])
def test_what_is_told_of_mail_that_is_kept_is_kept_too(make_daemon: MakeDaemon, sink: Sink, mode: str) -> None:
    """Its sender may be somebody else's address, in a copy of the real data."""
    with make_daemon({**relay_to(sink.port), "simulator": "play.test"}) as daemon:
        secret, content = new_key(daemon, "staging", "--mode", mode), message_bytes("a@example.net")
        id_ = smtp_send(daemon.smtp_port, "s@example.com", ["bounce@play.test"], content, secret=secret)
        wait_until(lambda: events(daemon, id_)[-1]["type"] == "reported", "it is told", 60)
        notice = events(daemon, id_)[-1]["notice"]
        wait_until(lambda: events(daemon, notice)[-1]["type"] == "captured", "what is told is captured", 60)
        assert recipients(sink) == []


def test_a_brake_holds_new_mail_until_the_key_is_released(daemon: Daemon, sink: Sink) -> None:
    secret = new_key(daemon, "campaign", "--brake", "volume=2/day")

    def send(to: str) -> tuple[str, str]:
        taken = http_send(daemon.http_port, message_json(to), secret=secret)
        return taken.id, taken.body["data"]["status"]

    first = [send("a@example.net"), send("b@example.net")]
    assert [word for _, word in first] == ["queued", "queued"]
    (third, word), (fourth, after) = send("c@example.net"), send("d@example.net")
    assert (word, after) == ("held", "held")
    sink.wait_for_recipients({"a@example.net", "b@example.net"})
    assert "more than 2 recipients per day" in events(daemon, third)[1]["note"]
    assert daemon.json("key", "show", "campaign")["braked"]["reason"] == "volume"
    assert "the key campaign is braked" in daemon.tail(1000)

    assert daemon.stop() == 0
    daemon.restart()
    assert send("e@example.net")[1] == "held"
    told = daemon.json("key", "release", "campaign", "--queued", "--reason", "it was meant")
    assert (told["was"]["reason"], told["queued"]["released"]) == ("volume", 3)
    assert send("f@example.net")[1] == "queued"
    sink.wait_for_recipients({f"{local}@example.net" for local in "abcdef"})
    for id_ in (third, fourth):
        assert [one["type"] for one in events(daemon, id_)][:3] == ["accepted", "held", "released"]
    assert daemon.json("key", "show", "campaign")["braked"] is None


def wait_for_state_of(daemon: Daemon, id_: str, secret: str, state: str = "delivered") -> dict[str, Any]:
    """As `wait_for_state`, of another key."""

    def recipient() -> dict[str, Any]:
        found: dict[str, Any] = status(daemon, id_, secret=secret).body["data"]["recipients"][0]
        return found

    wait_until(lambda: recipient()["state"] == state, f"{id_} is {state}", 60)
    return recipient()
