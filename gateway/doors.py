"""The two doors' way to intake: who the client is, and what it may ask. No decision is made here.

Whoever is not let in gets one answer, whatever the reason; the reason is in the mail log.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from gateway.config import Limit, Limits, Unit
from gateway.delivery.passthrough import NamedRelay, Passed, PassThrough
from gateway.delivery.waits import Outcome, Waits
from gateway.errors import Reason, Refused
from gateway.intake import Asked, BatchReceipt, Idempotency, Intake, Receipt, Receiving
from gateway.intake.figures import IntakeFigures
from gateway.message.model import SmtpEnvelope, Submission
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.policy import auth, recipients
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.guard import Guard
from gateway.policy.limits import Allowance, Buckets, Limiter
from gateway.runtime import Clock
from gateway.store.queue import Queue
from gateway.store.shown import MessageView
from gateway.templates import TemplateManager

log = logging.getLogger("gateway.doors")

_TOLD: Final = Limit(Unit.REQUESTS, 1, 60, burst=1)  # how often the log tells the same of one address

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
    """Judges what clients show, for both doors together: a guess at one counts at the other.

    Who knocks a thousand times does not fill the log: what happens again is told once a minute of each address.
    """

    def __init__(
        self, keys: KeyRing, guard: Guard, clock: Clock, log: MailLog, figures: IntakeFigures | None = None
    ) -> None:
        self._keys = keys
        self._figures = figures or IntakeFigures(Metrics())
        self._guard = guard
        self._clock = clock
        self._log = log
        self._told = Buckets(_TOLD, clock)

    def authenticate(self, door: str, secret: str, peer: str, login: str | None) -> Principal:
        """The principal of a key. Refused with AUTHENTICATION_REQUIRED in one wording, or THROTTLED."""
        if not secret:
            # No guess: a probe without a key must not shut out the clients of its address.
            raise self._turned_away(door, "", peer, "no key was given", again=True)
        name = login or ""
        try:
            self._guard.check(peer, name, secret)
        except Refused as refusal:
            self._tell(door, "", peer, refusal, again=True)
            raise
        principal, fault = self._keys.judge(secret, self._clock.now_ms(), peer=peer, login=login)
        if principal is not None and fault is None:
            self._guard.passed(peer, secret)
            return principal
        again = not self._guard.failed(peer, name, secret)
        key = principal.name if principal is not None else ""
        raise self._turned_away(door, key, peer, fault or "", again=again)

    def named(self, door: str, name: str) -> Principal:
        """The principal that a network stands for. Refused with AUTHENTICATION_REQUIRED."""
        try:
            return self._keys.named(name, self._clock.now_ms())
        except Refused as refusal:
            self._figures.refused(door, refusal)
            self._log.refused(door=door, key=name, client="", reason=refusal.reason.code, text=refusal.text)
            raise

    def _turned_away(self, door: str, key: str, peer: str, why: str, *, again: bool) -> Refused:
        """The one answer to the client; the reason is told."""
        self._tell(door, key, peer, Refused(Reason.AUTHENTICATION_REQUIRED, why), again=again)
        return Refused(Reason.AUTHENTICATION_REQUIRED, auth.REFUSAL)

    def _tell(self, door: str, key: str, peer: str, refusal: Refused, *, again: bool) -> None:
        """`again`: it may have been told before, within the minute."""
        self._figures.refused(door, refusal)
        if not again or not self._told.take(f"{peer} {refusal.reason.code} {key}"):
            self._log.refused(door=door, key=key, client=peer, reason=refusal.reason.code, text=refusal.text)
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("refused again: door=%s key=%s client=%s: %s", door, key, peer, refusal.text)


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
        clock: Clock,
        log: MailLog,
        why_not_ready: Callable[[], str | None],
        guard: Guard | None = None,
        figures: IntakeFigures | None = None,
    ) -> None:
        self._doorkeeper = Doorkeeper(keys, guard or Guard(Limits().auth_failures, clock), clock, log, figures)
        self._intake = intake
        self._log = log
        self._queue = queue
        self._limiter = limiter
        self._waits = waits
        self._pass_through = pass_through
        self.templates = templates
        self._why_not_ready = why_not_ready

    def authenticate(self, secret: str, peer: str, *, login: str | None = None) -> Principal:
        return self._doorkeeper.authenticate("http", secret, peer, login)

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
    """What the SMTP listener needs (smtp/listener.py, Door)."""

    def __init__(
        self,
        keys: KeyRing,
        intake: Intake,
        clock: Clock,
        log: MailLog,
        *,
        guard: Guard | None = None,
        figures: IntakeFigures | None = None,
    ) -> None:
        self._figures = figures or IntakeFigures(Metrics())
        self._doorkeeper = Doorkeeper(keys, guard or Guard(Limits().auth_failures, clock), clock, log, self._figures)
        self._intake = intake
        self._log = log

    def authenticate(self, login: str, password: str, peer: str) -> Principal:
        return self._doorkeeper.authenticate("smtp", password, peer, login)

    def network_principal(self, key_name: str) -> Principal:
        return self._doorkeeper.named("smtp", key_name)

    def check_sender(self, principal: Principal, address: str, peer: str) -> str:
        """The envelope sender that its mail gets. The null sender stays: no bounce is answered by one."""
        sender = address and (principal.rewrite_from or self._qualified(principal, address, peer))
        self._intake.check_sender(principal, sender, client=peer)
        return sender

    def check_recipient(self, principal: Principal, address: str, peer: str) -> str:
        return self._qualified(principal, address, peer)

    def begin(self, principal: Principal, envelope: SmtpEnvelope) -> Receiving:
        return self._intake.receive(principal, envelope)

    def _qualified(self, principal: Principal, address: str, peer: str) -> str:
        try:
            return recipients.qualify(principal, address)
        except Refused as refusal:
            self._figures.refused("smtp", refusal)
            told = {"key": principal.name, "client": peer, "reason": refusal.reason.code, "text": refusal.text}
            self._log.refused(door="smtp", **told)
            raise
