"""The HTTP door: listeners, routing, request ids, errors; aiohttp with no layer above its protocol.

Guarantees: every answer has the shape of the dialect its path belongs to, and a request id; an unknown exception is
500 `internal_error` and never shown; while it stops, requests in flight finish and new ones get 503.
"""

import asyncio
import logging
import os
import re
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp import http_parser, web

from gateway.activation import Handed
from gateway.api import body, foreign, native
from gateway.api.admin import METRICS_PATH, Pages
from gateway.api.body import Bodies
from gateway.api.connection import KEEPALIVE_S, Connections, DateHeader, Written
from gateway.api.dialect import Dialect
from gateway.api.door import Call, Door, new_request_id
from gateway.api.envelope import SHUTTING_DOWN, Answer, Fault, Headers, HttpError
from gateway.api.figures import UNKNOWN_PATH, HttpFigures
from gateway.api.proxies import TrustedProxies
from gateway.api.routing import Place, Routes
from gateway.api.service import Service
from gateway.api.streaming import Flowing, Streamed
from gateway.api.track import BEGINNING, Visits
from gateway.budget import WAIT_S, Budget, return_large_blocks
from gateway.certificates import ServerCertificate
from gateway.config import Config, HttpListener, Listen, ListenerTls
from gateway.errors import ConfigError, Problem, Reason, Refused, StoreError, StoreFull
from gateway.metrics import Metrics
from gateway.metrics.connections import ConnectionFigures

DECODERS: Final = 2  # threads for large bodies: more would only fight for the interpreter
BACKLOG: Final = 1024  # connections the kernel keeps while the loop is busy
# Connections taken in one turn of the loop. asyncio tries (and logs) each of them anew where no file can be opened.
ACCEPTS: Final = 4
_LOWEST_TLS: Final = ssl.TLSVersion.TLSv1_2
_ABORT_S: Final = 0.2  # for connections that are cut after the deadline of a stop
_TO_THE_END: Final = ("/health/", BEGINNING)  # of what is served while it stops
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = logging.getLogger("gateway.api")


class HttpServer:
    """Serves the API on every configured listener until `stop`.

    `addresses` are those bound, in the order of the configuration. `budget` is shared with the other door; `handed` are
    sockets that listen already; `body_grace_s`: seconds any body may take, `room_wait_s`: it may wait for memory,
    `keepalive_s`: a connection may stay without a whole request. `pages`: what is also served where `http.admin` is the
    address of a listener; `visits`: what is there for the recipients of mail.
    """

    def __init__(
        self,
        config: Config,
        door: Door,
        *,
        budget: Budget | None = None,
        body_grace_s: float = body.GRACE_S,
        room_wait_s: float = WAIT_S,
        keepalive_s: float = KEEPALIVE_S,
        handed: Handed | None = None,
        pages: Pages | None = None,
        visits: Visits | None = None,
        figures: HttpFigures | None = None,
        connections: ConnectionFigures | None = None,
    ) -> None:
        self._config = config
        self._pages = pages
        self._visits = visits
        self._requests = (figures or HttpFigures(Metrics())).requests
        self._connection_figures = connections or ConnectionFigures(Metrics())
        self._handed = Handed() if handed is None else handed
        self._pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="http-decode")
        self._date = DateHeader()
        self._tls: ServerCertificate | None = None
        self._listeners: list[asyncio.Server] = []
        self._connections: Connections | None = None
        self._busy = 0
        self._idle: asyncio.Future[None] | None = None
        self._proxies = TrustedProxies(config.http.trusted_proxies)
        self._keepalive_s = keepalive_s
        memory = Budget(config.limits.buffers) if budget is None else budget
        self._bodies = Bodies(config.max_message, memory, grace_s=body_grace_s, wait_s=room_wait_s)
        self._service = Service(config, door, self._bodies, self._pool)
        self._routes = _routes(config)
        self.addresses: tuple[Listen, ...] = ()

    @property
    def open_connections(self) -> int:
        return len(self._connections.connections) if self._connections is not None else 0

    async def start(self) -> None:
        """Bind every listener; when one cannot be bound, none stays. Raises OSError, ConfigError."""
        if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
            log.warning("aiohttp runs without its C parser: slower, and other rules at the edges of HTTP")
        return_large_blocks()
        self._connections = Connections(
            self._handle,
            self._config.limits,
            self._date,
            proxies=self._proxies,
            keepalive_s=self._keepalive_s,
            figures=self._connection_figures,
        )
        self._tls = _certificate(self._config)
        try:
            for listener in self._config.http.listeners:
                await self._listen(listener, self._connections)
        except BaseException:
            for started in self._listeners:
                started.close()
            raise
        self.addresses = tuple(_bound(server) for server in self._listeners)

    async def stop(self, deadline_s: float) -> None:
        """Accept nothing new, let requests in flight finish until the deadline, close all connections."""
        self._service.stop()
        for listener in self._listeners:
            listener.close()
        if self._busy:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._idle,), timeout=deadline_s)
        if self._connections is not None:
            self._connections.pre_shutdown()
            await self._connections.shutdown(_ABORT_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def prepare(self, config: Config) -> Callable[[], None]:
        """The same listeners by another configuration; what is returned makes it that of the requests to come, and of
        the connections to come where it is about them. Raises ConfigError (the certificate)."""
        tls = _certificate(config) if config.tls != self._config.tls else self._tls

        def commit() -> None:
            self._config = config
            self._tls = tls
            self._service.config = config
            self._bodies.resize(config.max_message)
            self._routes = _routes(config)
            self._proxies = TrustedProxies(config.http.trusted_proxies)
            if self._connections is not None:
                self._connections.reconfigure(config.limits, self._proxies)
            self.refresh_certificate()

        return commit

    def refresh_certificate(self) -> bool:
        """Read the certificate again if its files changed; True if they did and it is used for the connections to
        come."""
        return self._tls is not None and self._tls.refresh()

    async def _listen(self, listener: HttpListener, connections: Connections) -> None:
        """On the sockets that were handed in for it, else on its own."""
        loop = asyncio.get_running_loop()
        context = self._handshakes() if listener.tls is ListenerTls.IMPLICIT else None
        servers = [
            await loop.create_server(connections, sock=sock, ssl=context, backlog=ACCEPTS)
            for sock in self._handed.take(listener.listen)
        ] or [
            await loop.create_server(
                connections, listener.listen.host, listener.listen.port, ssl=context, backlog=ACCEPTS
            )
        ]
        self._listeners += servers
        for sock in [sock for server in servers for sock in server.sockets]:
            with socket.socket(fileno=os.dup(sock.fileno())) as same:  # the loop's own view of it cannot listen
                same.listen(BACKLOG)

    def _handshakes(self) -> ssl.SSLContext:
        """For asyncio's server, which keeps its context: each handshake goes on with the newest certificate."""
        context = _make_context(_LOWEST_TLS)
        context.sni_callback = self._choose_certificate
        return context

    def _choose_certificate(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        """OpenSSL asks in each handshake, also where the client names no host."""
        assert self._tls is not None
        connection.context = self._tls.context(_LOWEST_TLS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._busy += 1
        is_over = True
        try:
            given = request.headers.get("X-Request-Id")
            request_id = given if given and _REQUEST_ID.fullmatch(given) else new_request_id()
            answer, limits = await self._answer(request, request_id)
            if isinstance(answer, Streamed):
                is_over = False  # the request goes on as long as its answer
                return Flowing(answer, request_id, self._date.now(), limits, self._end_request)
        finally:
            if is_over:
                self._end_request()
        return Written(answer, request_id, self._date.now(), limits)

    def _end_request(self) -> None:
        self._busy -= 1
        if self._idle is not None and not self._busy and not self._idle.done():
            self._idle.set_result(None)

    async def _answer(self, request: web.BaseRequest, request_id: str) -> tuple[Answer, Headers]:
        """The answer, and what it says of the key's limits."""
        path, _, query = request.raw_path.partition("?")
        if not path.startswith("/") or "%" in path:  # RFC 9112, 3.2.2: the absolute form; an escaped segment
            path, query = request.path, request.query_string
        place, dialect = self._find(path)
        call = Call(
            request, request_id, self._proxies.client(request), place.argument if place is not None else "", query
        )
        try:
            answer = await self._serve(place, call, path)
        except Refused as refused:
            self._service.tell_refused(call, refused)
            answer = dialect.refusal(refused, request_id)
        except HttpError as error:
            self._service.tell_refused(call, error)
            answer = dialect.http_error(error, request_id)
        except StoreFull:
            answer = dialect.refusal(Refused(Reason.BACKLOG_FULL, "There is no room for more mail now."), request_id)
        except StoreError:
            log.exception("the store failed in request %s", request_id)
            away = Refused(Reason.STORAGE_UNAVAILABLE, "The mail store is not available now.")
            answer = dialect.refusal(away, request_id)
        except Exception:
            log.exception("request %s failed", request_id)
            failed = HttpError(Fault.INTERNAL_ERROR, "The request failed inside the gateway.")
            answer = dialect.http_error(failed, request_id)
        known = place.path if place is not None else METRICS_PATH if path == METRICS_PATH else UNKNOWN_PATH
        self._requests.at(known, str(answer.status)).value += 1
        return answer, self._limits(dialect, call)

    def _find(self, path: str) -> tuple[Place | None, Dialect]:
        """Who serves a path, and in whose shape its errors are told."""
        if self._visits is not None and path.startswith(BEGINNING):
            return self._visits.find(path), self._visits.dialect
        place = self._routes.find(path)
        return place, place.dialect if place is not None else self._routes.owner(path)

    async def _serve(self, place: Place | None, call: Call, path: str) -> Answer:
        _check_framing(call.request)
        if place is None and path == METRICS_PATH and self._pages is not None:
            return await self._pages.on_listener(self._service, call, self._config.http)
        if place is None:
            raise Refused(Reason.NOT_FOUND, "There is nothing at this path.")
        methods = place.methods
        serve = methods.get("GET" if call.request.method == "HEAD" else call.request.method)
        if serve is None:
            allowed = ", ".join([*methods, *(("HEAD",) if "GET" in methods else ())])
            raise HttpError(Fault.METHOD_NOT_ALLOWED, f"Allowed here: {allowed}.", headers=(("Allow", allowed),))
        if self._service.stopping and not path.startswith(_TO_THE_END):
            raise Refused(Reason.SHUTTING_DOWN, SHUTTING_DOWN)
        return await serve(self._service, call)

    def _limits(self, dialect: Dialect, call: Call) -> Headers:
        if call.principal is None or not call.principal.limits:
            return ()
        return dialect.limit_headers(self._service.door.allowances(call.principal))


def _check_framing(request: web.BaseRequest) -> None:
    """Refuse what other readers of the connection may see the end of elsewhere. Raises HttpError."""
    if request.version < (1, 1) and "Transfer-Encoding" in request.headers:  # RFC 9112, 6.1: the framing is faulty
        raise HttpError(Fault.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding.", close=True)
    if request.method == "CONNECT":  # whoever asks for a tunnel may send anything next
        raise HttpError(Fault.BAD_REQUEST, "This is not a proxy.", close=True)


def _bound(server: asyncio.Server) -> Listen:
    host, port = server.sockets[0].getsockname()[:2]
    return Listen(host, port)


def _routes(config: Config) -> Routes:
    """The paths of the dialects that are served."""
    served = [dialect for dialect in foreign.DIALECTS if dialect.name not in config.dialects.disabled]
    return Routes.of(native.DIALECT, served)


def _make_context(lowest: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = lowest
    context.set_alpn_protocols(["http/1.1"])
    return context


def _certificate(config: Config) -> ServerCertificate | None:
    """That of the listeners, which can be used; None where none of them has TLS. Raises ConfigError."""
    if all(listener.tls is ListenerTls.NONE for listener in config.http.listeners):
        return None
    if config.tls is None:
        raise ConfigError([Problem("tls", "is needed by a listener with tls: implicit")])
    made = ServerCertificate(config.tls, _make_context, logger=log.name)
    made.context(_LOWEST_TLS)
    return made
