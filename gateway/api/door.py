"""What the HTTP API asks of the gateway behind it, and the call that an operation serves."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from gateway.delivery.passthrough import NamedRelay, Passed
from gateway.delivery.waits import Outcome
from gateway.errors import Refused
from gateway.intake import BatchReceipt, Receipt
from gateway.manage.mail import AccountMail
from gateway.manage.suppressionlist import SuppressionList
from gateway.manage.webhooks import WebhookManager
from gateway.message.model import Submission
from gateway.policy.auth import Principal
from gateway.policy.limits import Allowance
from gateway.store.shown import MessageView
from gateway.templates import TemplateManager

Idempotency = tuple[str, bytes]  # the client's own name for a request, SHA-256 of what was asked for


class Door(Protocol):
    """The way to intake, keys and store."""

    @property
    def templates(self) -> TemplateManager:
        """The stored templates of every account."""

    @property
    def mail(self) -> AccountMail:
        """What an account does with its own mail."""

    @property
    def suppressions(self) -> SuppressionList:
        """Who is not sent to, of every account."""

    @property
    def webhooks(self) -> WebhookManager:
        """Endpoints that are told of events, of every account."""

    def authenticate(self, secret: str, peer: str, *, login: str | None = None) -> Principal:
        """Who this key stands for. Raises Refused (AUTHENTICATION_REQUIRED), for an empty text too.

        `login` is a user name given with it: any, but not the name of another key.
        """

    def refused(self, principal: Principal, reason: str, text: str, *, peer: str) -> None:
        """Its mail was refused on this side of the door, for that error code: to be counted and told."""

    async def submit(
        self, principal: Principal, submission: Submission, *, idempotency: Idempotency | None, peer: str
    ) -> Receipt:
        """Queue it for good. Raises Refused, StoreError, StoreFull."""

    async def submit_all(
        self,
        principal: Principal,
        items: Sequence[tuple[Submission, Idempotency | None] | Refused],
        *,
        request: Idempotency | None,
        peer: str,
    ) -> BatchReceipt:
        """Queue several, in one transaction; what is wrong with one item fails that item only.

        Raises Refused, StoreError, StoreFull: then nothing of it was queued.
        """

    async def outcome(self, principal: Principal, uuid: bytes, wait_s: float) -> Outcome | None:
        """Where a message stands once every recipient has a final state, or at the end of the wait. None for a
        message of another account. Raises StoreError."""

    async def status(self, principal: Principal, uuid: bytes) -> MessageView | None:
        """A message of the principal's account; None for every other one. Raises StoreError."""

    def allowances(self, principal: Principal) -> tuple[Allowance, ...]:
        """What is left of the key's limits."""

    def passes_through(self, host: str, port: int | None, peer: str) -> bool:
        """May this client name this relay itself? `port` None: any listed one."""

    async def pass_through(self, relay: NamedRelay, submission: Submission, *, peer: str) -> Passed:
        """One attempt, without the queue. Raises Refused (an unlisted relay, another network, too many)."""

    def ready(self) -> str | None:
        """None when mail is taken, else the reason why not, in public words."""


@dataclass(slots=True)
class Call:
    """A request on its way: `argument` is the variable segment of its path, `query` its raw query string. `principal`
    is known once the operation asked for it, and whether it `sends` mail."""

    request: web.BaseRequest
    id: str
    peer: str
    argument: str
    query: str
    principal: Principal | None = None
    sends: bool = False

    def bearer(self) -> str | None:
        """The text of `Authorization: Bearer`, None where there is none."""
        scheme, _, secret = self.request.headers.get("Authorization", "").partition(" ")
        # RFC 9110, 11.1: the scheme's case does not matter.
        return (secret.strip(" ") or None) if scheme.lower() == "bearer" else None

    def basic(self) -> tuple[str, str] | None:
        """User and password of `Authorization: Basic` (RFC 7617), None where there are none or they cannot be read."""
        scheme, _, given = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = base64.b64decode(given.strip(" "), validate=True).decode().partition(":")
        except ValueError:
            return None
        return (user, password) if colon else None


def new_request_id() -> str:
    """`req_` and 24 characters; it names a request in logs and support, nothing is looked up by it."""
    return "req_" + secrets.token_hex(12)
