"""What the SMTP listener asks of the gateway behind it.

Contract: the plain methods answer at once, without waiting, and raise Refused or StoreError; their reply, and that of
`judge_recipient`, goes to the client. A principal is opaque to the listener: it only hands it back.
"""

from typing import Any, Protocol

from gateway.message.model import SmtpEnvelope


class Receiving(Protocol):
    """A message on its way in. Both raise Refused, StoreError, StoreFull; after an error nothing more is
    called.

    Pieces are canonical (CR LF only, no NUL) and at most PIECE_BYTES long; dots are unstuffed. A piece ends after a
    line end; only within a line longer than a piece it ends anywhere but between CR and LF.
    """

    async def add(self, data: bytes) -> None:
        """The next piece, in order; only for content larger than one piece."""

    async def finish(self, last: bytes) -> str:
        """The last piece (the only one of most messages; may be empty). The id the message was queued
        under, for good; "" where it is taken and not queued."""


class Door(Protocol):
    def authenticate(self, login: str, password: str, peer: str) -> Any:
        """The principal of these credentials. Refused with AUTHENTICATION_REQUIRED."""

    def network_principal(self, key_name: str) -> Any:
        """The principal of the key that stands for a client's network. Refused with
        AUTHENTICATION_REQUIRED."""

    def check_sender(self, principal: Any, address: str, peer: str) -> str:
        """At MAIL: the envelope sender to use, for an address, a local part alone or "" (the null sender)."""

    def check_recipient(self, principal: Any, address: str, peer: str) -> str:
        """At RCPT: the address to use, for an address or a local part alone."""

    def is_suspect(self, principal: Any, address: str) -> bool:
        """Whether such an address must be judged before RCPT is answered; nearly none must."""

    async def judge_recipient(self, principal: Any, address: str, peer: str) -> None:
        """Raises Refused, StoreError where it is not taken."""

    def begin(self, principal: Any, envelope: SmtpEnvelope) -> Receiving:
        """The content comes. May raise as `finish` does."""
