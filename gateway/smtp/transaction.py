"""A mail transaction between MAIL and the end of its content, and the words for it in a Received field."""

from typing import Any, Final

from gateway.message.model import SmtpEnvelope

MAX_HELO: Final = 255


class Transaction:
    """`principal` answers for it. `receiving` is the shell's place to keep what stores the content."""

    __slots__ = ("eight_bit", "principal", "receiving", "recipients", "sender", "utf8")

    def __init__(self, principal: Any, sender: str, *, eight_bit: bool, utf8: bool) -> None:
        self.principal = principal
        self.sender = sender
        self.eight_bit = eight_bit
        self.utf8 = utf8
        self.recipients: list[str] = []
        self.receiving: Any = None

    def envelope(self, *, helo: str, peer: str, protocol: str) -> SmtpEnvelope:
        return SmtpEnvelope(
            sender=self.sender,
            recipients=tuple(self.recipients),
            helo=helo,
            peer=peer,
            protocol="UTF8" + protocol.removeprefix("E") if self.utf8 else protocol,
            smtputf8=self.utf8,
            eight_bit=self.eight_bit,
        )


def protocol_name(*, esmtp: bool, tls: bool, authenticated: bool) -> str:
    """The `with` of a Received field (RFC 3848): who used TLS or AUTH speaks ESMTP, whatever the greeting
    was.

    RFC 6531, 4.3 puts UTF8SMTP for ESMTP; `Transaction.envelope` does.
    """
    name = "ESMTP" if esmtp or tls or authenticated else "SMTP"
    return name + "S" * tls + "A" * authenticated


def harmless_name(name: str) -> str:
    """A host name fit for a Received field. What a client calls itself is no reason to refuse (RFC 5321,
    4.1.4)."""
    if name.isascii() and len(name) <= MAX_HELO and name.replace(".", "").replace("-", "").isalnum():
        return name
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_:[]") else "?" for c in name[:MAX_HELO])
