"""Who is at the other end of a connection: what it calls itself, and what is known of it.

Guarantees: nothing said in clear is believed once there is TLS (RFC 3207, 4.2); a name is made harmless before anything
else sees it. Credentials are auth.py's.
"""

from typing import Any, Final

from gateway.message.model import SmtpEnvelope
from gateway.smtp.transaction import Transaction

MAX_NAME: Final = 255


class Client:
    """`name` is "" before a greeting, `peer` its address, `network_key` the name of the key its address stands for."""

    __slots__ = ("_esmtp", "name", "network_key", "peer", "tls")

    def __init__(self, *, peer: str, network_key: str | None, tls: bool) -> None:
        self.name = ""
        self.peer = peer
        self.network_key = network_key
        self.tls = tls
        self._esmtp = False

    def greet(self, name: str, *, esmtp: bool) -> None:
        self.name = harmless_name(name)
        self._esmtp = esmtp

    def secure(self) -> None:
        """There is TLS now, and the greeting before it is void."""
        self.tls = True
        self.name = ""
        self._esmtp = False

    def envelope(self, transaction: Transaction, principal: Any) -> SmtpEnvelope:
        """Of a transaction; `principal` is the one that authenticated, or None."""
        authenticated = principal is not None
        # RFC 3848: who used TLS or AUTH speaks ESMTP, whatever the greeting was.
        name = "ESMTP" if self._esmtp or self.tls or authenticated else "SMTP"
        return transaction.envelope(
            helo=self.name, peer=self.peer, protocol=name + "S" * self.tls + "A" * authenticated
        )


def harmless_name(name: str) -> str:
    """A host name fit for a Received field. What a client calls itself is no reason to refuse (RFC 5321,
    4.1.4)."""
    if name.isascii() and len(name) <= MAX_NAME and name.replace(".", "").replace("-", "").isalnum():
        return name
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_:[]") else "?" for c in name[:MAX_NAME])
