"""An SMTP host that says, octet for octet, what a table has for each stage, true or absurd, and keeps what it was told.

`async with Scripted(script)` serves in the loop of the test; `with ScriptedThread(script)` in a thread of its own, for
tests of the whole daemon. Where the table has nothing it behaves as a host should.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self

OFFERS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")


class Then(Enum):
    """What follows what was said."""

    GO_ON = auto()
    CLOSE = auto()
    RESET = auto()  # a connection reset by peer
    HUSH = auto()  # not another word, and nothing is read


@dataclass(frozen=True, slots=True)
class Act:
    """`say` goes out as it is, one octet each `every_s` seconds where that is set; at the stage "body" `after` octets
    of content are read first."""

    say: bytes = b""
    then: Then = Then.GO_ON
    every_s: float = 0.0
    after: int = 1


DROP = Act(then=Then.CLOSE)
RESET = Act(then=Then.RESET)
HUSH = Act(then=Then.HUSH)
Answer = str | Act | None  # a line of text, an act, or as usual
Script = Mapping[str, Answer | list[Answer]]  # by stage; a list is used up one by one


@dataclass(slots=True)
class Message:
    """`taken`: its end was answered with 250 that left this host."""

    mail: str
    rcpts: list[str] = field(default_factory=list)  # commands that were accepted
    content: bytes = b""
    ended: bool = False
    taken: bool = False

    @property
    def recipients(self) -> list[str]:
        return [line.partition("<")[2].partition(">")[0] for line in self.rcpts]


class Scripted:
    """Stages: greeting, ehlo, helo, starttls, mail, rcpt, data, body, dot, rset, quit.

    `on_hush` is called when it falls silent, once all before that was said.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        offers: tuple[str, ...] = OFFERS,
        address: str = "127.0.0.1",
        port: int = 0,
        on_hush: Callable[[], object] = lambda: None,
    ) -> None:
        self.script = {stage: list(does) if isinstance(does, list) else does for stage, does in (script or {}).items()}
        self.offers = offers
        self.address = address
        self.port = port
        self.on_hush = on_hush
        self.messages: list[Message] = []
        self.commands: list[str] = []
        self.connections = 0
        self.open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def taken(self) -> list[Message]:
        """Messages that were, by somebody: an empty one without a recipient is none."""
        return [message for message in self.messages if message.taken and message.rcpts]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.address, self.port, limit=1 << 20)
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

    def heal(self) -> None:
        """From now on it behaves."""
        self.script = {}

    def answer(self, stage: str) -> Act | None:
        """What the table has for this stage now."""
        does = self.script.get(stage)
        if isinstance(does, list):
            does = does.pop(0) if does else None
        return Act(does.encode() + b"\r\n") if isinstance(does, str) else does

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await _Conversation(self, reader, writer).run()
        except (OSError, EOFError, _Over, asyncio.CancelledError):
            pass  # the client has gone, the table hung up, or the test is over
        finally:
            self.open -= 1
            writer.close()
            self._tasks.discard(task)


class _Over(Exception):
    pass


class _Conversation:
    def __init__(self, host: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._message: Message | None = None

    async def run(self) -> None:
        await self._say("greeting", "220 mx.test ESMTP")
        while True:
            line = (await self._reader.readuntil(b"\r\n"))[:-2].decode("utf-8", "surrogateescape")
            self._host.commands.append(line)
            await self._command(line)

    async def _command(self, line: str) -> None:
        match line.partition(" ")[0].upper():
            case "EHLO":
                offers = [f"250-{offer}\r\n" for offer in self._host.offers]
                await self._say("ehlo", f"250-mx.test\r\n{''.join(offers)}250 HELP")
            case "HELO":
                await self._say("helo", "250 mx.test")
            case "STARTTLS":
                await self._say("starttls", "454 4.7.0 no certificate")
            case "MAIL":
                if await self._say("mail", "250 2.1.0 ok"):
                    self._message = Message(line)
                    self._host.messages.append(self._message)
            case "RCPT":
                await self._rcpt(line)
            case "DATA":
                await self._data()
            case "RSET":
                self._message = None
                await self._say("rset", "250 2.0.0 ok")
            case "QUIT":
                await self._say("quit", "221 2.0.0 bye")
                raise _Over
            case _:
                await self._say("", "500 5.5.1 what?")

    async def _rcpt(self, line: str) -> None:
        message = self._message
        said = await self._say("rcpt", "250 2.1.5 ok" if message is not None else "503 5.5.1 MAIL first")
        if said and message is not None:
            message.rcpts.append(line)

    async def _data(self) -> None:
        message = self._message
        ready = message is not None and message.rcpts
        await self._say("data", "354 go on" if ready else "503 5.5.1 no recipient")
        if not self._goes_on:
            return
        message = message or Message("")
        body = self._host.answer("body")
        content = b""
        if body is not None:
            content = await self._reader.readexactly(body.after)
            await self._act(body)
        while content != b".\r\n" and not content.endswith(b"\r\n.\r\n"):
            content += await self._reader.readuntil(b"\r\n")
        message.content = content[:-3].replace(b"\r\n.", b"\r\n")
        message.ended, self._message = True, None
        await self._say("dot", "250 2.0.0 queued", message)

    async def _say(self, stage: str, usual: str, message: Message | None = None) -> bool:
        """Whether it is positive, to the client, too: then the message is taken, whatever follows."""
        act = self._host.answer(stage) or Act(usual.encode() + b"\r\n")
        self._goes_on = act.say.startswith(b"354")
        positive = act.say.startswith(b"2") and b"\n" in act.say
        if message is not None:
            message.taken = positive
        await self._act(act)
        return positive

    async def _act(self, act: Act) -> None:
        with contextlib.suppress(OSError):
            if act.every_s:
                for octet in act.say:
                    self._writer.write(bytes([octet]))
                    await asyncio.sleep(act.every_s)
            else:
                self._writer.write(act.say)
            await self._writer.drain()
        if act.then is Then.RESET:
            self._writer.transport.abort()
        if act.then is Then.HUSH:
            self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's
            self._host.on_hush()
            await asyncio.Event().wait()
        if act.then is not Then.GO_ON:
            raise _Over


class ScriptedThread:
    """`with ScriptedThread(script) as host`: the same, beside the test."""

    def __init__(self, script: Script | None = None, *, offers: tuple[str, ...] = OFFERS) -> None:
        self.host = Scripted(script, offers=offers)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="scripted", daemon=True)

    def __enter__(self) -> Scripted:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the host does not start")
        return self.host

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with self.host:
            self._ready.set()
            await self._stop.wait()
