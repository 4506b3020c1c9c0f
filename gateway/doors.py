"""The two doors' way to intake: who the client is, and what it may ask. No decision is made here."""

from collections.abc import Callable

from gateway.errors import Refused
from gateway.intake import Intake, Receipt, Receiving
from gateway.message.model import SmtpEnvelope, Submission
from gateway.observe import MailLog
from gateway.policy.auth import KeyRing, Principal
from gateway.runtime import Clock
from gateway.store.queue import MessageView, Queue


class HttpDoor:
    """What the HTTP API needs (api/server.py, Door)."""

    def __init__(
        self,
        keys: KeyRing,
        intake: Intake,
        queue: Queue,
        clock: Clock,
        log: MailLog,
        *,
        why_not_ready: Callable[[], str | None],
    ) -> None:
        self._keys = keys
        self._intake = intake
        self._queue = queue
        self._clock = clock
        self._log = log
        self._why_not_ready = why_not_ready

    def authenticate(self, secret: str, peer: str) -> Principal:
        try:
            return self._keys.authenticate(secret, self._clock.now_ms())
        except Refused as refusal:
            self._log.refused(door="http", key="", client=peer, reason=refusal.reason.code, text=refusal.text)
            raise

    async def submit(
        self, principal: Principal, submission: Submission, *, idempotency: tuple[str, bytes] | None, peer: str
    ) -> Receipt:
        return await self._intake.submit(principal, submission, idempotency=idempotency, client=peer)

    async def status(self, principal: Principal, uuid: bytes) -> MessageView | None:
        """None also where the message is another account's."""
        return await self._queue.message(uuid, principal.account)

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
