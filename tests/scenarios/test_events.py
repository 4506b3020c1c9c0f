"""What became of a message, told by the running daemon: polled, streamed, resumed, over a restart and at a stop."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_json
from tests.peers.daemon import SECRET, Daemon
from tests.peers.process import wait_until
from tests.peers.sink import Sink
from tests.peers.status import status, wait_for_state

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
OTHER = "another-key-of-thirty-characters"
SCOPES = ("send", "read", "manage")


def settings(sink: Sink) -> dict[str, Any]:
    """A relay that puts off mail to `w@`, and a key of another account."""
    sink.answer = lambda line: "451 4.3.0 later" if line.upper().startswith("RCPT TO:<W@") else None
    return {
        "routes": {"up": {"type": "relay", "host": "127.0.0.1", "tls": "none", "port": sink.port}},
        "default_route": "up",
        "delivery": {"retry": ["1h"]},
        "keys": {
            "shop": {"secret": SECRET, "account": "shop", "scopes": list(SCOPES)},
            "other": {"secret": OTHER, "account": "other", "scopes": list(SCOPES)},
        },
    }


@pytest.fixture
def daemon(make_daemon: MakeDaemon, sink: Sink) -> Iterator[Daemon]:
    with make_daemon(settings(sink)) as running:
        yield running


def call(daemon: Daemon, method: str, path: str, body: Any = None, *, secret: str = SECRET) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=PATIENCE_S + 30)
    try:
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        connection.request(
            method, f"/api/v1{path}", body=json.dumps(body) if body is not None else None, headers=headers
        )
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(content) if is_json else content
    finally:
        connection.close()


def poll(daemon: Daemon, query: str) -> Any:
    code, page = call(daemon, "GET", f"/events?{query}")
    assert code == 200, page
    return page


class Reader(threading.Thread):
    """Follows the stream in the background, as a program would."""

    def __init__(self, daemon: Daemon, last: str = "") -> None:
        super().__init__(daemon=True)
        self.events: list[Any] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=PATIENCE_S)
        headers = {"Authorization": f"Bearer {SECRET}", "Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = last
        self._connection.request("GET", "/api/v1/events", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.start()

    def run(self) -> None:
        for line in self._response:
            if line.startswith(b"data: "):
                self.events.append(json.loads(line.removeprefix(b"data: ")))
        self._connection.close()

    def wait(self, count: int) -> None:
        wait_until(lambda: len(self.events) >= count, f"{count} events", PATIENCE_S)


def send(daemon: Daemon, to: str, *, secret: str = SECRET, **more: Any) -> str:
    answer = http_send(daemon.http_port, message_json(to) | more, secret=secret)
    assert answer.status == 201, answer.body
    return answer.id


def test_one_log_however_it_is_read(daemon: Daemon) -> None:
    """Streamed, polled, and resumed after the daemon was started anew."""
    reader = Reader(daemon)
    theirs = send(daemon, "x@example.net", secret=OTHER)
    first = send(daemon, "a@example.net", tags=["receipt"], metadata={"order": 7})
    reader.wait(2)
    begun = poll(daemon, "limit=1")
    delivered = reader.events[1]
    assert [event["type"] for event in reader.events] == ["email.accepted", "email.delivered"]
    assert delivered["data"]["message_id"] == first
    assert (delivered["data"]["tags"], delivered["data"]["metadata"]) == (["receipt"], {"order": 7})
    assert delivered["data"]["reply"].startswith("250")
    assert (delivered["data"]["host"], delivered["data"]["route"]) == ("127.0.0.1", "up")
    assert delivered["data"]["command"] == "dot"
    daemon.stop()
    reader.join(PATIENCE_S)
    assert not reader.is_alive()
    daemon.start()
    second = send(daemon, "b@example.net")
    again = Reader(daemon, last=delivered["cursor"])
    again.wait(2)
    rest = poll(daemon, f"after={begun['next_cursor']}")["data"]
    assert rest == [delivered, *again.events]
    assert {event["data"]["message_id"] for event in again.events} == {second}
    assert theirs not in json.dumps(poll(daemon, ""))
    assert [event["id"] for event in call(daemon, "GET", f"/emails/{second}/events")[1]["data"]] == [
        event["id"] for event in again.events
    ]


def test_a_stop_waits_for_no_poller(daemon: Daemon) -> None:
    send(daemon, "a@example.net")
    reader = Reader(daemon)
    reader.wait(2)
    waiting = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=PATIENCE_S)
    waiting.connect()
    poll(daemon, "")  # its connection was taken before this one
    waiting.request("GET", "/api/v1/events?after=now&wait=60s", headers={"Authorization": f"Bearer {SECRET}"})
    poll(daemon, "")  # and its request was read
    began = time.monotonic()
    daemon.stop()
    response = waiting.getresponse()
    assert (response.status, json.loads(response.read())["data"]) == (200, [])
    waiting.close()
    reader.join(PATIENCE_S)
    assert not reader.is_alive()
    assert time.monotonic() - began < 25  # a drain that waited for it would be cut after 28


def test_the_fate_of_a_message_is_changed(daemon: Daemon) -> None:
    waiting = send(daemon, "w@example.net")
    wait_for_state(daemon, waiting, "deferred", PATIENCE_S)
    assert call(daemon, "GET", f"/emails/{waiting}/content")[0] == 200
    code, answer = call(daemon, "POST", f"/emails/{waiting}/retry")
    assert (code, answer["data"]["changed"]) == (200, 1)
    wait_until(lambda: status(daemon, waiting).body["data"]["recipients"][0]["attempts"] == 2, "a try", PATIENCE_S)
    wait_for_state(daemon, waiting, "deferred", PATIENCE_S)
    daemon.cli("queue", "hold", "--id", waiting)
    assert call(daemon, "POST", f"/emails/{waiting}/release", secret=OTHER)[0] == 404
    code, answer = call(daemon, "POST", f"/emails/{waiting}/release")
    assert (code, answer["data"]["changed"]) == (200, 1)
    wait_until(lambda: call(daemon, "POST", f"/emails/{waiting}/cancel")[0] == 200, "cancelled", PATIENCE_S)
    code, answer = call(daemon, "POST", f"/emails/{waiting}/cancel")
    assert (code, answer["error"]["code"]) == (409, "conflict")
    later = send(daemon, "l@example.net", send_at="in 2h")
    code, answer = call(daemon, "PATCH", f"/emails/{later}", {"send_at": "now"})
    assert (code, answer["data"]["changed"]) == (200, 1)
    wait_for_state(daemon, later, "delivered", PATIENCE_S)
    code, page = call(daemon, "GET", "/emails?state=delivered&to=l@example.net")
    assert [entry["message_id"] for entry in page["data"]] == [later]
    code, answer = call(daemon, "GET", f"/emails/{later}/content")
    assert code == 404
    assert "erased" in answer["error"]["message"]
