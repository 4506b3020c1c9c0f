"""The gateway behind an SMTP listener, in memory: what is accepted can be looked at, and it fails when told
to."""

import asyncio
from dataclasses import dataclass, field

from gateway.errors import Reason, Refused
from gateway.message.model import SmtpEnvelope


@dataclass(slots=True)
class Message:
    """A message that was begun; `pieces` are complete once `finished`."""

    principal: str
    envelope: SmtpEnvelope
    pieces: list[bytes] = field(default_factory=list)
    finished: bool = False

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)


@dataclass(slots=True)
class FakeDoor:
    """Principals are the names of keys. `keys` maps a password to one; `failures` an address, or "begin",
    "add", "finish", "authenticate", to what is raised there."""

    keys: dict[str, str] = field(default_factory=lambda: {"secret": "shop", "secret2": "printers"})
    networks: dict[str, str] = field(default_factory=lambda: {"shop": "shop", "printers": "printers"})
    default_domain: str | None = None
    suspects: dict[str, str] = field(default_factory=dict)  # recipients that are looked up, and where that fails
    failures: dict[str, Exception] = field(default_factory=dict)
    begun: list[Message] = field(default_factory=list)
    logins: list[tuple[str, str, str]] = field(default_factory=list)
    finishing: asyncio.Event = field(default_factory=asyncio.Event)  # a commit has begun
    may_finish: asyncio.Event | None = None  # what a commit waits for

    @property
    def accepted(self) -> list[Message]:
        return [message for message in self.begun if message.finished]

    def authenticate(self, login: str, password: str, peer: str) -> str:
        self.fail("authenticate")
        self.logins.append((login, password, peer))
        if password not in self.keys:
            raise Refused(Reason.AUTHENTICATION_REQUIRED, "no such key")
        return self.keys[password]

    def network_principal(self, key_name: str) -> str:
        if key_name not in self.networks:
            raise Refused(Reason.AUTHENTICATION_REQUIRED, "no such key")
        return self.networks[key_name]

    def check_sender(self, principal: str, address: str, peer: str) -> str:
        self.fail(address)
        return self.qualified(address)

    def check_recipient(self, principal: str, address: str, peer: str) -> str:
        self.fail(address)
        return self.qualified(address)

    def qualified(self, address: str) -> str:
        if not address or "@" in address.rpartition('"')[2]:
            return address
        if self.default_domain is None:
            raise Refused(Reason.UNQUALIFIED, "no domain")
        return f"{address}@{self.default_domain}"

    def is_suspect(self, principal: str, address: str) -> bool:
        return address in self.suspects

    async def judge_recipient(self, principal: str, address: str, peer: str) -> None:
        self.fail(self.suspects[address])

    def begin(self, principal: str, envelope: SmtpEnvelope) -> "FakeReceiving":
        self.fail("begin")
        message = Message(principal, envelope)
        self.begun.append(message)
        return FakeReceiving(self, message)

    def fail(self, where: str) -> None:
        if where in self.failures:
            raise self.failures[where]


@dataclass(slots=True)
class FakeReceiving:
    door: FakeDoor
    message: Message

    async def add(self, data: bytes) -> None:
        self.door.fail("add")
        self.message.pieces.append(data)

    async def finish(self, last: bytes) -> str:
        self.door.finishing.set()
        if self.door.may_finish is not None:
            await self.door.may_finish.wait()
        self.door.fail("finish")
        self.message.pieces.append(last)
        self.message.finished = True
        return f"eml_{len(self.door.accepted)}"
