"""`mail-gateway dev` and the addresses that play a part: every event, and nothing leaves the machine."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon
from tests.peers.process import free_port, wait_until
from tests.peers.status import wait_for_state

pytestmark = pytest.mark.slow


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> Iterator[Daemon]:
    """Nobody listens where its mail would go."""
    nowhere = {"type": "relay", "host": "127.0.0.1", "tls": "none", "port": free_port()}
    settings = {
        "routes": {"nowhere": nowhere},
        "default_route": "nowhere",
        "simulator": "simulator.test",
        "delivery": {"retry": ["10ms"]},
    }
    with make_daemon(settings) as running:
        yield running


def test_every_part_is_played(daemon: Daemon) -> None:
    def sent(part: str) -> str:
        return http_send(daemon.http_port, message_json(f"{part}@simulator.test")).id

    ids = {part: sent(part) for part in ("ok", "anybody", "bounce", "refuse", "defer+2", "complain", "late", "open")}
    ids |= {part: sent(part) for part in ("click", "unsubscribe", "full", "slow+0")}

    def told(part: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = daemon.json("queue", "show", ids[part])["events"]
        return found

    def types(part: str) -> list[str]:
        return [one["type"] for one in told(part)]

    plain = ["accepted", "delivered"]
    expected = {
        "ok": plain,
        "anybody": plain,
        "slow+0": plain,
        "bounce": ["accepted", "bounced"],
        "refuse": ["accepted", "bounced"],
        "defer+2": ["accepted", "deferred", "deferred", "delivered"],
        "complain": [*plain, "complained"],
        "late": [*plain, "bounced"],
        "open": [*plain, "opened"],
        "click": [*plain, "clicked"],
        "unsubscribe": [*plain, "unsubscribed"],
    }
    for part, wanted in expected.items():
        _wait(partial(types, part), wanted, daemon)
    wait_until(lambda: types("full").count("deferred") > 1, "it stays full", 60)
    assert [one["scope"] for one in told("bounce")[1:]] == ["recipient"]
    assert [one["scope"] for one in told("refuse")[1:]] == ["content"]
    assert "bounce, full" in told("anybody")[1]["reply"]
    assert daemon.json("suppression", "list")["suppressions"] == []
    wait_for_state(daemon, sent("bounce"), "bounced")  # it plays its part again


def test_a_brake_on_bounces_trips_by_itself(daemon: Daemon) -> None:
    secret = daemon.json("key", "create", "careless", "--brake", "bounces=10%")["secret"]
    to = [f"{'bounce' if number < 10 else 'ok'}+{number}@simulator.test" for number in range(60)]
    smtp_send(daemon.smtp_port, "s@example.com", to, message_bytes(to[0]), secret=secret)
    wait_until(lambda: daemon.json("key", "show", "careless")["braked"] is not None, "the key is braked", 60)
    trip = daemon.json("key", "show", "careless")["braked"]
    assert trip["reason"] == "bounces"
    assert trip["detail"].endswith("recipients bounced in the last 24 hours, more than 10 %")
    taken = http_send(daemon.http_port, message_json("ok@simulator.test"), secret=secret)
    assert taken.body["data"]["status"] == "held"
    daemon.cli("key", "release", "careless")
    again = http_send(daemon.http_port, message_json("ok@simulator.test"), secret=secret)
    assert again.body["data"]["status"] == "queued"


def _wait(found: Callable[[], list[str]], wanted: list[str], daemon: Daemon) -> None:
    try:
        wait_until(lambda: found() == wanted, str(wanted), 60)
    except TimeoutError as error:
        raise TimeoutError(f"{found()} is not {wanted}\n{daemon.tail()}") from error
