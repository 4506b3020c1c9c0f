"""The two doors' way to intake: who the client is, and what it may ask. No decision is made here.

Whoever is not let in gets one answer, whatever the reason; the reason is in the mail log.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gateway.config import Limits
from gateway.delivery.passthrough import NamedRelay, Passed, PassThrough
from gateway.delivery.waits import Outcome, Waits
from gateway.errors import Reason, Refused
from gateway.intake import Asked, BatchReceipt, Idempotency, Intake, Receipt, Receiving
from gateway.intake.figures import IntakeFigures
from gateway.intake.refusals import Refusals
from gateway.manage.mail import AccountMail
from gateway.manage.suppressionlist import SuppressionList
from gateway.manage.webhooks import WebhookManager
from gateway.message.model import SmtpEnvelope, Submission
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.policy import auth, recipients, suppression
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.guard import Guard
from gateway.policy.limits import Allowance, Limiter
from gateway.policy.suppression import Suppressions
from gateway.runtime import Clock
from gateway.store.queue import Queue
from gateway.store.shown import MessageView
from gateway.templates import TemplateManager

# Whose mail it is that a request takes to its own relay: nobody's here, so no key of ours can read it.
PASSING: Final = Principal(
    name="pass_through",
    account="pass_through",
    route="pass_through",
    senders=(),
    scopes=frozenset(),
    default_from=None,
    expires_at=None,
)


class Doorkeeper:
    """Judges what clients show, for both doors together: a guess at one counts at the other. Every guess is told."""

    def __init__(self, keys: KeyRing, guard: Guard, clock: Clock, refusals: Refusals) -> None:
        self._keys = keys
        self._guard = guard
        self._clock = clock
        self._refusals = refusals

    def authenticate(self, door: str, secret: str, peer: str, login: str | None) -> Principal:
        """The principal of a key. Refused with AUTHENTICATION_REQUIRED in one wording, or THROTTLED."""
        if not secret:
            # No guess: a probe without a key must not shut out the clients of its address.
            raise self._turned_away(door, "", peer, "no key was given")
        name = login or ""
        try:
            self._guard.check(peer, name, secret)
        except Refused as refusal:
            self._refusals.tell(refusal, door=door, key="", client=peer)
            raise
        principal, fault = self._keys.judge(secret, self._clock.now_ms(), peer=peer, login=login)
        if principal is not None and fault is None:
            self._guard.passed(peer, secret)
            return principal
        is_guess = self._guard.failed(peer, name, secret)
        key = principal.name if principal is not None else ""
        raise self._turned_away(door, key, peer, fault or "", always=is_guess)

    def again(self, door: str, known: Principal, peer: str) -> Principal:
        """Who was let in before, as the key is now. Refused with AUTHENTICATION_REQUIRED where the text that was shown
        is not good any more."""
        if not known.text:
            return self.named(door, known.name, peer)
        principal, fault = self._keys.judge_again(known, self._clock.now_ms(), peer=peer)
        if principal is None or fault is not None:
            raise self._turned_away(door, known.name, peer, str(fault))
        return principal

    def named(self, door: str, name: str, peer: str = "") -> Principal:
        """A key as it is now. Refused with AUTHENTICATION_REQUIRED."""
        try:
            return self._keys.named(name, self._clock.now_ms())
        except Refused as refusal:
            self._refusals.tell(refusal, door=door, key=name, client=peer)
            raise

    def _turned_away(self, door: str, key: str, peer: str, why: str, *, always: bool = False) -> Refused:
        """The one answer to the client; the reason is told."""
        reason = Reason.AUTHENTICATION_REQUIRED
        self._refusals.tell(Refused(reason, why), door=door, key=key, client=peer, always=always)
        answer = Refused(reason, auth.REFUSAL)
        answer.told = True
        return answer


class HttpDoor:
    """What the HTTP API needs (api/door.py, Door)."""

    def __init__(
        self,
        keys: KeyRing,
        intake: Intake,
        queue: Queue,
        *,
        limiter: Limiter,
        waits: Waits,
        pass_through: PassThrough,
        templates: TemplateManager,
        mail: AccountMail,
        suppressions: SuppressionList,
        webhooks: WebhookManager,
        clock: Clock,
        log: MailLog,
        why_not_ready: Callable[[], str | None],
        guard: Guard | None = None,
        figures: IntakeFigures | None = None,
    ) -> None:
        self._refusals = Refusals(log, figures or IntakeFigures(Metrics()))
        self._doorkeeper = Doorkeeper(keys, guard or Guard(Limits().auth_failures, clock), clock, self._refusals)
        self._intake = intake
        self._queue = queue
        self._limiter = limiter
        self._waits = waits
        self._pass_through = pass_through
        self.templates = templates
        self.mail = mail
        self.suppressions = suppressions
        self.webhooks = webhooks
        self._why_not_ready = why_not_ready

    def authenticate(self, secret: str, peer: str, *, login: str | None = None) -> Principal:
        return self._doorkeeper.authenticate("http", secret, peer, login)

    def refused(self, principal: Principal, reason: str, text: str, *, peer: str) -> None:
        self._refusals.say(reason, text, door="http", key=principal.name, client=peer)

    async def submit(
        self, principal: Principal, submission: Submission, *, idempotency: Idempotency | None, peer: str
    ) -> Receipt:
        return await self._intake.submit(principal, submission, idempotency=idempotency, client=peer)

    async def submit_all(
        self, principal: Principal, items: Sequence[Asked], *, request: Idempotency | None, peer: str
    ) -> BatchReceipt:
        return await self._intake.submit_all(principal, items, request=request, client=peer)

    async def outcome(self, principal: Principal, uuid: bytes, wait_s: float) -> Outcome | None:
        return await self._waits.outcome(uuid, principal.account, wait_s)

    async def status(self, principal: Principal, uuid: bytes) -> MessageView | None:
        """None also where the message is another account's."""
        return await self._queue.message(uuid, principal.account)

    def allowances(self, principal: Principal) -> tuple[Allowance, ...]:
        return self._limiter.allowances(principal)

    def passes_through(self, host: str, port: int | None, peer: str) -> bool:
        return self._pass_through.allowed(host, port, peer)

    async def pass_through(self, relay: NamedRelay, submission: Submission, *, peer: str) -> Passed:
        message = await self._intake.compose(PASSING, submission, client=peer)
        return await self._pass_through.send(relay, message, client=peer)

    def ready(self) -> str | None:
        """None when mail is taken, else why not."""
        return self._why_not_ready()


class SmtpDoor:
    """What the SMTP listener needs (smtp/listener.py, Door). A connection lasts: its key is looked up anew at MAIL, and
    when the content comes, for it may be revoked by then, have another text or another mode."""

    def __init__(
        self,
        keys: KeyRing,
        intake: Intake,
        clock: Clock,
        log: MailLog,
        *,
        suppressions: Suppressions | None = None,
        guard: Guard | None = None,
        figures: IntakeFigures | None = None,
    ) -> None:
        self._refusals = Refusals(log, figures or IntakeFigures(Metrics()))
        self._doorkeeper = Doorkeeper(keys, guard or Guard(Limits().auth_failures, clock), clock, self._refusals)
        self._intake = intake
        self._suppressions = suppressions

    def authenticate(self, login: str, password: str, peer: str) -> Principal:
        return self._doorkeeper.authenticate("smtp", password, peer, login)

    def network_principal(self, key_name: str) -> Principal:
        return self._doorkeeper.named("smtp", key_name)

    def check_sender(self, principal: Principal, address: str, peer: str) -> str:
        """The envelope sender that its mail gets. The null sender stays: no bounce is answered by one."""
        principal = self._as_now(principal, peer)
        sender = address and (principal.rewrite_from or self._qualified(principal, address, peer))
        self._intake.check_sender(principal, sender, client=peer)
        return sender

    def check_recipient(self, principal: Principal, address: str, peer: str) -> str:
        return self._qualified(principal, address, peer)

    def is_suspect(self, principal: Principal, address: str) -> bool:
        """Whether a recipient must be judged: its account may not want to send to it."""
        suspect = self._suppressions is not None and self._suppressions.may_have(address)
        return suspect and self._intake.is_written_to(principal, address)

    async def judge_recipient(self, principal: Principal, address: str, peer: str) -> None:
        """Raises Refused where its account does not send there, whatever mail it is; StoreError."""
        if self._suppressions is None or not self._intake.is_written_to(principal, address):
            return
        # Tags come with the content: what is suppressed for them alone is found then.
        found = await self._suppressions.find(principal.account, (), (address,))
        if address in found:
            refusal = suppression.refusal(found[address])
            self._refusals.tell(refusal, door="smtp", key=principal.name, client=peer)
            raise refusal

    def begin(self, principal: Principal, envelope: SmtpEnvelope) -> Receiving:
        return self._intake.receive(self._as_now(principal, envelope.peer), envelope)

    def _as_now(self, principal: Principal, peer: str) -> Principal:
        now = self._doorkeeper.again("smtp", principal, peer)
        if now.default_domain is None and principal.default_domain is not None:
            return replace(now, default_domain=principal.default_domain)  # what the local socket gave it
        return now

    def _qualified(self, principal: Principal, address: str, peer: str) -> str:
        try:
            return recipients.qualify(principal, address)
        except Refused as refusal:
            self._refusals.tell(refusal, door="smtp", key=principal.name, client=peer)
            raise
