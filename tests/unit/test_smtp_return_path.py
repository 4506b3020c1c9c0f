"""Listeners for what comes back: beside those for submission, open to anybody, and never in their way."""

import asyncio
from pathlib import Path

import pytest

from gateway import config as tree
from gateway.config import Limits, Listen, ListenerTls, Role, SmtpListener
from gateway.configfile import grammar, listeners
from gateway.errors import ConfigError
from gateway.inbound.door import ReturnPathDoor
from gateway.smtp.listener import SmtpServer
from gateway.yamltree import Findings, Section, read
from tests.fakes import certs, returns
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import HOME, Client, client, config, serving

BACK = SmtpListener(listen=Listen("127.0.0.1", 0), tls=ListenerTls.STARTTLS, role=Role.RETURN_PATH)


def door() -> ReturnPathDoor:
    return ReturnPathDoor(returns.inbound(returns.MemoryStore()))


async def test_strangers_leave_room_for_those_who_submit() -> None:
    given = config(BACK, HOME, limits=Limits(connections=4, connections_per_ip=4))
    async with serving(given, FakeDoor(), returns=door()) as server, client(server), client(server):
        async with client(server, "421"):
            pass
        host, port = server.addresses[1].host, server.addresses[1].port
        reader, writer = await asyncio.open_connection(host, port)
        assert (await reader.readline()).startswith(b"220")
        writer.close()
    async with serving(given, FakeDoor(), returns=door()) as server:
        for _ in range(6):  # whoever leaves makes room
            async with client(server) as made:
                await made.say(b"QUIT\r\n", "221")
                await made.ended()


async def test_strangers_have_memory_of_their_own() -> None:
    given = config(BACK, HOME, limits=Limits(buffers=1_000_000))
    async with serving(given, FakeDoor(), returns=door(), room_wait_s=0.05) as server, client(server) as stranger:
        begins = f"HELO x\r\nMAIL FROM:<> SIZE=900000\r\nRCPT TO:<{returns.BOUNCE}>\r\nDATA\r\n".encode()
        await stranger.say(begins, "250", "250", "250", "354")
        async with client(server, "220") as other:  # of the memory of strangers nothing is left
            await other.say(begins, "250", "250", "250", "452")
        host, port = server.addresses[1].host, server.addresses[1].port
        submitter = Client(*await asyncio.open_connection(host, port))
        await submitter.said("220")
        await submitter.say(begins, "250", "250", "250", "354")
        submitter.writer.close()


async def test_without_a_certificate_there_is_no_starttls(tmp_path: Path) -> None:
    for tls in (None, certs.make(tmp_path)):
        async with serving(config(BACK, tls=tls), FakeDoor(), returns=door()) as server, client(server) as made:
            await made.say(b"EHLO x\r\n", *["250-"] * (7 if tls else 6))
            made.writer.write(b"STARTTLS\r\n")
            await made.said("250 ENHANCEDSTATUSCODES")
            await made.said("220" if tls else "502")


async def test_a_listener_without_its_door_is_refused() -> None:
    with pytest.raises(ConfigError, match="return_path has no place here"):
        async with serving(config(BACK), FakeDoor()):
            pass


async def test_a_message_may_be_as_large_as_what_it_returns() -> None:
    for most, wanted in ((1_000, "SIZE 10000000"), (50_000_000, "SIZE 51000000")):
        given = config(BACK, max_message=most)
        async with serving(given, FakeDoor(), returns=door()) as server, client(server) as made:
            await made.say(b"EHLO x\r\n", "250-mail.example.com", f"250-{wanted}")


async def test_others_are_as_they_were() -> None:
    async with serving(config(HOME), FakeDoor(), returns=door()) as server, client(server) as made:
        await made.say(f"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<{returns.BOUNCE}>\r\n".encode(), "250", "250", "250")
        assert isinstance(server, SmtpServer)


def warned(text: str) -> list[str]:
    """The warnings of the halves of a return path in a configuration."""
    findings = Findings()
    root = read(text, findings)
    assert root is not None
    top = Section(root)
    bound: list[listeners.Bound] = []
    smtp = top.take("smtp", lambda value: listeners.read_smtp(value, bound), None) or tree.Smtp()
    domains = {"example.com": tree.Domain("example.com", return_path=grammar.host_or_ip("b.example.com"))}
    listeners.check_return_path(top, tree.Config(smtp=smtp, domains=domains if top.get("domains") else {}))
    assert findings.problems == []
    return [warning.message[:60] for warning in findings.warnings]


LISTENER = 'smtp: {listeners: [{listen: "127.0.0.1:25", role: return_path}]'


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (LISTENER + "}", "the listener with role: return_path refuses all mail until a "),
        (LISTENER + ", feedback: [fbl@example.com]}", None),
        (LISTENER + "}\ndomains: {example.com: {return_path: b.example.com}}", None),
        (
            "domains: {example.com: {return_path: b.example.com}}",
            "no listener has role: return_path, so bounces must come to ano",
        ),
        ("log: {level: info}", None),
    ],
)
def test_half_of_a_return_path_is_worth_a_warning(text: str, warning: str | None) -> None:
    assert warned(text + "\n") == ([] if warning is None else [warning[:60]])


def test_a_listener_is_read_with_its_defaults() -> None:
    findings = Findings()
    root = read(LISTENER + "}\n", findings)
    assert root is not None
    bound: list[listeners.Bound] = []
    smtp = Section(root).take("smtp", lambda value: listeners.read_smtp(value, bound), None)
    assert smtp is not None
    (listener,) = smtp.listeners
    assert (listener.role, listener.tls, listener.auth.value) == (Role.RETURN_PATH, ListenerTls.STARTTLS, "none")
    assert bound[0].tls is ListenerTls.NONE  # no certificate is asked for
