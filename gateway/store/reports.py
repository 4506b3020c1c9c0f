"""What a submitter is to be told of recipients (RFC 3461): noted as it happens, forgotten once it is told.

Guarantees: what is to be told is written in the transaction of the state that it tells, and goes in the one that
accepts the notification: it is told once, whatever dies between. A delay is told once, and no more where the recipient
ended before. Mail of the null sender has nothing to tell (RFC 5321, 6.1). Nothing here writes a notification: who
asks for the reports does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.events import EventType, State
from gateway.message import notify
from gateway.runtime import Clock, id_at, show_id
from gateway.store import flags
from gateway.store.db import Cursor, Row, Statements, Transaction
from gateway.store.names import Counter
from gateway.store.newmail import NewMessage
from gateway.store.queue import Report, Told

if TYPE_CHECKING:
    from gateway.store.acceptance import Acceptance  # it notes what ends, and that is told by what is here

# Greylisting and a restart of the other side are over by then, and there is still time for another way.
DELAY_AFTER_MS: Final = 4 * 3600 * 1000
ASKED_BITS: Final = 15  # of recipient.notify: the sum that came with the recipient
PART_ROWS: Final = 1000  # told of one message at a time: about 1 ms of the writer

_START: Final = (-(1 << 63), 0)  # before all (at, message)
_DELAY_NOTED: Final = 16  # in recipient.notify
_ENDS: Final = {
    State.DELIVERED: notify.SUCCESS,
    State.BOUNCED: notify.FAILURE,
    State.FAILED: notify.FAILURE,
    State.SUPPRESSED: notify.FAILURE,
}


def to_tell(asked: int, sender: str) -> int:
    """What may have to be told of a recipient, of its column `notify`; a lease holds it."""
    if not sender:
        return 0
    return asked & ~notify.DELAY if asked & _DELAY_NOTED else asked


@dataclass(slots=True)
class Noted:
    """What one group of the writer adds to the reports, and takes back."""

    told: list[Row] = field(default_factory=list)
    moot: list[Row] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)

    def end(self, message: int, recipient: int, tell: int, state: State, at: int) -> bool:
        """A recipient is final; whether that is to be told. `tell` is that of its lease, not 0."""
        if tell & _DELAY_NOTED:
            self.moot.append((message, recipient, notify.DELAY))
        kind = _ENDS.get(state, 0) & tell
        if kind:
            self.told.append((message, recipient, kind, at))
        return bool(kind)

    def defer(self, message: int, recipient: int, tell: int, at: int) -> None:
        """A recipient has to wait: where it has for long, that is to be told."""
        # A message's id is as old as the message: the young ones cost no question.
        if tell & notify.DELAY and message <= id_at(at - DELAY_AFTER_MS + 1):
            self.late.append((message, recipient, at, at - DELAY_AFTER_MS))

    def write(self, tx: Transaction, sql: Statements) -> None:
        """Before the ends of messages are noted: what is to be told keeps their content."""
        many = tx.cursor.executemany
        if self.moot:
            many(sql["report_drop"], self.moot).fetchall()
        if self.late:
            self.told += many(sql["delay_note"], self.late).fetchall()
        if self.told:
            many(sql["report_add"], self.told)


@dataclass(frozen=True, slots=True)
class Telling:
    """The arguments of a report."""

    report: Report
    notices: Sequence[NewMessage]


class _ReportedData(msgspec.Struct):
    kind: str
    notice: str


class Reports:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, acceptance: "Acceptance", *, events: Counter, clock: Clock) -> None:
        self._sql = sql
        self._acceptance = acceptance
        self._events = events
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode

    def report(self, tx: Transaction, tellings: Sequence[Telling]) -> list[None]:
        """Accept notifications and forget what they tell; those of what was told before are dropped."""
        for telling in tellings:
            report, notices = telling.report, telling.notices
            asked = [(report.message, told.recipient, told.kind) for told in report.recipients]
            gone = tx.cursor.executemany(self._sql["report_drop"], asked).fetchall()
            if gone and notices:
                self._acceptance.accept(tx, notices)
                self._note(tx, report.message, gone, notices)
        return [None] * len(tellings)

    def _note(self, tx: Transaction, message: int, gone: Sequence[Row], notices: Sequence[NewMessage]) -> None:
        now = self._clock.now_ms()
        notice = " ".join(show_id("eml_", one.uuid) for one in notices)
        reported = EventType.REPORTED.value
        rows = []
        for recipient, kind in gone:
            data = self._encode(_ReportedData(notify.NAMES[kind], notice)).decode()
            rows.append((self._events.next(), message, recipient, reported, now, data))
        tx.cursor.executemany(self._sql["event_of_message"], rows)


def oldest(cursor: Cursor, sql: Statements, *, before: int, limit: int) -> list[Report]:
    """The reports of at most `limit` messages, those first of which something is to be told for the longest. A very
    large one comes in parts; one whose rows are gone, by damage, is passed over."""
    messages: dict[int, None] = {}
    position = _START
    while len(messages) < limit:
        rows = cursor.execute(sql["reports_first"], (*position, before, limit)).fetchall()
        messages |= dict.fromkeys(message for _, message in rows)
        if len(rows) < limit:
            break
        position = rows[-1]
    found = (_report(cursor, sql, message) for message in list(messages)[:limit])
    return [report for report in found if report is not None]


def _report(cursor: Cursor, sql: Statements, message: int) -> Report | None:
    rows = cursor.execute(sql["report_message"], (message,)).fetchall()
    recipients = cursor.execute(sql["report_recipients"], (message, PART_ROWS)).fetchall()
    if not rows or not recipients:
        return None
    (row,) = rows
    packed = row[10]
    return Report(
        message=message,
        uuid=row[1],
        account=row[2],
        key=row[3],
        route=recipients[0][11],  # the message's, or where an operator redirected it to
        envelope_sender=row[4],
        subject=row[5],
        message_id=row[6],
        facts=flags.facts(packed, *row[7:10]),
        piece_count=row[11],
        ret=flags.ret(packed),
        envid=row[12],
        created_at=row[13],
        expires_at=row[14],
        recipients=tuple(map(_told, recipients)),
        tls_wish=flags.tls_wish(packed),
    )


def _told(row: Row) -> Told:
    return Told(
        recipient=row[0],
        address=row[1],
        orcpt=row[2],
        kind=row[3],
        at=row[4],
        state=State(row[5]),
        attempts=row[6],
        reply=row[7],
        host=row[8],
        bounce_class=row[9],
        stage=row[10],
    )
