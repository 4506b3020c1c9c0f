"""Connections: aiohttp's protocol with our answers, our limits and nothing between it and the handler.

Guarantees: every answer leaves in one write with `X-Request-Id`, `application/json` without charset and a
Server field without a version, also for what aiohttp itself refuses; a client that does not read is
dropped; connections are bounded for the listener set, below what the process may open, and for each address (loopback
and trusted proxies are exempt: who is behind them is not known before a request).
"""

import asyncio
import ipaddress
import logging
import resource
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gateway.api import envelope
from gateway.api.door import new_request_id
from gateway.api.envelope import Answer, Fault, Headers, HttpError
from gateway.api.proxies import TrustedProxies
from gateway.config import Limits
from gateway.errors import Reason, Refused
from gateway.metrics import Metrics
from gateway.metrics.connections import ConnectionFigures

KEEPALIVE_S: Final = 75.0  # also how long a connection may stay without a request (trust.md, S14)
LINGER_S: Final = 5.0  # how long the rest of a refused body is read, so that the client sees the answer
WRITE_S: Final = 30.0  # for a client to take an answer that does not fit the socket's buffer
DESCRIPTORS: Final = 2  # of the process's open files, one in so many is for clients of this door; a quarter is SMTP's
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logging.getLogger("gateway.api")


class Written(web.StreamResponse):
    """An answer that writes itself in one piece, with none of the fields aiohttp would add or look up."""

    def __init__(self, answer: Answer, request_id: str, date: str, headers: Headers = ()) -> None:
        super().__init__(status=answer.status)
        self._answer = answer
        self._fields = answer.headers + headers
        self._request_id = request_id
        self._date = date
        self._kept = False

    @property
    def keep_alive(self) -> bool | None:
        return self._kept

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        self._kept = request.keep_alive and not self._answer.close
        head = self._head(http10=request.version < (1, 1)).encode("ascii")
        transport.write(head if request.method == "HEAD" else head + self._answer.body)
        if request.protocol.writing_paused:
            try:
                async with asyncio.timeout(WRITE_S):
                    await request.writer.drain()
            except TimeoutError:
                raise ConnectionResetError from None
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything was written by `prepare`."""

    def closing(self) -> bytes:
        """The answer as bytes for a connection that ends with it."""
        return self._head(http10=False).encode("ascii") + self._answer.body

    def _framing(self, *, http10: bool) -> str:
        del http10
        return f"Content-Length: {len(self._answer.body)}\r\n"

    def _head(self, *, http10: bool) -> str:
        answer = self._answer
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"{self._framing(http10=http10)}"
            f"Date: {self._date}\r\n"
            "Server: mail-gateway\r\n"
            f"X-Request-Id: {self._request_id}\r\n"
        )
        for name, value in self._fields:
            head += f"{name}: {value}\r\n"
        if not self._kept:
            head += "Connection: close\r\n"
        elif http10:
            head += "Connection: keep-alive\r\n"
        return head + "\r\n"


class DateHeader:
    """The Date field (RFC 9110, 6.6.1), made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text


class Connection(web.RequestHandler):
    """One client connection."""

    __slots__ = ("_server",)

    def __init__(self, server: "Connections", *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(server, loop=loop, **options)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.admit(self, transport):
            encryption = transport.get_extra_info("ssl_object")
            if encryption is not None:
                self._server.figures.tls.at("in", encryption.version()).value += 1
            super().connection_made(transport)
            return
        self._server.tell_one_too_many(transport)
        refused = cast("asyncio.WriteTransport", transport)  # uvloop's is one without being an instance
        refused.write(self._server.busy)
        refused.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp could not parse, and what our own handler let through."""
        del request, message  # they may hold what the client sent
        if status == 400:
            log.debug("a request was not HTTP: %s", type(exc).__name__)  # its text quotes what came
            error = HttpError(Fault.BAD_REQUEST, "The request is not valid HTTP.", close=True)
        else:
            log.error("a request failed", exc_info=exc)
            error = HttpError(Fault.INTERNAL_ERROR, "The request failed inside the gateway.", close=True)
        request_id = new_request_id()
        return Written(envelope.http_error(error, request_id), request_id, self._server.date.now())


class Connections(web.Server):
    """All connections of the HTTP door; the protocol factory of every listener."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        date: DateHeader,
        *,
        proxies: TrustedProxies,
        keepalive_s: float = KEEPALIVE_S,
        figures: ConnectionFigures | None = None,
    ) -> None:
        super().__init__(handler)
        self.figures = figures or ConnectionFigures(Metrics())
        self.date = date
        self.reconfigure(limits, proxies)
        self._options: dict[str, Any] = {
            "keepalive_timeout": keepalive_s,
            "lingering_time": LINGER_S,
            "access_log": None,
            "auto_decompress": False,
        }
        self._addresses: dict[web.RequestHandler, str] = {}
        self._per_address: dict[str, int] = {}

    def reconfigure(self, limits: Limits, proxies: TrustedProxies) -> None:
        """For the connections to come."""
        self._most = min(limits.connections, _descriptors() // DESCRIPTORS)
        self._most_of_one = limits.connections_per_ip
        self._proxies = proxies

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._options)

    def admit(self, connection: web.RequestHandler, transport: asyncio.BaseTransport) -> bool:
        """Is there room for one more, and for one more from there?"""
        if len(self._connections) >= self._most:
            return False
        peer = transport.get_extra_info("peername")
        if not peer or self._proxies.trusts(peer[0]) or ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback:
            return True
        count = self._per_address.get(peer[0], 0)
        if count >= self._most_of_one:
            return False
        self._per_address[peer[0]] = count + 1
        self._addresses[connection] = peer[0]
        return True

    def tell_one_too_many(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else "a client"  # it may have gone meanwhile
        self.figures.one_too_many("http", address, self._per_address.get(address, 0), len(self._connections))

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        address = self._addresses.pop(handler, None)
        if address is not None:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
        super().connection_lost(handler, exc)

    @property
    def busy(self) -> bytes:
        """The whole answer to a connection too many."""
        request_id = new_request_id()
        refused = Refused(Reason.BACKLOG_FULL, "Too many connections.", retry_after_s=5)
        written = Written(envelope.refusal(refused, request_id), request_id, self.date.now())
        return written.closing()


def _descriptors() -> int:
    """How many files this process may have open: without one of them no mail is stored or delivered."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
