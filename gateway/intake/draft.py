"""From a JSON submission to a message for the queue: sender, recipients, times, composed content.

Guarantees: a large message is composed in a thread; what `compose` gives holds its whole content in memory and nothing
is stored yet. It does not ask who may send what.
"""

import asyncio
import functools
import os
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.errors import Reason, Refused
from gateway.intake.admission import Admission, unique
from gateway.keyterms import Duplicates
from gateway.message import address, composing
from gateway.message.header import HeaderError
from gateway.message.model import (
    BY_POLICY,
    PIECE_BYTES,
    TLS_OPTIONAL,
    TLS_REQUIRED,
    Content,
    Draft,
    Facts,
    Mailbox,
    Submission,
)
from gateway.message.schedule import Start
from gateway.policy import tracking
from gateway.policy.auth import Principal
from gateway.runtime import show_uuid, uuid7
from gateway.store.newmail import IdempotencyKey, NewMessage

THREAD_BYTES: Final = 256 * 1024  # more than this is composed in a thread: the loop is never held for it


def sender_of(principal: Principal, submission: Submission) -> Mailbox:
    """The From mailbox: that of the submission, else the key's own. Raises Refused."""
    if submission.sender is not None:
        return submission.sender
    if principal.default_from is None:
        raise Refused(Reason.MISSING_PARAMETER, "from is required (this key has no default_from).", param="from")
    try:
        return address.parse_mailbox(principal.default_from)
    except address.AddressError as error:
        raise Refused(Reason.INVALID_PARAMETER, f"The default_from of this key: {error}.", param="from") from error


def recipients_of(submission: Submission) -> tuple[str, ...]:
    return unique([m.address for m in (*submission.to, *submission.cc, *submission.bcc)])


async def compose(
    admission: Admission,
    principal: Principal,
    submission: Submission,
    *,
    route: str,
    idempotency: tuple[str, bytes] | None,
    client: str,
) -> NewMessage:
    """The message with all its pieces, and no recipient yet. Raises Refused."""
    sender = sender_of(principal, submission)
    now_ms = admission.clock.now_ms()
    start = admission.start(Start(submission.send_at, submission.delay_s), now_ms)
    public_url, names = admission.config.http.public_url, tracking.JSON_NAMES
    track = tracking.admit(public_url, submission.track, principal.track, submission.unsubscribe, names)
    uuid = uuid7(now_ms)
    message_id = f"{show_uuid(uuid)}@{address.domain_of(sender.address)}"
    content, facts = await _content(submission, sender, message_id, now_ms)
    admission.check_size(facts.size)
    if facts.header_size > PIECE_BYTES:  # piece 0 begins with the whole header
        raise Refused(Reason.MALFORMED_MESSAGE, f"The header would be larger than {PIECE_BYTES} bytes.", param="to")
    pieces = composing.pieces(content)
    return NewMessage(
        id=admission.ids.next(),
        uuid=uuid,
        account=principal.account,
        key=principal.name,
        route=route,
        door="http",
        envelope_sender=submission.return_path or sender.address,
        header_from=sender.address,
        subject=submission.subject,
        message_id=message_id,
        facts=facts,
        tags=msgspec.json.encode(submission.tags).decode() if submission.tags else "[]",
        metadata=submission.metadata,
        client=client,
        created_at=now_ms,
        expires_at=admission.expiry(start, submission.ttl_s),
        priority=submission.priority,
        recipients=(),
        pieces=tuple(enumerate(pieces)),
        piece_count=len(pieces),
        idempotency=IdempotencyKey(principal.account, *idempotency) if idempotency else None,
        send_at=start if start > now_ms else 0,
        tls_wish=_tls_wish(submission),
        track=track,
        unsubscribe=submission.unsubscribe,
        own_return_path=submission.return_path is not None,
        at_most_once=principal.duplicates is Duplicates.AT_MOST_ONCE,
    )


def _tls_wish(submission: Submission) -> int:
    if submission.require_tls:
        return TLS_REQUIRED
    optional = any(
        name.lower() == "tls-required" and value.strip().lower() == "no" for name, value in submission.headers
    )
    return TLS_OPTIONAL if optional else BY_POLICY


async def _content(submission: Submission, sender: Mailbox, message_id: str, now_ms: int) -> tuple[Content, Facts]:
    draft = Draft(
        sender=sender,
        to=submission.to,
        cc=submission.cc,
        reply_to=submission.reply_to,
        subject=submission.subject,
        html=submission.html,
        text=submission.text,
        attachments=submission.attachments,
        headers=submission.headers,
    )
    date = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    make = functools.partial(composing.compose, draft, message_id=message_id, date=date, seed=os.urandom(12))
    try:
        if composing.weight(submission) > THREAD_BYTES:
            return await asyncio.to_thread(make)
        return make()
    except HeaderError as error:
        raise Refused(Reason.MALFORMED_MESSAGE, str(error), param=error.path) from error
