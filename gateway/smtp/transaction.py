"""A mail transaction between MAIL and the end of its content."""

from typing import Any

from gateway.message.model import SmtpEnvelope
from gateway.smtp.grammar import Mail, Rcpt


class Transaction:
    """`principal` answers for it, `mail` is what MAIL said, `sender` the address that is used for it. `receiving` and
    `since` are the shell's place to keep what stores the content, and when it first saw the transaction."""

    __slots__ = ("_mail", "_rcpts", "_said", "_suspect", "principal", "receiving", "recipients", "sender", "since")

    def __init__(self, principal: Any, sender: str, mail: Mail) -> None:
        self.principal = principal
        self.sender = sender
        self.recipients: list[str] = []
        self.receiving: Any = None
        self.since = 0.0
        self._mail = mail
        self._rcpts: list[Rcpt] = []
        self._said = False  # something of what is to be told
        self._suspect: tuple[str, Rcpt] | None = None

    @property
    def size(self) -> int:
        """What was declared; 0: nothing was."""
        return self._mail.size

    @property
    def utf8(self) -> bool:
        """MAIL said SMTPUTF8."""
        return self._mail.utf8

    def add(self, recipient: str, rcpt: Rcpt) -> None:
        """`recipient` is the address that is used for it."""
        self.recipients.append(recipient)
        self._rcpts.append(rcpt)
        if rcpt.notify is not None or rcpt.orcpt:
            self._said = True

    @property
    def suspect(self) -> str:
        """The recipient that is to be judged."""
        assert self._suspect is not None
        return self._suspect[0]

    def doubt(self, recipient: str, rcpt: Rcpt) -> None:
        """It is for `settle` to add, as `add` would, once it was judged."""
        self._suspect = (recipient, rcpt)

    def settle(self, *, taken: bool) -> None:
        """The suspect was judged."""
        assert self._suspect is not None
        suspect, self._suspect = self._suspect, None
        if taken:
            self.add(*suspect)

    def envelope(self, *, helo: str, peer: str, protocol: str) -> SmtpEnvelope:
        """`protocol` is the `with` of a Received field (RFC 3848)."""
        mail, rcpts = self._mail, self._rcpts if self._said else ()
        return SmtpEnvelope(
            sender=self.sender,
            recipients=tuple(self.recipients),
            helo=helo,
            peer=peer,
            # RFC 6531, 4.3: UTF8SMTP stands for ESMTP.
            protocol="UTF8" + protocol.removeprefix("E") if mail.utf8 else protocol,
            smtputf8=mail.utf8,
            eight_bit=mail.eight_bit,
            notify=tuple([rcpt.notify for rcpt in rcpts]),
            orcpt=tuple([rcpt.orcpt for rcpt in rcpts]),
            ret=mail.ret,
            envid=mail.envid,
            require_tls=mail.require_tls,
        )
