"""The operator's first hour: keys and domains made while the daemon runs, and what a key may not do."""

import smtplib
import socket

import pytest

from tests.conftest import MakeDaemon
from tests.peers import opendkim
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.sink import Sink
from tests.peers.status import status, wait_for_state

RECIPIENT = "you@example.net"


@pytest.mark.slow
def test_a_key_made_while_the_daemon_runs(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        made = daemon.json("key", "create", "web", "--from", "*@example.com", "--account", "web")
        secret = made["secret"]
        by_http = http_send(daemon.http_port, message_json(RECIPIENT), secret=secret)
        smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], message_bytes(RECIPIENT), secret=secret)
        sink.wait_for(2)
        assert by_http.status == 201
        assert secret not in daemon.cli("key", "list") + daemon.cli("key", "show", "web") + daemon.tail(1000)
        daemon.cli("key", "revoke", "web")
        _knocks_in_vain(daemon, secret)
        daemon.kill()
        daemon.restart()
        _knocks_in_vain(daemon, secret)
    assert len(sink.accepted) == 2


def _knocks_in_vain(daemon: Daemon, secret: str) -> None:
    answer = http_send(daemon.http_port, message_json(RECIPIENT), secret=secret)
    assert (answer.status, answer.body["error"]["code"]) == (401, "authentication_required")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], b"x\r\n", secret=secret)


@pytest.mark.slow
def test_a_key_sends_only_as_it_may(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        secret = daemon.json("key", "create", "web", "--from", "*@example.com")["secret"]
        foreign = message_json(RECIPIENT, sender="boss@example.org")
        refused = http_send(daemon.http_port, foreign, secret=secret)
        assert (refused.status, refused.body["error"]["code"]) == (403, "sender_not_allowed")
        with pytest.raises(smtplib.SMTPSenderRefused) as at_mail:
            smtp_send(daemon.smtp_port, "boss@example.org", [RECIPIENT], b"x\r\n", secret=secret)
        forged = message_bytes(RECIPIENT, sender="boss@example.org")
        with pytest.raises(smtplib.SMTPDataError) as at_data:
            smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], forged, secret=secret)
    assert (at_mail.value.smtp_code, at_data.value.smtp_code) == (550, 550)
    assert sink.transactions == []


@pytest.mark.slow
def test_one_account_does_not_see_anothers_mail(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        secret = daemon.json("key", "create", "other", "--account", "other")["secret"]
        id_ = http_send(daemon.http_port, message_json(RECIPIENT)).id
        wait_for_state(daemon, id_, "delivered")
        assert status(daemon, id_).status == 200
        foreign = status(daemon, id_, secret=secret)
    assert (foreign.status, foreign.body["error"]["code"]) == (404, "not_found")


@pytest.mark.slow
def test_a_domain_added_while_the_daemon_runs_is_signed(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        http_send(daemon.http_port, message_json(RECIPIENT))
        unsigned = sink.wait_for(1)[0]
        added = daemon.json("domain", "add", "example.com")
        txt = {added["dns_name"]: added["dns_value"]}
        http_send(daemon.http_port, message_json(RECIPIENT))
        signed = sink.wait_for(2)[1]
        daemon.kill()
        daemon.restart()
        smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], message_bytes(RECIPIENT))
        later = sink.wait_for(3)[2]
    assert b"DKIM-Signature:" not in unsigned.content
    assert opendkim.verify_dkimpy(signed.content, txt)
    assert opendkim.verify_dkimpy(later.content, txt)


@pytest.mark.slow
def test_two_daemons_do_not_share_a_data_directory(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as first:
        second = make_daemon({**relay_to(sink.port), "data_dir": str(first.data)})
        with pytest.raises(RuntimeError, match="exit code"):
            second.start()
        assert http_send(first.http_port, message_json(RECIPIENT)).status == 201
        sink.wait_for(1)


@pytest.mark.slow
def test_a_busy_port_is_explained(make_daemon: MakeDaemon, sink: Sink) -> None:
    daemon = make_daemon(relay_to(sink.port))
    with socket.create_server(("127.0.0.1", daemon.smtp_port)), pytest.raises(RuntimeError):
        daemon.start()
    assert str(daemon.smtp_port) in daemon.tail()
    assert "Traceback" not in daemon.tail(1000)
