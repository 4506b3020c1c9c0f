"""A program that is told of events: an HTTP server on a real loopback socket, which answers as a test says.

`answer` gives the bytes of an answer, or writes by itself and gives None; what it was asked is kept in order.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def type(self) -> str:
        return str(self.json["type"])


Answer = Callable[[Request, asyncio.StreamWriter], bytes | Awaitable[bytes | None] | None]


def status(code: int, **headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {code} Said\r\n{more}Content-Length: 0\r\n\r\n".encode()


class Receiver:
    """`async with Receiver() as receiver`: serves at `receiver.url`. `tls`: the server's context."""

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, name: str = "") -> None:
        self.asked: list[Request] = []
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self.answer: Answer = lambda _request, _writer: OK
        self._host = host
        self._tls = tls
        self._name = name or host
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://{self._name}:{self.port}/hooks"

    @property
    def told(self) -> list[Request]:
        """Without the pings."""
        return [one for one in self.asked if b'"webhook.ping"' not in one.body and b"sendmux.test" not in one.body]

    @property
    def types(self) -> list[str]:
        return [one.type for one in self.told]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(first.split()[1], headers, body)
        self.asked.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            said = self.answer(request, writer)
            if isinstance(said, Awaitable):
                said = await said
        finally:
            self.at_once -= 1
        if said is None:
            return False
        writer.write(said)
        await writer.drain()
        return True
