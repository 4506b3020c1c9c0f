"""The policy host of MTA-STS: an HTTPS server on loopback that says what a test wants it to say."""

import asyncio
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_OK = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came: the host of the Host field, the path, the whole head."""

    host: str
    path: str
    head: str


def policy(mode: str, *hosts: str, max_age_s: int = 86_400) -> str:
    """The text of a policy."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts), f"max_age: {max_age_s}"]
    return "".join(f"{line}\r\n" for line in lines)


def answer(text: str, kind: str = "text/plain") -> bytes:
    """A whole HTTP response with that content."""
    content = text.encode()
    return _OK.format(kind, len(content)).encode() + content


class PolicyServer:
    """`async with PolicyServer(context) as server`: serves `answers` by domain (the host without mta-sts.), in bytes,
    on `server.port`; others get a 404. With an answer of None it goes on reading and says nothing."""

    def __init__(self, context: ssl.SSLContext, *, port: int = 0) -> None:
        self.answers: dict[str, bytes | None] = {}
        self.asked: list[Asked] = []
        self.connections = 0
        self.port = port
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # On the port of connections first: who comes without TLS, or does not trust us, counts too.
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await writer.start_tls(self._context)
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client does not trust us or has gone, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *fields = head.split("\r\n")
        given = dict(field.lower().split(": ", 1) for field in fields if ": " in field)
        host = given["host"].partition(":")[0]
        self.asked.append(Asked(host, request.split(" ")[1], head))
        said = self.answers.get(host.removeprefix("mta-sts."), b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        if said is None:
            await reader.read()
            return
        writer.write(said)
        await writer.drain()
