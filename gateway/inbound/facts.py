"""From mail that came back to what is heard by it: bounces, complaints, unsubscriptions. Pure.

Guarantees: a notification that speaks of a delay or a delivery is no fact, nor is an answer that a program gave; what a
bounce means is told by the rules for replies. Nobody unsubscribes by a bounce or a vacation program.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.events import BounceClass, EventType, Scope
from gateway.message.reports import Report, Told
from gateway.message.reports.feedback import NO_COMPLAINTS
from gateway.store.queue import Heard
from gateway.tokens import Subject

MOST_BOUNCES: Final = 1000  # of one notification

Judge = Callable[[int, str, str], tuple[BounceClass, Scope]]


class Way(StrEnum):
    """Which of our addresses mail came to."""

    BOUNCE = "bounce"
    UNSUBSCRIBE = "unsubscribe"
    FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True)
class Facts:
    """What follows. Without `heard` nothing does, and `why` says why; then `welcome` says whether it is at least what
    such an address is for."""

    heard: tuple[Heard, ...] = ()
    why: str = ""
    welcome: bool = True


def of(way: Way, subject: Subject | None, report: Report, *, sender: str, now: int, judge: Judge) -> Facts:
    """What `report` says. `subject` is that of the address, None at one for complaints; `sender` the envelope's."""
    if report.complaint is not None:
        return _complained(report, subject, now)
    match way:
        case Way.FEEDBACK:
            return _complained(report, subject, now)
        case Way.UNSUBSCRIBE:
            return _unsubscribed(report, subject, sender, now)
        case Way.BOUNCE:
            return _bounced(report, subject, sender, now, judge)


def _bounced(report: Report, subject: Subject | None, sender: str, now: int, judge: Judge) -> Facts:
    assert subject is not None
    failed = report.failed
    if failed:
        # One recipient of ours may stand for several of theirs: one of those is enough.
        some = failed[:1] if subject.recipient else failed[:MOST_BOUNCES]
        return Facts(tuple(_bounce(told, subject, now, judge) for told in some))
    if report.told:
        return Facts(why=f"a notification of what was {report.told[0].action}")
    if report.automatic:
        return Facts(why="an automatic answer")
    return Facts(why="not understood", welcome=not sender)  # nobody could be told by the null sender


def _bounce(told: Told, subject: Subject, now: int, judge: Judge) -> Heard:
    class_, scope = judge(told.code, told.enhanced, told.text)
    return Heard(
        message=subject.message,
        recipient=subject.recipient,
        type=EventType.BOUNCED,
        at=now,
        reply=told.text,
        status=told.status,
        bounce_class=class_,
        scope=scope,
        host=told.host,
        addresses=told.addresses,
    )


def _complained(report: Report, subject: Subject | None, now: int) -> Facts:
    complaint = report.complaint
    about = report.quoted or subject
    if complaint is not None and complaint.kind in NO_COMPLAINTS:
        return Facts(why=NO_COMPLAINTS[complaint.kind])
    if about is None:
        return Facts(why="a complaint about no mail of ours")
    if complaint is None and (report.told or report.automatic):
        return Facts(why="no complaint, but what a program sends")
    kind = complaint.kind if complaint is not None else "forwarded"
    host = complaint.host if complaint is not None else ""
    addresses = complaint.addresses if complaint is not None else ()
    return Facts(
        (Heard(about.message, about.recipient, EventType.COMPLAINED, now, kind, host=host, addresses=addresses),)
    )


def _unsubscribed(report: Report, subject: Subject | None, sender: str, now: int) -> Facts:
    assert subject is not None
    if not sender:
        return Facts(why="from the null sender, so no person's wish")  # RFC 5321, 4.5.5
    if not report.wish:
        return Facts(why="what a program sends, so no person's wish")
    return Facts((Heard(subject.message, subject.recipient, EventType.UNSUBSCRIBED, now, note="by mail"),))


def addressees(heard: Sequence[Heard]) -> list[tuple[int, int]]:
    """(message, recipient), each once, in order."""
    return list(dict.fromkeys((one.message, one.recipient) for one in heard))
