"""An SMTP sink that says its greeting and the reply to each final dot only when the test allows it: so a test sees how
many connections a client dares to have at every step, whatever the machine's speed.

Guarantees: what is held is counted at the moment at which it was read; replies go out in the order in which they were
earned. It offers neither TLS nor AUTH.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Self

from tests.peers.process import wait_until

_WAIT_S = 60.0


class Gated:
    """`with Gated() as sink`: listens on `port`. `arrived` are the recipients whose message was read to its end, as
    they came."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0  # open now
        self.arrived: list[str] = []
        self._held: deque[_Session] = deque()
        self._allowed = 0
        self._silent: list[_Session] = []
        self._open = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="gated", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the sink does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def greet(self) -> None:
        """Whoever waits for it, and whoever comes from now on."""
        self._loop.call_soon_threadsafe(self._greet)

    def allow(self, count: int) -> None:
        """Answer so many final dots."""
        self._loop.call_soon_threadsafe(self._allow, count)

    def wait_until_held(self, count: int) -> None:
        """Until so many messages wait for their answer."""
        wait_until(lambda: len(self._held) == count, f"{count} messages held, not {len(self._held)}", _WAIT_S)

    def wait_until_connected(self, count: int) -> None:
        wait_until(lambda: self.connections == count, f"{count} connections, not {self.connections}", _WAIT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(lambda: _Session(self), "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for session in (*self._held, *self._silent):
            session.abort()
        await asyncio.sleep(0)  # connection_lost is called in the next turn

    # In the sink's loop.

    def came(self, session: "_Session") -> None:
        self.connections += 1
        if self._open:
            session.say("220 gated.test ESMTP")
        else:
            self._silent.append(session)

    def went(self, session: "_Session") -> None:
        self.connections -= 1
        if session in self._held:
            self._held.remove(session)

    def dot(self, session: "_Session") -> None:
        self._held.append(session)
        self._answer()

    def _greet(self) -> None:
        self._open = True
        while self._silent:
            self._silent.pop().say("220 gated.test ESMTP")

    def _allow(self, count: int) -> None:
        self._allowed += count
        self._answer()

    def _answer(self) -> None:
        while self._held and self._allowed:
            self._allowed -= 1
            self._held.popleft().say("250 2.0.0 ok")


class _Session(asyncio.Protocol):
    def __init__(self, sink: Gated) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._data = False
        self._to: list[str] = []
        self._replies: dict[str, Callable[[], str]] = {
            "EHLO": lambda: "250-gated.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES",
            "QUIT": lambda: "221 2.0.0 bye",
            "DATA": lambda: "354 go on",
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink.came(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._sink.went(self)

    def say(self, line: str) -> None:
        self._transport.write(line.encode() + b"\r\n")

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = b"\r\n.\r\n" if self._data else b"\r\n"
            text, found, rest = self._buffer.partition(end)
            if not found:
                return
            self._buffer = rest
            if self._data:
                self._data = False
                self._sink.arrived.extend(self._to)
                self._to = []
                self._sink.dot(self)
            else:
                self._command(text.decode("ascii", "replace"))

    def _command(self, line: str) -> None:
        verb = line[:4].upper()
        if verb == "RCPT":
            self._to.append(line.partition("<")[2].partition(">")[0])
        self._data = verb == "DATA"
        self.say(self._replies.get(verb, lambda: "250 2.0.0 ok")())
        if verb == "QUIT":
            self._transport.close()
