"""Door 1: the only way mail gets into the queue.

Guarantees: when `submit` or `finish` returns, the message, its recipients and its metadata are in a transaction that
was fsynced; when it raises, nothing of it will be sent. SMTP mail is stored byte for byte but for the documented header
fix-up; JSON mail is composed here. Neither knows the protocols: the doors decode, this decides and stores.
"""

import asyncio
import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.config import CaptureRoute, Config, MxRoute, Route
from gateway.errors import Reason, Refused
from gateway.message import address, composing, fixup, labels
from gateway.message.composing import BodySeen
from gateway.message.header import HeaderError
from gateway.message.model import PIECE_BYTES, Draft, Facts, Mailbox, SmtpEnvelope, Submission
from gateway.observe import MailLog
from gateway.policy import senders
from gateway.policy.auth import Principal, require_scope
from gateway.policy.domains import Domains
from gateway.runtime import Clock, IdSource, show_id, show_uuid, uuid7
from gateway.store.queue import Accepted, Conflict, IdempotencyKey, NewMessage, NewRecipient, Queue

THREAD_BYTES: Final = 256 * 1024  # more than this is composed in a thread: the loop is never held for it
HEADER_BYTES: Final = PIECE_BYTES // 2  # of a header as it came: with what is added it still fits one piece
_PRIORITY_NORMAL: Final = 1
_LONG_LINE: Final = "A line is longer than 998 octets (RFC 5322, 2.1.1)."


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What the client is told. `status` is "queued" or "captured"."""

    uuid: bytes
    status: str
    replayed: bool


class Intake:
    """Accepts submissions of authenticated principals."""

    def __init__(
        self, config: Config, queue: Queue, domains: Domains, *, clock: Clock, ids: IdSource, log: MailLog
    ) -> None:
        self._config = config
        self._queue = queue
        self._domains = domains
        self._clock = clock
        self._ids = ids
        self._log = log

    async def submit(
        self,
        principal: Principal,
        submission: Submission,
        *,
        idempotency: tuple[str, bytes] | None,
        client: str,
    ) -> Receipt:
        """Compose and queue a JSON submission. `idempotency` is (the client's key, SHA-256 of the request).

        Raises Refused, StoreError, StoreFull.
        """
        try:
            return await self._submit(principal, submission, idempotency=idempotency, client=client)
        except Refused as refusal:
            self.tell_refused("http", principal, client, refusal)
            raise

    async def _submit(
        self, principal: Principal, submission: Submission, *, idempotency: tuple[str, bytes] | None, client: str
    ) -> Receipt:
        require_scope(principal, "send")
        route = self._route(principal)
        sender = submission.sender or _default_sender(principal)
        envelope_sender = submission.return_path or sender.address
        senders.check(principal, (sender.address,), param="from")
        senders.check(principal, (envelope_sender,), param="return_path")
        self._domains.require(address.domain_of(sender.address))
        recipients = _unique(m.address for m in (*submission.to, *submission.cc, *submission.bcc))
        self._check_count(recipients)
        now_ms = self._clock.now_ms()
        uuid = uuid7(now_ms)
        message_id = f"{show_uuid(uuid)}@{address.domain_of(sender.address)}"
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
        try:
            compose = functools.partial(composing.compose, draft, message_id=message_id, date=date, seed=os.urandom(12))
            if composing.weight(submission) > THREAD_BYTES:
                content, facts = await asyncio.to_thread(compose)
            else:
                content, facts = compose()
        except HeaderError as error:
            raise Refused(Reason.MALFORMED_MESSAGE, str(error), param=error.path) from error
        self._check_size(facts.size)
        if facts.header_size > PIECE_BYTES:  # piece 0 begins with the whole header
            raise Refused(Reason.MALFORMED_MESSAGE, f"The header would be larger than {PIECE_BYTES} bytes.", param="to")
        id_ = self._ids.next()
        pieces = composing.pieces(content)
        for index, piece in enumerate(pieces[1:], start=1):
            await self._queue.put_piece(id_, index, piece)
        message = NewMessage(
            id=id_,
            uuid=uuid,
            account=principal.account,
            key=principal.name,
            route=route.name,
            door="http",
            envelope_sender=envelope_sender,
            header_from=sender.address,
            subject=submission.subject,
            message_id=message_id,
            facts=facts,
            tags=msgspec.json.encode(submission.tags).decode() if submission.tags else "[]",
            metadata=submission.metadata,
            client=client,
            created_at=now_ms,
            expires_at=self._expiry(now_ms),
            priority=_PRIORITY_NORMAL,
            recipients=self._recipients(route, recipients),
            pieces=((0, pieces[0]),),
            piece_count=len(pieces),
            idempotency=IdempotencyKey(principal.account, *idempotency) if idempotency else None,
        )
        return await self._enqueue(principal, route, message)

    def receive(self, principal: Principal, envelope: SmtpEnvelope) -> "Receiving":
        """Begin to take an SMTP message whose sender and recipients were checked. Raises Refused."""
        return Receiving(self, principal, envelope)

    def check_sender(self, principal: Principal, sender: str, *, client: str) -> None:
        """At MAIL: may this key use this envelope sender? Raises Refused."""
        try:
            require_scope(principal, "send")
            self._route(principal)
            senders.check(principal, (sender,), param="from")
        except Refused as refusal:
            self.tell_refused("smtp", principal, client, refusal)
            raise

    def tell_refused(self, door: str, principal: Principal, client: str, refusal: Refused) -> None:
        """A line of the mail log: what was not taken, whose it was and why."""
        self._log.refused(door=door, key=principal.name, client=client, reason=refusal.reason.code, text=refusal.text)

    def _route(self, principal: Principal) -> Route:
        # The key decides, and nothing else: no argument of a submission is asked here.
        name = principal.route or self._config.default_route
        route = self._config.routes.get(name)
        if route is None:
            raise Refused(
                Reason.NO_ROUTE, f"The route of the key {principal.name} is not configured.", retry_after_s=60
            )
        return route

    def _check_count(self, recipients: Sequence[str]) -> None:
        limit = self._config.limits.recipients_per_message
        if len(recipients) > limit:
            raise Refused(
                Reason.TOO_MANY_RECIPIENTS,
                f"{len(recipients)} recipients; at most {limit} a message.",
                param="to",
            )

    def _check_size(self, size: int) -> None:
        if size > self._config.max_message:
            raise Refused(
                Reason.PAYLOAD_TOO_LARGE,
                f"The message is {size} bytes; at most {self._config.max_message} are taken.",
            )

    def _recipients(self, route: Route, addresses: Iterable[str]) -> tuple[NewRecipient, ...]:
        by_domain = isinstance(route, MxRoute)
        return tuple([NewRecipient(self._ids.next(), a, address.domain_of(a) if by_domain else "") for a in addresses])

    def _expiry(self, now_ms: int) -> int:
        return now_ms + int(self._config.delivery.expire_after_s * 1000)

    async def _enqueue(self, principal: Principal, route: Route, message: NewMessage) -> Receipt:
        outcome = await self._queue.enqueue(message)
        status = "captured" if isinstance(route, CaptureRoute) else "queued"
        match outcome:
            case Conflict():
                raise Refused(
                    Reason.IDEMPOTENCY_CONFLICT,
                    "This idempotency key was used for another message.",
                    param="Idempotency-Key",
                )
            case Accepted(uuid, replayed):
                if not replayed and self._log.enabled:
                    self._log.accepted(
                        message=show_id("eml_", uuid),
                        door=message.door,
                        key=principal.name,
                        sender=message.envelope_sender or "<>",
                        recipients=len(message.recipients),
                        size=message.facts.size,
                        client=message.client,
                    )
                return Receipt(uuid, status, replayed)

    async def accept_smtp(
        self,
        id_: int,
        principal: Principal,
        envelope: SmtpEnvelope,
        *,
        raw_header: bytes,
        rest: bytes,
        seen: BodySeen,
    ) -> Receipt:
        """Fix up the header of a received message and queue it. `rest` is what of the body is not stored yet: the
        whole one of a message of one piece."""
        now_ms = self._clock.now_ms()
        date = _date(now_ms // 1000)
        uuid = uuid7(now_ms)
        recipients = _unique(envelope.recipients)
        received = fixup.received(
            helo=envelope.helo,
            peer=envelope.peer,
            by=self._config.hostname,
            protocol=envelope.protocol,
            id=show_id("eml_", uuid),
            for_=recipients[0] if len(recipients) == 1 else None,
            date=date,
        )
        sender_domain = address.domain_of(envelope.sender) if envelope.sender else self._config.hostname
        fixed = fixup.fix_header(
            raw_header,
            envelope_sender=envelope.sender or f"MAILER-DAEMON@{self._config.hostname}",
            received=received,
            message_id=f"{show_uuid(uuid)}@{sender_domain}",
            date=date,
        )
        self._check_fixed(principal, fixed)
        ascii_header = fixed.header.isascii()
        facts = Facts(
            size=len(fixed.header) + seen.body_size,
            header_size=len(fixed.header),
            body_hash=seen.hasher.digest(),
            eight_bit=seen.scan.eight_bit or not ascii_header,
            # Raw 8-bit fields of a client that never said SMTPUTF8 pass as they always did, as 8-bit content.
            utf8_header=envelope.smtputf8 and not ascii_header,
            dot_lines=seen.scan.dot_lines or b"\n." in fixed.header,
        )
        idempotency = None
        if fixed.idempotency_key is not None:
            asked = [envelope.sender, recipients, raw_header.hex(), seen.body_size, facts.body_hash.hex()]
            digest = hashlib.sha256(msgspec.json.encode(asked)).digest()
            idempotency = IdempotencyKey(principal.account, fixed.idempotency_key, digest)
        tags = labels.tags(fixed.tags) if fixed.tags else "[]"
        metadata = labels.metadata(fixed.metadata) if fixed.metadata is not None else "{}"
        route = self._route(principal)
        first_piece = fixed.header + rest
        if len(first_piece) > PIECE_BYTES:
            first_piece = fixed.header
            await self.store_piece(id_, seen.next_piece(), rest)
        message = NewMessage(
            id=id_,
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
            tags=tags,
            metadata=metadata,
            client=envelope.peer,
            created_at=now_ms,
            expires_at=self._expiry(now_ms),
            priority=_PRIORITY_NORMAL,
            recipients=self._recipients(route, recipients),
            pieces=((0, first_piece),),
            piece_count=seen.pieces,
            idempotency=idempotency,
        )
        return await self._enqueue(principal, route, message)

    def _check_fixed(self, principal: Principal, fixed: fixup.Fixed) -> None:
        if fixed.from_count > 1:
            raise Refused(Reason.MALFORMED_MESSAGE, "The message has more than one From field (RFC 5322, 3.6).")
        if fixed.received_count > self._config.delivery.max_hops:
            raise Refused(Reason.LOOP, f"More than {self._config.delivery.max_hops} Received fields: a mail loop.")
        if fixed.repeated_controls:
            raise Refused(Reason.MALFORMED_MESSAGE, f"The header field {fixed.repeated_controls[0]} may be given once.")
        if fixed.long_line:
            raise Refused(Reason.MALFORMED_MESSAGE, _LONG_LINE)
        if fixed.idempotency_key is not None:
            labels.check_idempotency_key(fixed.idempotency_key)
        if fixed.unknown_controls:
            raise Refused(
                Reason.NOT_SUPPORTED,
                f"The header field {fixed.unknown_controls[0]} is not available in this version.",
            )
        senders.check(principal, fixed.senders, param="from")
        if fixed.header_from:
            self._domains.require(address.domain_of(fixed.header_from))

    def new_id(self) -> int:
        return self._ids.next()

    async def store_piece(self, id_: int, index: int, data: bytes) -> None:
        await self._queue.put_piece(id_, index, data)


class Receiving:
    """A message on its way in by SMTP. The header is kept, because it is fixed up last; of a message of several pieces
    the body is stored as it comes. Pieces are canonical CRLF, at most PIECE_BYTES, cut after a line end."""

    __slots__ = ("_envelope", "_header", "_id", "_intake", "_principal", "_seen")

    def __init__(self, intake: Intake, principal: Principal, envelope: SmtpEnvelope) -> None:
        self._intake = intake
        self._principal = principal
        self._envelope = envelope
        self._id = intake.new_id()
        self._header: bytes | None = None
        self._seen = BodySeen()

    async def add(self, data: bytes) -> None:
        """The next piece, in order. Raises StoreError, StoreFull, Refused."""
        try:
            body = self._take(data)
        except Refused as refusal:
            self._tell(refusal)
            raise
        if body:
            await self._intake.store_piece(self._id, self._seen.next_piece(), body)

    async def finish(self, last: bytes) -> str:
        """The last piece (the whole message when it is small); the id it is queued under.

        Raises Refused, StoreError, StoreFull.
        """
        try:
            return await self._finish(last)
        except Refused as refusal:
            self._tell(refusal)
            raise

    async def _finish(self, last: bytes) -> str:
        whole = self._header is None
        rest = self._take(last)
        if rest and not whole:
            await self._intake.store_piece(self._id, self._seen.next_piece(), rest)
            rest = b""
        assert self._header is not None
        receipt = await self._intake.accept_smtp(
            self._id,
            self._principal,
            self._envelope,
            raw_header=self._header,
            rest=rest,
            seen=self._seen,
        )
        return show_id("eml_", receipt.uuid)

    def _take(self, data: bytes) -> bytes:
        """Look at a piece; what of it is body. Raises Refused."""
        if self._header is None:
            start = fixup.split_header(data)
            if start > HEADER_BYTES:
                raise Refused(Reason.MALFORMED_MESSAGE, f"The header is larger than {HEADER_BYTES} bytes.")
            self._header = data[:start]
            data = data[start:]
        self._seen.update(data)
        if self._seen.scan.long_line:
            raise Refused(Reason.MALFORMED_MESSAGE, _LONG_LINE)
        return data

    def _tell(self, refusal: Refused) -> None:
        self._intake.tell_refused("smtp", self._principal, self._envelope.peer, refusal)


def _default_sender(principal: Principal) -> Mailbox:
    if principal.default_from is None:
        raise Refused(Reason.MISSING_PARAMETER, "from is required (this key has no default_from).", param="from")
    try:
        return address.parse_mailbox(principal.default_from)
    except address.AddressError as error:
        raise Refused(Reason.INVALID_PARAMETER, f"The default_from of this key: {error}.", param="from") from error


@functools.lru_cache(maxsize=2)  # many messages come in one second
def _date(now_s: int) -> str:
    return fixup.format_date(datetime.fromtimestamp(now_s, tz=UTC))


def _unique(addresses: Iterable[str]) -> tuple[str, ...]:
    """An address twice is one recipient; the order stays."""
    return tuple(dict.fromkeys(addresses))
