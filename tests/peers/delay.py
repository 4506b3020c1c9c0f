"""A TCP proxy that holds everything back for a while, each way, as a long line does, and counts who waited for whom.

What is counted are changes of direction, not times: a run of what the client said, then a run of what the server said.
"""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CLIENT = "client"
SERVER = "server"


@dataclass(slots=True)
class Line:
    """One connection. `turns` names who spoke, once for each run."""

    turns: list[str] = field(default_factory=list)
    octets: dict[str, int] = field(default_factory=lambda: {CLIENT: 0, SERVER: 0})

    @property
    def round_trips(self) -> int:
        """That of the connection itself, and one for each turn of the client."""
        return 1 + self.turns.count(CLIENT)

    def note(self, who: str, octets: int) -> None:
        self.octets[who] += octets
        if not self.turns or self.turns[-1] != who:
            self.turns.append(who)


class DelayProxy:
    """`async with DelayProxy(port) as proxy`: on `proxy.port`, before what listens on `port`; `delay_s` is one way."""

    def __init__(self, upstream: int, *, delay_s: float = 0.025, address: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self.address = address
        self.delay_s = delay_s
        self.lines: list[Line] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.address, 0)
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
        line = Line()
        self.lines.append(line)
        try:
            await asyncio.sleep(2 * self.delay_s)  # of the connection
            there, back = await asyncio.open_connection(self.address, self.upstream)
            try:
                await asyncio.gather(self._carry(line, CLIENT, reader, back), self._carry(line, SERVER, there, writer))
            finally:
                back.close()
        except (OSError, asyncio.CancelledError):
            pass  # one of them has gone, or the test is over
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _carry(self, line: Line, who: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What is read now is written when its time has come; reading goes on meanwhile."""
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

        async def write() -> None:
            while True:
                at, data = await due.get()
                await asyncio.sleep(max(at - loop.time(), 0))
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        async def read() -> None:
            while data := await reader.read(1 << 16):
                line.note(who, len(data))
                await due.put((loop.time() + self.delay_s, data))
            await due.put((loop.time() + self.delay_s, b""))

        await asyncio.gather(write(), read())
