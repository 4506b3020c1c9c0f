"""From what the store wants told of a message to the notification that tells it. Pure; events become plain values.

Guarantees: a recipient stands in one notification of a report only, with what matters most; a delay is not told of a
recipient that has no longer to wait.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from gateway.config import MxRoute, Route
from gateway.events import State
from gateway.message import address, composing, notify
from gateway.message.dsn.notice import Action, Fate, Notice
from gateway.message.model import Content, Facts
from gateway.runtime import show_id
from gateway.store.queue import Report, Told


def by_kind(report: Report) -> dict[int, tuple[Told, ...]]:
    """The recipients of each notification: by FAILURE, DELAY, SUCCESS; no kind without one."""
    failed = _of_kind(report.recipients, notify.FAILURE)
    # A bounce may have come right behind a delivery.
    delivered = [told for told in _of_kind(report.recipients, notify.SUCCESS) if told.state is not State.BOUNCED]
    done = {told.recipient for told in (*failed, *delivered)}
    delayed = [t for t in _of_kind(report.recipients, notify.DELAY) if t.recipient not in done and not t.state.final]
    groups = ((notify.FAILURE, failed), (notify.DELAY, delayed), (notify.SUCCESS, delivered))
    return {kind: tuple(group) for kind, group in groups if group}


def _of_kind(recipients: Iterable[Told], kind: int) -> list[Told]:
    """The last word on each."""
    return list({told.recipient: told for told in recipients if told.kind == kind}.values())


def describe(report: Report, told: Iterable[Told], *, hostname: str, header: bytes, body: bytes | None) -> Notice:
    """What a notification says; recipients that came to the same stand in the order of the report."""
    return Notice(
        hostname=hostname,
        to=report.envelope_sender,
        id=show_id("eml_", report.uuid),
        subject=report.subject,
        message_id=report.message_id,
        envelope_id=report.envid,
        arrived_at=_moment(report.created_at),
        retry_until=_moment(report.expires_at),
        fates=tuple([_fate(one) for one in told]),
        header=header,
        body=body,
    )


def _fate(told: Told) -> Fate:
    return Fate(
        address=told.address,
        original=told.orcpt,
        action=_action(told),
        reason=told.bounce_class,
        reply=told.reply,
        host=told.host,
        at=_moment(told.at),
        tries=told.attempts,
    )


def _action(told: Told) -> Action:
    if told.kind == notify.FAILURE:
        return Action.FAILED
    if told.kind == notify.DELAY:
        return Action.DELAYED
    # A host that reports deliveries itself would leave nothing to tell (RFC 3464, 2.3.3).
    return Action.DELIVERED if told.state is State.CAPTURED else Action.RELAYED


def facts_of(content: Content) -> Facts:
    """What the queue must know of a composed message."""
    seen = composing.BodySeen()
    for piece in content.body:
        seen.update(piece)
    return Facts(
        size=len(content.header) + seen.body_size,
        header_size=len(content.header),
        body_hash=seen.hasher.digest(),
        eight_bit=seen.scan.eight_bit,
        utf8_header=not content.header.isascii(),
        dot_lines=seen.scan.dot_lines,
    )


def queue_domain(route: Route | None, recipient: str) -> str:
    """The queue's cut of a recipient: by domain where the route delivers by domain."""
    return address.domain_of(recipient) if isinstance(route, MxRoute) else ""


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)
