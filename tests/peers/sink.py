"""A recording SMTP sink: an asyncio server in a thread of its own that keeps every transaction, byte for
byte.

It takes whatever it is given, so that a test can look at it. It judges nothing and offers neither TLS nor
AUTH.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.peers.process import wait_until


@dataclass(slots=True, eq=False)
class Transaction:
    """A MAIL and what followed it. Times are monotonic seconds, 0.0 where it did not come to that."""

    connection: int
    sender: str
    recipients: list[str] = field(default_factory=list)
    content: bytes = b""  # as it was before dot-stuffing
    dot_at: float = 0.0  # the final dot was read
    accepted_at: float = 0.0  # the 250 to it was written
    refused: bool = False  # the final dot was answered with something else

    @property
    def accepted(self) -> bool:
        return self.accepted_at > 0

    @property
    def arrived(self) -> bool:
        """A receiver would have it: the final dot was read and not refused, whoever heard the answer."""
        return self.dot_at > 0 and not self.refused


@dataclass(slots=True)
class Connection:
    """How a connection ended: `quit` is False where the client vanished."""

    number: int
    open: bool = True
    quit: bool = False
    last: Transaction | None = None


# Called with a command line (or "." for the end of the data); a returned reply replaces the sink's own.
Answer = Callable[[str], str | None]


class Sink:
    """`with Sink() as sink`: listens on `port`; `transactions` grows as mail comes.

    `dot_delay_s` holds back the reply to the final dot.
    """

    def __init__(self, *, port: int = 0, dot_delay_s: float = 0.0, answer: Answer | None = None) -> None:
        self.port = port
        self.dot_delay_s = dot_delay_s
        self.answer = answer
        self.transactions: list[Transaction] = []
        self.connections: list[Connection] = []
        self.sessions: set[_Session] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
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

    @property
    def accepted(self) -> list[Transaction]:
        """Transactions that were answered with 250, in the order of their MAIL."""
        return [transaction for transaction in list(self.transactions) if transaction.accepted]

    @property
    def in_doubt(self) -> list[Transaction]:
        """What a client may send again: the last thing of a connection that ended without QUIT, its dot
        read."""
        ends = (c.last for c in list(self.connections) if not c.open and not c.quit)
        return [last for last in ends if last is not None and last.dot_at]

    def by_recipient(self) -> dict[str, list[Transaction]]:
        """What arrived, by envelope recipient."""
        found: dict[str, list[Transaction]] = defaultdict(list)
        for transaction in list(self.transactions):
            if transaction.arrived:
                for recipient in transaction.recipients:
                    found[recipient].append(transaction)
        return found

    def wait_for(self, count: int, timeout_s: float = 60.0) -> list[Transaction]:
        """Wait until so many transactions were accepted, and return them."""
        wait_until(lambda: len(self.accepted) >= count, f"{count} messages at the sink", timeout_s)
        return self.accepted

    def wait_for_recipients(self, wanted: set[str], timeout_s: float = 60.0) -> None:
        """Wait until each of these recipients got something; says how many did not."""
        deadline = time.monotonic() + timeout_s
        while missing := wanted - {to for one in self.accepted for to in one.recipients}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(missing)} of {len(wanted)} recipients got nothing, as {min(missing)}")
            time.sleep(0.05)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(lambda: _Session(self), "127.0.0.1", self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for session in list(self.sessions):
            session.abort()
        await asyncio.sleep(0)  # connection_lost is called in the next turn


class _Session(asyncio.Protocol):
    """One connection: commands by line, data to CRLF.CRLF."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._buffer = bytearray()
        self._data = False
        self._scanned = 0
        self._now: Transaction | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connection = Connection(len(self.sink.connections))
        self.sink.connections.append(self._connection)
        self.sink.sessions.add(self)
        self._say("220 sink.test ESMTP")

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.open = False
        self.sink.sessions.discard(self)

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._paused:
            self._work()

    def _work(self) -> None:
        while not self._paused and (self._take_data() if self._data else self._take_line()):
            pass

    def _take_line(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = self._buffer[:end].decode("utf-8", "surrogateescape")
        del self._buffer[: end + 2]
        self._command(line)
        return True

    def _command(self, line: str) -> None:
        verb = line[:4].upper()
        replaced = self.sink.answer(line) if self.sink.answer else None
        if replaced is not None:
            self._say(replaced)
        elif verb == "MAIL":
            self._now = Transaction(self._connection.number, _path(line))
            self._connection.last = self._now
            self.sink.transactions.append(self._now)
            self._say("250 2.1.0 ok")
        elif verb == "RCPT" and self._now is not None:
            self._now.recipients.append(_path(line))
            self._say("250 2.1.5 ok")
        elif verb == "DATA" and self._now is not None and self._now.recipients:
            self._data, self._scanned = True, 0
            self._say("354 go on")
        elif verb == "EHLO":
            self._say("250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES")
        elif verb == "QUIT":
            self._connection.quit = True
            self._say("221 2.0.0 bye")
            self._transport.close()
        elif verb in {"HELO", "RSET", "NOOP"}:
            self._now = None
            self._say("250 2.0.0 ok")
        else:
            self._say("503 5.5.1 not now")

    def _take_data(self) -> bool:
        # The empty message is ".CRLF" at once: its dot stands after the CRLF of DATA.
        if self._buffer.startswith(b".\r\n"):
            content, rest = b"", 3
        else:
            end = self._buffer.find(b"\r\n.\r\n", max(0, self._scanned - 4))
            self._scanned = len(self._buffer)
            if end < 0:
                return False
            content, rest = bytes(self._buffer[: end + 2]), end + 5
        del self._buffer[:rest]
        assert self._now is not None
        self._now.content = _unstuff(content)
        self._now.dot_at = time.monotonic()
        self._data = False
        if self.sink.dot_delay_s:
            self._paused = True
            asyncio.get_running_loop().call_later(self.sink.dot_delay_s, self._after_delay)
        else:
            self._accept()
        return True

    def _after_delay(self) -> None:
        self._paused = False
        self._accept()
        self._work()

    def _accept(self) -> None:
        replaced = self.sink.answer(".") if self.sink.answer else None
        if self._now is not None:
            self._now.refused = replaced is not None
            if replaced is None and not self._transport.is_closing():
                self._now.accepted_at = time.monotonic()
        self._now = None
        self._say(replaced or "250 2.0.0 ok")

    def _say(self, text: str) -> None:
        self._transport.write(text.encode() + b"\r\n")


def _path(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]


def _unstuff(content: bytes) -> bytes:
    """Undo dot-stuffing (RFC 5321, 4.5.2)."""
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(b"\r\n.", b"\r\n")
