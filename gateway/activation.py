"""Sockets that systemd opened for us (sd_listen_fds(3)): taken by the listeners in place of ones of their own.

Guarantees: a socket is used by the listener of exactly its address and by no other; one that nobody takes is an error
in words, so nobody waits at a door without anyone behind it; our children inherit none. A listener without such a
socket binds its own.
"""

import os
import socket
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Final

from gateway.config import Listen
from gateway.errors import GatewayError

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

Address = tuple[str, int] | str


class ActivationError(GatewayError):
    """What was handed in fits no listener."""


class Handed:
    """The sockets that were handed in and that nobody has taken yet; each with its name in the unit."""

    def __init__(self, sockets: Sequence[tuple[socket.socket, str]] = ()) -> None:
        self._sockets = list(sockets)
        self.taken: set[str] = set()  # addresses, as they are shown

    def take(self, listen: Listen) -> list[socket.socket]:
        """Those of a listener: of each address that its host has. Raises OSError (a name that cannot be found)."""
        if not self._sockets:
            return []
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return self._take({(str(entry[4][0]), listen.port) for entry in found})

    def take_path(self, path: Path) -> socket.socket | None:
        """That of a unix socket."""
        return next(iter(self._take({str(path)})), None)

    def close(self) -> None:
        """Those that are left are of no use. Raises ActivationError where there are any."""
        left, self._sockets = self._sockets, []
        if not left:
            return
        told = [f"{_shown(_address(sock))} ({name})" if name else _shown(_address(sock)) for sock, name in left]
        for sock, _ in left:
            sock.close()
        raise ActivationError(
            f"systemd handed in sockets that are no listener's: {', '.join(told)}. ListenStream= of the socket unit"
            " and the listeners of the configuration must name the same addresses"
        )

    def _take(self, wanted: set[Address]) -> list[socket.socket]:
        chosen = [(sock, name) for sock, name in self._sockets if _address(sock) in wanted]
        self._sockets = [entry for entry in self._sockets if entry not in chosen]
        self.taken.update(_shown(_address(sock)) for sock, _ in chosen)
        return [sock for sock, _ in chosen]


def receive(environ: MutableMapping[str, str] = os.environ) -> Handed:
    """What was handed to this process; the variables that say so are removed. Raises ActivationError."""
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()):
        return Handed()  # meant for another process, or for none
    if not count.isdecimal():
        raise ActivationError(f"LISTEN_FDS is {count!r} and should be a number")
    named = names.split(":") if names else []
    return Handed(
        [(_socket(_FIRST + index), named[index] if index < len(named) else "") for index in range(int(count))]
    )


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    try:
        sock = socket.socket(fileno=descriptor)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ActivationError(f"descriptor {descriptor}, which systemd handed in, is no socket") from error
    if not listens:
        sock.detach()
        raise ActivationError(
            f"descriptor {descriptor}, which systemd handed in, does not listen: the unit needs ListenStream= and"
            " Accept=no"
        )
    sock.setblocking(False)
    return sock


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    return name if isinstance(name, str) else (str(name[0]).partition("%")[0], int(name[1]))


def _shown(address: Address) -> str:
    return address if isinstance(address, str) else str(Listen(*address))
