"""Through the daemon into Postfix, as a relay that wants TLS and AUTH and as an MX found by DNS.

What arrives is read from Postfix's mailbox; its signature is verified by dkimpy and by OpenDKIM.
"""

import asyncio
import smtplib
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.fakes.dns import FakeDns
from tests.peers import opendkim
from tests.peers.client import message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon, dkim_domain
from tests.peers.postfix import PASSWORD, USER, Postfix
from tests.peers.process import wait_until
from tests.peers.programs import curl, swaks

pytestmark = pytest.mark.slow

RECIPIENT = "you@example.net"
Submit = Callable[[Daemon], object]
SUBMIT: dict[str, Submit] = {
    "curl": lambda daemon: curl(daemon.http_port, message_json(RECIPIENT)),
    "swaks": lambda daemon: swaks(daemon.smtp_port, RECIPIENT),
    "smtplib": lambda daemon: smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], message_bytes(RECIPIENT)),
}


@pytest.fixture(scope="module")
def submission() -> Iterator[Postfix]:
    """Postfix that relays for those who log in over TLS."""
    with Postfix(submission=True) as postfix:
        yield postfix


@pytest.fixture(scope="module")
def mx() -> Iterator[Postfix]:
    """Postfix that is the MX of example.net."""
    with Postfix() as postfix:
        yield postfix


@pytest.fixture(scope="module")
def nameserver() -> Iterator[int]:
    """The port of a DNS server for example.net, on a loop of its own: the tests here block theirs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dns", daemon=True)
    thread.start()
    server = FakeDns("example.net MX 10 mx.example.net\nmx.example.net A 127.0.0.1")
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    yield server.listen.port
    asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def _relay(postfix: Postfix, directory: Path, *, password: str = PASSWORD) -> dict[str, Any]:
    secret = directory / "relay.password"
    secret.write_text(password)
    secret.chmod(0o600)
    relay = {
        "type": "relay",
        "host": "127.0.0.1",
        "port": postfix.port,
        "tls": "starttls",
        "ca": str(postfix.ca_file),
        "username": USER,
        "password": {"file": str(secret)},
    }
    return {"routes": {"relay": relay}, "default_route": "relay"}


def _crlf(stored: bytes) -> bytes:
    """As it was on the wire: Postfix stores lines with LF."""
    return stored.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("client", SUBMIT)
def test_relay_with_tls_and_auth(client: str, submission: Postfix, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    domains, txt = dkim_domain(tmp_path)
    before = len(submission.messages())
    with make_daemon(_relay(submission, tmp_path) | domains) as daemon:
        SUBMIT[client](daemon)
        arrived = _crlf(submission.wait_for(before + 1)[-1])
        assert daemon.stop() == 0, daemon.tail()
    assert f"Subject: to {RECIPIENT}".encode() in arrived
    assert b"(using TLSv1." in arrived
    assert f"(Authenticated sender: {USER}@".encode() in arrived
    assert opendkim.verify_dkimpy(arrived, txt)
    assert opendkim.verify_opendkim(arrived, txt)


@pytest.mark.parametrize("client", SUBMIT)
def test_mx_found_by_dns(client: str, mx: Postfix, nameserver: int, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    domains, txt = dkim_domain(tmp_path)
    before = len(mx.messages())
    settings = {
        "dns": {"nameservers": [f"127.0.0.1:{nameserver}"]},
        "routes": {"direct": {"type": "mx", "port": mx.port}},
    }
    with make_daemon(settings | domains) as daemon:
        SUBMIT[client](daemon)
        arrived = _crlf(mx.wait_for(before + 1)[-1])
        assert daemon.stop() == 0, daemon.tail()
    assert f"Subject: to {RECIPIENT}".encode() in arrived
    assert b"(using TLSv1." in arrived, "TLS is used where it is offered, whoever signed the certificate"
    assert opendkim.verify_dkimpy(arrived, txt)
    assert opendkim.verify_opendkim(arrived, txt)


def test_a_wrong_password_is_not_the_recipients_fault(
    submission: Postfix, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    before = len(submission.messages())
    with make_daemon(_relay(submission, tmp_path, password="wrong")) as daemon:
        id_ = smtp_send(daemon.smtp_port, "shop@example.com", [RECIPIENT], message_bytes(RECIPIENT))
        wait_until(lambda: daemon.json("queue", "show", id_)["recipients"][0]["attempts"] > 0, "an attempt")
        recipient = daemon.json("queue", "show", id_)["recipients"][0]
    assert recipient["state"] == "deferred"
    assert recipient["last_reply"].startswith("535")
    assert len(submission.messages()) == before


def test_the_peer_refuses_what_the_daemon_must_not_do(submission: Postfix) -> None:
    """Without TLS or AUTH this Postfix takes nothing: the tests above show both."""
    with smtplib.SMTP("127.0.0.1", submission.port) as client, pytest.raises(smtplib.SMTPSenderRefused):
        client.sendmail("a@example.com", [RECIPIENT], message_bytes(RECIPIENT))
    with smtplib.SMTP("127.0.0.1", submission.port) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(submission.ca_file)))
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.com", [RECIPIENT], message_bytes(RECIPIENT))
