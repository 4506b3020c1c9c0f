"""What the HTTP API asks of the gateway behind it, and how a call shows who makes it.

Guarantees: the key is taken from `Authorization: Bearer` and nowhere else; the scope is checked before a
body is read.
"""

import secrets
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from gateway.errors import Reason, Refused
from gateway.intake import Receipt
from gateway.message.model import Submission
from gateway.policy.auth import Principal, require_scope
from gateway.store.queue import MessageView


class Door(Protocol):
    """The way to intake, keys and store."""

    def authenticate(self, secret: str, peer: str) -> Principal:
        """Who this key stands for. Raises Refused (AUTHENTICATION_REQUIRED)."""

    async def submit(
        self,
        principal: Principal,
        submission: Submission,
        *,
        idempotency: tuple[str, bytes] | None,
        peer: str,
    ) -> Receipt:
        """Queue it for good. `idempotency`: (the client's key, SHA-256 of what was asked for).

        Raises Refused, StoreError, StoreFull.
        """

    async def status(self, principal: Principal, uuid: bytes) -> MessageView | None:
        """A message of the principal's account; None for every other one. Raises StoreError."""

    def ready(self) -> str | None:
        """None when mail is taken, else the reason why not, in public words."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request on its way: `argument` is the variable segment of its path, `query` its raw query string."""

    request: web.BaseRequest
    id: str
    peer: str
    argument: str
    query: str

    def principal(self, door: Door, scope: str) -> Principal:
        """Who calls, with the right to do so. Raises Refused."""
        scheme, _, secret = self.request.headers.get("Authorization", "").partition(" ")
        secret = secret.strip(" ")
        if scheme.lower() != "bearer" or not secret:  # RFC 9110, 11.1: the scheme's case does not matter
            raise Refused(Reason.AUTHENTICATION_REQUIRED, "A key is required.")
        principal = door.authenticate(secret, self.peer)
        require_scope(principal, scope)
        return principal


def new_request_id() -> str:
    """`req_` and 24 characters; it names a request in logs and support, nothing is looked up by it."""
    return "req_" + secrets.token_hex(12)
