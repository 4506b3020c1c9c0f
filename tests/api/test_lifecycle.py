"""Listeners over their life: bounded connections, stopping, busy ports, TLS. Over real sockets."""

import asyncio
import json
import ssl
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.api import connection
from gateway.api.proxies import TrustedProxies
from gateway.config import Config, Http, HttpListener, Limits, Listen, ListenerTls, Tls
from gateway.errors import ConfigError
from tests.api.conftest import MAIL, SEND, Client, Start

BODY = json.dumps(MAIL).encode()
AUTH = {"Authorization": "Bearer full"}


async def test_too_many_connections(start: Start, config: Config) -> None:
    api = await start(replace(config, limits=Limits(connections=2)))
    clients = [await Client.connect(api.server) for _ in range(3)]
    reply = await clients[2].read()
    assert (reply.status, reply.json["error"]["code"]) == (503, "backlog_full")
    assert await clients[2].at_end()
    await clients[0].close()
    clients[1].write("GET", "/health/live")
    assert (await clients[1].read()).status == 200
    for client in clients[1:]:
        await client.close()


def test_connections_of_one_address_are_bounded_but_on_loopback_and_for_proxies() -> None:
    class Transport(asyncio.Transport):
        def __init__(self, address: str) -> None:
            super().__init__({"peername": (address, 1)})

    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)

        async def count(address: str) -> int:
            server = connection.Connections(
                _never,
                Limits(connections_per_ip=2),
                connection.DateHeader(),
                proxies=TrustedProxies((ip_network("192.0.2.128/25"),)),
            )
            made = [server() for _ in range(4)]
            admitted = [server.admit(one, Transport(address)) for one in made]
            server.connection_lost(made[0])
            assert server.admit(made[3], Transport(address))
            return sum(admitted)

        assert loop.run_until_complete(count("192.0.2.1")) == 2
        assert loop.run_until_complete(count("2001:db8::1")) == 2
        assert loop.run_until_complete(count("127.0.0.9")) == 4
        assert loop.run_until_complete(count("192.0.2.129")) == 4  # a trusted proxy
        assert loop.run_until_complete(count("::1")) == 4
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _never(request: Any) -> Any:
    raise AssertionError(request)


async def test_stopping_lets_requests_finish_and_refuses_new_ones(start: Start) -> None:
    api = await start()
    api.door.gate = asyncio.Event()
    busy, idle, late = [await Client.connect(api.server) for _ in range(3)]
    idle.write("GET", "/health/ready")
    assert (await idle.read()).status == 200
    busy.write("POST", SEND, BODY, AUTH)
    await api.door.entered.wait()
    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(api.server.stop(10))
        late.write("POST", SEND, BODY, AUTH)
        refused = await late.read()
        assert (refused.status, refused.json["error"]["code"]) == (503, "storage_unavailable")
        assert refused.headers["connection"] == "close"
        assert "retry-after" in refused.headers
        idle.write("GET", "/health/ready")
        assert (await idle.read()).status == 503
        idle.write("GET", "/health/live")
        assert (await idle.read()).status == 200
        at = api.server.addresses[0]
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection(at.host, at.port)
        assert not stopped.done()
        api.door.gate.set()
    assert (await busy.read()).status == 201
    for client in (busy, idle, late):
        assert await client.at_end()
        await client.close()


async def test_stopping_does_not_wait_beyond_its_deadline(start: Start) -> None:
    api = await start()
    api.door.gate = asyncio.Event()
    client = await Client.connect(api.server)
    client.write("POST", SEND, BODY, AUTH)
    await api.door.entered.wait()
    async with asyncio.timeout(8):
        await api.server.stop(0.05)
    assert await client.at_end()
    await client.close()


async def test_a_busy_port_leaves_nothing_behind(start: Start, config: Config) -> None:
    taken = (await start()).server.addresses[0]
    free = HttpListener(Listen("127.0.0.1", 0))
    with pytest.raises(OSError, match="in use"):
        await start(replace(config, http=Http((free, HttpListener(taken)))))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(tmp_path: Path, authority: trustme.CA) -> Tls:
    issue(authority, tmp_path)
    return Tls(tmp_path / "cert.pem", tmp_path / "key.pem")


def issue(authority: trustme.CA, directory: Path) -> None:
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(directory / "key.pem")
    made.cert_chain_pems[0].write_to_path(directory / "cert.pem")


async def test_implicit_tls_and_new_certificates(start: Start, config: Config, tls: Tls, authority: trustme.CA) -> None:
    listener = HttpListener(Listen("127.0.0.1", 0), tls=ListenerTls.IMPLICIT)
    plain = HttpListener(Listen("127.0.0.1", 0))
    api = await start(replace(config, tls=tls, http=Http((listener, plain))))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    seen = set()
    for _ in range(2):
        client = await Client.connect(api.server, ssl=context, server_hostname="localhost")
        client.write("POST", SEND, BODY, AUTH)
        assert (await client.read()).status == 201
        seen.add(client.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"])
        await client.close()
        issue(authority, tls.certificate.parent)
        api.server.refresh_certificate()
    assert len(seen) == 2
    client = await Client.connect(api.server, index=1)
    client.write("GET", "/health/live")
    assert (await client.read()).status == 200
    await client.close()


async def test_tls_without_a_certificate(start: Start, config: Config) -> None:
    listener = HttpListener(Listen("127.0.0.1", 0), tls=ListenerTls.IMPLICIT)
    with pytest.raises(ConfigError, match="tls"):
        await start(replace(config, http=Http((listener,))))
