"""On whose authority a client submits: when AUTH may be said, and who answers for a transaction.

Guarantees: a password is not asked for in clear unless the rules say so; who needs a key and has none is told what to
do about it. Whether credentials are good is auth.py's, what a principal may send the door's.
"""

from typing import Any

from gateway.config import Auth
from gateway.errors import Reason, Refused
from gateway.smtp import replies
from gateway.smtp.client import Client
from gateway.smtp.door import Door
from gateway.smtp.grammar import BadCommand
from gateway.smtp.rules import Rules
from gateway.smtp.transaction import Transaction


def check_auth(rules: Rules, client: Client, authenticated: Any, transaction: Transaction | None) -> None:
    """Raises BadCommand where AUTH is out of place: `authenticated` is who said it before, or None."""
    if not client.name:
        raise BadCommand(replies.HELO_FIRST)
    if rules.auth is Auth.NONE:
        raise BadCommand(replies.NOT_IMPLEMENTED)
    if authenticated is not None:
        raise BadCommand(replies.AUTH_TWICE)  # RFC 4954, 4
    if transaction is not None:
        raise BadCommand(replies.AUTH_LATE)  # RFC 4954, 4
    if not client.tls and not rules.plaintext_auth:
        raise BadCommand(replies.AUTH_NEEDS_TLS)


def principal_of(rules: Rules, client: Client, authenticated: Any, door: Door) -> Any:
    """Who answers for a transaction: the key that `authenticated` (None: none did), the one of the client's network, or
    (None) nobody. Raises BadCommand, Refused, StoreError."""
    if rules.anybody:
        return None
    if authenticated is not None:
        return authenticated
    if rules.auth is not Auth.REQUIRED and client.network_key is not None:
        try:
            return door.network_principal(client.network_key)
        except Refused as refused:
            if refused.reason is not Reason.AUTHENTICATION_REQUIRED:
                raise
    if rules.auth is Auth.NONE:
        raise BadCommand(replies.NOT_LISTED)
    hidden = rules.starttls and not client.tls and not rules.plaintext_auth
    raise BadCommand(replies.STARTTLS_FIRST if hidden else replies.AUTH_REQUIRED)
