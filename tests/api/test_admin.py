"""/metrics and /health on an address of their own, and /metrics on a listener of the API: who may read them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.activation import Handed
from gateway.api.admin import METRICS_PATH, AdminServer, Pages, own_address
from gateway.config import Config, Http, HttpListener, Listen
from gateway.metrics import Metrics
from gateway.policy.auth import Principal
from tests.api.conftest import Api, Client, Reply, Start

ANY = Listen("127.0.0.1", 0)
SHARED = Http((HttpListener(ANY),), admin=ANY)
SAMPLE = b"mailgateway_a_total 1.0\n"

Ask = Callable[..., Awaitable[Reply]]


class Monitored:
    """Pages over a counter. `looks` is how often they looked for fresh figures, `unready` why no mail is taken."""

    def __init__(self) -> None:
        self.looks = 0
        self.unready: str | None = None
        metrics = Metrics()
        metrics.counter("a_total", "A.").at().value += 1
        self.pages = Pages(metrics, refresh=self._look, why_not_ready=lambda: self.unready)

    async def _look(self) -> None:
        self.looks += 1


@pytest.fixture
def monitored() -> Monitored:
    return Monitored()


# An address of its own


@pytest.fixture
async def ask(config: Config, monitored: Monitored) -> AsyncIterator[Ask]:
    server = AdminServer(
        replace(config, http=Http((HttpListener(Listen("127.0.0.1", 1)),), admin=ANY)), monitored.pages
    )
    await server.start()
    assert server.address is not None
    place = server.address

    async def asked(path: str, method: str = "GET", **headers: str) -> Reply:
        client = Client(*await asyncio.open_connection(place.host, place.port))
        client.write(method, path, headers=headers)
        try:
            return await client.read(head_only=method == "HEAD")
        finally:
            await client.close()

    yield asked
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(place.host, place.port)


async def test_metrics_need_no_key_there(ask: Ask, monitored: Monitored) -> None:
    reply = await ask(METRICS_PATH)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert SAMPLE in reply.body
    assert monitored.looks == 1
    reply = await ask(METRICS_PATH, Accept="application/openmetrics-text; version=1.0.0")
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.body.endswith(b"# EOF\n")


async def test_a_socket_that_was_handed_in_is_used(config: Config, monitored: Monitored) -> None:
    handed = socket.create_server(("127.0.0.1", 0))
    listen = Listen(*handed.getsockname())
    http = replace(config.http, admin=listen)
    server = AdminServer(replace(config, http=http), monitored.pages, handed=Handed([(handed, "admin")]))
    await server.start()
    assert server.address == listen
    client = Client(*await asyncio.open_connection(listen.host, listen.port))
    client.write("GET", "/health/live")
    assert (await client.read()).status == 200
    await client.close()
    await server.stop()


async def test_the_other_pages(ask: Ask, monitored: Monitored) -> None:
    index = await ask("/")
    assert index.status == 200
    for path in (METRICS_PATH, "/health/live", "/health/ready"):
        assert path.encode() in index.body
        assert (await ask(path)).status == (await ask(path, "HEAD")).status == 200
        assert (await ask(path, "POST")).status == 405
    assert (await ask("/api/v1/me")).status == 404
    monitored.unready = "There is no room for more mail now."
    reply = await ask("/health/ready")
    assert (reply.status, reply.json["reason"]) == (503, "There is no room for more mail now.")
    assert int(reply.headers["retry-after"]) > 0
    assert (await ask("/health/live")).status == 200


async def test_a_busy_address_names_the_option(config: Config, monitored: Monitored) -> None:
    blocker = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    host, port = blocker.sockets[0].getsockname()
    other = AdminServer(replace(config, http=replace(config.http, admin=Listen(host, port))), monitored.pages)
    with pytest.raises(OSError, match=rf"http\.admin \({host}:{port}\)"):
        await other.start()
    await other.stop()
    blocker.close()


def test_where_it_is() -> None:
    listener = HttpListener(Listen("127.0.0.1", 8025))
    assert own_address(Http((listener,), admin=None)) is None
    assert own_address(Http((listener,), admin=listener.listen)) is None
    assert own_address(Http((listener,))) == Listen("127.0.0.1", 8026)


# On a listener


def with_operator(api: Api) -> Api:
    operator = replace(api.door.keys["full"], name="operator", scopes=frozenset({"admin"}))
    assert isinstance(operator, Principal)
    api.door.keys["operator"] = operator
    return api


async def test_on_a_listener_this_machine_needs_no_key(start: Start, config: Config, monitored: Monitored) -> None:
    api = await start(replace(config, http=SHARED), pages=monitored.pages)
    reply = await api.call("GET", METRICS_PATH, key=None)
    assert reply.status == 200
    assert SAMPLE in reply.body
    assert (await api.call("HEAD", METRICS_PATH, key=None)).status == 200
    assert (await api.call("POST", METRICS_PATH, key=None)).status == 404


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_who_comes_through_a_proxy_needs_a_key(
    start: Start, config: Config, monitored: Monitored, field: str
) -> None:
    api = with_operator(await start(replace(config, http=SHARED), pages=monitored.pages))
    forwarded: dict[str, Any] = {field: "192.0.2.1"}
    statuses = [
        (await api.call("GET", METRICS_PATH, key=key, **forwarded)).status
        for key in (None, "unknown", "full", "operator")
    ]
    assert statuses == [401, 401, 403, 200]
    assert monitored.looks == 1


async def test_where_proxies_are_trusted_everybody_needs_a_key(
    start: Start, config: Config, monitored: Monitored
) -> None:
    http = replace(SHARED, trusted_proxies=(ip_network("10.0.0.0/8"),))
    api = with_operator(await start(replace(config, http=http), pages=monitored.pages))
    assert (await api.call("GET", METRICS_PATH, key=None)).status == 401
    assert (await api.call("GET", METRICS_PATH, key="operator")).status == 200


@pytest.mark.parametrize("admin", [None, Listen("127.0.0.1", 8026), Listen("127.0.0.9", 0)])
async def test_elsewhere_there_is_nothing(
    start: Start, config: Config, monitored: Monitored, admin: Listen | None
) -> None:
    """Off, on an address of its own, or on another listener than this one."""
    listeners = (HttpListener(ANY), HttpListener(Listen("127.0.0.9", 0)))
    api = await start(replace(config, http=Http(listeners, admin=admin)), pages=monitored.pages)
    assert (await api.call("GET", METRICS_PATH, key=None)).status == 404
    assert monitored.looks == 0
