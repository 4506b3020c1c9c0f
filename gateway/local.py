"""Mail of this machine's own programs: the unix socket that sendmail(8) hands it in at.

Guarantees: SMTP with the rules and limits of the listeners, and one fixed key; who is at the other end is what the
kernel says (SO_PEERCRED), and stands as `uid-N` where a client's address stands elsewhere: in the log, in the events
and in Received. Every local user may submit, as with any sendmail; what they may send as is the key's to say.
"""

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

from gateway.activation import Handed
from gateway.budget import Budget
from gateway.config import Auth, BareNewlines, Config, Listen, Smtp, SmtpListener
from gateway.configfile.local import RUN_SOCKET, SOCKET_NAME
from gateway.message.model import SmtpEnvelope
from gateway.metrics.connections import ConnectionFigures
from gateway.policy.auth import Principal
from gateway.runtime import Supervisor
from gateway.smtp.connection import Connection
from gateway.smtp.context import Context
from gateway.smtp.door import Door, Receiving
from gateway.smtp.listener import BACKLOG, TIMEOUT_S, SmtpServer
from gateway.smtp.rules import rules_of

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_FOR_ALL: Final = 0o666  # to connect to a socket is to write to it
_MAX_PATH: Final = 107  # bytes of a unix socket's path
# The key stands for the listener's only "network": the machine itself. Programs here end their lines with LF.
_LISTENER: Final = SmtpListener(Listen("localhost", 0), auth=Auth.NONE, bare_newlines=BareNewlines.CONVERT)

log = logging.getLogger("gateway.local")


def socket_path(config: Config) -> Path:
    """Where the socket is: what the file says, else in /run/mail-gateway where that is ours, else in the data
    directory."""
    if config.local_socket is not None:
        return config.local_socket
    return RUN_SOCKET if os.access(RUN_SOCKET.parent, os.W_OK | os.X_OK) else config.data_dir / SOCKET_NAME


class LocalServer:
    """Takes mail for `key_name` on the socket `path`, from `start` to `stop`; `budget` as that of `SmtpServer`,
    `handed` are sockets that listen already."""

    def __init__(
        self,
        config: Config,
        key_name: str,
        path: Path,
        door: Door,
        *,
        supervisor: Supervisor,
        budget: Budget | None = None,
        timeout_s: float = TIMEOUT_S,
        handed: Handed | None = None,
        figures: ConnectionFigures | None = None,
    ) -> None:
        self.path = path
        # Without listeners of its own: it counts the connections here, looks after their time and ends them.
        self._connections = SmtpServer(
            _without_listeners(config),
            door,
            supervisor=supervisor,
            budget=budget,
            timeout_s=timeout_s,
            name="local",
            figures=figures,
        )
        self._door = door
        self._supervisor = supervisor
        self._timeout_s = timeout_s
        self._handed = Handed() if handed is None else handed
        self._context = self._context_of(config, key_name)
        self._place = contextlib.ExitStack()
        self._server: asyncio.Server | None = None

    @property
    def open_connections(self) -> int:
        return self._connections.open_connections

    async def start(self) -> None:
        """Returns when the socket accepts. Raises OSError (the directory, or another daemon's socket)."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as place:
            sock = self._handed.take_path(self.path)
            if sock is None:
                # As long as it serves: the loop may look for its socket at the path that it was bound to.
                short = place.enter_context(_short(self.path))
                sock = _bound(short, self.path)
                place.callback(_remove, short)
            try:
                await self._connections.start()
                self._server = await loop.create_unix_server(
                    lambda: _LocalConnection(self._context, loop), sock=sock, backlog=BACKLOG
                )
            except BaseException:
                sock.close()
                raise
            self._place = place.pop_all()
        if (closed := _closed_to_others(self.path)) is not None:
            log.warning("other users cannot reach %s, because of %s: set local.socket", self.path, closed)

    async def prepare(self, config: Config) -> Callable[[], None]:
        """The same socket by another configuration, for the connections to come."""
        commit_connections = await self._connections.prepare(_without_listeners(config))

        def commit() -> None:
            commit_connections()
            assert config.local_key is not None  # that it goes needs a restart
            self._context = self._context_of(config, config.local_key)

        return commit

    def _context_of(self, config: Config, key_name: str) -> Context:
        return Context(
            listener=_LISTENER,
            rules=rules_of(
                _LISTENER,
                hostname=config.hostname,
                max_bytes=config.max_message,
                max_recipients=config.limits.recipients_per_message,
            ),
            network_key=lambda _: key_name,
            door=_LocalDoor(self._door, config.hostname),
            registry=self._connections,
            supervisor=self._supervisor,
            tls=None,
            timeout_s=self._timeout_s,
        )

    async def stop(self, deadline_s: float) -> None:
        """Accept nothing new; open transactions may end until the deadline."""
        if self._server is not None:
            self._server.close()
            self._place.close()
        await self._connections.stop(deadline_s)


def _without_listeners(config: Config) -> Config:
    return dataclasses.replace(config, smtp=Smtp(()), tls=None)


class _LocalDoor:
    """The gateway as a program of this machine finds it: names without a domain are the machine's own, where the key
    says nothing else. The rest is that of the door."""

    def __init__(self, door: Door, hostname: str) -> None:
        self._door = door
        self._hostname = hostname

    def network_principal(self, key_name: str) -> Principal:
        principal: Principal = self._door.network_principal(key_name)
        if principal.default_domain is not None:
            return principal
        return dataclasses.replace(principal, default_domain=self._hostname)

    def authenticate(self, login: str, password: str, peer: str) -> Any:
        return self._door.authenticate(login, password, peer)

    def check_sender(self, principal: Any, address: str, peer: str) -> str:
        return self._door.check_sender(principal, address, peer)

    def check_recipient(self, principal: Any, address: str, peer: str) -> str:
        return self._door.check_recipient(principal, address, peer)

    def is_suspect(self, principal: Any, address: str) -> bool:
        return self._door.is_suspect(principal, address)

    async def judge_recipient(self, principal: Any, address: str, peer: str) -> None:
        await self._door.judge_recipient(principal, address, peer)

    def begin(self, principal: Any, envelope: SmtpEnvelope) -> Receiving:
        return self._door.begin(principal, envelope)


class _LocalConnection(Connection):
    """A connection whose peer is a user."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", _Named(transport, f"uid-{_uid(transport)}")))


class _Named:
    """A transport that names its peer; all else is that of the transport."""

    __slots__ = ("_peer", "_transport")

    def __init__(self, transport: asyncio.BaseTransport, peer: str) -> None:
        self._transport = transport
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._peer, 0) if name == "peername" else self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _uid(transport: asyncio.BaseTransport) -> int:
    """Who connected, as the kernel saw it then."""
    # By a socket of our own on it: that of a transport of uvloop has no getsockopt.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as own:
        _, uid, _ = _CREDENTIALS.unpack(own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def _bound(short: Path, path: Path) -> socket.socket:
    """The socket, for every user, in the place of one that nobody listens on. `short` is a way to `path`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _make_room(short, path)
        sock.bind(str(short))
        short.chmod(_FOR_ALL)  # bind heeds the umask, and that is all threads'
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    sock.setblocking(False)
    return sock


def _make_room(short: Path, path: Path) -> None:
    """Remove the socket of a daemon that is gone. Raises OSError where one listens, or no socket is in the place."""
    try:
        if not stat.S_ISSOCK(short.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "there is something else in the place of the socket", str(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as other:
            other.settimeout(1)
            other.connect(str(short))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        short.unlink()
        return
    raise OSError(errno.EADDRINUSE, "another daemon listens on this socket: set local.socket", str(path))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a file system that turned read-only keeps nobody from ending
        path.unlink()


def _closed_to_others(path: Path) -> Path | None:
    """The first directory on the way that other users may not pass."""
    for directory in reversed(path.parents):
        if not directory.stat().st_mode & stat.S_IXOTH:
            return directory
    return None


@contextlib.contextmanager
def _short(path: Path) -> Iterator[Path]:
    """A path that fits: where the socket's own is too long, by way of a descriptor of its directory."""
    if len(os.fsencode(path)) <= _MAX_PATH:
        yield path
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)
