"""Intake over a real store, as tests of it want it."""

import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config import CaptureRoute, Config, Delivery, Limits, MxRoute, RelayRoute, Signing
from gateway.errors import Reason, Refused
from gateway.intake import Intake, Receipt
from gateway.intake.figures import IntakeFigures
from gateway.message.model import Facts, Mailbox, SmtpEnvelope, Submission
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.policy.auth import Principal
from gateway.policy.domains import Domains
from gateway.policy.limits import Limiter
from gateway.policy.templates import Templates
from gateway.runtime import Clock, IdSource, read_id
from gateway.store.newmail import Accepted, Conflict, NewMessage, Replayed, RequestKey
from gateway.store.shown import MessageView
from gateway.store.sqlite import SqliteStore

NOW = 1_800_000_000_000
SHOP = Principal(
    name="shop",
    account="acme",
    route=None,
    senders=(),
    scopes=frozenset({"send", "read"}),
    default_from=None,
    expires_at=None,
)
ONLY_EXAMPLE = replace(SHOP, senders=("*@example.com",))
MAIL = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: Hi\r\n\r\nBody\r\n"


class Recorder:
    """The store, and what was given to it."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.enqueued: list[NewMessage] = []
        self.piece_sizes: list[int] = []
        self.pieces: list[tuple[int, int]] = []  # those stored before their message
        self.error: Exception | None = None  # what becomes of the next ones

    async def put_piece(self, message: int, index: int, data: bytes) -> None:
        self.piece_sizes.append(len(data))
        self.pieces.append((message, index))
        await self.store.put_piece(message, index, data)

    async def piece(self, message: int, index: int) -> bytes:
        return await self.store.piece(message, index)

    async def enqueue(self, message: NewMessage) -> Accepted | Conflict:
        self._note(message)
        return await self.store.enqueue(message)

    async def enqueue_all(
        self, messages: Sequence[NewMessage], request: RequestKey | None
    ) -> Sequence[Accepted | Conflict] | Replayed | Conflict:
        for message in messages:
            self._note(message)
        return await self.store.enqueue_all(messages, request)

    def _note(self, message: NewMessage) -> None:
        if self.error is not None:
            raise self.error
        self.enqueued.append(message)
        self.piece_sizes += [len(data) for _, data in message.pieces]


class Desk:
    """Intake with its store and its log."""

    def __init__(self, store: SqliteStore, config: Config) -> None:
        self.store = store
        self.queue = Recorder(store)
        self.log = io.StringIO()
        self.domains = Domains()
        clock = Clock(now_ms=lambda: NOW)
        self.metrics = Metrics()
        self.intake = Intake(
            config,
            self.queue,  # type: ignore[arg-type]  # intake asks for four of its verbs only
            self.domains,
            limiter=Limiter(clock),
            templates=Templates(store.records, config.templates),
            clock=clock,
            ids=IdSource(clock),
            log=MailLog(self.log),
            figures=IntakeFigures(self.metrics),
        )

    async def submit(self, submission: Submission, key: Principal = SHOP, idempotency: Any = None) -> Receipt:
        return await self.intake.submit(key, submission, idempotency=idempotency, client="192.0.2.7")

    async def receive(self, *pieces: bytes, key: Principal = SHOP, **envelope: Any) -> bytes:
        """Send pieces by SMTP; the uuid of the message."""
        receiving = self.intake.receive(key, sender_and_recipients(**envelope))
        for piece in pieces[:-1]:
            await receiving.add(piece)
        uuid = read_id("eml_", await receiving.finish(pieces[-1]))
        assert uuid is not None
        return uuid

    async def view(self, uuid: bytes) -> MessageView:
        view = await self.store.message(uuid, None)
        assert view is not None
        return view

    async def content(self, uuid: bytes) -> bytes:
        content = await self.store.content(uuid)
        assert content is not None
        return content

    async def header(self, uuid: bytes) -> bytes:
        return (await self.content(uuid)).partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def facts(self) -> Facts:
        return self.queue.enqueued[-1].facts

    async def refused(self, reason: Reason, what: Any) -> Refused:
        """It is refused for that reason, it is told whose it was, and no message is stored."""
        with pytest.raises(Refused) as refusal:
            await what
        assert refusal.value.reason is reason
        told = [line for line in self.log.getvalue().splitlines() if " refused " in line]
        assert len(told) == 1
        assert f"key=shop client=192.0.2.7 reason={reason.code} " in told[0]
        assert json.dumps(refusal.value.text).strip('"') in told[0]
        assert await self.store.counts() == []
        return refusal.value


def sender_and_recipients(
    sender: str = "a@example.com",
    to: Sequence[str] = ("b@example.net",),
    protocol: str = "ESMTPSA",
) -> SmtpEnvelope:
    return SmtpEnvelope(
        sender=sender,
        recipients=tuple(to),
        helo="client.example.com",
        peer="192.0.2.7",
        protocol=protocol,
        smtputf8=False,
        eight_bit=False,
    )


def boxes(*addresses: str) -> tuple[Mailbox, ...]:
    return tuple(Mailbox("", address) for address in addresses)


def letter(**changes: Any) -> Submission:
    plain = Submission(
        sender=Mailbox("", "a@example.com"),
        to=boxes("b@example.net"),
        cc=(),
        bcc=(),
        reply_to=(),
        subject="Hello",
        html=None,
        text="It works.\n",
        attachments=(),
        headers=(),
        tags=(),
        metadata="{}",
        return_path=None,
    )
    return replace(plain, **changes)


def config(tmp_path: Path, **changes: Any) -> Config:
    settings = Config(
        hostname="mail.example.org",
        data_dir=tmp_path,
        max_message=4_000_000,
        limits=Limits(recipients_per_message=5),
        routes={
            "direct": MxRoute("direct"),
            "relay": RelayRoute("relay", "localhost", 25, dkim=Signing.NONE),
            "inbox": CaptureRoute("inbox"),
        },
        delivery=Delivery(max_hops=3, expire_after_s=3600),
    )
    return replace(settings, **changes)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = await SqliteStore.open(tmp_path / "gateway.db", clock=Clock(now_ms=lambda: NOW))
    yield Desk(store, config(tmp_path))
    await store.close()
