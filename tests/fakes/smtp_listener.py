"""The SMTP listener on a free port, and raw clients to talk to it."""

import asyncio
import contextlib
import inspect
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from ipaddress import ip_network
from typing import Any

import pytest
import uvloop

from gateway.config import Auth, Config, Listen, Smtp, SmtpListener
from gateway.runtime import Supervisor
from gateway.smtp.listener import SmtpServer
from tests.fakes import certs
from tests.fakes.smtp_door import FakeDoor

HOME = SmtpListener(
    listen=Listen("127.0.0.1", 0), auth=Auth.OPTIONAL, networks=((ip_network("127.0.0.0/8"), "printers"),)
)
HELLO = b"HELO client.example.org\r\n"
TRANSACTION = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
WAIT_S = 30.0  # a busy machine is no failure


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The gateway runs on asyncio's loop and on uvloop, and their transports differ."""

    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**fixtures))

    wanted = inspect.signature(test)
    factory = inspect.Parameter("loop_factory", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = wanted.replace(parameters=[factory, *wanted.parameters.values()])  # type: ignore[attr-defined]
    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    if hasattr(test, "pytestmark"):
        run.pytestmark = list(test.pytestmark)  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("loop_factory", loops, ids=["asyncio", "uvloop"])(run)
    return marked


def config(*listeners: SmtpListener, tls: certs.Certificates | None = None, **changes: Any) -> Config:
    return Config(
        hostname="mail.example.com",
        tls=tls.tls if tls else None,
        smtp=Smtp(listeners or (HOME,)),
        **changes,
    )


@contextlib.asynccontextmanager
async def serving(given: Config, door: FakeDoor, *, timeout_s: float = 300.0, **more: Any) -> AsyncIterator[SmtpServer]:
    errors: list[BaseException] = []
    supervisor = Supervisor(
        on_fatal=lambda _, error: errors.append(error), on_error=lambda _, error: errors.append(error)
    )
    server = SmtpServer(given, door, supervisor=supervisor, timeout_s=timeout_s, **more)
    await server.start()
    try:
        async with asyncio.timeout(2 * WAIT_S):
            yield server
    finally:
        await server.stop(0)
        await supervisor.cancel_all()
    assert not errors


class Client:
    """A raw client. `said` reads lines up to the one that begins with a text."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes, *answers: str) -> None:
        self.writer.write(data)
        for answer in answers:
            await self.said(answer)

    async def said(self, answer: str) -> None:
        line = (await asyncio.wait_for(self.reader.readline(), WAIT_S)).decode("ascii")
        assert line.startswith(answer), (answer, line)

    async def ended(self) -> None:
        assert await asyncio.wait_for(self.reader.read(), WAIT_S) == b""

    def vanish(self) -> None:
        """Reset the connection."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def client(server: SmtpServer, greeting: str = "220", **options: Any) -> AsyncIterator[Client]:
    address = server.addresses[0]
    reader, writer = await asyncio.open_connection(address.host, address.port, **options)
    made = Client(reader, writer)
    try:
        await made.said(greeting)
        yield made
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ready(made: Client) -> None:
    """Up to the content."""
    await made.say(HELLO + TRANSACTION, "250", "250", "250", "354")


async def in_thread(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)
