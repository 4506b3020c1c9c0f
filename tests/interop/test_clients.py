"""curl, as the README's first example has it, and a wrong key at both doors; the next hop is the recording sink."""

import smtplib

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import message_json, smtp_send
from tests.peers.daemon import relay_to
from tests.peers.programs import curl
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

RECIPIENT = "you@example.net"


def test_curl(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        answer = curl(daemon.http_port, message_json(RECIPIENT))
        refused = curl(daemon.http_port, {"from": "shop@example.com", "to": "nobody", "subject": "x"})
        arrived = sink.wait_for(1)
    assert answer["ok"] is True
    assert answer["data"]["status"] == "queued"
    assert [(one.sender, one.recipients) for one in arrived] == [("shop@example.com", [RECIPIENT])]
    assert b"\r\nSubject: to you@example.net\r\n" in arrived[0].content
    assert refused["ok"] is False
    assert "to" in {error["param"] for error in refused["error"]["errors"]}


def test_a_wrong_key_sends_nothing(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], b"x\r\n", secret="x" * 30)
        assert curl(daemon.http_port, message_json(RECIPIENT), secret="x" * 30)["error"]["code"] == (
            "authentication_required"
        )
    assert sink.transactions == []
