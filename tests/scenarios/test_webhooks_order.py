"""Killed again and again while an endpoint fails now and then: each message's events arrive all, in their order (D19);
and what `dev` plays is told to a program beside it."""

import json
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_json
from tests.peers.daemon import relay_to
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink
from tests.scenarios.test_dev import _dev
from tests.scenarios.test_events import call
from tests.scenarios.test_webhooks import Program, register

pytestmark = pytest.mark.slow

KILLS: Final = 3
MESSAGES: Final = 20
SETTINGS: Final[dict[str, Any]] = {
    "webhooks": {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "retry": ["1s"] * 30},
    "simulator": "simulator.test",
    "delivery": {"retry": ["1s"]},
}


@pytest.fixture
def program() -> Iterator[Program]:
    one = Program()
    yield one
    one.close()


def test_d19_killed_while_some_fail_it_tells_each_message_in_order(make_daemon: MakeDaemon, program: Program) -> None:
    rng = random.Random(3)
    with Sink() as sink, make_daemon(relay_to(sink.port) | SETTINGS) as daemon:
        register(daemon, program)
        program.status = lambda _told: 500 if rng.random() < 0.25 else 200
        sent = []
        for kill in range(KILLS):
            for number in range(MESSAGES):
                to = ["defer+1@simulator.test", f"{kill}-{number}@example.net"]
                sent.append(http_send(daemon.http_port, message_json(to[0]) | {"to": to}).id)
            before = len(program.events())
            wait_until(lambda at=before: len(program.events()) > at + 5, "nothing is told", 60)  # type: ignore[misc]
            daemon.kill()
            daemon.restart()

        def logged(message: str) -> list[str]:
            _, body = call(daemon, "GET", f"/emails/{message}/events")
            return [event["id"] for event in body["data"]]

        def told(message: str) -> list[str]:
            """Each event at its first arrival: after a kill some come again."""
            ids = [one["id"] for one in program.events() if one["data"].get("message_id") == message]
            return list(dict.fromkeys(ids))

        wait_until(lambda: all(len(logged(one)) == 5 for one in sent), "not all is delivered", 60)
        program.status = lambda _told: 200
        wait_until(lambda: all(len(told(one)) == 5 for one in sent), "not all is told", 60)
        assert [told(one) for one in sent] == [logged(one) for one in sent]


def test_what_dev_plays_is_told_to_a_program_beside_it(tmp_path: Path, program: Program) -> None:
    http_port = free_port()
    with _dev(tmp_path, http_port, free_port()) as (key, _):
        wanted = urllib.request.Request(
            f"http://127.0.0.1:{http_port}/api/v1/webhooks",
            json.dumps({"url": program.url}).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(wanted, timeout=30) as made:
            assert json.load(made)["data"]["state"] == "active"
        expected = {
            "ok": ["accepted", "delivered"],
            "bounce": ["accepted", "bounced"],
            "defer+3": ["accepted", "deferred"],
            "complain": ["accepted", "delivered", "complained"],
            "slow+1": ["accepted", "delivered"],
        }
        for part in expected:
            assert http_send(http_port, message_json(f"{part}@simulator.test"), secret=key).status == 201
        count = sum(map(len, expected.values()))
        wait_until(lambda: len(program.events()) >= count, "not all is told", 60)
        for part, types in expected.items():
            found = [one["type"] for one in program.events() if one["data"]["recipient"] == f"{part}@simulator.test"]
            assert found == [f"email.{one}" for one in types], part
