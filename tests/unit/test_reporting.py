"""The reporter over a real store, with a clock that is moved by hand: who is told what, when and how often."""

import email
import io
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from flufl.bounce import all_failures
from msgspec.structs import replace

from gateway.config import CAPTURED, Config, Delivery, MxRoute, RelayRoute, Route
from gateway.delivery import reporting
from gateway.delivery.reporting import Reporter
from gateway.events import BounceClass, EventType, Scope, State
from gateway.keyterms import Limit, Unit
from gateway.message import dsn, model, notify, priority
from gateway.message.model import Facts
from gateway.observe import MailLog
from gateway.runtime import Clock, IdSource, show_id, uuid7
from gateway.store.newmail import NewMessage, NewRecipient
from gateway.store.queue import Attempt, Claimed, Heard, Leased, Result
from gateway.store.shown import Filter, Order, Verb
from gateway.store.sqlite import SqliteStore

START_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
HEADER = b"From: ann@example.com\r\nSubject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\n"
BODY = b"Body\r\n"
FACTS = Facts(len(HEADER + BODY), len(HEADER), b"h" * 32, eight_bit=False, utf8_header=False, dot_lines=False)
ROUTES: dict[str, Route] = {"direct": MxRoute("direct"), "relay": RelayRoute("relay", "localhost", 25)}
THREE = Limit(Unit.MESSAGES, count=3, period_s=3600, burst=3)
CONFIG = Config(hostname="gateway.example.org", routes=ROUTES, delivery=Delivery(expire_after_s=3600))

Outcome = tuple[State, str]
REFUSED: Outcome = (State.BOUNCED, "550 5.1.1 no such user")
DEFERRED: Outcome = (State.DEFERRED, "451 4.3.0 later")
DELIVERED: Outcome = (State.DELIVERED, "250 2.0.0 ok")


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = START_MS
        self.clock = Clock(now_ms=lambda: self.ms, monotonic=lambda: self.ms / 1000)


class Desk:
    """A store with a reporter that is asked by hand."""

    def __init__(self, store: SqliteStore, time: Time) -> None:
        self.store = store
        self.time = time
        self.ids = IdSource(time.clock)
        self.log = io.StringIO()
        self.reporter = Reporter(CONFIG, store, clock=time.clock, ids=self.ids, log=MailLog(self.log))

    async def send(self, *to: str, asked: int = notify.BY_SMTP, **changes: Any) -> NewMessage:
        message = NewMessage(
            id=self.ids.next(),
            uuid=uuid7(self.time.ms),
            account="acme",
            key="shop",
            route="direct",
            door="smtp",
            envelope_sender="ann@example.com",
            header_from="ann@example.com",
            subject="Hello",
            message_id="1@example.com",
            facts=FACTS,
            tags="[]",
            metadata="{}",
            client="192.0.2.1",
            created_at=self.time.ms,
            expires_at=self.time.ms + 120 * HOUR_MS,
            priority=1,
            recipients=tuple(NewRecipient(self.ids.next(), one, one.partition("@")[2], asked) for one in to),
            pieces=((0, HEADER + BODY),),
            piece_count=1,
        )
        message = replace(message, **changes)
        await self.store.enqueue(message)
        return message

    async def settle(self, outcome: Outcome, others: dict[str, Outcome] | None = None, **more: Any) -> None:
        """Try all that is ready: every recipient comes to `outcome`, but `others` by address."""
        await self.store.promote(self.time.ms)
        for claimed in await self.claim():
            results = [
                replace(self._result(leased, *(others or {}).get(leased.address, outcome)), **more)
                for leased in claimed.recipients
            ]
            now = self.time.ms
            await self.store.settle([Attempt(claimed.message, claimed.uuid, 1, "direct", now, now, tuple(results))])

    def _result(self, leased: Leased, state: State, reply: str) -> Result:
        good = state is State.DELIVERED
        return Result(
            leased.id,
            leased.fence,
            state,
            EventType(state.value),
            attempts=leased.attempts + 1,
            to=leased.address,
            next_at=self.time.ms + HOUR_MS if state is State.DEFERRED else 0,
            reply=reply,
            bounce_class=None if good else BounceClass.INVALID_RECIPIENT,
            scope=None if good else Scope.RECIPIENT,
            stage="rcpt",
            host="mx.example.net",
            address="192.0.2.25",
        )

    async def claim(self) -> list[Claimed]:
        found: list[Claimed] = []
        for due in await self.store.due():
            found += await self.store.claim(due.destination, 10_000, self.time.ms + 100 * HOUR_MS)
        return found

    async def notices(self) -> list[Claimed]:
        """What the reporter adds to the queue once the time to gather is over; it is in hand then."""
        self.time.ms += int(reporting.GATHER_S * 1000) + 1
        await self.reporter.tell()
        return await self.claim()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    time = Time()
    store = await SqliteStore.open(tmp_path / "gateway.db", clock=time.clock)
    yield Desk(store, time)
    await store.close()


@pytest.mark.parametrize(
    ("of_key", "route"), [("direct", "direct"), (None, "relay"), ("gone", "relay"), (CAPTURED, CAPTURED)]
)
async def test_of_redirected_mail_it_goes_by_the_route_of_the_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, of_key: str | None, route: str
) -> None:
    """Where there is such a key, and such a route: else by that of the mail."""
    monkeypatch.setattr(desk.reporter, "_route_of", lambda _key, _to: of_key)
    await desk.send("bob@partner.example")
    order = Order(Verb.REDIRECT, route="relay")
    assert await desk.store.operate(Filter(), order, desk.time.ms) == 1
    await desk.settle(REFUSED)
    desk.time.ms += int(reporting.GATHER_S * 1000) + 1
    await desk.reporter.tell()
    assert [due.route for due in await desk.store.due()] == [route]


def read(notice: Claimed | NewMessage) -> Message:
    content = notice.content if isinstance(notice, Claimed) else b"".join(data for _, data in notice.pieces)
    assert content is not None
    return email.message_from_bytes(content)


def told_of(notice: Claimed | NewMessage) -> dict[str, str]:
    """Action by recipient, of message/delivery-status."""
    blocks = [part for part in read(notice).walk() if part["Final-Recipient"]]
    return {str(block["Final-Recipient"]).partition("; ")[2]: str(block["Action"]) for block in blocks}


def kinds_of_parts(notice: Claimed) -> list[str]:
    payload = read(notice).get_payload()
    assert isinstance(payload, list)
    return [part.get_content_type() for part in payload if isinstance(part, Message)]


# Whom is told what


async def test_only_failures_are_told_and_once(desk: Desk) -> None:
    """D9: of a hundred recipients, those that were refused stand in one notification."""
    outcomes = (DELIVERED, DEFERRED, REFUSED)
    everybody = {f"u{i}@example.net": outcomes[i % 3] for i in range(100)}
    await desk.send(*everybody)
    await desk.settle(DELIVERED, everybody)
    (notice,) = await desk.notices()
    refused = {one: "failed" for one, outcome in everybody.items() if outcome is REFUSED}
    assert told_of(notice) == refused
    assert all_failures(read(notice)) == (frozenset(), frozenset(one.encode() for one in refused))
    assert await desk.notices() == []


async def test_a_notice_is_mail_from_nobody_on_the_route_of_the_key(desk: Desk) -> None:
    original = await desk.send("bob@example.net", priority=0)
    await desk.settle(REFUSED)
    (notice,) = await desk.notices()
    assert notice.envelope_sender == ""
    assert [one.address for one in notice.recipients] == ["ann@example.com"]
    assert [one.notify for one in notice.recipients] == [0]
    assert (notice.account, notice.key, notice.priority) == ("acme", "shop", priority.LOW)
    assert notice.header_from == "MAILER-DAEMON@gateway.example.org"
    assert notice.expires_at == notice.created_at + 3600 * 1000
    assert read(notice)["In-Reply-To"] == "<1@example.com>"
    assert read(notice)["Message-ID"] == f"<{notice.message_id}>"
    view = await desk.store.message(notice.uuid, None)
    assert view is not None
    assert (view.door, view.recipients[0].route, view.recipients[0].domain) == ("dsn", "direct", "example.com")
    events = await desk.store.events(original.uuid)
    assert [event.type for event in events][-1] is EventType.REPORTED
    assert show_id("eml_", notice.uuid) in events[-1].data


async def test_a_relay_has_one_lane(desk: Desk) -> None:
    recipient = NewRecipient(desk.ids.next(), "bob@example.net", "", notify.FAILURE)
    await desk.send(route="relay", recipients=(recipient,))
    await desk.settle(REFUSED)
    (notice,) = await desk.notices()
    view = await desk.store.message(notice.uuid, None)
    assert view is not None
    assert (view.recipients[0].route, view.recipients[0].domain) == ("relay", "")


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        (notify.BY_HTTP, REFUSED),
        (notify.ASKED, REFUSED),  # NOTIFY=NEVER
        (notify.ASKED | notify.SUCCESS, REFUSED),
        (notify.BY_SMTP, DELIVERED),
    ],
)
async def test_who_did_not_ask_is_not_told(desk: Desk, asked: int, outcome: Outcome) -> None:
    await desk.send("bob@example.net", asked=asked)
    await desk.settle(outcome)
    assert await desk.notices() == []


async def test_the_null_sender_is_never_told(desk: Desk) -> None:
    """Trap 10, and RFC 5321, 6.1: no notification of a notification."""
    await desk.send("bob@example.net", envelope_sender="")
    await desk.send("bob@example.net")
    await desk.settle(REFUSED)
    (notice,) = await desk.notices()
    assert notice.recipients[0].address == "ann@example.com"
    leased = notice.recipients[0]
    refused = desk._result(leased, *REFUSED)
    await desk.store.settle([Attempt(notice.message, notice.uuid, 1, "direct", 0, desk.time.ms, (refused,))])
    assert await desk.notices() == []


async def test_a_success_is_told_unless_the_next_host_does(desk: Desk) -> None:
    await desk.send("bob@example.net", asked=notify.ASKED | notify.SUCCESS)
    await desk.settle(DELIVERED)
    (notice,) = await desk.notices()
    assert told_of(notice) == {"bob@example.net": "relayed"}
    assert read(notice)["Subject"] == "Mail was delivered"
    await desk.send("carol@example.net", asked=notify.ASKED | notify.SUCCESS)
    await desk.settle(DELIVERED, dsn_passed=True)
    assert await desk.notices() == []


async def test_a_success_is_not_told_of_what_bounced_right_behind_it(desk: Desk) -> None:
    message = await desk.send("bob@example.net", asked=notify.ASKED | notify.SUCCESS | notify.FAILURE)
    await desk.settle(DELIVERED)
    bounce = Heard(message.id, 0, EventType.BOUNCED, desk.time.ms, reply=REFUSED[1])
    assert await desk.store.settle_late([bounce]) == [True]
    (notice,) = await desk.notices()
    assert told_of(notice) == {"bob@example.net": "failed"}
    assert await desk.notices() == []


async def test_a_delay_is_told_once_after_four_hours(desk: Desk) -> None:
    await desk.send("bob@example.net")
    notices = []
    for _ in range(12):
        await desk.settle(DEFERRED)
        notices += await desk.notices()
        desk.time.ms += HOUR_MS
    (notice,) = notices
    assert told_of(notice) == {"bob@example.net": "delayed"}
    assert 4 * HOUR_MS <= notice.created_at - START_MS < 5.1 * HOUR_MS
    assert b"Will-Retry-Until: Wed, 20 Jan 2027 08:00:00 +0000\r\n" in (notice.content or b"")


async def test_a_failure_after_a_delay_is_told_too(desk: Desk) -> None:
    await desk.send("bob@example.net")
    await desk.settle(DEFERRED)
    desk.time.ms += 5 * HOUR_MS
    await desk.settle(DEFERRED)
    desk.time.ms += 2 * HOUR_MS
    await desk.settle(REFUSED)
    (notice,) = await desk.notices()  # the delay was not told yet: it is no news any more
    assert told_of(notice) == {"bob@example.net": "failed"}


async def test_what_expires_is_told_with_the_last_reply(desk: Desk) -> None:
    await desk.send("bob@example.net", asked=notify.FAILURE)
    await desk.settle(DEFERRED)
    desk.time.ms += 121 * HOUR_MS
    assert await desk.store.expire(desk.time.ms) == 1
    (notice,) = await desk.notices()
    content = (notice.content or b"").decode()
    assert told_of(notice) == {"bob@example.net": "failed"}
    assert "\r\nStatus: 4.4.7\r\n" in content
    assert "\r\nDiagnostic-Code: smtp; 451 4.3.0 later\r\n" in content
    assert "no more attempts are made" in content


async def test_recipients_that_fail_together_are_told_together(desk: Desk) -> None:
    await desk.send("bob@example.net", "carol@example.org")
    began = desk.time.ms
    await desk.settle(REFUSED, {"carol@example.org": DEFERRED}, next_at=began + 500)
    desk.time.ms = began + 1000
    await desk.reporter.tell()
    assert not await desk.store.due()  # not yet
    await desk.settle(REFUSED)
    desk.time.ms = began + int(reporting.GATHER_S * 1000) + 1
    await desk.reporter.tell()
    (notice,) = await desk.claim()
    assert told_of(notice) == {"bob@example.net": "failed", "carol@example.org": "failed"}


# What is quoted


@pytest.mark.parametrize(
    ("ret", "content_type"),
    [("", "text/rfc822-headers"), ("HDRS", "text/rfc822-headers"), ("FULL", "message/rfc822")],
)
async def test_ret(desk: Desk, ret: str, content_type: str) -> None:
    await desk.send("bob@example.net", ret=ret, envid="QQ+2B1")
    await desk.settle(REFUSED)
    (notice,) = await desk.notices()
    assert kinds_of_parts(notice) == ["text/plain", "message/delivery-status", content_type]
    assert (HEADER + BODY in (notice.content or b"")) is (ret == "FULL")
    assert b"\r\nOriginal-Envelope-Id: QQ+1\r\n" in (notice.content or b"")


async def test_a_delay_and_a_success_never_quote_the_body(desk: Desk) -> None:
    """RFC 3461, 4.3: RET is about failures."""
    await desk.send("bob@example.net", ret="FULL", asked=notify.ASKED | notify.SUCCESS)
    await desk.settle(DELIVERED)
    (notice,) = await desk.notices()
    assert kinds_of_parts(notice)[2] == "text/rfc822-headers"


@pytest.mark.parametrize(("over", "content_type"), [(0, "message/rfc822"), (1, "text/rfc822-headers")])
async def test_a_message_of_several_pieces_is_quoted_up_to_50_kb(desk: Desk, over: int, content_type: str) -> None:
    rest = (b"x" * 98 + b"\r\n") * 500
    rest = rest[-(dsn.FULL_BYTES + over - len(HEADER + BODY)) :]
    size = len(HEADER + BODY + rest)
    await desk.send(
        "bob@example.net",
        ret="FULL",
        pieces=((0, HEADER + BODY), (1, rest)),
        piece_count=2,
        facts=replace(FACTS, size=size),
    )
    await desk.settle(REFUSED)
    (notice,) = await desk.notices()
    view = await desk.store.content(notice.uuid)
    assert view is not None
    assert (HEADER + BODY + rest in view) is (over == 0)
    assert content_type.encode() in view


# How much


async def test_a_kind_that_is_withheld_is_not_called_told(desk: Desk) -> None:
    """Successes are used up, failures are not: the message with both tells its failure alone."""
    asked = notify.ASKED | notify.SUCCESS | notify.FAILURE
    desk.reporter = Reporter(
        CONFIG, desk.store, clock=desk.time.clock, ids=desk.ids, log=MailLog(desk.log), notices=THREE
    )
    for _ in range(THREE.burst):
        await desk.send("bob@example.net", asked=asked)
    await desk.settle(DELIVERED)
    assert len(await desk.notices()) == THREE.burst
    both = await desk.send("bob@example.net", "gone@example.net", asked=asked)
    await desk.settle(DELIVERED, {"gone@example.net": REFUSED})
    (notice,) = await desk.notices()
    assert told_of(notice) == {"gone@example.net": "failed"}
    assert await desk.notices() == []
    reported = [event for event in await desk.store.events(both.uuid) if event.type is EventType.REPORTED]
    assert [event.recipient for event in reported] == ["gone@example.net"]
    assert desk.log.getvalue().count("kind=success recipients=bob@example.net note=") == 1


@pytest.mark.parametrize("wish", [model.BY_POLICY, model.TLS_REQUIRED, model.TLS_OPTIONAL])
async def test_a_notification_travels_as_safely_as_what_it_tells_of(desk: Desk, wish: int) -> None:
    await desk.send("gone@example.net", tls_wish=wish)  # RFC 8689, 5
    await desk.settle(REFUSED)
    (notice,) = await desk.notices()
    assert notice.tls_wish == (model.TLS_REQUIRED if wish == model.TLS_REQUIRED else model.BY_POLICY)
