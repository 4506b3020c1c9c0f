"""The SMTP listeners of the configuration: for submission, and for what comes back.

Guarantees: no more connections than the limits say, together and for one address, and together never more than the
process has files for, of which a return path has half; what comes there takes no memory from what is submitted; a
connection that makes no progress is closed, sooner when connections run short; stopping lets open transactions end to
a deadline. The certificate is read again when its files change. Another configuration is for the connections to come:
those that are open keep what they were told. What is said on a connection is the engine's, what becomes of mail the
door's.
"""

import asyncio
import functools
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.activation import Handed
from gateway.budget import WAIT_S, Budget
from gateway.certificates import ServerCertificate
from gateway.config import Config, Listen, ListenerTls, Role, SmtpListener
from gateway.errors import ConfigError, Problem
from gateway.metrics import Metrics
from gateway.metrics.connections import ConnectionFigures
from gateway.runtime import Supervisor
from gateway.smtp import replies
from gateway.smtp.connection import Connection
from gateway.smtp.context import Context
from gateway.smtp.door import Door
from gateway.smtp.implicit import ImplicitTls
from gateway.smtp.peer import network_key
from gateway.smtp.rules import rules_of
from gateway.smtp.tls import VERSIONS, make_context

TIMEOUT_S: Final = 300.0  # for a command, RFC 5321 4.5.3.2.7
HURRIED_S: Final = 10.0  # the same, when connections run short
HURRY_AT: Final = 0.75  # of all connections
STRANGERS: Final = 0.5  # of all connections: what the whole world may open leaves room for those who submit
# Of the memory for mail on its way in, one part in so many, beside that of those who submit: 42 large reports at once.
STRANGERS_MEMORY: Final = 8
BACKLOG: Final = 1024  # connections the kernel keeps while the loop is busy
# Connections taken in one turn of the loop. asyncio tries (and logs) each of them anew where no file can be opened.
ACCEPTS: Final = 4
DESCRIPTORS: Final = 4  # of the process's open files, one in so many is for clients of this door
_CHECKS: Final = 20  # in one timeout: a timeout may be late by a twentieth
_CHECK_S: Final = 5.0  # at most between two checks: half of HURRIED_S
_LAST_WORDS_S: Final = 1.0  # for the last replies to leave, once the deadline of a stop has passed

log = logging.getLogger("gateway.smtp")


@dataclass(slots=True)
class _Place:
    """A listener: what its next connections are made with."""

    context: Context
    loop: asyncio.AbstractEventLoop
    accepting: list[ImplicitTls]

    def __call__(self) -> Connection:
        return Connection(self.context, self.loop)

    def use(self, context: Context) -> None:
        self.context = context
        for accepting in self.accepting:
            assert context.tls is not None
            accepting.tls = context.tls


class SmtpServer:
    """`timeout_s` closes a connection without a command, or with too little content, for so long. `budget` is shared
    with the other doors, but not with a return path; `room_wait_s` a content may wait for memory; `handed` are sockets
    that listen already. `returns` is the door of listeners with the role return_path, needed where there are any."""

    def __init__(
        self,
        config: Config,
        door: Door,
        *,
        supervisor: Supervisor,
        budget: Budget | None = None,
        timeout_s: float = TIMEOUT_S,
        room_wait_s: float = WAIT_S,
        handed: Handed | None = None,
        name: str = "smtp",
        figures: ConnectionFigures | None = None,
        returns: Door | None = None,
    ) -> None:
        self.room_wait_s = room_wait_s
        self._name = name
        self._figures = figures or ConnectionFigures(Metrics())
        self._budget = Budget(config.limits.buffers) if budget is None else budget
        self._strangers_budget = Budget(config.limits.buffers // STRANGERS_MEMORY)
        self._most = _most(config)
        self._config = config
        self._doors = {Role.SUBMISSION: door, Role.RETURN_PATH: returns}
        self._supervisor = supervisor
        self._timeout_s = timeout_s
        self._tls = _certificate(config)
        self._handed = Handed() if handed is None else handed
        self._servers: list[asyncio.Server] = []
        self._places: list[_Place] = []
        self._connections: set[Connection] = set()
        self._by_peer: dict[str, int] = {}
        self._strangers = 0  # connections of a return path
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._empty: asyncio.Future[None] | None = None

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def addresses(self) -> tuple[Listen, ...]:
        """Where it listens, in the order of the configuration."""
        names = [sock.getsockname() for server in self._servers for sock in server.sockets]
        return tuple(Listen(name[0], name[1]) for name in names)

    async def start(self) -> None:
        """Returns when every listener accepts. Raises ConfigError (the certificate), OSError (a busy
        port)."""
        loop = asyncio.get_running_loop()
        try:
            for listener, context in self._contexts(self._config, self._tls):
                place = _Place(context, loop, [])
                self._places.append(place)
                await self._listen(place, listener)
        except BaseException:
            await self.stop_accepting()
            raise
        self._check(loop)

    async def stop_accepting(self) -> None:
        """Close the listening sockets; connections stay."""
        self._stopping = True
        for place in self._places:
            for accepting in place.accepting:
                await accepting.stop()
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def stop(self, deadline_s: float) -> None:
        """Close idle connections now, the others when their transaction ends, all at the deadline."""
        await self.stop_accepting()
        for connection in tuple(self._connections):
            connection.drain()
        await self._emptied(deadline_s)
        for connection in tuple(self._connections):
            connection.shut()
        await self._emptied(_LAST_WORDS_S)
        for connection in tuple(self._connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    async def prepare(self, config: Config) -> Callable[[], None]:
        """The same listeners by another configuration; what is returned makes it that of the connections to come.
        Raises ConfigError (the certificate)."""
        tls = self._tls
        if config.tls != self._config.tls:
            tls = _certificate(config)
        self._contexts(config, tls)

        def commit() -> None:
            self._config = config
            self._tls = tls
            self._most = _most(config)
            self._strangers_budget.resize(config.limits.buffers // STRANGERS_MEMORY)
            # Again: the certificate may have been renewed meanwhile.
            self._use(self._contexts(config, tls))
            self.reload_certificate()

        return commit

    def reload_certificate(self) -> bool:
        """Read the certificate again if its files changed; True if they did and it is used for the connections to
        come."""
        if self._tls is None or not self._tls.refresh():
            return False
        self._use(self._contexts(self._config, self._tls))
        return True

    def admit(self, connection: Connection) -> bytes | None:
        """Part of `registry.Registry`."""
        limits = self._config.limits
        from_peer = self._by_peer.get(connection.peer, 0)
        refusal = None
        if self._stopping:
            refusal = replies.SHUTTING_DOWN
        elif (
            len(self._connections) >= self._most
            or from_peer >= limits.connections_per_ip
            or (connection.is_stranger and self._strangers >= self._most * STRANGERS)
        ):
            self._figures.one_too_many(self._name, connection.peer, from_peer, len(self._connections))
            refusal = replies.TOO_MANY_CONNECTIONS
        self._connections.add(connection)
        self._strangers += connection.is_stranger
        self._by_peer[connection.peer] = from_peer + 1
        return refusal

    def budget_of(self, connection: Connection) -> Budget:
        """Part of `registry.Registry`."""
        return self._strangers_budget if connection.is_stranger else self._budget

    def secured(self, version: str) -> None:
        """Part of `registry.Registry`."""
        self._figures.tls.at("in", version).value += 1

    def refused(self, peer: str, out: bytes) -> None:
        """Part of `registry.Registry`."""
        for reply in out.splitlines():
            if reply[:1] in {b"4", b"5"}:
                words = reply.decode(errors="replace").split(" ", 2)  # code, enhanced code, text: all ours
                self._figures.refusals.at(self._name, " ".join(words[:2])).value += 1
                log.debug("%s hears: %s", peer, " ".join(words))

    def leave(self, connection: Connection) -> None:
        """Part of `registry.Registry`."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._strangers -= connection.is_stranger
        left = self._by_peer[connection.peer] - 1
        if left:
            self._by_peer[connection.peer] = left
        else:
            del self._by_peer[connection.peer]
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def _listen(self, place: _Place, listener: SmtpListener) -> None:
        """On the sockets that were handed in for it, else on its own."""
        loop = place.loop
        implicit = listener.tls is ListenerTls.IMPLICIT
        servers = [
            await loop.create_server(place, sock=sock, backlog=ACCEPTS, start_serving=not implicit)
            for sock in self._handed.take(listener.listen)
        ] or [
            await loop.create_server(
                place,
                listener.listen.host,
                listener.listen.port,
                backlog=ACCEPTS,
                reuse_address=True,
                start_serving=not implicit,
            )
        ]
        self._servers += servers
        for sock in [sock for server in servers for sock in server.sockets]:
            if implicit:
                assert place.context.tls is not None
                accepting = ImplicitTls(place.context.tls, place, registry=self, supervisor=self._supervisor)
                place.accepting.append(accepting)
                accepting.start(sock.fileno(), BACKLOG)
            else:
                with socket.socket(fileno=os.dup(sock.fileno())) as same:  # the loop's own view of it cannot listen
                    same.listen(BACKLOG)

    def _use(self, contexts: list[tuple[SmtpListener, Context]]) -> None:
        for place, (_, context) in zip(self._places, contexts, strict=True):
            place.use(context)

    def _contexts(self, config: Config, tls: ServerCertificate | None) -> list[tuple[SmtpListener, Context]]:
        """Of every listener, in their order. Raises ConfigError."""
        return [
            (listener, self._context(config, listener, _server_tls(tls, listener, f"smtp.listeners[{index}]")))
            for index, listener in enumerate(config.smtp.listeners)
        ]

    def _context(self, config: Config, listener: SmtpListener, tls: ssl.SSLContext | None) -> Context:
        door = self._doors[listener.role]
        if door is None:
            raise ConfigError([Problem("smtp.listeners", "a listener of role return_path has no place here")])
        return Context(
            listener=listener,
            rules=rules_of(
                listener,
                hostname=config.hostname,
                max_bytes=config.max_message,
                max_recipients=config.limits.recipients_per_message,
                certificate=tls is not None,
            ),
            # Clients come again and again from few addresses.
            network_key=functools.lru_cache(maxsize=1024)(functools.partial(network_key, listener)),
            door=door,
            registry=self,
            supervisor=self._supervisor,
            tls=tls,
            timeout_s=self._timeout_s,
        )

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for all connections: cheaper than one for each, and exact enough."""
        now = loop.time()
        hurried = len(self._connections) >= self._most * HURRY_AT
        for connection in tuple(self._connections):
            connection.check(now, most_s=HURRIED_S if hurried else self._timeout_s)
        self.reload_certificate()
        self._timer = loop.call_later(min(self._timeout_s / _CHECKS, _CHECK_S), self._check, loop)

    async def _emptied(self, timeout_s: float) -> None:
        """Wait until no connection is left, or so long."""
        if self._connections and timeout_s > 0:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=timeout_s)


def _most(config: Config) -> int:
    """How many connections there may be."""
    return min(config.limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTORS)


def _certificate(config: Config) -> ServerCertificate | None:
    return ServerCertificate(config.tls, make_context, logger=log.name) if config.tls is not None else None


def _server_tls(tls: ServerCertificate | None, listener: SmtpListener, path: str) -> ssl.SSLContext | None:
    """The context that a listener shakes hands with, if it does. Raises ConfigError."""
    if listener.tls is ListenerTls.NONE:
        return None
    if tls is None and listener.role is Role.RETURN_PATH:
        return None  # in clear, then: bounces come all the same
    if tls is None:
        raise ConfigError([Problem(f"{path}.tls", "needs tls.certificate and tls.key")])
    return tls.context(VERSIONS[listener.min_tls])
