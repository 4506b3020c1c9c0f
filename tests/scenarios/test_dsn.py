"""Delivery status notifications of the whole daemon: who is told what, by mail of its own through the same next hop."""

import email
import smtplib
import time
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path

import pytest
from flufl.bounce import all_failures

from tests.conftest import MakeDaemon
from tests.peers import opendkim
from tests.peers.client import http_send, message_bytes, message_json
from tests.peers.daemon import SECRET, Daemon, dkim_domain, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink, Transaction

pytestmark = pytest.mark.slow  # recipients are told together after some seconds

SENDER = "shop@example.com"
MARK = b"quick brown fox"  # of a body
TIMEOUT_S = 60.0


def _answer(line: str) -> str | None:
    return "550 5.1.1 nobody of that name" if line.startswith("RCPT TO:<gone") else None


@pytest.fixture
def next_hop() -> Iterator[Sink]:
    """Refuses every recipient whose name begins with `gone`."""
    with Sink(answer=_answer) as sink:
        yield sink


def _submit(
    daemon: Daemon, to: Sequence[str], *, sender: str = SENDER, mail: Sequence[str] = (), rcpt: Sequence[str] = ()
) -> None:
    """One message by SMTP; `mail` and `rcpt` are parameters of these commands."""
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30) as client:
        client.ehlo()
        client.login("client", SECRET)
        client.sendmail(sender, to, message_bytes(to[0], size=2000), mail_options=mail, rcpt_options=rcpt)


def _notices(sink: Sink) -> list[Transaction]:
    return [one for one in sink.accepted if one.sender == ""]


def _wait_for_notices(daemon: Daemon, sink: Sink, count: int) -> list[Message]:
    wait_until(lambda: len(_notices(sink)) >= count, f"{count} notifications\n{daemon.tail(80)}", TIMEOUT_S)
    assert all(one.recipients == [SENDER] for one in _notices(sink))
    return [email.message_from_bytes(one.content) for one in _notices(sink)]


def _told(notice: Message) -> dict[str, str]:
    """Action by recipient."""
    groups = [part for part in notice.walk() if part["Final-Recipient"]]
    return {str(group["Final-Recipient"]).removeprefix("rfc822; "): str(group["Action"]) for group in groups}


def _last_part(notice: Message) -> Message:
    payload = notice.get_payload()
    assert isinstance(payload, list)
    part = payload[-1]
    assert isinstance(part, Message)
    return part


def test_one_refused_of_three_is_told_to_the_sender(make_daemon: MakeDaemon, next_hop: Sink, tmp_path: Path) -> None:
    """D9; and it is signed by the key of the gateway's own name."""
    domains, txt = dkim_domain(tmp_path, "gateway.test")
    with make_daemon(relay_to(next_hop.port) | domains) as daemon:
        _submit(daemon, ["you@example.net", "gone@example.net", "her@example.org"])
        (notice,) = _wait_for_notices(daemon, next_hop, 1)
        content = _notices(next_hop)[0].content
        assert daemon.stop() == 0, daemon.tail()
    assert len(_notices(next_hop)) == 1
    assert _told(notice) == {"gone@example.net": "failed"}
    assert all_failures(notice)[1] == {b"gone@example.net"}
    assert notice["From"] == "Mail Delivery System <MAILER-DAEMON@gateway.test>"
    assert notice["Auto-Submitted"] == "auto-replied"
    assert _last_part(notice).get_content_type() == "text/rfc822-headers"
    assert b"550 5.1.1 nobody of that name" in content
    assert opendkim.verify_dkimpy(content, txt)


def test_who_did_not_ask_is_not_told(make_daemon: MakeDaemon, next_hop: Sink) -> None:
    """What is told comes in the order in which it happened: the last message's notification shows that there is none
    of those before."""
    with make_daemon(relay_to(next_hop.port)) as daemon:
        _submit(daemon, ["gone1@example.net"], rcpt=["NOTIFY=NEVER"])
        _submit(daemon, ["gone2@example.net"], sender="")
        _submit(daemon, ["you@example.net"])
        http_send(daemon.http_port, message_json("gone3@example.net", sender=SENDER))
        asked = http_send(daemon.http_port, message_json("gone4@example.net", sender=SENDER) | {"dsn": "failure"})
        assert asked.status < 300, asked.body
        wait_until(lambda: len(_notices(next_hop)) == 1, f"a notification\n{daemon.tail(80)}", TIMEOUT_S)
        _submit(daemon, ["gone5@example.net"])
        told = [_told(notice) for notice in _wait_for_notices(daemon, next_hop, 2)]
        assert daemon.stop() == 0, daemon.tail()
    assert told == [{"gone4@example.net": "failed"}, {"gone5@example.net": "failed"}]
    assert len(_notices(next_hop)) == 2


def test_what_the_client_asked_for_is_in_the_notification(make_daemon: MakeDaemon, next_hop: Sink) -> None:
    with make_daemon(relay_to(next_hop.port)) as daemon:
        orcpt = ["NOTIFY=FAILURE", "ORCPT=rfc822;list+2Bone@example.org"]
        _submit(daemon, ["gone-full@example.net"], mail=["RET=FULL", "ENVID=QQ+2B1"], rcpt=orcpt)
        _submit(daemon, ["gone-hdrs@example.net"], mail=["RET=HDRS"])
        _submit(daemon, ["you@example.net"], rcpt=["NOTIFY=SUCCESS"])
        notices = {min(_told(notice)): notice for notice in _wait_for_notices(daemon, next_hop, 3)}
        assert daemon.stop() == 0, daemon.tail()
    full, hdrs = notices["gone-full@example.net"], notices["gone-hdrs@example.net"]
    assert _last_part(full).get_content_type() == "message/rfc822"
    assert MARK in full.as_bytes()
    fields = [part for part in full.walk() if part["Original-Recipient"] or part["Reporting-MTA"]]
    assert fields[0]["Original-Envelope-Id"] == "QQ+1"
    assert fields[1]["Original-Recipient"] == "rfc822; list+one@example.org"
    assert _last_part(hdrs).get_content_type() == "text/rfc822-headers"
    assert MARK not in hdrs.as_bytes()
    # This next hop does not know DSN: nobody but the gateway tells of the delivery.
    assert _told(notices["you@example.net"]) == {"you@example.net": "relayed"}


def test_a_flood_of_failures_is_not_one_of_notices(make_daemon: MakeDaemon, next_hop: Sink) -> None:
    """D18: one sender, 250 messages to nobody. One more than 200 is told for every 18 s that it takes."""
    with make_daemon(relay_to(next_hop.port)) as daemon:
        begun = time.monotonic()
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30) as client:
            client.ehlo()
            client.login("client", SECRET)
            for number in range(250):
                client.sendmail(SENDER, [f"gone{number}@example.net"], message_bytes("gone@example.net"))
        wait_until(lambda: len(_notices(next_hop)) + _withheld(daemon) >= 250, "all told, or not", TIMEOUT_S)
        more = (time.monotonic() - begun) // 18
        _wait_for_notices(daemon, next_hop, 200)
        assert daemon.stop() == 0, daemon.tail()
    told = len(_notices(next_hop))
    assert 200 <= told <= 201 + more
    assert _withheld(daemon) == 250 - told


def _withheld(daemon: Daemon) -> int:
    return daemon.log.read_text().count(" withheld id=")
