"""Notifications and real Postfix: what it stores of ours, and mail that comes from it with the parameters of DSN."""

import email
import re
import smtplib
from collections.abc import Sequence
from email.message import Message
from email.parser import BytesParser
from email.policy import default

import pytest
from flufl.bounce import all_failures

from tests.conftest import MakeDaemon
from tests.peers.client import message_bytes, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.postfix import Postfix
from tests.peers.process import free_port

pytestmark = pytest.mark.slow

SENDER = "shop@example.net"
GONE = "gone@example.net"
# Recipients are refused before anything else is asked; all others have a mailbox.
RULE = f"{GONE}=550 5.1.1 nobody of that name"
REFUSING = {"smtpd_recipient_restrictions": f"check_recipient_access inline:{{{{{RULE}}}}}"}


def _notice(stored: Sequence[bytes]) -> tuple[bytes, Message]:
    """The notification among what a mailbox holds, as Postfix stored it."""
    (found,) = [one for one in stored if b"\nContent-Type: multipart/report;" in one]
    return found, email.message_from_bytes(found)


def _fields(notice: Message, name: str) -> list[str]:
    return [str(part[name]) for part in notice.walk() if part[name]]


def _by_network(daemon_port: int) -> dict[str, object]:
    """An SMTP listener whose clients on loopback need no password: Postfix is one."""
    listener = {
        "listen": f"127.0.0.1:{daemon_port}",
        "tls": "none",
        "auth": "optional",
        "networks": {"127.0.0.0/8": "shop"},
    }
    return {"smtp": {"listeners": [listener]}}


def test_postfix_stores_our_notification(make_daemon: MakeDaemon) -> None:
    with Postfix(settings=REFUSING) as postfix, make_daemon(relay_to(postfix.port)) as daemon:
        smtp_send(daemon.smtp_port, SENDER, ["you@example.net", GONE], message_bytes("you@example.net"))
        stored, notice = _notice(postfix.wait_for(2))
        assert daemon.stop() == 0, daemon.tail()
        log = postfix.log()
    # Postfix writes the envelope sender down: it was the null one.
    assert b"\nReturn-Path: <>\n" in b"\n" + stored
    assert re.search(r"from=<>, size=\d+, nrcpt=1 ", log)
    assert _fields(notice, "Final-Recipient") == [f"rfc822; {GONE}"]
    assert all_failures(notice)[1] == {GONE.encode()}
    parsed = BytesParser(policy=default).parsebytes(stored)
    assert [part.get_content_type() for part in parsed.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert f"550 5.1.1 <{GONE}>: Recipient address rejected: nobody of that name\n" in str(parsed.get_body())


def test_a_message_that_postfix_relays_through_us(make_daemon: MakeDaemon) -> None:
    """We announce DSN, so Postfix leaves the telling to us and hands on what its client asked for."""
    port = free_port()
    first = Postfix(
        domains=("first.example",),
        settings={"relayhost": f"[127.0.0.1]:{port}", "smtpd_relay_restrictions": "permit_mynetworks, reject"},
    )
    with Postfix(settings=REFUSING) as last, first, make_daemon(relay_to(last.port) | _by_network(port)) as daemon:
        _submit(first, daemon)
        stored, notice = _notice(last.wait_for(1))
        assert daemon.stop() == 0, daemon.tail()
    assert _fields(notice, "Original-Envelope-Id") == ["QQ+1"]
    assert _fields(notice, "Original-Recipient") == ["rfc822; first+one@example.org"]
    assert _fields(notice, "Final-Recipient") == [f"rfc822; {GONE}"]
    assert _fields(notice, "Reporting-MTA") == ["dns; gateway.test"]
    assert all_failures(notice)[1] == {b"first+one@example.org"}
    assert b"\nContent-Type: message/rfc822\n" in stored
    assert b"It works." in stored


def _submit(first: Postfix, daemon: Daemon) -> None:
    with smtplib.SMTP("127.0.0.1", first.port, local_hostname="client.test", timeout=30) as client:
        client.sendmail(
            SENDER,
            [GONE],
            message_bytes(GONE),
            mail_options=["RET=FULL", "ENVID=QQ+2B1"],
            rcpt_options=["NOTIFY=FAILURE", "ORCPT=rfc822;first+2Bone@example.org"],
        )
