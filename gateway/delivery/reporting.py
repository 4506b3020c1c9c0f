"""Telling submitters: what the store wants told becomes delivery status notifications, queued as mail of their own.

Guarantees: one notification for each message and kind (failure, delay, success), for all recipients that came to it
within a few seconds; it is accepted in the transaction that forgets what it tells, so none is lost and none sent
twice. It goes out on the key's route from `<>`, so nobody is ever told of it, and after all other mail; where the mode
of the key sends no mail to this sender, it stays here. A sender gets a bounded number of them, whatever its mail comes
to: what is beyond stands in the mail log and the events. A store that is away is waited for; a report that cannot be
composed is logged and forgotten. Limits of the key do not count here, and no delivery waits for this.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.config import CAPTURED, Config
from gateway.delivery import notice
from gateway.errors import StoreError
from gateway.intake.figures import IntakeFigures
from gateway.keyterms import Limit, Unit
from gateway.message import composing, dsn, model, notify, priority
from gateway.message.dsn import words
from gateway.message.model import Facts
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.policy.limits import Buckets
from gateway.runtime import Clock, IdSource, Supervisor, run, show_id, show_uuid, uuid7
from gateway.store.newmail import NewMessage, NewRecipient
from gateway.store.queue import Queue, Report, Told

GATHER_S: Final = 2.0  # recipients that fail together are told together
LOOK_S: Final = 2.0  # a look at what is empty costs one search of an index
WRITE_RETRY_S: Final = 5.0
REPORTS_AT_ONCE: Final = 20  # prepared and written in one group commit
# Of one kind to one sender: a list of bad addresses, one message each, must not fill the mailbox of who sent it.
NOTICES: Final = Limit(Unit.MESSAGES, count=200, period_s=3600, burst=200)
_IN_THREAD: Final = 50  # more recipients than these are composed in a thread: 1,000 take some 50 ms

log = logging.getLogger("gateway.delivery")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A report, or the part of it that is of one kind, and the notification that tells it, if any does."""

    report: Report
    kind: int = 0
    notice: NewMessage | None = None


class Reporter:
    """Looks for what is to be told, until its task is cancelled."""

    def __init__(
        self,
        config: Config,
        queue: Queue,
        *,
        clock: Clock,
        ids: IdSource,
        log: MailLog,
        notices: Limit = NOTICES,
        figures: IntakeFigures | None = None,
        route_of: Callable[[str, str], str | None] = lambda _key, _to: None,
    ) -> None:
        """`notices` bounds those of one kind to one sender of an account; `route_of` says where the mail of a key of
        that name to an address goes now, None where there is no such key."""
        self._config = config
        self._queue = queue
        self._clock = clock
        self._ids = ids
        self._log = log
        self._senders = Buckets(notices, clock)
        self._figures = figures or IntakeFigures(Metrics())
        self._route_of = route_of
        self._kicked = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        supervisor.start(self._run(), name="reporter", critical=True)

    def reconfigure(self, config: Config) -> None:
        """For the notifications to come."""
        self._config = config

    def kick(self) -> None:
        """Look now."""
        self._kicked.set()

    async def tell(self) -> None:
        """Tell all that has waited long enough for company. Raises StoreError."""
        while True:
            before = self._clock.now_ms() - int(GATHER_S * 1000)
            reports = await self._queue.reports(before, REPORTS_AT_ONCE)
            if reports:
                await self._accept([part for report in reports for part in await self._prepare(report)])
            if len(reports) < REPORTS_AT_ONCE:
                return

    async def _run(self) -> None:
        while True:
            self._kicked.clear()
            pause_s = LOOK_S
            try:
                await self.tell()
            except StoreError as error:
                log.error("notifications wait for the store: %s", error)  # noqa: TRY400 - the cause is in the text
                pause_s = WRITE_RETRY_S
            except Exception:  # the root of this task: mail goes on, whatever is wrong with what tells of it
                log.exception("notifications cannot be made")
                pause_s = WRITE_RETRY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._kicked.wait(), pause_s)

    async def _accept(self, prepared: Sequence[_Prepared]) -> None:
        """Into the queue; what cannot be written is prepared anew the next time. Raises StoreError."""
        calls = [self._queue.report(one.report, (one.notice,) if one.notice else ()) for one in prepared]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for one, outcome in zip(prepared, outcomes, strict=True):
            if outcome is None:
                if one.notice is not None:
                    self._figures.accepted(one.notice.door, len(one.notice.recipients), one.notice.facts.size)
                self._log_told(one)
            elif one.notice is not None:
                self._senders.give_back(_subject(one.report, one.kind))
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    # One report

    async def _prepare(self, report: Report) -> list[_Prepared]:
        """Each kind for itself: the events of a recipient name the notification it was told in. Without one where
        nothing is left to tell, or nothing may be told."""
        groups = notice.by_kind(report) if report.envelope_sender else {}
        allowed = {kind: told for kind, told in groups.items() if self._senders.take(_subject(report, kind)) == 0}
        try:
            header, body = await self._quoted(report, allowed) if allowed else (b"", None)
            notices = {kind: await self._notice(report, kind, told, header, body) for kind, told in allowed.items()}
        except Exception:  # whatever it is, it costs this report and no other, and not for ever
            log.exception("what became of %s cannot be told to its sender", show_id("eml_", report.uuid))
            return [_Prepared(report)]
        parts = [_Prepared(_part(report, told), kind, notices.get(kind)) for kind, told in groups.items()]
        left = {(one.recipient, one.kind) for one in report.recipients}
        left -= {(one.recipient, one.kind) for part in parts for one in part.report.recipients}
        if left:  # a delay of what has ended meanwhile
            parts.append(
                _Prepared(_part(report, [one for one in report.recipients if (one.recipient, one.kind) in left]))
            )
        return parts

    async def _quoted(self, report: Report, kinds: Mapping[int, object]) -> tuple[bytes, bytes | None]:
        """Header and, where it is wanted and small, body of the message. Without its content both are nothing: what
        became of it must be told all the same."""
        facts = report.facts
        try:
            first = await self._queue.piece(report.message, 0)
            header = first[: facts.header_size]
            # RFC 3461, 4.3: FULL is for failures only.
            if report.ret.upper() != "FULL" or notify.FAILURE not in kinds or facts.size > dsn.FULL_BYTES:
                return header, None
            others = [await self._queue.piece(report.message, index) for index in range(1, report.piece_count)]
        except StoreError as error:
            log.warning("%s cannot be quoted to its sender: %s", show_id("eml_", report.uuid), error)
            return b"", None
        return header, first[facts.header_size :] + b"".join(others)

    async def _notice(
        self, report: Report, kind: int, told: Sequence[Told], header: bytes, body: bytes | None
    ) -> NewMessage:
        described = notice.describe(
            report,
            told,
            hostname=self._config.hostname,
            header=header,
            body=body if kind == notify.FAILURE else None,
        )
        now_ms = self._clock.now_ms()
        uuid = uuid7(now_ms)
        message_id = f"{show_uuid(uuid)}@{self._config.hostname}"
        date, seed = datetime.fromtimestamp(now_ms / 1000, tz=UTC), os.urandom(12)

        def compose() -> tuple[tuple[bytes, ...], Facts]:
            content = dsn.compose(described, message_id=message_id, date=date, seed=seed)
            return tuple(composing.pieces(content)), notice.facts_of(content)

        pieces, facts = await run(compose, apart=len(told) > _IN_THREAD)
        # The mail's own may be one that an operator redirected it to, good for its recipients only.
        route = self._route_of(report.key, report.envelope_sender)
        if route != CAPTURED and route not in self._config.routes:
            route = report.route
        domain = notice.queue_domain(self._config.routes.get(route), report.envelope_sender)
        return NewMessage(
            id=self._ids.next(),
            uuid=uuid,
            account=report.account,
            key=report.key,
            route=route,
            door="dsn",
            envelope_sender="",  # RFC 3461, 6.1: a notification is never told of
            header_from=dsn.sender(self._config.hostname),
            subject=words.subject(described),
            message_id=message_id,
            facts=facts,
            tags="[]",
            metadata="{}",
            client="",
            created_at=now_ms,
            expires_at=now_ms + int(self._config.delivery.expire_after_s * 1000),
            priority=priority.LOW,
            recipients=(NewRecipient(self._ids.next(), report.envelope_sender, domain),),
            pieces=tuple(enumerate(pieces)),
            piece_count=len(pieces),
            tls_wish=model.TLS_REQUIRED if report.tls_wish == model.TLS_REQUIRED else model.BY_POLICY,  # RFC 8689, 5
        )

    # The mail log

    def _log_told(self, one: _Prepared) -> None:
        if self._log.enabled and one.kind:
            self._log.reported(
                message=show_id("eml_", one.report.uuid),
                notice=show_id("eml_", one.notice.uuid) if one.notice else "",
                key=one.report.key,
                to=one.report.envelope_sender,
                kind=notify.NAMES[one.kind],
                recipients=[told.address for told in one.report.recipients],
                note="" if one.notice else "this sender has had too many notifications",
            )


def _part(report: Report, told: Sequence[Told]) -> Report:
    return dataclasses.replace(report, recipients=tuple(told))


def _subject(report: Report, kind: int) -> str:
    """Whom the limit is for."""
    return f"{report.account}\0{report.envelope_sender}\0{kind}"
