"""Messages, results and a clock for the store's tests."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.events import BounceClass, EventType, Scope, State
from gateway.message.model import Facts
from gateway.runtime import Clock, IdSource, uuid7
from gateway.store.newmail import IdempotencyKey, NewMessage, NewRecipient
from gateway.store.queue import Attempt, Claimed, Queue, Result

START_MS = 1_800_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
LEASE_MS = 10 * MINUTE_MS
EVER = 1 << 60


@dataclass(slots=True)
class Now:
    """A clock that stands still until it is moved."""

    ms: int = START_MS
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(now_ms=lambda: self.ms)


class Post:
    """Makes messages with ids in the order of their making."""

    def __init__(self, now: Now) -> None:
        self.now = now
        self.ids = IdSource(now.clock)

    def message(
        self,
        *to: str,
        key: str = "shop",
        account: str = "acme",
        route: str = "direct",
        priority: int = 1,
        pieces: Sequence[tuple[int, bytes]] | None = None,
        piece_count: int = 1,
        idempotency: tuple[str, bytes] | None = None,
        lifetime_ms: int = 5 * DAY_MS,
        id_: int | None = None,
        subject: str = "Hello",
        send_at: int = 0,
        sender: str = "sender@example.org",
        notify: int = 0,
        at_most_once: bool = False,
    ) -> NewMessage:
        recipients = to or ("ann@example.com",)
        content = ((0, b"Subject: Hello\r\n\r\nBody\r\n"),) if pieces is None else tuple(pieces)
        size = sum(len(data) for _, data in content)
        at = self.now.ms
        return NewMessage(
            id=self.ids.next() if id_ is None else id_,
            uuid=uuid7(at),
            account=account,
            key=key,
            route=route,
            door="http",
            envelope_sender=sender,
            header_from="from@example.org",
            subject=subject,
            message_id="abc@example.org",
            facts=Facts(size, 18, b"h" * 32, eight_bit=True, utf8_header=False, dot_lines=True),
            tags='["a"]',
            metadata='{"order":1}',
            client="192.0.2.1",
            created_at=at,
            expires_at=at + lifetime_ms,
            priority=priority,
            recipients=tuple(
                NewRecipient(self.ids.next(), address, address.partition("@")[2], notify, f"rfc822;{address}")
                for address in recipients
            ),
            pieces=content,
            piece_count=piece_count,
            idempotency=IdempotencyKey(account, idempotency[0], hashlib.sha256(idempotency[1]).digest())
            if idempotency
            else None,
            send_at=send_at,
            ret="HDRS",
            envid="QQ314159",
            at_most_once=at_most_once,
        )


async def destination(queue: Queue, domain: str = "example.com") -> int:
    """The number of a destination that is due."""
    return next(due.destination for due in await queue.due() if due.domain == domain)


async def claim_all(queue: Queue, until: int, *, limit: int = 1000) -> list[Claimed]:
    """Everything that is ready, one claim for each destination."""
    found: list[Claimed] = []
    for due in await queue.due():
        found += await queue.claim(due.destination, limit, until)
    return found


async def told(queue: Queue) -> list[tuple[str, int]]:
    """Whom something is to be told of, and what (message/notify.py)."""
    return [(one.address, one.kind) for report in await queue.reports(EVER, 100) for one in report.recipients]


def attempt(
    claimed: Claimed,
    state: State,
    *,
    at: int,
    next_at: int = 0,
    fence: int | None = None,
    reply: str = "250 ok",
) -> Attempt:
    """An attempt that ended alike for every recipient of a claimed message."""
    event = {
        State.DELIVERED: EventType.DELIVERED,
        State.BOUNCED: EventType.BOUNCED,
        State.FAILED: EventType.FAILED,
        State.DEFERRED: EventType.DEFERRED,
        State.CAPTURED: EventType.CAPTURED,
    }.get(state)
    bounced = state is State.BOUNCED
    return Attempt(
        message=claimed.message,
        uuid=claimed.uuid,
        destination=1,
        route="direct",
        started_at=at - 100,
        ended_at=at,
        results=tuple(
            Result(
                recipient=leased.id,
                fence=leased.fence if fence is None else fence,
                state=state,
                event=event,
                attempts=leased.attempts + (event is not None),
                to=leased.address,
                next_at=next_at,
                reply=reply if event is not None else "",
                bounce_class=BounceClass.INVALID_RECIPIENT if bounced else None,
                scope=Scope.RECIPIENT if bounced else None,
                stage="rcpt" if bounced else "dot",
                host="mx.example.com",
                address="192.0.2.25",
                tls="TLSv1.3",
            )
            for leased in claimed.recipients
        ),
    )
