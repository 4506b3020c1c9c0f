"""Implicit TLS: connections are accepted and admitted here, then shake hands.

Guarantees: a handshake under way counts as a connection, so that clients which never end it cost no more than others;
one that fails is logged with its reason; when no file can be opened, accepting pauses. (A loop's own server shows a
connection only when its handshake is done.) What is said on a connection is the engine's.
"""

import asyncio
import errno
import functools
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final

from gateway.runtime import Supervisor
from gateway.smtp.connection import HANDSHAKE_S, Connection
from gateway.smtp.peer import plain_address
from gateway.smtp.registry import Registry

PAUSE_S: Final = 1.0
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

log = logging.getLogger("gateway.smtp")


class ImplicitTls:
    """Accepts on a bound socket until `stop`. `make` gives the connections their protocol."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        make: Callable[[], Connection],
        *,
        registry: Registry,
        supervisor: Supervisor,
    ) -> None:
        self.tls = tls  # of the handshakes to come
        self._make = make
        self._registry = registry
        self._supervisor = supervisor
        self._accepting: list[asyncio.Task[None]] = []

    def start(self, bound: int, backlog: int) -> None:
        """`bound` is the descriptor of the socket, which stays the caller's."""
        sock = socket.socket(fileno=os.dup(bound))
        sock.setblocking(False)
        sock.listen(backlog)
        self._accepting.append(self._supervisor.start(self._accept(sock), name="smtp: accept", critical=True))

    async def stop(self) -> None:
        """Accept nothing more; handshakes go on."""
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
            self._accepting.clear()

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with sock:
            while True:
                try:
                    accepted, address = await loop.sock_accept(sock)
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        log.warning("no connection can be accepted for now: %s", error.strerror)
                        await asyncio.sleep(PAUSE_S)
                    continue  # else it was gone before it was accepted
                self._begin(accepted, plain_address(address[0]))

    def _begin(self, accepted: socket.socket, peer: str) -> None:
        connection = self._make()
        connection.peer = peer
        if self._registry.admit(connection) is not None:
            self._registry.leave(connection)
            accepted.close()  # a reply in clear would be none
            return
        handshake = self._supervisor.start(self._shake_hands(connection, accepted), name="smtp: handshake")
        connection.expect(peer, handshake)
        handshake.add_done_callback(functools.partial(self._end, connection))

    def _end(self, connection: Connection, _: asyncio.Task[None]) -> None:
        if connection.shakes_hands:
            self._registry.leave(connection)

    async def _shake_hands(self, connection: Connection, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=self.tls, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as error:
            log.info("TLS with %s failed: %s", connection.peer, error)
