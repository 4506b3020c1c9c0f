"""SMTP mail on its way in: byte for byte, but for the documented header fix-up.

Guarantees: the header is kept, because it is fixed up last; of a message of several pieces the body is stored as it
comes, so memory is bounded by two pieces. Pieces are canonical CRLF, at most PIECE_BYTES, cut after a line end, or in
a line that no piece holds; those of a body with a line over 998 octets are read again, re-encoded, off the loop, and
stored anew.
"""

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import msgspec

from gateway.errors import Reason, Refused, StoreError
from gateway.intake import notices
from gateway.intake.admission import Admission, unique
from gateway.intake.treatment import Treatment, Wanted, asked
from gateway.keyterms import Duplicates
from gateway.message import address, fixup, labels, priority, recode
from gateway.message.composing import BodySeen
from gateway.message.model import BY_POLICY, PIECE_BYTES, TLS_OPTIONAL, TLS_REQUIRED, Facts, SmtpEnvelope
from gateway.message.received import received_field
from gateway.policy import senders, tracking
from gateway.policy.auth import Principal
from gateway.runtime import show_id, show_uuid, uuid7
from gateway.store.newmail import Accepted, IdempotencyKey, NewMessage
from gateway.store.queue import Queue

HEADER_BYTES: Final = PIECE_BYTES // 2  # of a header as it came: with what is added it still fits one piece
_LONG_LINE: Final = "A line is longer than 998 octets (RFC 5322, 2.1.1)."


class Receiving:
    """One message."""

    __slots__ = ("_admission", "_envelope", "_header", "_id", "_principal", "_queue", "_seen", "_survey", "_treatment")

    def __init__(
        self,
        admission: Admission,
        treatment: Treatment,
        queue: Queue,
        principal: Principal,
        envelope: SmtpEnvelope,
    ) -> None:
        self._admission = admission
        self._treatment = treatment
        self._queue = queue
        self._principal = principal
        self._envelope = envelope
        self._id = admission.ids.next()
        self._header: bytes | None = None
        self._seen = BodySeen()
        self._survey: recode.Survey | None = None  # there is a line over 998 octets

    async def add(self, data: bytes) -> None:
        """The next piece, in order. Raises StoreError, StoreFull, Refused."""
        try:
            self._admission.room.check(len(data))
            body = self._take(data)
            if body:
                await self._queue.put_piece(self._id, self._seen.next_piece(), body)
        except (Refused, recode.Unrepairable) as error:
            raise self._refusal(error) from None
        except StoreError as error:
            self._admission.figures.unstored("smtp", error)
            raise

    async def finish(self, last: bytes) -> str:
        """The last piece (the whole message when it is small); the id it is queued under.

        Raises Refused, StoreError, StoreFull.
        """
        began = monotonic()
        try:
            queued = await self._finish(last)
        except (Refused, recode.Unrepairable) as error:
            raise self._refusal(error) from None
        except StoreError as error:
            self._admission.figures.unstored("smtp", error)
            raise
        self._admission.figures.took("smtp", monotonic() - began)
        return queued

    async def _finish(self, last: bytes) -> str:
        self._admission.room.check(len(last))
        rest = self._take(last)
        if self._survey is not None:
            header, rest = await self._recode(self._survey, rest)
        else:
            assert self._header is not None
            header = self._header
        if rest and self._seen.pieces > 1:
            await self._queue.put_piece(self._id, self._seen.next_piece(), rest)
            rest = b""
        message = await self._message(header, rest)
        limiter, count = self._admission.limiter, asked(message)
        try:
            limiter.take(self._principal, messages=1, recipients=count)
        except Refused:
            self._treatment.give_back(self._principal, message)
            raise
        counts = False
        try:
            outcome = await self._queue.enqueue(message)
            counts = isinstance(outcome, Accepted) and not outcome.replayed
        finally:
            if not counts:
                limiter.give_back(self._principal, messages=1, recipients=count)
                self._treatment.give_back(self._principal, message)
        if not isinstance(outcome, Accepted):
            text = "This idempotency key was used for another message."
            raise Refused(Reason.IDEMPOTENCY_CONFLICT, text, param="Idempotency-Key")
        if not outcome.replayed:
            self._admission.tell_accepted(message)
        return show_id("eml_", outcome.uuid)

    def _take(self, data: bytes) -> bytes:
        """Look at a piece; what of it is body. Raises Refused."""
        if self._header is None:
            start = fixup.split_header(data)
            if start > HEADER_BYTES:
                raise Refused(Reason.MALFORMED_MESSAGE, f"The header is larger than {HEADER_BYTES} bytes.")
            self._header = data[:start]
            data = data[start:]
        self._seen.update(data)
        if self._seen.scan.long_line and self._survey is None:
            self._survey = recode.Survey(self._header)
        return data

    async def _recode(self, survey: recode.Survey, rest: bytes) -> tuple[bytes, bytes]:
        """The header, and what of the body is not stored yet, without a line over 998 octets: the message becomes
        another one, and what was stored of it an orphan. Raises Unrepairable."""
        async for piece in self._body(rest):
            await asyncio.to_thread(survey.feed, piece)
        survey.end()
        rewriting, seen, id_ = recode.Rewriting(survey), BodySeen(), self._admission.ids.next()
        async for piece in self._body(rest):
            for new in await asyncio.to_thread(rewriting.feed, piece):
                seen.update(new)
                await self._queue.put_piece(id_, seen.next_piece(), new)
        *pieces, rest = rewriting.finish()
        for new in pieces:
            seen.update(new)
            await self._queue.put_piece(id_, seen.next_piece(), new)
        seen.update(rest)
        self._id, self._seen = id_, seen
        return rewriting.header, rest

    async def _body(self, rest: bytes) -> AsyncIterator[bytes]:
        """The body as it came, from the store and at last from hand."""
        for index in range(1, self._seen.pieces):
            yield await self._queue.piece(self._id, index)
        yield rest

    async def _message(self, header: bytes, rest: bytes) -> NewMessage:
        """The message with its header fixed up. `rest` is what of the body is not stored yet: the whole one of a
        message of one piece."""
        admission, envelope, principal, seen = self._admission, self._envelope, self._principal, self._seen
        now_ms = admission.clock.now_ms()
        uuid = uuid7(now_ms)
        recipients = unique(envelope.recipients)
        fixed = self._fixed(header, recipients, uuid, now_ms)
        if fixed.long_line:
            fixed = self._fixed(recode.fold(header), recipients, uuid, now_ms)
        check(admission, principal, fixed)
        facts = self._facts(fixed)
        first_piece = fixed.header + rest
        if len(first_piece) > PIECE_BYTES:
            first_piece = fixed.header
            await self._queue.put_piece(self._id, seen.next_piece(), rest)
        route = admission.route(principal)
        start = now_ms if fixed.send_at is None else admission.start(labels.start(fixed.send_at), now_ms)
        unsubscribe = labels.unsubscribe(fixed.unsubscribe) if fixed.unsubscribe is not None else ""
        tags = labels.with_offered(fixed.tags, unsubscribe)
        message = NewMessage(
            id=self._id,
            uuid=uuid,
            account=principal.account,
            key=principal.name,
            route=route.name,
            door="smtp",
            envelope_sender=envelope.sender,
            header_from=fixed.header_from,
            subject=fixed.subject,
            message_id=fixed.message_id,
            facts=facts,
            tags=labels.tags(fixed.tags, unsubscribe) if tags else "[]",
            metadata=labels.metadata(fixed.metadata) if fixed.metadata is not None else "{}",
            client=envelope.peer,
            created_at=now_ms,
            expires_at=admission.expiry(start, labels.ttl(fixed.ttl) if fixed.ttl is not None else None),
            priority=priority.of_header(fixed.priority) if fixed.priority is not None else priority.NORMAL,
            recipients=(),
            pieces=((0, first_piece),),
            piece_count=seen.pieces,
            idempotency=self._idempotency(fixed, recipients, facts),
            send_at=start if start > now_ms else 0,
            ret="HDRS" if envelope.require_tls else envelope.ret,  # RFC 8689, 5: no body goes back in the clear
            envid=envelope.envid,
            tls_wish=_tls_wish(envelope, fixed),
            at_most_once=principal.duplicates is Duplicates.AT_MOST_ONCE,
            track=self._track(fixed, unsubscribe),
            unsubscribe=unsubscribe,
        )
        told = notices.by_smtp(principal, envelope.sender)
        wanted = Wanted(recipients, told, tags, notices.said(envelope, told))
        return await self._treatment.treat(principal, route, message, wanted)

    def _track(self, fixed: fixup.Fixed, unsubscribe: str) -> int:
        wanted = labels.track(fixed.track) if fixed.track is not None else None
        public_url, names = self._admission.config.http.public_url, tracking.HEADER_NAMES
        return tracking.admit(public_url, wanted, self._principal.track, unsubscribe, names)

    def _fixed(self, header: bytes, recipients: tuple[str, ...], uuid: bytes, now_ms: int) -> fixup.Fixed:
        envelope = self._envelope
        hostname = self._admission.config.hostname
        date = _date(now_ms // 1000)
        received = received_field(
            helo=envelope.helo,
            peer=envelope.peer,
            by=hostname,
            protocol=envelope.protocol,
            id=show_id("eml_", uuid),
            for_=recipients[0] if len(recipients) == 1 else None,
            date=date,
        )
        sender_domain = address.domain_of(envelope.sender) if envelope.sender else hostname
        return fixup.fix_header(
            header,
            envelope_sender=envelope.sender or f"MAILER-DAEMON@{hostname}",
            received=received,
            message_id=f"{show_uuid(uuid)}@{sender_domain}",
            date=date,
            rewrite_from=self._principal.rewrite_from,
            default_domain=self._principal.default_domain,
            aliases=self._principal.aliases,
        )

    def _facts(self, fixed: fixup.Fixed) -> Facts:
        seen = self._seen
        ascii_header = fixed.header.isascii()
        return Facts(
            size=len(fixed.header) + seen.body_size,
            header_size=len(fixed.header),
            body_hash=seen.hasher.digest(),
            eight_bit=seen.scan.eight_bit or not ascii_header,
            # Raw 8-bit fields of a client that never said SMTPUTF8 pass as they always did, as 8-bit content.
            utf8_header=self._envelope.smtputf8 and not ascii_header,
            dot_lines=seen.scan.dot_lines or b"\n." in fixed.header,
        )

    def _idempotency(self, fixed: fixup.Fixed, recipients: tuple[str, ...], facts: Facts) -> IdempotencyKey | None:
        if fixed.idempotency_key is None:
            return None
        assert self._header is not None
        envelope = self._envelope
        asked = [envelope.sender, recipients, self._header.hex(), self._seen.body_size, facts.body_hash.hex()]
        if envelope.notify or envelope.require_tls:
            asked.append([envelope.notify, envelope.require_tls])  # not ENVID: a second try may have another
        digest = hashlib.sha256(msgspec.json.encode(asked)).digest()
        return IdempotencyKey(self._principal.account, fixed.idempotency_key, digest)

    def _refusal(self, error: Refused | recode.Unrepairable) -> Refused:
        """Tells it."""
        refusal = error if isinstance(error, Refused) else Refused(Reason.MALFORMED_MESSAGE, str(error))
        self._admission.tell_refused("smtp", self._principal, self._envelope.peer, refusal)
        return refusal


def check(admission: Admission, principal: Principal, fixed: fixup.Fixed) -> None:
    """May a message with this header be taken from this key? Raises Refused."""
    max_hops = admission.config.delivery.max_hops
    if fixed.from_count > 1:
        raise Refused(Reason.MALFORMED_MESSAGE, "The message has more than one From field (RFC 5322, 3.6).")
    if fixed.received_count > max_hops:
        raise Refused(Reason.LOOP, f"More than {max_hops} Received fields: a mail loop.")
    if fixed.repeated_controls:
        raise Refused(Reason.MALFORMED_MESSAGE, f"The header field {fixed.repeated_controls[0]} may be given once.")
    if fixed.long_line:
        raise Refused(Reason.MALFORMED_MESSAGE, _LONG_LINE)
    if fixed.idempotency_key is not None:
        labels.check_idempotency_key(fixed.idempotency_key)
    if fixed.unknown_controls:
        text = f"The header field {fixed.unknown_controls[0]} is not available in this version."
        raise Refused(Reason.NOT_SUPPORTED, text)
    senders.check(principal, fixed.senders, param="from")
    if fixed.header_from:
        admission.domains.require(address.domain_of(fixed.header_from))


def _tls_wish(envelope: SmtpEnvelope, fixed: fixup.Fixed) -> int:
    if envelope.require_tls:
        return TLS_REQUIRED  # RFC 8689, 4.1: whatever the header says
    return TLS_OPTIONAL if fixed.tls_optional else BY_POLICY


@functools.lru_cache(maxsize=2)  # many messages come in one second
def _date(now_s: int) -> str:
    return fixup.format_date(datetime.fromtimestamp(now_s, tz=UTC))
