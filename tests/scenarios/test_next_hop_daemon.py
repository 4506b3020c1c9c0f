"""The whole daemon against a next hop that fails, lacks an extension, or dies at the final dot."""

import smtplib
from pathlib import Path
from typing import Any

import dkim
import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import message_bytes, smtp_send
from tests.peers.daemon import SECRET, Daemon, dkim_domain, relay_to
from tests.peers.process import wait_until
from tests.peers.scripted import DROP, HUSH, OFFERS, Act, Scripted, ScriptedThread, Then
from tests.peers.status import status, wait_for_state

pytestmark = pytest.mark.slow

SENDER = "shop@example.com"
TO = "you@example.net"


def recipients(daemon: Daemon, id_: str) -> dict[str, dict[str, Any]]:
    return {one["to"]: one for one in daemon.json("queue", "show", id_)["recipients"]}


def at_most_once(directory: Path) -> dict[str, Any]:
    secret = directory / "once.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return {"keys": {"shop": {"secret": {"file": str(secret)}, "account": "shop", "duplicates": "at_most_once"}}}


def test_eight_bits_reach_a_host_that_takes_seven(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    domains, records = dkim_domain(tmp_path / "dkim")
    content = message_bytes(TO).partition(b"Content-")[0] + (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + "Zeile für Zeile, eine nach der anderen.\r\n".encode() * 10_000
    )
    offers = tuple(offer for offer in OFFERS if offer not in {"8BITMIME", "SMTPUTF8"})
    with ScriptedThread(offers=offers) as host, make_daemon(relay_to(host.port) | domains) as daemon:
        id_ = smtp_send(daemon.smtp_port, SENDER, [TO], content)
        wait_for_state(daemon, id_, "delivered")
    [message] = host.taken
    assert message.content.isascii()
    assert dkim.verify(message.content, dnsfunc=lambda name, **_: records[name.decode().rstrip(".")].encode())


def test_what_must_not_be_changed_comes_back(make_daemon: MakeDaemon) -> None:
    content = b"DKIM-Signature: v=1; d=x.test\r\n" + message_bytes(TO) + "für dich\r\n".encode()
    with ScriptedThread(offers=OFFERS[:2]) as host, make_daemon(relay_to(host.port)) as daemon:
        id_ = smtp_send(daemon.smtp_port, SENDER, [TO], content)
        recipient = wait_for_state(daemon, id_, "bounced")
    assert recipient["last_reply"].startswith("554 5.6.3 ")
    assert "DKIM" in recipient["last_reply"]
    assert not any(TO in command for command in host.commands)


def test_what_the_client_asked_for_reaches_the_next_hop(make_daemon: MakeDaemon) -> None:
    with ScriptedThread() as host, make_daemon(relay_to(host.port)) as daemon:
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
            client.ehlo()
            client.login("client", SECRET)
            rcpt = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;me+2B1@old.test"]
            client.sendmail(SENDER, [TO], message_bytes(TO), ["RET=HDRS", "ENVID=QQ314159"], rcpt)
        wait_until(lambda: bool(host.taken), "the message at the next hop")
    [message] = host.taken
    assert message.mail.endswith(" RET=HDRS ENVID=QQ314159")
    assert message.rcpts == [f"RCPT TO:<{TO}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;me+2B1@old.test"]


def test_d8_a_421_in_the_middle_of_ten(make_daemon: MakeDaemon) -> None:
    to = [f"r{number}@example.net" for number in range(10)]
    script = {"rcpt": [None, "550 5.1.1 nobody", Act(b"421 4.3.2 bye\r\n", Then.CLOSE)]}
    with ScriptedThread(script) as host, make_daemon(relay_to(host.port)) as daemon:
        id_ = smtp_send(daemon.smtp_port, SENDER, to, message_bytes(to[0]))
        wait_for_state(daemon, id_, "deferred")
        states = [one["state"] for one in recipients(daemon, id_).values()]
        assert states == ["deferred", "bounced", *["deferred"] * 8]
        daemon.cli("queue", "retry", "--all")
        wait_for_state(daemon, id_, "delivered")
    assert [message.recipients for message in host.taken] == [[to[0], *to[2:]]]


@pytest.mark.parametrize("end", [DROP, HUSH], ids=["drop", "kill"])
def test_in_doubt_it_is_sent_again_and_says_so(end: Act, make_daemon: MakeDaemon) -> None:
    with ScriptedThread({"dot": [end]}) as host:
        daemon = make_daemon(relay_to(host.port))
        with daemon:
            id_ = smtp_send(daemon.smtp_port, SENDER, [TO], message_bytes(TO))
            in_doubt(daemon, id_, end, "deferred", host)
            daemon.cli("queue", "retry", "--all")
            recipient = wait_for_state(daemon, id_, "delivered")
    assert recipient["possible_duplicate"]
    assert [message.ended for message in host.messages] == [True, True]


@pytest.mark.parametrize("end", [DROP, HUSH], ids=["drop", "kill"])
def test_at_most_once_it_is_not(end: Act, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    with ScriptedThread({"dot": [end]}) as host:
        daemon = make_daemon(relay_to(host.port) | at_most_once(tmp_path))
        with daemon:
            id_ = smtp_send(daemon.smtp_port, SENDER, [TO], message_bytes(TO))
            in_doubt(daemon, id_, end, "failed", host)
            recipient = wait_for_state(daemon, id_, "failed")
            daemon.cli("queue", "retry", "--all")
            other = smtp_send(daemon.smtp_port, SENDER, [TO], message_bytes(TO))
            wait_for_state(daemon, other, "delivered")
            shown = recipients(daemon, id_)[TO]
    assert (shown["state"], recipient["possible_duplicate"]) == ("failed", True)
    assert recipient["bounce_class"] == "Uncertain"
    assert len(host.messages) == 2


def in_doubt(daemon: Daemon, id_: str, end: Act, state: str, host: Scripted) -> None:
    """The host has the end of the message, and the daemon no answer: because of the host, or of its own end."""
    wait_until(lambda: bool(host.messages and host.messages[0].ended), "the end of the message at the host")
    if end is HUSH:
        assert status(daemon, id_).body["data"]["recipients"][0]["state"] != state
        daemon.kill()
        daemon.restart()
    else:
        wait_for_state(daemon, id_, state)
