"""Clients as they are in the field, against the daemon's doors; the next hop is the recording sink."""

import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conftest import MakeDaemon
from tests.peers.client import message_json, smtp_send
from tests.peers.daemon import SECRET, relay_to
from tests.peers.process import free_port
from tests.peers.programs import curl, swaks
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

RECIPIENT = "you@example.net"


def _with_tls(directory: Path) -> tuple[dict[str, Any], dict[str, int], Path]:
    """(settings with a STARTTLS and an implicit TLS listener, their ports, the CA's certificate)."""
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(str(directory / "certificate.pem"))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    (directory / "key.pem").chmod(0o600)
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    ports = {"starttls": free_port(), "implicit": free_port()}
    listeners = [
        {"listen": f"127.0.0.1:{port}", "tls": tls, "auth": "required", "plaintext_auth": False}
        for tls, port in ports.items()
    ]
    files = {"certificate": str(directory / "certificate.pem"), "key": str(directory / "key.pem")}
    return {"tls": files, "smtp": {"listeners": listeners}}, ports, directory / "ca.pem"


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


@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN"])
def test_swaks(auth: str, make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        transcript = swaks(daemon.smtp_port, RECIPIENT, auth=auth)
        arrived = sink.wait_for(1)
    assert f"AUTH {auth}" in transcript
    assert "250 2.0.0 queued as " in transcript
    assert b"\r\n\r\nIt works.\r\n" in arrived[0].content


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_swaks_over_tls(tls: str, make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    settings, ports, ca = _with_tls(tmp_path)
    with make_daemon(relay_to(sink.port) | settings):
        transcript = swaks(ports[tls], RECIPIENT, tls=tls, ca=ca)
        sink.wait_for(1)
    assert "TLS started with cipher TLSv1." in transcript
    assert "250 2.0.0 queued as " in transcript


def test_swaks_in_clear_is_refused_where_tls_is_asked_for(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    settings, ports, _ = _with_tls(tmp_path)
    with (
        make_daemon(relay_to(sink.port) | settings),
        pytest.raises(AssertionError, match="did not advertise authentication"),
    ):
        swaks(ports["starttls"], RECIPIENT)
    assert sink.transactions == []


def test_smtplib_over_implicit_tls(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    settings, ports, ca = _with_tls(tmp_path)
    context = ssl.create_default_context(cafile=str(ca))
    with (
        make_daemon(relay_to(sink.port) | settings),
        smtplib.SMTP_SSL("127.0.0.1", ports["implicit"], context=context) as client,
    ):
        client.login("shop", SECRET)
        client.sendmail("shop@example.com", [RECIPIENT, "other@example.net"], b"Subject: hello\r\n\r\n.dot\r\n")
        arrived = sink.wait_for(1)
    assert sorted(to for one in arrived for to in one.recipients) == ["other@example.net", RECIPIENT]
    assert b"\r\n\r\n.dot\r\n" in arrived[0].content


def test_a_wrong_key_sends_nothing(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], b"x\r\n", secret="x" * 30)
        assert curl(daemon.http_port, message_json(RECIPIENT), secret="x" * 30)["error"]["code"] == (
            "authentication_required"
        )
    assert sink.transactions == []
