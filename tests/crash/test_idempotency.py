"""One idempotency key is one message, however often, however concurrently, and across a kill."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from tests.peers.client import HttpClient, http_send, message_json
from tests.peers.daemon import ROOT, Daemon, broken_twin, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

TIMES = 100
RECIPIENT = "once@example.net"
KEY = "order-4711"

pytestmark = pytest.mark.slow


class Gate:
    """A next hop that takes nothing until it is opened, so that no delivery is in doubt at the kill."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, line: str) -> str | None:
        return None if self.open.is_set() or not line.startswith("MAIL") else "450 4.2.0 not now"


async def _send_at_once(port: int) -> list[tuple[int, bytes]]:
    """The same request TIMES times, each on a connection of its own; (0, b"") where no answer came."""
    body = json.dumps(message_json(RECIPIENT)).encode()

    async def one() -> tuple[int, bytes]:
        client = HttpClient(port)
        try:
            return await asyncio.wait_for(client.post(body, f"Idempotency-Key: {KEY}\r\n"), 20)
        except (OSError, EOFError):
            return 0, b""
        finally:
            client.close()

    return await asyncio.gather(*(one() for _ in range(TIMES)))


def _kill_in_the_middle(daemon: Daemon) -> list[tuple[int, bytes]]:
    """Send while the daemon is killed; returns the answers that came."""
    killer = threading.Timer(0.05, daemon.kill)
    killer.start()
    answers = asyncio.run(_send_at_once(daemon.http_port))
    killer.join()
    return answers


def _queued(daemon: Daemon) -> int:
    return sum(daemon.json("queue", "summary")["total"].values())


def _ids(directory: Path, source: Path = ROOT) -> tuple[set[str], int]:
    """(ids the clients were told, messages at the next hop) of one key sent by many, killed, and sent
    again."""
    gate = Gate()
    with Sink(answer=gate) as sink:
        settings = relay_to(sink.port) | {"limits": {"connections_per_ip": 2 * TIMES}}
        with Daemon(directory, settings, source=source) as daemon:
            answers = asyncio.run(_send_at_once(daemon.http_port))
            assert {status for status, _ in answers} <= {201, 409}, answers
            answers += _kill_in_the_middle(daemon)
            daemon.restart()
            answers += asyncio.run(_send_at_once(daemon.http_port))
            told = [json.loads(body) for status, body in answers if status == 201]
            ids = {answer["data"]["message_id"] for answer in told}
            gate.open.set()
            daemon.cli("queue", "retry", "--all")
            sink.wait_for(len(ids))
            wait_until(lambda: _queued(daemon) == 0, "an empty queue")
            assert daemon.stop() == 0, daemon.tail()
        return ids, len(sink.by_recipient()[RECIPIENT])


def test_one_key_is_one_message(tmp_path: Path) -> None:
    ids, arrived = _ids(tmp_path / "gw")
    assert (len(ids), arrived) == (1, 1)


def test_other_content_conflicts(tmp_path: Path) -> None:
    headers = {"Idempotency-Key": KEY}
    with Sink() as sink, Daemon(tmp_path / "gw", relay_to(sink.port)) as daemon:
        first = http_send(daemon.http_port, message_json(RECIPIENT), headers=headers)
        again = http_send(daemon.http_port, message_json(RECIPIENT), headers=headers)
        other = http_send(daemon.http_port, message_json(RECIPIENT, text="Else.\n"), headers=headers)
        daemon.kill()
        daemon.restart()
        after = http_send(daemon.http_port, message_json(RECIPIENT, text="Else.\n"), headers=headers)
    assert (again.status, again.id, again.headers["Idempotent-Replayed"]) == (201, first.id, "true")
    assert (other.status, other.body["error"]["code"]) == (409, "idempotency_conflict")
    assert (after.status, after.body["error"]["code"]) == (409, "idempotency_conflict")


def test_a_store_that_forgets_keys_is_seen(tmp_path: Path) -> None:
    twin = broken_twin(
        tmp_path / "twin",
        "store/idempotency.py",
        "return _Known(*row) if row is not None else None",
        "return None",
    )
    ids, arrived = _ids(tmp_path / "gw", twin)
    assert (len(ids), arrived) != (1, 1)
