"""A real listener on port 0 with a small real door behind it that records what it is given."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from gateway.api.server import HttpServer
from gateway.config import MB, Config, Http, HttpListener, Limits, Listen
from gateway.delivery.passthrough import NamedRelay, Passed
from gateway.delivery.waits import Outcome
from gateway.errors import Reason, Refused
from gateway.intake import BatchReceipt, Item, Receipt
from gateway.keyterms import Limit
from gateway.manage.mail import AccountMail
from gateway.message.model import Submission
from gateway.policy.auth import Principal
from gateway.policy.limits import Allowance
from gateway.runtime import Clock
from gateway.store.shown import MessageView
from gateway.store.sqlite import SqliteStore
from gateway.tokens import Tokens

UUID = bytes.fromhex("0192f0c1a2b37def8123456789abcdef")
SEND = "/api/v1/emails/send"
MAIL: dict[str, Any] = {"from": "shop@example.com", "to": "ann@example.org", "subject": "Hi", "text": "Hello"}


@dataclass(frozen=True, slots=True)
class Asked:
    principal: Principal
    submission: Submission
    idempotency: tuple[str, bytes] | None
    peer: str


@dataclass(frozen=True, slots=True)
class AskedForAll:
    principal: Principal
    items: Sequence[tuple[Submission, tuple[str, bytes] | None] | Refused]
    request: tuple[str, bytes] | None
    peer: str


def principal(name: str, *scopes: str, default_from: str | None = None, limits: tuple[Limit, ...] = ()) -> Principal:
    return Principal(
        name=name,
        account=f"{name}-account",
        route=None,
        senders=(),
        scopes=frozenset(scopes),
        default_from=default_from,
        expires_at=None,
        limits=limits,
    )


@dataclass(slots=True)
class RecordingDoor:
    """Keeps submissions; what it answers or raises is set by a test.

    A login that is the name of a key must be that key's own; `relays` are those that a request may name itself, and
    `passed` is what comes of it; `waited` is what an `outcome` gives.
    """

    keys: dict[str, Principal]
    asked: list[Asked] = field(default_factory=list)
    asked_for_all: list[AskedForAll] = field(default_factory=list)
    left: tuple[Allowance, ...] = ()
    templates: Any = None
    mail: Any = None
    store: SqliteStore | None = None  # whose messages `status` shows, in place of `messages`
    webhooks: Any = None
    suppressions: Any = None
    waits: list[float] = field(default_factory=list)
    waited: Outcome | None = None
    relays: frozenset[tuple[str, int | None]] = frozenset()
    named: list[tuple[NamedRelay, Submission, str]] = field(default_factory=list)
    passed: Passed | None = None
    messages: dict[tuple[str, bytes], MessageView] = field(default_factory=dict)
    status_word: str = "queued"
    replayed: bool = False
    error: Exception | None = None
    unready: str | None = None
    refusals: list[tuple[str, str, str, str]] = field(default_factory=list)  # key, reason, text, peer
    guess_error: Refused | None = None  # what a wrong key is answered
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None

    def authenticate(self, secret: str, peer: str, *, login: str | None = None) -> Principal:
        if secret not in self.keys or (login != secret and login in self.keys):
            if self.guess_error is not None:
                raise self.guess_error
            raise Refused(Reason.AUTHENTICATION_REQUIRED, f"no {len(secret)} characters known from {peer}")
        return self.keys[secret]

    def refused(self, principal: Principal, reason: str, text: str, *, peer: str) -> None:
        self.refusals.append((principal.name, reason, text, peer))

    async def submit(
        self,
        principal: Principal,
        submission: Submission,
        *,
        idempotency: tuple[str, bytes] | None,
        peer: str,
    ) -> Receipt:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.asked.append(Asked(principal, submission, idempotency, peer))
        return Receipt(UUID, self.status_word, self.replayed)

    async def submit_all(
        self,
        principal: Principal,
        items: Sequence[tuple[Submission, tuple[str, bytes] | None] | Refused],
        *,
        request: tuple[str, bytes] | None,
        peer: str,
    ) -> BatchReceipt:
        if self.error is not None:
            raise self.error
        self.asked_for_all.append(AskedForAll(principal, items, request, peer))
        results = [
            Item(None, item) if isinstance(item, Refused) else Item(self._receipt_of(index), None)
            for index, item in enumerate(items)
        ]
        return BatchReceipt(tuple(results), replayed=self.replayed)

    def _receipt_of(self, index: int) -> Receipt:
        return Receipt(UUID[:-2] + index.to_bytes(2, "big"), self.status_word, self.replayed)

    async def outcome(self, principal: Principal, uuid: bytes, wait_s: float) -> Outcome | None:
        self.waits.append(wait_s)
        return self.waited

    def allowances(self, principal: Principal) -> tuple[Allowance, ...]:
        return self.left

    def passes_through(self, host: str, port: int | None, peer: str) -> bool:
        return (host, port) in self.relays

    async def pass_through(self, relay: NamedRelay, submission: Submission, *, peer: str) -> Passed:
        if self.error is not None:
            raise self.error
        self.named.append((relay, submission, peer))
        assert self.passed is not None
        return self.passed

    async def status(self, principal: Principal, uuid: bytes) -> MessageView | None:
        if self.error is not None:
            raise self.error
        if self.store is not None:
            return await self.store.message(uuid, principal.account)
        return self.messages.get((principal.account, uuid))

    def ready(self) -> str | None:
        return self.unready


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One HTTP/1.1 connection, by hand: nothing between the test and the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, server: HttpServer, index: int = 0, **options: Any) -> Self:
        at = server.addresses[index]
        return cls(*await asyncio.open_connection(at.host, at.port, **options))

    def write(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        fields = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def read(self, *, head_only: bool = False) -> Reply:
        async with asyncio.timeout(10):
            raw = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = raw.decode("ascii").split("\r\n")[:-2]
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
            length = 0 if head_only else int(headers["content-length"])
            return Reply(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def at_end(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read(1) == b""

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@dataclass(slots=True)
class Api:
    """A started server, its door, and requests on fresh connections."""

    server: HttpServer
    door: RecordingDoor

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: str | None = "full",
        **headers: str,
    ) -> Reply:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            given.setdefault("Authorization", f"Bearer {key}")
        client = await Client.connect(self.server)
        try:
            client.write(method, path, body, given)
            return await client.read(head_only=method == "HEAD")
        finally:
            await client.close()

    async def send(self, document: Any, *, key: str | None = "full", **headers: str) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers.setdefault("Content_Type", "application/json")
        return await self.call("POST", SEND, body, key=key, **headers)


Start = Callable[..., Awaitable[Api]]


@pytest.fixture
def config() -> Config:
    return Config(
        hostname="mail.example.com",
        max_message=1 * MB,
        http=Http((HttpListener(Listen("127.0.0.1", 0)),)),
        limits=Limits(recipients_per_message=5, attachments=3),
    )


@pytest.fixture
async def start(config: Config) -> AsyncIterator[Start]:
    started: list[Api] = []

    async def begin(given: Config = config, **options: Any) -> Api:
        door = RecordingDoor(
            {
                "full": principal("full", "send", "read"),
                "reader": principal("reader", "read"),
                "sender": principal("sender", "send", default_from="default@example.com"),
                "manager": principal("manager", "send", "read", "manage"),
            }
        )
        api = Api(HttpServer(given, door, **options), door)
        await api.server.start()
        started.append(api)
        return api

    yield begin
    for api in started:
        if api.door.gate is not None:
            api.door.gate.set()
        await api.server.stop(2)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "queue.db")
    yield opened
    await opened.close()


@pytest.fixture
async def mailing(api: Api, store: SqliteStore) -> Api:
    """With a store behind it, in which accounts have their mail."""
    api.door.store = store
    api.door.mail = AccountMail(store, Tokens(bytes(32)), Clock())
    return api


@pytest.fixture
async def api(start: Start) -> Api:
    return await start()
