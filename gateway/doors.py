"""The two doors' way to intake: who the client is, and what it may ask. No decision is made here."""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.delivery.passthrough import NamedRelay, Passed, PassThrough
from gateway.delivery.waits import Outcome, Waits
from gateway.errors import Refused
from gateway.intake import Asked, BatchReceipt, Idempotency, Intake, Receipt, Receiving
from gateway.message.model import SmtpEnvelope, Submission
from gateway.observe import MailLog
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.limits import Allowance, Limiter
from gateway.runtime import Clock
from gateway.store.queue import MessageView, Queue
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
    ) -> None:
        self._keys = keys
        self._intake = intake
        self._queue = queue
        self._limiter = limiter
        self._waits = waits
        self._pass_through = pass_through
        self.templates = templates
        self._clock = clock
        self._log = log
        self._why_not_ready = why_not_ready

    def authenticate(self, secret: str, peer: str, *, login: str | None = None) -> Principal:
        try:
            return self._keys.authenticate(secret, self._clock.now_ms(), login=login)
        except Refused as refusal:
            self._log.refused(door="http", key="", client=peer, reason=refusal.reason.code, text=refusal.text)
            raise

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

    def __init__(self, keys: KeyRing, intake: Intake, clock: Clock, log: MailLog) -> None:
        self._keys = keys
        self._intake = intake
        self._clock = clock
        self._log = log

    def authenticate(self, login: str, password: str, peer: str) -> Principal:
        try:
            return self._keys.authenticate(password, self._clock.now_ms(), login=login)
        except Refused as refusal:
            self._log.refused(door="smtp", key="", client=peer, reason=refusal.reason.code, text=refusal.text)
            raise

    def network_principal(self, key_name: str) -> Principal:
        try:
            return self._keys.named(key_name, self._clock.now_ms())
        except Refused as refusal:
            self._log.refused(door="smtp", key=key_name, client="", reason=refusal.reason.code, text=refusal.text)
            raise

    def check_sender(self, principal: Principal, address: str, peer: str) -> None:
        self._intake.check_sender(principal, address, client=peer)

    def check_recipient(self, principal: Principal, address: str) -> str:
        del principal
        return address

    def begin(self, principal: Principal, envelope: SmtpEnvelope) -> Receiving:
        return self._intake.receive(principal, envelope)
