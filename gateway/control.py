"""The control socket: the CLI's way to a running daemon.

One JSON object a line: `{"action": "key.create", "args": {...}}` -> `{"ok": true, "result": ...}` or
`{"ok": false, "error": {...}}`. A unix socket of mode 0600 in the data directory: who may open it may do everything,
and the file system decides who. It decodes and encodes; what is done is done by the actions it is given.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, GatewayError, Problem, Refused, StoreError

SOCKET_NAME: Final = "control.sock"
LOCK_NAME: Final = "lock"  # of a data directory: who has it is the daemon, or a command in its place
CONFIGURATION: Final = "configuration"  # the code of an error that is the file's
STORE: Final = "store"  # of one that is the store's: temporary
CONNECT_S: Final = 10.0  # a daemon that stands still is not connected to once enough others wait for it
LINE_BYTES: Final = 96 * 1024 * 1024  # a `send` with attachments in base64

Action = Callable[[dict[str, Any]], Awaitable[Any]]

log = logging.getLogger("gateway.control")


class UnknownAction(GatewayError):
    """The command and the daemon are of different versions."""


class ControlServer:
    """Serves actions on the control socket until `stop`."""

    def __init__(self, data_dir: Path, actions: Mapping[str, Action]) -> None:
        self._data_dir = data_dir
        self._actions = actions
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with _short_path(self._data_dir) as path:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # the lock on the data directory says that nobody else serves it
            before = os.umask(0o177)
            try:
                sock.bind(str(path))
            finally:
                os.umask(before)
        sock.setblocking(False)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=LINE_BYTES)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):  # a file system that turned read-only keeps nobody from ending
                (self._data_dir / SOCKET_NAME).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), 30)
            if line:
                writer.write(await answer(self._actions, line))
                await asyncio.wait_for(writer.drain(), 30)
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("a control connection failed: %s", error)
        finally:
            writer.close()


async def answer(actions: Mapping[str, Action], line: bytes) -> bytes:
    """Do what one line asks for and say what came of it, as a line."""
    reply: dict[str, Any]
    try:
        request = json.loads(line)
        action = actions.get(request["action"])
        if action is None:
            raise UnknownAction(f"This daemon does not know {request['action']}; is it older than the command?")
        reply = {"ok": True, "result": await action(request.get("args", {}))}
    except GatewayError as error:
        reply = {"ok": False, "error": _describe(error)}
    except (KeyError, TypeError, ValueError) as error:
        log.exception("a control request was not understood")
        reply = {"ok": False, "error": {"text": f"The request was not understood: {error!r}."}}
    return json.dumps(reply).encode() + b"\n"


async def call(data_dir: Path, action: str, args: dict[str, Any], *, timeout_s: float | None = None) -> dict[str, Any]:
    """Ask the running daemon, which may take as long as it does, or `timeout_s`. OSError where none answers, and of
    these TimeoutError where one runs."""
    async with asyncio.timeout(timeout_s):
        return await _call(data_dir, json.dumps({"action": action, "args": args}).encode() + b"\n")


async def _call(data_dir: Path, request: bytes) -> dict[str, Any]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.settimeout(CONNECT_S)
    try:
        with _short_path(data_dir) as path:
            sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=LINE_BYTES)
    try:
        writer.write(request)
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError("the daemon closed the control connection without an answer")
    reply: dict[str, Any] = json.loads(line)
    return reply


def is_taken(data_dir: Path) -> bool:
    """Whether a process has the data directory: one that does not answer starts or stops. Raises OSError."""
    try:
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _describe(error: GatewayError) -> dict[str, Any]:
    problems: tuple[Problem, ...] = getattr(error, "problems", ())
    described: dict[str, Any] = {"text": str(error), "problems": [str(problem) for problem in problems]}
    if isinstance(error, Refused):
        described["code"] = error.reason.code
    elif isinstance(error, ConfigError):
        described["code"] = CONFIGURATION
    elif isinstance(error, StoreError):
        described["code"] = STORE
    return described


@contextlib.contextmanager
def _short_path(data_dir: Path) -> Iterator[Path]:
    """The socket's path, by way of a directory descriptor: a unix socket's path may have 107 bytes only."""
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    finally:
        os.close(descriptor)
