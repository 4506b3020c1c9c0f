"""The key decides the way a message goes, and nothing in a request can change it."""

import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon
from tests.peers.sink import Sink
from tests.peers.status import wait_for_state

SECRETS = {"first": "key-of-the-first-route-000", "second": "key-of-the-second-route-00"}
RECIPIENT = "you@example.net"

FIELDS: dict[str, Any] = {
    "route": "second",
    "relay": "second",
    "server": "127.0.0.1",
    "host": "127.0.0.1",
    "smtp": {"host": "127.0.0.1", "port": 25},
    "provider": "second",
    "key": "second",
    "account": "second",
    "ip_pool": "second",
    "source": "127.0.0.2",
}
HEADERS = [
    "X-Gateway-Route: second",
    "X-Gateway-Key: second",
    "X-Gateway-Account: second",
    "X-Gateway-Relay: 127.0.0.1",
    "X-Route: second",
    "X-Relay: second",
    "X-Transport: second",
    "X-Provider: second",
    "X-MC-Route: second",
    "X-SES-Source-ARN: second",
    "X-Mailer-Route: second",
    "Return-Path: <second@example.com>",
    "Route: second",
    "To: second@example.net",
]


@pytest.fixture(scope="module")
def sinks() -> Iterator[dict[str, Sink]]:
    with Sink() as first, Sink() as second:
        yield {"first": first, "second": second}


@pytest.fixture(scope="module")
def daemon(sinks: dict[str, Sink], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("route")
    settings = {
        "routes": {
            name: {"type": "relay", "host": "127.0.0.1", "port": sink.port, "tls": "none"}
            for name, sink in sinks.items()
        },
        "default_route": "second",
        "keys": {name: _key(directory, name) for name in sinks},
    }
    with Daemon(directory / "gw", settings) as running:
        yield running


def _key(directory: Path, name: str) -> dict[str, Any]:
    secret = directory / f"{name}.secret"
    secret.write_text(SECRETS[name])
    secret.chmod(0o600)
    return {"secret": {"file": str(secret)}, "account": name, "route": name}


def _arrivals(sinks: dict[str, Sink]) -> dict[str, int]:
    return {name: len(sink.accepted) for name, sink in sinks.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "second"])
def test_each_key_takes_its_own_route(name: str, daemon: Daemon, sinks: dict[str, Sink]) -> None:
    before = _arrivals(sinks)
    assert http_send(daemon.http_port, message_json(RECIPIENT), secret=SECRETS[name]).status == 201
    smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], message_bytes(RECIPIENT), secret=SECRETS[name])
    sinks[name].wait_for(before[name] + 2)
    assert _arrivals(sinks) == before | {name: before[name] + 2}


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_a_request_changes_the_route(field: str, daemon: Daemon, sinks: dict[str, Sink]) -> None:
    before = _arrivals(sinks)
    body = message_json(RECIPIENT) | {field: FIELDS[field]}
    answer = http_send(daemon.http_port, body, secret=SECRETS["first"])
    assert answer.status in {400, 422}
    assert field in {error["param"] for error in answer.body["error"]["errors"]}
    assert _arrivals(sinks) == before


@pytest.mark.slow
@pytest.mark.parametrize("place", ["json", "http", "smtp"])
def test_no_header_changes_the_route(place: str, daemon: Daemon, sinks: dict[str, Sink]) -> None:
    before = _arrivals(sinks)
    taken = sum(_submit(daemon, place, header) for header in HEADERS)
    assert place == "json" or taken > len(HEADERS) // 2, "this shows nothing where all are refused"
    sinks["first"].wait_for(before["first"] + taken)
    assert _arrivals(sinks) == before | {"first": before["first"] + taken}


def _submit(daemon: Daemon, place: str, header: str) -> bool:
    """Send with a header in one of the places it could stand; whether it was taken."""
    name, _, value = header.partition(": ")
    if place == "smtp":
        content = header.encode() + b"\r\n" + message_bytes(RECIPIENT)
        try:
            smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], content, secret=SECRETS["first"])
        except smtplib.SMTPDataError as error:
            return not 500 <= error.smtp_code < 600
        return True
    body = message_json(RECIPIENT) | ({"headers": {name: value}} if place == "json" else {})
    headers = {name: value} if place == "http" else {}
    answer = http_send(daemon.http_port, body, secret=SECRETS["first"], headers=headers)
    assert answer.status in {201, 400, 422}
    return answer.status == 201


def test_a_captured_message_never_leaves(make_daemon: MakeDaemon, sink: Sink) -> None:
    relay = {"type": "relay", "host": "127.0.0.1", "port": sink.port, "tls": "none"}
    settings = {"routes": {"out": relay, "inbox": {"type": "capture"}}, "default_route": "inbox"}
    with make_daemon(settings) as running:
        answer = http_send(running.http_port, message_json(RECIPIENT))
        assert answer.body["data"]["status"] == "captured"
        wait_for_state(running, answer.id, "captured")
        assert running.json("queue", "summary")["total"]["ready"] == 0
    assert sink.connections == []
