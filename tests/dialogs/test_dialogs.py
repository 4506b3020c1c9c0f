"""Plays every *.smtp file of this directory against the real listener with the gateway behind it in memory.

    # comment
    ! auth=none bare_newlines=reject     options of the listener; networks=CIDR:key,
                                         max_message=N, recipients=N, per_ip=N, default_domain=NAME,
                                         memory=none (others hold all there is),
                                         role=return_path (with the tokens of fakes/returns.py: @BOUNCE@, @LEAVE@,
                                         @FEEDBACK@, @DOMAIN@ stand for its addresses)
    ! fail=ADDRESS:REASON                what the gateway says at that address (or begin, add, finish, authenticate)
    C: text                              a line of the client, with CR LF; Python's escapes (\\n, \\x00)
    c: text                              the same without CR LF
    S: text                              the next line of the server begins with this
    TLS                                  the client's half of the handshake
    EOF                                  the server closes
    CLOSE                                the client closes its half
    STOP                                 the server begins to stop
    MESSAGE text                         the next message that was accepted, byte for byte
    ENVELOPE sender recipients           of that message; <> is the null sender
    SAID name values                     a value of that envelope, or one for each recipient; - is none, yes and no
    NONE                                 no (further) message was accepted
    HEARD types                          what was heard on the return path so far, in order

Lines of the client leave in one segment until the next line that is none.
"""

import asyncio
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.budget import Budget
from gateway.config import Auth, BareNewlines, Config, Limits, Listen, ListenerTls, Role, Smtp, SmtpListener
from gateway.errors import Reason, Refused, StoreError, StoreFull
from gateway.inbound.door import ReturnPathDoor
from gateway.runtime import Supervisor
from gateway.smtp.listener import SmtpServer
from tests.fakes import certs, returns
from tests.fakes.smtp_door import FakeDoor

DIALOGS = sorted(Path(__file__).parent.glob("*.smtp"))
WAIT_S = 5.0
ERRORS: dict[str, Exception] = {
    "full": StoreFull("the disk of /var/lib is full"),
    "store": StoreError("the database /var/lib/gateway.db is locked"),
    "crash": RuntimeError("boom"),
    **{reason.name: Refused(reason, "for a reason") for reason in Reason},
}


def unescaped(text: str) -> bytes:
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


def shown(value: str | int | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)


class Player:
    def __init__(self, text: str, directory: Path) -> None:
        for name in ("BOUNCE", "LEAVE", "FEEDBACK", "DOMAIN"):
            text = text.replace(f"@{name}@", getattr(returns, name))
        self.steps = [
            (number, line)
            for number, line in enumerate(text.splitlines(), start=1)
            if line.strip() and not line.startswith("#")
        ]
        self.options = dict(
            word.split("=", 1)
            for _, line in self.steps
            if line.startswith("!") and not line.startswith("! fail=")
            for word in line[1:].split()
        )
        self.door = FakeDoor(default_domain=self.options.pop("default_domain", None))
        self.returned = returns.MemoryStore()
        self.memory = Budget(1_000_000)
        if self.options.pop("memory", "") == "none":
            assert self.memory.try_take(1_000_000)
        self.certificates = certs.make(directory) if "tls" in self.options else None
        self.messages = 0
        self.errors: list[BaseException] = []

    def config(self) -> Config:
        options = dict(self.options)
        for line in (line for _, line in self.steps if line.startswith("! fail=")):
            where, _, error = line.removeprefix("! fail=").strip().rpartition(":")
            self.door.failures[where] = ERRORS[error]
            if where == "finish":
                self.returned.failure = ERRORS[error]
        listener = SmtpListener(
            listen=Listen("127.0.0.1", 0),
            tls=ListenerTls(options.pop("tls", "none")),
            role=Role(options.pop("role", "submission")),
            auth=Auth(options.pop("auth", "required")),
            plaintext_auth={"yes": True, "no": False, "": None}[options.pop("plaintext_auth", "")],
            bare_newlines=BareNewlines(options.pop("bare_newlines", "convert")),
            networks=tuple(
                (ip_network(cidr), key)
                for cidr, _, key in [item.partition(":") for item in options.pop("networks", "").split(",") if item]
            ),
        )
        config = Config(
            hostname="mail.example.com",
            tls=self.certificates.tls if self.certificates else None,
            max_message=int(options.pop("max_message", "1000000")),
            limits=Limits(
                recipients_per_message=int(options.pop("recipients", "100")),
                connections_per_ip=int(options.pop("per_ip", "50")),
            ),
            smtp=Smtp((listener,)),
        )
        assert not options, f"unknown options: {options}"
        return config

    async def play(self) -> None:
        self.supervisor = supervisor = Supervisor(
            on_fatal=lambda _, error: self.errors.append(error),
            on_error=lambda _, error: self.errors.append(error),
        )
        self.server = server = SmtpServer(
            self.config(),
            self.door,
            supervisor=supervisor,
            budget=self.memory,
            room_wait_s=0.01,
            returns=ReturnPathDoor(returns.inbound(self.returned)),
        )
        await server.start()
        try:
            async with asyncio.timeout(WAIT_S):
                await self.talk(server.addresses[0])
        finally:
            await server.stop(0)
            await supervisor.cancel_all()
        assert not self.errors

    async def talk(self, address: Listen) -> None:
        self.reader, self.writer = await asyncio.open_connection(address.host, address.port)
        waiting = b""
        try:
            for number, line in self.steps:
                kind, _, text = line.partition(" ")
                if kind in {"C:", "c:"}:
                    waiting += unescaped(text) + b"\r\n" * (kind == "C:")
                    continue
                if waiting:
                    self.writer.write(waiting)
                    waiting = b""
                await self.step(kind, text, f"line {number}: {line}")
        finally:
            self.writer.close()
            await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    async def step(self, kind: str, text: str, where: str) -> None:
        match kind:
            case "!":
                pass
            case "S:":
                line = (await self.reader.readline()).decode("ascii")
                assert line.startswith(text), f"{where}: got {line!r}"
                assert line.endswith("\r\n"), where
            case "TLS":
                assert self.certificates is not None
                await self.writer.start_tls(self.certificates.client, server_hostname="localhost")
            case "EOF":
                assert await self.reader.read() == b"", where
            case "STOP":
                self.supervisor.start(self.server.stop(WAIT_S), name="stop")
            case "CLOSE":
                self.writer.write_eof()
            case "MESSAGE":
                assert self.door.accepted[self.messages].content == unescaped(text), where
                self.messages += 1
            case "ENVELOPE":
                sender, *recipients = text.split()
                envelope = self.door.accepted[self.messages - 1].envelope
                assert (envelope.sender or "<>", envelope.recipients) == (sender, tuple(recipients)), where
            case "SAID":
                name, _, wanted = text.partition(" ")
                value = getattr(self.door.accepted[self.messages - 1].envelope, name)
                said = " ".join(map(shown, value if isinstance(value, tuple) else (value,)))
                assert said == unescaped(wanted).decode(), where
            case "HEARD":
                assert [one.type.value for one in self.returned.heard] == text.split(), where
            case "NONE":
                assert len(self.door.accepted) == self.messages, where
            case _:
                pytest.fail(f"{where}: not understood")


@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
async def test_dialog(path: Path, tmp_path: Path) -> None:
    await Player(path.read_text(encoding="utf-8"), tmp_path).play()


async def test_a_wrong_reply_fails_the_dialog(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"line 3: S: 250 2\.9\.9"):
        await Player("S: 220\nC: NOOP\nS: 250 2.9.9\n", tmp_path).play()


def test_there_are_dialogs() -> None:
    assert len(DIALOGS) >= 45
