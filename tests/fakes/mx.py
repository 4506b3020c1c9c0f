"""A programmable SMTP host on a real socket, in the loop of the test.

It behaves as a host should unless a script says otherwise, and keeps everything it was told: the commands of each
segment, and every message byte for byte. It does not judge what it is told.
"""

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

OFFERS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True, slots=True)
class Do:
    """What the host does at a stage: says something (lines divided by LF; "" is silence), and then may hang up.

    `raw` is sent behind the reply in the same write; `after` is for the stage "body" alone: so many octets are read
    first. `gate` is waited for before anything is said.
    """

    reply: str = ""
    drop: bool = False
    raw: bytes = b""
    after: int = 0
    gate: asyncio.Event | None = None


Reaction = Do | str | list["Do | str | None"] | Callable[[str], "Do | str | None"]


@dataclass(slots=True)
class Transaction:
    """A MAIL and what followed. `raw` is what came between 354 and the end, dots as they were on the wire."""

    mail: str
    recipients: list[str] = field(default_factory=list)  # those that were accepted
    raw: bytes = b""
    content: bytes = b""  # without the stuffing
    finished: bool = False


@dataclass(slots=True)
class Conversation:
    """One connection. `segments` are the reads as they came, `commands` the lines in them, in clear or under TLS."""

    segments: list[bytes] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    logins: list[tuple[str, str, str]] = field(default_factory=list)  # mechanism, user, password
    clear: bytearray = field(default_factory=bytearray)  # everything that came before TLS
    tls: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    writer: asyncio.StreamWriter | None = None

    def say(self, text: str) -> None:
        """Say something nobody asked for."""
        assert self.writer is not None
        self.writer.write(text.encode() + b"\r\n")

    async def over(self) -> None:
        """Wait for its end, which must not take long."""
        async with asyncio.timeout(5):
            await self.ended.wait()

    def drop(self) -> None:
        """Hang up."""
        assert self.writer is not None
        self.writer.close()


class FakeMx:
    """`async with FakeMx(...) as host`: listens on `host.port`.

    `script` maps a stage (connect, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, body, dot, RSET, QUIT) to a reaction:
    what to do each time, a list that is used up one by one (None: as usual), or a function of the command line.
    `tls` makes it offer STARTTLS, `implicit` speak TLS from the start. `eager_data` answers 354 with no recipient, too.
    """

    def __init__(
        self,
        script: Mapping[str, Reaction] | None = None,
        *,
        offers: tuple[str, ...] = OFFERS,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        eager_data: bool = False,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.script: dict[str, Reaction] = dict(script or {})
        self.offers = offers
        self.conversations: list[Conversation] = []
        self.port = port
        self.address = address
        self._tls = tls
        self._implicit = implicit
        self._eager_data = eager_data
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self.address, self.port, ssl=self._tls if self._implicit else None, limit=1 << 20
        )
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

    @property
    def transactions(self) -> list[Transaction]:
        """Those whose end was accepted, of all conversations."""
        return [t for conversation in self.conversations for t in conversation.transactions if t.finished]

    @property
    def commands(self) -> list[str]:
        """All commands of all conversations."""
        return [command for conversation in self.conversations for command in conversation.commands]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        conversation = Conversation(writer=writer)
        if self._implicit:
            conversation.tls = writer.get_extra_info("ssl_object").version()
        self.conversations.append(conversation)
        try:
            await _Host(self, conversation, reader, writer).run()
        except (OSError, _Dropped, asyncio.CancelledError):
            pass  # the client has gone, the script hung up, or the test is over
        finally:
            conversation.ended.set()
            writer.close()
            self._tasks.discard(task)

    def reaction(self, stage: str, line: str) -> Do | None:
        """What the script says for this stage; None: as usual."""
        found = self.script.get(stage)
        if isinstance(found, list):
            found = found.pop(0) if found else None
        elif callable(found):
            found = found(line)
        return Do(found) if isinstance(found, str) else found

    def can_start_tls(self) -> bool:
        return self._tls is not None and not self._implicit

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        return self._tls

    @property
    def eager_data(self) -> bool:
        return self._eager_data


class _Dropped(Exception):
    pass


class _Host:
    """The server's side of one conversation."""

    def __init__(
        self, mx: FakeMx, seen: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._mx = mx
        self._seen = seen
        self._reader = reader
        self._writer = writer
        self._buffer = b""
        self._transaction: Transaction | None = None

    async def run(self) -> None:
        await self._answer("connect", "", "220 mx.test ESMTP")
        while True:
            line = (await self._until(b"\r\n")).decode("utf-8", "surrogateescape")
            self._seen.commands.append(line)
            await self._command(line)

    async def _read(self) -> None:
        data = await self._reader.read(1 << 20)
        if not data:
            raise _Dropped
        self._seen.segments.append(data)
        if not self._seen.tls:
            self._seen.clear += data
        self._buffer += data

    async def _until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            await self._read()
        taken, self._buffer = self._buffer[:at], self._buffer[at + len(end) :]
        return taken

    async def _answer(self, stage: str, line: str, usual: str) -> str:
        """Say what the script or the custom wants; returns what was said."""
        do = self._mx.reaction(stage, line) or Do(usual)
        await self._do(do)
        return do.reply

    async def _do(self, do: Do) -> None:
        if do.gate is not None:
            await do.gate.wait()
        if do.reply:
            lines = do.reply.split("\n")
            said = [line[:3] + "-" + line[4:] for line in lines[:-1]] + [lines[-1]]
            self._writer.write("".join(line + "\r\n" for line in said).encode() + do.raw)
            await self._writer.drain()
        if do.drop:
            raise _Dropped
        while not do.reply and not do.after:
            await self._read()  # silence lasts until the client goes

    async def _command(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        match verb:
            case "EHLO":
                await self._answer("EHLO", line, "\n".join(["250 mx.test", *(f"250 {o}" for o in self._offers())]))
            case "HELO":
                await self._answer("HELO", line, "250 mx.test")
            case "STARTTLS":
                await self._starttls(line)
            case "AUTH":
                await self._auth(line)
            case "MAIL":
                await self._mail(line)
            case "RCPT":
                await self._rcpt(line)
            case "DATA":
                await self._data(line)
            case "RSET":
                self._transaction = None
                await self._answer("RSET", line, "250 2.0.0 ok")
            case "QUIT":
                await self._answer("QUIT", line, "221 2.0.0 bye")
                raise _Dropped
            case _:
                await self._answer(verb, line, "500 5.5.1 what?")

    def _offers(self) -> list[str]:
        return [*self._mx.offers, *(["STARTTLS"] if self._mx.can_start_tls() and not self._seen.tls else [])]

    async def _starttls(self, line: str) -> None:
        said = await self._answer("STARTTLS", line, "220 2.0.0 go ahead")
        context = self._mx.tls_context
        if said.startswith("220") and context is not None:
            await self._writer.start_tls(context)
            self._seen.tls = self._writer.get_extra_info("ssl_object").version()

    async def _auth(self, line: str) -> None:
        do = self._mx.reaction("AUTH", line)
        if do is not None:
            await self._do(do)
            return
        _, mechanism, *initial = line.split(" ")
        if mechanism == "PLAIN":
            _, user, password = base64.b64decode(initial[0]).decode().split("\0")
        else:
            answers = list(initial)
            for prompt in (b"Username:", b"Password:")[len(answers) :]:
                await self._do(Do("334 " + base64.b64encode(prompt).decode()))
                answers.append((await self._until(b"\r\n")).decode())
            user, password = (base64.b64decode(answer).decode() for answer in answers)
        self._seen.logins.append((mechanism, user, password))
        await self._do(Do("235 2.7.0 welcome"))

    async def _mail(self, line: str) -> None:
        said = await self._answer("MAIL", line, "250 2.1.0 ok")
        if said.startswith("2"):
            self._transaction = Transaction(line)
            self._seen.transactions.append(self._transaction)

    async def _rcpt(self, line: str) -> None:
        usual = "250 2.1.5 ok" if self._transaction is not None else "503 5.5.1 MAIL first"
        said = await self._answer("RCPT", line, usual)
        if said.startswith("2") and self._transaction is not None:
            self._transaction.recipients.append(line.removeprefix("RCPT TO:<").partition(">")[0])

    async def _data(self, line: str) -> None:
        ready = self._mx.eager_data or (self._transaction is not None and self._transaction.recipients)
        said = await self._answer("DATA", line, "354 go on" if ready else "503 5.5.1 no recipient")
        if not said.startswith("354"):
            return
        transaction = self._transaction or Transaction("")
        if (do := self._mx.reaction("body", "")) is not None:
            while len(self._buffer) < do.after:
                await self._read()
            await self._do(do)
        while not self._buffer.startswith(b".\r\n") and b"\r\n.\r\n" not in self._buffer:
            await self._read()
        if self._buffer.startswith(b".\r\n"):
            self._buffer = self._buffer[3:]
        else:
            transaction.raw = await self._until(b"\r\n.\r\n") + b"\r\n"
        lines = transaction.raw.split(b"\r\n")
        transaction.content = b"\r\n".join(part[1:] if part.startswith(b".") else part for part in lines)
        self._transaction = None
        said = await self._answer("dot", "", f"250 2.0.0 queued as {len(self._mx.transactions) + 1}")
        transaction.finished = said.startswith("2")
