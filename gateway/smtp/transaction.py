"""A mail transaction between MAIL and the end of its content."""

from typing import Any

from gateway.message.model import SmtpEnvelope


class Transaction:
    """`principal` answers for it, `size` is what was declared (0: nothing was). `receiving` and `since` are the
    shell's place to keep what stores the content, and when it first saw the transaction."""

    __slots__ = ("eight_bit", "principal", "receiving", "recipients", "sender", "since", "size", "utf8")

    def __init__(self, principal: Any, sender: str, size: int, *, eight_bit: bool, utf8: bool) -> None:
        self.principal = principal
        self.sender = sender
        self.size = size
        self.eight_bit = eight_bit
        self.utf8 = utf8
        self.recipients: list[str] = []
        self.receiving: Any = None
        self.since = 0.0

    def envelope(self, *, helo: str, peer: str, protocol: str) -> SmtpEnvelope:
        """`protocol` is the `with` of a Received field (RFC 3848)."""
        return SmtpEnvelope(
            sender=self.sender,
            recipients=tuple(self.recipients),
            helo=helo,
            peer=peer,
            # RFC 6531, 4.3: UTF8SMTP stands for ESMTP.
            protocol="UTF8" + protocol.removeprefix("E") if self.utf8 else protocol,
            smtputf8=self.utf8,
            eight_bit=self.eight_bit,
        )
