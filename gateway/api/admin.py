"""What tools of operators read by HTTP: /metrics and /health, on an address of its own or on that of a listener.

Guarantees: on a loopback address of its own no key is asked for, and no other address is an own one (the configuration
sees to that); on a listener who asks from elsewhere, or through a proxy, needs a key with the scope `admin`. It is
there until the end of a stop, so /health/ready can say so. Nothing can be changed here.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.activation import Handed
from gateway.api import health
from gateway.api.connection import Connections, DateHeader, Written
from gateway.api.door import Call, new_request_id
from gateway.api.envelope import Answer
from gateway.api.proxies import TrustedProxies
from gateway.api.service import Service
from gateway.config import Config, Http, Limits, Listen
from gateway.errors import Reason, Refused
from gateway.metrics import Metrics

METRICS_PATH: Final = "/metrics"
SCOPE: Final = "admin"
CONNECTIONS: Final = 50  # from wherever: an address of its own is on loopback
_ABORT_S: Final = 0.2
_PLAIN: Final = "text/plain; charset=utf-8"
_INDEX: Final = f"""Mail Gateway

{METRICS_PATH}       metrics for Prometheus
{health.LIVE_PATH}   200 while the daemon lives
{health.READY_PATH}  200 while it takes mail, else 503 and why
""".encode()
_ALL_HOSTS: Final = frozenset(("0.0.0.0", "::", "localhost"))  # noqa: S104 - compared, not bound
# What proxies say of themselves; with any of them the client is not who connects.
_FORWARDED: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")

Refresh = Callable[[], Awaitable[None]]


class Pages:
    """The answers. `refresh` is awaited before metrics are read; `why_not_ready` in public words."""

    def __init__(self, metrics: Metrics, *, refresh: Refresh, why_not_ready: Callable[[], str | None]) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._why_not_ready = why_not_ready

    async def at(self, path: str, accept: str) -> Answer | None:
        """The page at a path; None where there is none."""
        match path:
            case "/":
                return Answer(200, _INDEX, content_type=_PLAIN)
            case health.LIVE_PATH:
                return health.ALIVE
            case health.READY_PATH:
                return health.readiness(self._why_not_ready())
            case "/metrics":  # METRICS_PATH
                return await self.metrics(accept)
        return None

    async def metrics(self, accept: str) -> Answer:
        """As the Accept field asks for it: OpenMetrics or the older text."""
        await self._refresh()
        encode, content_type = self._metrics.exposition(accept)
        return Answer(200, await asyncio.to_thread(encode), content_type=content_type)

    async def on_listener(self, service: Service, call: Call, http: Http) -> Answer:
        """/metrics on a listener of the API. Raises Refused, also where it is not served on this one."""
        request = call.request
        if request.method not in {"GET", "HEAD"} or not _is_on(request, http):
            raise Refused(Reason.NOT_FOUND, "There is nothing at this path.")
        if not _is_of_this_machine(call, http):
            service.principal(call, call.bearer(), SCOPE)
        return await self.metrics(request.headers.get("Accept", ""))


def _is_on(request: web.BaseRequest, http: Http) -> bool:
    """Whether the connection is to the listener that `http.admin` names."""
    admin = http.admin
    if admin is None or request.transport is None or all(listener.listen != admin for listener in http.listeners):
        return False
    host, port = request.transport.get_extra_info("sockname")[:2]
    return admin.port in {0, port} and (admin.host in _ALL_HOSTS or admin.host == host)


def _is_of_this_machine(call: Call, http: Http) -> bool:
    if http.trusted_proxies or any(name in call.request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(call.peer.partition("%")[0]).is_loopback
    except ValueError:
        return False


class AdminServer:
    """Serves the pages on an address of their own. `address` is the one bound, None before and without one; `handed`
    are sockets that listen already."""

    def __init__(self, config: Config, pages: Pages, *, handed: Handed | None = None) -> None:
        self._handed = Handed() if handed is None else handed
        self._listen = own_address(config.http)
        self._pages = pages
        self._date = DateHeader()
        self._server: asyncio.Server | None = None
        self._connections: Connections | None = None
        self.address: Listen | None = None

    async def start(self) -> None:
        """Raises OSError, whose text names the option."""
        if self._listen is None:
            return
        limits = Limits(connections=CONNECTIONS, connections_per_ip=CONNECTIONS)
        self._connections = Connections(self._handle, limits, self._date, proxies=TrustedProxies(()))
        try:
            loop = asyncio.get_running_loop()
            if given := self._handed.take(self._listen):
                self._server = await loop.create_server(self._connections, sock=given[0])
            else:
                self._server = await loop.create_server(self._connections, self._listen.host, self._listen.port)
        except OSError as error:
            why = f"http.admin ({self._listen}): {error.strerror}"
            raise OSError(error.errno, why) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = Listen(host, port)

    async def stop(self) -> None:
        if self._server is not None and self._connections is not None:
            self._server.close()
            self._connections.pre_shutdown()
            await self._connections.shutdown(_ABORT_S)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return Written(await self._answer(request), new_request_id(), self._date.now())

    async def _answer(self, request: web.BaseRequest) -> Answer:
        if request.method not in {"GET", "HEAD"}:
            return Answer(405, b"GET\n", (("Allow", "GET, HEAD"),), close=True, content_type=_PLAIN)
        page = await self._pages.at(request.path, request.headers.get("Accept", ""))
        return page or Answer(404, _INDEX, content_type=_PLAIN)


def own_address(http: Http) -> Listen | None:
    """Where a server of its own is wanted; None where a listener serves the pages, or nobody does."""
    return None if any(listener.listen == http.admin for listener in http.listeners) else http.admin
