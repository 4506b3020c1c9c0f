"""Door 1: the only way mail gets into the queue.

Guarantees: when `submit`, `submit_all` or a `finish` returns, every message it speaks of, its recipients and its
metadata are in a transaction that was fsynced; when it raises, nothing of it will be sent. SMTP mail is stored byte for
byte but for the documented header fix-up; JSON mail is composed here. It knows no protocol: the doors decode, this
decides and stores.

1. `admission`: what is asked of every message, whichever door it came by.
2. `draft`: a JSON submission becomes a message; `receiving`: SMTP mail does.
3. `treatment`: what becomes of each recipient: the key's mode and brakes, suppressions, the simulator.
4. `Intake`: limits, templates, the queue, the log.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final

import msgspec

from gateway.config import Config, Route
from gateway.errors import Reason, Refused, StoreError
from gateway.intake import draft, notices, receipt
from gateway.intake.admission import Admission
from gateway.intake.figures import IntakeFigures
from gateway.intake.receipt import BatchReceipt, Item, Receipt
from gateway.intake.receiving import HEADER_BYTES, Receiving
from gateway.intake.room import Room
from gateway.intake.treatment import Earlier, Treatment, Wanted, asked, status
from gateway.message import composing, template
from gateway.message.model import SmtpEnvelope, Submission
from gateway.message.template import TemplateError
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.policy import senders
from gateway.policy.auth import Principal
from gateway.policy.brakes import Braking
from gateway.policy.domains import Domains
from gateway.policy.limits import Limiter
from gateway.policy.suppression import Suppressions
from gateway.policy.templates import Templates
from gateway.runtime import Clock, IdSource
from gateway.store.newmail import Accepted, Conflict, IdempotencyKey, NewMessage, NewRecipient, Replayed, RequestKey
from gateway.store.queue import Queue

__all__ = ["HEADER_BYTES", "Asked", "BatchReceipt", "Idempotency", "Intake", "Item", "Receipt", "Receiving", "Room"]

COMPOSE_STEP: Final = 16  # small messages of a batch that are composed before the loop has its turn
QUICK_CHARACTERS: Final = 32 * 1024  # filled in without a thread
BATCH_ROOM: Final = 2  # times max_message: what a batch may grow to when it is composed
_GROWN: Final = "The batch has grown too large with the messages before this one: send it in another."
_CONFLICT: Final = "This idempotency key was used for another message."

Idempotency = tuple[str, bytes]  # the client's own name for a request, SHA-256 of what was asked for
Asked = tuple[Submission, Idempotency | None] | Refused


class Intake:
    """Accepts submissions of authenticated principals."""

    def __init__(
        self,
        config: Config,
        queue: Queue,
        domains: Domains,
        *,
        limiter: Limiter,
        templates: Templates,
        clock: Clock,
        ids: IdSource,
        log: MailLog,
        figures: IntakeFigures | None = None,
        room: Room | None = None,
        suppressions: Suppressions | None = None,
        braking: Braking | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        """As Treatment has them: nobody is suppressed, no key has brakes, where they are not given."""
        self._queue = queue
        self._figures = figures or IntakeFigures(Metrics())
        self._limiter = limiter
        self._templates = templates
        self._room = room or Room()
        self._admission = Admission(
            config, domains, limiter, clock=clock, ids=ids, log=log, figures=self._figures, room=self._room
        )
        self._treatment = Treatment(self._admission, suppressions=suppressions, braking=braking, earlier=earlier)

    def reconfigure(self, config: Config) -> None:
        """For submissions to come, and what is left to decide of those that are being received."""
        self._admission.config = config

    async def submit(
        self, principal: Principal, submission: Submission, *, idempotency: Idempotency | None, client: str
    ) -> Receipt:
        """Compose and queue a JSON submission. Raises Refused, StoreError, StoreFull."""
        began = monotonic()
        try:
            route = self._admission.route(principal)
            self._room.check()
            recipients = draft.recipients_of(submission)
            self._limiter.take(principal, requests=1, messages=1, recipients=len(recipients))
            message = await self._prepare(principal, route, (submission, idempotency), recipients, client=client)
            with self._counting(principal, (message,)):
                await self._store_pieces((message,))
                outcome = await self._queue.enqueue(_without_stored(message))
            taken = await self._receipt(principal, route, message, outcome)
        except Refused as refusal:
            self._admission.tell_refused("http", principal, client, refusal)
            raise
        self._figures.took("http", monotonic() - began)
        return taken

    async def submit_all(
        self, principal: Principal, asked: Sequence[Asked], *, request: Idempotency | None, client: str
    ) -> BatchReceipt:
        """Compose and queue several submissions, all in one transaction; what was refused already, or is here, fails
        alone. Raises Refused, StoreError, StoreFull: then nothing was queued."""
        began = monotonic()
        try:
            route = self._admission.route(principal)
            self._room.check()
            name = IdempotencyKey(principal.account, *request) if request is not None else None
            self._limiter.take(principal, requests=1, **_costs(asked))
            prepared = await self._prepare_all(principal, route, asked, client=client, request=name)
            taken = await self._enqueue_all(principal, route, prepared, request)
        except Refused as refusal:
            self._admission.tell_refused("http", principal, client, refusal)
            raise
        for item in taken.items:
            if item.refused is not None and not taken.replayed:  # else it was told when it was refused
                self._admission.tell_refused("http", principal, client, item.refused)
        self._figures.took("http", monotonic() - began)
        return taken

    async def compose(self, principal: Principal, submission: Submission, *, client: str) -> NewMessage:
        """The whole message in memory, for one attempt without the queue; nothing is stored. Raises Refused."""
        recipients = draft.recipients_of(submission)
        try:
            message = await draft.compose(
                self._admission, principal, submission, route=principal.route or "", idempotency=None, client=client
            )
            self._admission.check_count(recipients)
        except Refused as refusal:
            self._admission.tell_refused("http", principal, client, refusal)
            raise
        rows = tuple(NewRecipient(self._admission.ids.next(), address, "") for address in recipients)
        return msgspec.structs.replace(message, recipients=rows)

    def receive(self, principal: Principal, envelope: SmtpEnvelope) -> Receiving:
        """Begin to take an SMTP message whose sender and recipients were checked. Raises Refused."""
        return Receiving(self._admission, self._treatment, self._queue, principal, envelope)

    def is_written_to(self, principal: Principal, address: str) -> bool:
        """Whether mail of this key to an address goes there: it is not redirected, nor the simulator's."""
        return self._treatment.is_written_to(principal, address)

    def check_sender(self, principal: Principal, sender: str, *, client: str) -> None:
        """At MAIL: may this key use this envelope sender, and send anything now? Raises Refused."""
        try:
            self._admission.route(principal)
            senders.check(principal, (sender,), param="from")
            self._room.check()
            self._limiter.check(principal)
        except Refused as refusal:
            self._admission.tell_refused("smtp", principal, client, refusal)
            raise

    async def _prepare(
        self,
        principal: Principal,
        route: Route,
        asked: tuple[Submission, Idempotency | None],
        recipients: tuple[str, ...],
        *,
        client: str,
        request: IdempotencyKey | None = None,
    ) -> NewMessage:
        """A message for the queue, counted already; one that is refused does not count. Raises Refused, StoreError."""
        admission, (submission, idempotency) = self._admission, asked
        try:
            sender = draft.sender_of(principal, submission).address
            admission.check_senders(principal, sender, submission.return_path or sender)
            admission.check_count(recipients)
            if submission.variables is not None or submission.template is not None:
                submission = await self._substituted(principal, submission)
            message = await draft.compose(
                admission, principal, submission, route=route.name, idempotency=idempotency, client=client
            )
            wanted = Wanted(recipients, notices.by_http(principal, submission), submission.tags, request=request)
            return await self._treatment.treat(principal, route, message, wanted)
        except (Refused, StoreError) as error:
            self._limiter.give_back(principal, messages=1, recipients=len(recipients))
            if isinstance(error, StoreError):
                self._figures.unstored("http", error)
            raise

    async def _substituted(self, principal: Principal, submission: Submission) -> Submission:
        stored = None
        if submission.template is not None:
            stored = await self._templates.find(principal.account, submission.template)
            if stored is None:
                text = f"template: there is no template {submission.template}."
                raise Refused(Reason.TEMPLATE_ERROR, text, param="template")
        limit = self._admission.config.max_message
        try:
            if stored is None and _is_quick(submission):
                return template.apply(submission, None, limit=limit)
            return await asyncio.to_thread(template.apply, submission, stored, limit=limit)
        except TemplateError as error:
            text = str(error)
            raise Refused(Reason.TEMPLATE_ERROR, text, param=error.param, problems=error.problems) from error

    async def _prepare_all(
        self, principal: Principal, route: Route, asked: Sequence[Asked], *, client: str, request: IdempotencyKey | None
    ) -> list[NewMessage | Refused]:
        """All of them counted already; none counts where one meets a StoreError."""
        prepared: list[NewMessage | Refused] = []
        room, work = BATCH_ROOM * self._admission.config.max_message, 0
        for index, item in enumerate(asked, start=1):
            if room < 0 and not isinstance(item, Refused):  # it is not begun: filling in is what takes long
                self._limiter.give_back(principal, **_costs((item,)))
                prepared.append(Refused(Reason.PAYLOAD_TOO_LARGE, _GROWN))
                continue
            try:
                outcome = await self._prepare_item(principal, route, item, client=client, request=request)
            except StoreError:  # this item is given back already
                self._give_back(principal, [one for one in prepared if isinstance(one, NewMessage)])
                self._limiter.give_back(principal, **_costs(asked[index:]))
                raise
            if isinstance(outcome, NewMessage):
                room -= outcome.facts.size
                if room < 0:
                    self._give_back(principal, (outcome,))
                    outcome = Refused(Reason.PAYLOAD_TOO_LARGE, _GROWN)
            elif outcome is not item and outcome.reason is Reason.PAYLOAD_TOO_LARGE:
                room -= self._admission.config.max_message  # it took as long as one that fits
            prepared.append(outcome)
            work += _work(item)
            if work >= COMPOSE_STEP:
                await asyncio.sleep(0)
                work = 0
        return prepared

    async def _prepare_item(
        self, principal: Principal, route: Route, item: Asked, *, client: str, request: IdempotencyKey | None
    ) -> NewMessage | Refused:
        if isinstance(item, Refused):
            return item
        try:
            recipients = draft.recipients_of(item[0])
            return await self._prepare(principal, route, item, recipients, client=client, request=request)
        except Refused as refusal:
            return refusal

    async def _enqueue_all(
        self,
        principal: Principal,
        route: Route,
        prepared: Sequence[NewMessage | Refused],
        request: Idempotency | None,
    ) -> BatchReceipt:
        messages = [item for item in prepared if isinstance(item, NewMessage)]
        key = None
        if request is not None:
            expected = [self._expected(route, item) for item in prepared]
            key = RequestKey(principal.account, *request, answer=receipt.write(expected))
        with self._counting(principal, messages):
            await self._store_pieces(messages)
            outcome = await self._queue.enqueue_all([_without_stored(message) for message in messages], key)
        match outcome:
            case Replayed(answer):
                self._give_back(principal, messages)
                return receipt.read(answer)
            case Conflict():
                self._give_back(principal, messages)
                raise Refused(Reason.IDEMPOTENCY_CONFLICT, _CONFLICT, param="Idempotency-Key")
            case outcomes:
                each = iter(zip(messages, outcomes, strict=True))
                items = [await self._item(principal, route, item, each) for item in prepared]
                return BatchReceipt(tuple(items))

    def _expected(self, route: Route, item: NewMessage | Refused) -> Item:
        if isinstance(item, Refused):
            return Item(None, item)
        return Item(Receipt(item.uuid, status(route, item), replayed=False), None)

    async def _item(
        self,
        principal: Principal,
        route: Route,
        item: NewMessage | Refused,
        each: Iterable[tuple[NewMessage, Accepted | Conflict]],
    ) -> Item:
        if isinstance(item, Refused):
            return Item(None, item)
        message, outcome = next(iter(each))
        try:
            return Item(await self._receipt(principal, route, message, outcome), None)
        except Refused as refusal:
            return Item(None, refusal)

    async def _store_pieces(self, messages: Iterable[NewMessage]) -> None:
        """All but the first piece, which goes with the message."""
        for message in messages:
            for index, piece in message.pieces[1:]:
                await self._queue.put_piece(message.id, index, piece)

    async def _receipt(
        self, principal: Principal, route: Route, message: NewMessage, outcome: Accepted | Conflict
    ) -> Receipt:
        if isinstance(outcome, Conflict):
            self._give_back(principal, (message,))
            raise Refused(Reason.IDEMPOTENCY_CONFLICT, _CONFLICT, param="Idempotency-Key")
        if outcome.replayed:
            self._give_back(principal, (message,))
            told = await self._treatment.status_before(route, message, outcome.uuid)
            return Receipt(outcome.uuid, told, replayed=True)
        self._admission.tell_accepted(message)
        return Receipt(outcome.uuid, status(route, message), replayed=False)

    @contextmanager
    def _counting(self, principal: Principal, messages: Sequence[NewMessage]) -> Iterator[None]:
        """While the store has them: what it cannot take does not count."""
        try:
            self._room.check(sum(message.facts.size for message in messages))
            yield
        except Refused:
            self._give_back(principal, messages)
            raise
        except StoreError as error:
            self._give_back(principal, messages)
            self._figures.unstored("http", error)
            raise

    def _give_back(self, principal: Principal, messages: Sequence[NewMessage]) -> None:
        """What was not queued does not count."""
        recipients = sum(map(asked, messages))
        self._limiter.give_back(principal, messages=len(messages), recipients=recipients)
        for message in messages:
            self._treatment.give_back(principal, message)


def _costs(asked: Sequence[Asked]) -> dict[str, int]:
    """What a limiter takes for these, without what was refused already."""
    counts = [len(draft.recipients_of(item[0])) for item in asked if not isinstance(item, Refused)]
    return {"messages": len(counts), "recipients": sum(counts)}


def _work(item: Asked) -> int:
    """What composing it takes, in messages that are small."""
    if isinstance(item, Refused):
        return 1
    return 1 + composing.weight(item[0]) * COMPOSE_STEP // draft.THREAD_BYTES


def _is_quick(submission: Submission) -> bool:
    """Whether filling in is sure to take no time: few characters, and nothing to go round for."""
    size = len(submission.html or "") + len(submission.text or "")
    values = (submission.variables or {}).values()
    return size <= QUICK_CHARACTERS and not any(isinstance(value, (list, dict)) for value in values)


def _without_stored(message: NewMessage) -> NewMessage:
    """The message with the one piece that is not stored yet."""
    return message if len(message.pieces) == 1 else msgspec.structs.replace(message, pieces=message.pieces[:1])
