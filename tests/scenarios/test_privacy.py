"""What is kept of people: addresses in the log, and a person who asks to be erased, with a real daemon."""

import asyncio
import contextlib
import smtplib
from pathlib import Path

import pytest
import yaml

from tests.conftest import MakeDaemon
from tests.fakes.mx import Do, FakeMx
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.status import wait_for_state

pytestmark = pytest.mark.slow

BOB, SHOP, ANN = "Bob.Stone@example.net", "Clerk.Jones@example.com", "ann@example.net"
OFFERS = ("PIPELINING", "8BITMIME")


def refusing(command: str) -> Do | None:
    """Bob is refused in words that name him, as most hosts have them; Ann is put off by some that do."""
    address = command.partition("<")[2].partition(">")[0]
    if address.lower() == BOB.lower():
        return Do(f"550 5.1.1 <{address}>: Recipient address rejected: user {address.upper()} unknown")
    return Do(f"450 4.2.0 <{ANN}> is greylisted; ask {BOB} or mailto:{SHOP}") if address == ANN else None


def hits(path: Path, *texts: str) -> list[str]:
    """The lines of a log that hold one of the texts."""
    lowered = [text.lower() for text in texts]
    return [line for line in path.read_text().splitlines() if any(text in line.lower() for text in lowered)]


def submit(daemon: Daemon) -> None:
    """By both doors: what bounces, what is put off, what is refused."""
    bounced = http_send(daemon.http_port, message_json(BOB, sender=SHOP)).id
    deferred = smtp_send(daemon.smtp_port, SHOP, [ANN], message_bytes(ANN, sender=SHOP))
    assert http_send(daemon.http_port, message_json("@@", sender=SHOP)).status == 422
    with contextlib.suppress(smtplib.SMTPException):
        smtp_send(daemon.smtp_port, "boss@elsewhere.example", [BOB], message_bytes(BOB))
    wait_for_state(daemon, bounced, "bounced", 60)
    wait_for_state(daemon, deferred, "deferred", 60)
    daemon.json("queue", "redirect", "--id", deferred, "--new-address", BOB)


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_address_is_in_the_log_where_they_are_hashed(make_daemon: MakeDaemon, form: str) -> None:
    """And at once again where a reload says so; the code is the same each time."""
    async with FakeMx({"RCPT": refusing}, offers=OFFERS) as host:
        settings = relay_to(host.port) | {"log": {"level": "debug", "format": form, "addresses": "hashed"}}
        with make_daemon(settings) as daemon:
            await asyncio.to_thread(submit, daemon)
            code = (await asyncio.to_thread(daemon.json, "erase", BOB, "--dry-run"))["code"]
            assert code.startswith("h:")
            assert code.endswith("@example.net")
            await asyncio.to_thread(
                wait_until, lambda: len(hits(daemon.log, code)) >= 2, "the log names Bob by his code", timeout_s=60
            )
            assert hits(daemon.log, BOB, SHOP, ANN, "boss@elsewhere.example") == []

            plain = yaml.safe_load(daemon.config.read_text()) | {"log": {"level": "info", "format": form}}
            daemon.config.write_text(yaml.safe_dump(plain))
            assert "log.addresses" in str(await asyncio.to_thread(daemon.json, "reload"))
            await asyncio.to_thread(http_send, daemon.http_port, message_json("eve@example.net", sender=SHOP))
            await asyncio.to_thread(
                wait_until, lambda: bool(hits(daemon.log, SHOP)), "the log names the sender", timeout_s=60
            )


async def test_a_person_is_erased_while_mail_goes_on(make_daemon: MakeDaemon) -> None:
    async with FakeMx({"RCPT": refusing}, offers=OFFERS) as host:
        settings = relay_to(host.port) | {
            "log": {"addresses": "hashed"},
            "retention": {"content": {"delivered": "1d", "failed": "1d"}},
        }
        with make_daemon(settings) as daemon:
            await asyncio.to_thread(submit, daemon)
            await asyncio.to_thread(daemon.json, "suppression", "add", BOB, "--reason", "complaint")
            kept = await asyncio.to_thread(http_send, daemon.http_port, message_json("eve@example.net"))
            done = await asyncio.to_thread(daemon.json, "erase", BOB.lower(), "--wait", "60s")
            assert done["removed"]["messages"] >= 1
            assert done["removed"]["suppressions"] >= 1
            assert (done["in_hand"], done["rewritten"]) == (0, True)
            for name in ("gateway.db", "gateway.db-wal"):
                assert BOB.lower().encode() not in (daemon.data / name).read_bytes().lower(), name
            assert hits(daemon.log, BOB) == []
            assert hits(daemon.log, f"{done['code']} was erased")
            await asyncio.to_thread(wait_for_state, daemon, kept.id, "delivered", 60)
            again = await asyncio.to_thread(http_send, daemon.http_port, message_json(BOB))
            assert again.status == 422, "the suppression is known by its hash"
