"""A daemon that tells a program what becomes of its mail, and goes on where it was killed."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families
from standardwebhooks.webhooks import Webhook

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_json
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink
from tests.scenarios.test_metrics import fetch

WEBHOOKS: Final = {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "retry": ["1s", "1s", "1s"]}
KILLS: Final = 3
MESSAGES: Final = 30


class Program:
    """A receiver in a thread; what it is told is kept. `status` is asked of each request."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.status: Callable[[Any], int] = lambda _told: 200
        program = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                told = Webhook(program.secret).verify(body, headers) if program.secret else json.loads(body)
                program.told.append(told)
                program.headers.append(headers)
                self.send_response(program.status(told))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.secret = ""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def events(self) -> list[Any]:
        return [one for one in list(self.told) if one["type"] != "webhook.ping"]


@pytest.fixture
def program() -> Iterator[Program]:
    one = Program()
    yield one
    one.close()


def register(daemon: Daemon, program: Program, *options: str) -> Any:
    made = daemon.json("webhook", "add", program.url, "--account", "shop", *options)
    assert made["state"] == "active", made
    program.secret = made["secret"]
    return made


@pytest.mark.slow
def test_a_program_is_told(make_daemon: MakeDaemon, program: Program) -> None:
    with Sink() as sink, make_daemon(relay_to(sink.port) | {"webhooks": WEBHOOKS}) as daemon:
        made = register(daemon, program, "--type", "email.delivered")
        assert http_send(daemon.http_port, message_json("ann@example.net")).status == 201
        wait_until(lambda: len(program.events()) == 1, "the program was not told", 60)
        [told] = program.events()
        assert told["type"] == "email.delivered"
        assert told["data"]["recipient"] == "ann@example.net"
        [listed] = daemon.json("webhook", "list")
        assert listed["id"] == made["id"]
        assert made["secret"] not in daemon.cli("webhook", "show", made["id"])
        assert "answered 200" in daemon.cli("webhook", "test", made["id"])
        rotated = daemon.json("webhook", "rotate", made["id"])
        program.secret = rotated["secret"]
        daemon.cli("webhook", "pause", made["id"])
        assert http_send(daemon.http_port, message_json("bob@example.net")).status == 201
        daemon.cli("webhook", "resume", made["id"])
        wait_until(lambda: len(program.events()) == 2, "the program was not told after a pause", 60)
        daemon.cli("webhook", "replay", made["id"], "--since", "1h")
        wait_until(lambda: len(program.events()) == 4, "nothing was replayed", 60)
        scraped = fetch(f"http://127.0.0.1:{daemon.http_port}/metrics")
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(scraped)
            for sample in family.samples
        }
        assert found["mailgateway_webhook_requests_total", "delivered"] >= 4
        assert found["mailgateway_webhook_endpoints", "active"] == 1
        assert found["mailgateway_webhook_parked_events",] == 0
        assert "removed" in daemon.cli("webhook", "remove", made["id"])
        assert daemon.stop() == 0


@pytest.mark.slow
def test_what_private_networks_are_allowed_is_read_again(make_daemon: MakeDaemon, program: Program) -> None:
    with Sink() as sink, make_daemon(relay_to(sink.port) | {"webhooks": {"allow_http": True}}) as daemon:
        assert "not on the internet" in _refused(daemon, program)
        daemon.write_config(relay_to(sink.port) | {"webhooks": WEBHOOKS})
        daemon.cli("reload")
        register(daemon, program)
        assert len(program.told) == 1


def _refused(daemon: Daemon, program: Program) -> str:
    with pytest.raises(AssertionError) as failure:
        daemon.cli("webhook", "add", program.url)
    return str(failure.value)


@pytest.mark.slow
def test_without_a_daemon_an_endpoint_is_made_and_tested(make_daemon: MakeDaemon, program: Program) -> None:
    daemon = make_daemon({"webhooks": WEBHOOKS})
    made = register(daemon, program)
    with daemon:
        assert [one["id"] for one in daemon.json("webhook", "list")] == [made["id"]]


@pytest.mark.slow
def test_d19_killed_while_it_tells_it_loses_no_event(make_daemon: MakeDaemon, program: Program) -> None:
    failing = iter(range(10_000))

    def sometimes(_told: Any) -> int:
        return 500 if next(failing) % 5 == 4 else 200

    with Sink() as sink, make_daemon(relay_to(sink.port) | {"webhooks": WEBHOOKS}) as daemon:
        register(daemon, program)
        program.status = sometimes
        sent = set()
        for kill in range(KILLS):
            for number in range(MESSAGES):
                answer = http_send(daemon.http_port, message_json(f"{kill}-{number}@example.net"))
                assert answer.status == 201
                sent.add(f"{kill}-{number}@example.net")
            before = len(program.events())
            wait_until(lambda at=before: len(program.events()) > at + 5, "nothing is told", 60)  # type: ignore[misc]
            daemon.kill()
            daemon.restart()

        def missing() -> set[str]:
            return sent - {one["data"]["recipient"] for one in program.events() if one["type"] == "email.delivered"}

        wait_until(lambda: not missing(), "not every delivery was told", 60)
        wait_until(lambda: daemon.json("webhook", "list")[0]["parked"] == 0, "something is still parked", 60)
        accepted = {one["data"]["recipient"] for one in program.events() if one["type"] == "email.accepted"}
        assert accepted == sent
        assert daemon.stop() == 0
