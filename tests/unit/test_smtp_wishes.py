"""What smtplib says of notifications and TLS, through a real listener into a real store."""

import asyncio
import io
import smtplib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.config import ListenerTls
from gateway.doors import SmtpDoor
from gateway.message.model import BY_POLICY, TLS_REQUIRED
from gateway.message.notify import ASKED, BY_SMTP, FAILURE, SUCCESS
from gateway.observe import MailLog
from gateway.policy import auth
from gateway.policy.auth import KeyRing
from gateway.runtime import Clock, Supervisor
from gateway.smtp.listener import SmtpServer
from gateway.store.queue import Claimed
from tests.fakes import certs
from tests.fakes.smtp_listener import HOME, config
from tests.unit.conftest import MAIL, NOW, SHOP, Desk

Work = Callable[[smtplib.SMTP], None]


@dataclass(slots=True)
class Counter:
    """A listener with STARTTLS, whose network stands for a key, and the desk behind it."""

    desk: Desk
    port: int
    certificates: certs.Certificates

    async def serve(self, work: Work) -> None:
        """A session of smtplib, from after EHLO to QUIT."""

        def session() -> None:
            with smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.example.org", timeout=10) as client:
                client.ehlo()
                work(client)

        await asyncio.to_thread(session)

    async def claimed(self) -> list[Claimed]:
        """What delivery gets, in the order of the destinations."""
        due = sorted(await self.desk.store.due(), key=lambda one: one.domain)
        return [claimed for one in due for claimed in await self.desk.store.claim(one.destination, 10, NOW + 60_000)]


@pytest.fixture
async def counter(desk: Desk, tmp_path: Path) -> AsyncIterator[Counter]:
    errors: list[BaseException] = []
    supervisor = Supervisor(on_fatal=lambda _, e: errors.append(e), on_error=lambda _, e: errors.append(e))
    keys = KeyRing()
    keys.load((), [(replace(SHOP, name="printers", source="config"), auth.digest("a key of some length"))])
    door = SmtpDoor(keys, desk.intake, Clock(now_ms=lambda: NOW), MailLog(io.StringIO()))
    made = certs.make(tmp_path)
    server = SmtpServer(config(replace(HOME, tls=ListenerTls.STARTTLS), tls=made), door, supervisor=supervisor)
    await server.start()
    yield Counter(desk, server.addresses[0].port, made)
    await server.stop(0)
    await supervisor.cancel_all()
    assert not errors


async def test_what_smtplib_says_is_what_delivery_gets(counter: Counter) -> None:
    def send(client: smtplib.SMTP) -> None:
        assert client.has_extn("dsn")
        assert not client.has_extn("requiretls")
        refused = client.sendmail(
            "a@example.com",
            ["b@example.net"],
            MAIL,
            mail_options=["RET=HDRS", "ENVID=order+2B4711"],
            rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;B+2Bx@Example.net"],
        )
        assert refused == {}

    await counter.serve(send)
    (claimed,) = await counter.claimed()
    (recipient,) = claimed.recipients
    assert (claimed.ret, claimed.envid, claimed.tls_wish) == ("HDRS", "order+2B4711", BY_POLICY)
    assert (recipient.notify, recipient.orcpt) == (ASKED | SUCCESS | FAILURE, "rfc822;B+2Bx@Example.net")


async def test_a_client_that_says_nothing(counter: Counter) -> None:
    def send(client: smtplib.SMTP) -> None:
        client.sendmail("a@example.com", ["b@example.net"], MAIL)
        client.sendmail("<>", ["c@example.org"], MAIL)

    await counter.serve(send)
    by_name, by_nobody = await counter.claimed()
    assert (by_name.ret, by_name.envid) == ("", "")
    assert [(one.notify, one.orcpt) for one in by_name.recipients] == [(BY_SMTP, "")]
    assert by_nobody.envelope_sender == ""
    assert [one.notify for one in by_nobody.recipients] == [0]


async def test_requiretls_under_tls(counter: Counter) -> None:
    def send(client: smtplib.SMTP) -> None:
        assert client.mail("a@example.com", ["REQUIRETLS"])[0] == 530
        client.starttls(context=counter.certificates.client)
        client.ehlo()
        assert client.has_extn("requiretls")
        client.sendmail("a@example.com", ["b@example.net"], MAIL, mail_options=["REQUIRETLS"])

    await counter.serve(send)
    (claimed,) = await counter.claimed()
    assert claimed.tls_wish == TLS_REQUIRED


async def test_nonsense_is_told_and_the_session_lives(counter: Counter) -> None:
    def send(client: smtplib.SMTP) -> None:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail("a@example.com", ["b@example.net"], MAIL, rcpt_options=["NOTIFY=NEVER,DELAY"])
        assert refused.value.recipients["b@example.net"][0] == 501
        assert client.sendmail("a@example.com", ["b@example.net"], MAIL) == {}

    await counter.serve(send)
    assert len(await counter.claimed()) == 1
