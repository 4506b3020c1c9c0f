"""SMTP listeners by another configuration, and on sockets that listen already. On both loops."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.activation import Handed
from gateway.config import Auth, Limits, Listen, ListenerTls, Smtp, Tls
from gateway.errors import ConfigError
from tests.fakes import certs
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import HOME, Client, client, config, on_both_loops, serving


@pytest.fixture
def door() -> FakeDoor:
    return FakeDoor()


@asynccontextmanager
async def at(place: Listen, **options: Any) -> AsyncIterator[Client]:
    """A client of one listener of several."""
    reader, writer = await asyncio.open_connection(place.host, place.port, **options)
    made = Client(reader, writer)
    await made.said("220")
    yield made
    writer.close()
    await writer.wait_closed()


@on_both_loops
async def test_connections_to_come_go_by_the_new_configuration(door: FakeDoor) -> None:
    given = config(HOME)
    async with serving(given, door) as server, client(server) as under_way:
        await under_way.say(b"HELO a\r\n", "250 mail.example.com")
        elsewhere = ((ip_network("192.0.2.0/24"), "printers"),)
        strict = replace(HOME, auth=Auth.REQUIRED, networks=elsewhere, plaintext_auth=True)
        changed = replace(given, hostname="other.example.com", smtp=Smtp((strict,)), limits=Limits(connections=2))
        commit = await server.prepare(changed)
        async with client(server) as before:
            await before.say(b"HELO a\r\n", "250 mail.example.com")
        commit()
        async with client(server) as after:
            await after.say(b"HELO a\r\n", "250 other.example.com")
            await after.say(b"MAIL FROM:<a@example.com>\r\n", "530 5.7.0")
            await under_way.say(b"MAIL FROM:<a@example.com>\r\n", "250")


@on_both_loops
async def test_a_certificate_elsewhere(door: FakeDoor, tmp_path: Path) -> None:
    old, new = certs.make(tmp_path / "old"), certs.make(tmp_path / "new")
    listeners = (replace(HOME, tls=ListenerTls.IMPLICIT), replace(HOME, tls=ListenerTls.STARTTLS))
    given = config(*listeners, tls=old)
    options: dict[str, Any] = {"server_hostname": "localhost"}
    async with serving(given, door) as server:
        with pytest.raises(ConfigError, match=r"tls\.certificate"):
            await server.prepare(replace(given, tls=Tls(new.tls.certificate, old.tls.key)))
        async with client(server, ssl=old.client, **options) as under_way:
            (await server.prepare(replace(given, tls=new.tls)))()
            async with client(server, ssl=new.client, **options):
                pass
            with pytest.raises(ssl.SSLCertVerificationError):
                async with client(server, ssl=old.client, **options):
                    pass
            await under_way.say(b"NOOP\r\n", "250")


@on_both_loops
async def test_a_certificate_that_is_renewed_while_a_reload_is_prepared(door: FakeDoor, tmp_path: Path) -> None:
    old = certs.make(tmp_path)
    given = config(replace(HOME, tls=ListenerTls.IMPLICIT), tls=old)
    async with serving(given, door) as server:
        commit = await server.prepare(replace(given, hostname="other.example.com"))
        new = certs.make(tmp_path)
        assert server.reload_certificate()
        commit()
        async with client(server, ssl=new.client, server_hostname="localhost"):
            pass


@on_both_loops
async def test_a_minimum_version(door: FakeDoor, tmp_path: Path) -> None:
    made = certs.make(tmp_path)
    listener = replace(HOME, tls=ListenerTls.IMPLICIT)
    given = config(listener, tls=made)
    made.client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(given, door) as server:
        async with client(server, ssl=made.client, server_hostname="localhost"):
            pass
        (await server.prepare(replace(given, smtp=Smtp((replace(listener, min_tls="1.3"),)))))()
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            async with client(server, ssl=made.client, server_hostname="localhost"):
                pass


@on_both_loops
async def test_sockets_that_listen_already(door: FakeDoor, tmp_path: Path) -> None:
    """They are used by the listener of their address; the others bind their own."""
    made = certs.make(tmp_path)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    places = [Listen(*sock.getsockname()) for sock in sockets]
    clear = replace(HOME, listen=places[0])
    implicit = replace(HOME, listen=places[1], tls=ListenerTls.IMPLICIT)
    handed = Handed([(sock, "") for sock in reversed(sockets)])
    waiting = socket.create_connection((places[0].host, places[0].port))
    async with serving(config(clear, implicit, HOME, tls=made), door, handed=handed) as server:
        handed.close()
        assert server.addresses[:2] == tuple(places)
        async with at(places[1], ssl=made.client, server_hostname="localhost") as secure:
            await secure.say(b"NOOP\r\n", "250")
        async with at(server.addresses[2]) as own:
            await own.say(b"NOOP\r\n", "250")
        async with client(server) as inherited:
            await inherited.say(b"NOOP\r\n", "250")
    with waiting:
        assert waiting.recv(100).startswith(b"220 "), "who came before it started is served"
