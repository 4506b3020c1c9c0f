"""The whole way round: mail leaves with a token of its own, and what comes back to it is known again."""

import http.client
import json
import re
import smtplib
from typing import Any, Final

import pytest

from tests.conftest import MakeDaemon
from tests.fakes import returned
from tests.peers.client import http_send, message_json
from tests.peers.daemon import SECRET, Daemon, relay_to
from tests.peers.process import free_port
from tests.peers.sink import Sink, Transaction
from tests.peers.status import wait_for_state

pytestmark = pytest.mark.slow

RETURN_PATH: Final = "bounces.example.com"
FEEDBACK: Final = "fbl@example.com"


def _settings(daemon: Daemon, back_port: int, sink: Sink) -> dict[str, Any]:
    listeners = [
        {"listen": f"127.0.0.1:{daemon.smtp_port}", "tls": "none", "auth": "required"},
        {"listen": f"127.0.0.1:{back_port}", "role": "return_path"},
    ]
    return relay_to(sink.port) | {
        "domains": {"example.com": {"return_path": RETURN_PATH}},
        "smtp": {"listeners": listeners, "feedback": [FEEDBACK]},
        "http": {
            "listeners": [{"listen": f"127.0.0.1:{daemon.http_port}", "tls": "none"}],
            "admin": f"127.0.0.1:{daemon.http_port}",
            "public_url": "https://mail.example.com",
        },
    }


def _sent(daemon: Daemon, sink: Sink, to: str, **more: Any) -> tuple[str, Transaction]:
    """The id of a message that was delivered, and how it left."""
    id_ = http_send(daemon.http_port, message_json(to) | more).id
    wait_for_state(daemon, id_, "delivered")
    (transaction,) = sink.by_recipient()[to]
    return id_, transaction


def _back(port: int, to: str, content: bytes, sender: str = "") -> tuple[int, bytes]:
    """The last answer of the listener to a report."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="mx.example.net", timeout=30) as client:
        client.ehlo()
        client.mail(sender)
        answer = client.rcpt(to)
        return client.data(content) if answer[0] == 250 else answer


def _events(daemon: Daemon, id_: str) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
    try:
        connection.request("GET", "/api/v1/events?limit=100", headers={"Authorization": f"Bearer {SECRET}"})
        found = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert "data" in found, found
    return [event for event in found["data"] if id_ in json.dumps(event)]


def _token(transaction: Transaction) -> str:
    match = re.search(rb"^X-Gateway-Token: ([a-z2-7]{53})\r\n", transaction.content, re.MULTILINE)
    assert match is not None
    return match[1].decode()


def test_bounces_complaints_and_wishes_find_their_recipient(make_daemon: MakeDaemon, sink: Sink) -> None:
    port = free_port()
    daemon = make_daemon({})
    daemon.write_config(_settings(daemon, port, sink))
    with daemon:
        bounced, first = _sent(daemon, sink, "ann@example.net")
        assert first.sender == f"b+{_token(first)}@{RETURN_PATH}"
        assert _back(port, first.sender, returned.STANDARD[0].message(_token(first)))[0] == 250
        assert wait_for_state(daemon, bounced, "bounced")["bounce_class"] == "InvalidRecipient"
        assert [event["type"] for event in _events(daemon, bounced)][-1] == "email.bounced"

        hated, second = _sent(daemon, sink, "bob@example.net")
        painted = returned.complaint(_token(second), to="redacted")
        assert _back(port, FEEDBACK, painted, "fbl@example.net")[0] == 250
        assert "email.complained" in [event["type"] for event in _events(daemon, hated)]

        left, third = _sent(daemon, sink, "carl@example.net", unsubscribe="news")
        match = re.search(rb"<mailto:(u\+[a-z2-7]{53}@[a-z.]+)", re.sub(rb"\r\n[ \t]", b"", third.content))
        assert match is not None, third.content
        assert _back(port, match[1].decode(), returned.AUTOMATIC["vacation"], "carl@example.net")[0] == 250
        assert _back(port, match[1].decode(), returned.PERSONAL, "carl@example.net")[0] == 250
        assert [event["type"] for event in _events(daemon, left)].count("email.unsubscribed") == 1

        assert _back(port, "ann@example.net", returned.PERSONAL)[0] == 550
        assert _back(port, f"b+{'a' * 53}@{RETURN_PATH}", returned.PERSONAL)[0] == 550
        assert daemon.stop() == 0, daemon.tail()
    log = daemon.log.read_text()
    for type_, id_ in (("bounced", bounced), ("complained", hated), ("unsubscribed", left)):
        assert len(re.findall(rf" {type_} id={id_} .*late=true", log)) == 1, log


def test_a_restart_forgets_no_token(make_daemon: MakeDaemon, sink: Sink) -> None:
    port = free_port()
    daemon = make_daemon({})
    daemon.write_config(_settings(daemon, port, sink))
    with daemon:
        id_, transaction = _sent(daemon, sink, "ann@example.net")
        daemon.kill()
        daemon.start()
        assert _back(port, transaction.sender, returned.STANDARD[0].message())[0] == 250
        wait_for_state(daemon, id_, "bounced")
