"""The grammar of SMTP submission: bytes in, replies and needs out. No I/O, no await, no clock.

    need = engine.feed(data)    what the shell must do next; `take()` has the replies so far, for one write
    INPUT     nothing: more bytes are needed
    STORE     store `piece` (large content only), then `proceed`
    COMMIT    store `piece` as the last one and commit, then `proceed` with the reply
    STARTTLS  write the replies, upgrade, then `secured`
    CLOSE     write the replies and close

Guarantees: one reply for each command, in order, whatever the segments were (RFC 2920); what was buffered
behind STARTTLS is dropped (RFC 3207, 4.2); memory is bounded; nothing is taken from a client that the
listener's rules or the door do not let in. Time, connections and the wire are the shell's.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Final

from gateway.config import Auth
from gateway.errors import GatewayError, Reason, Refused
from gateway.message.model import SmtpEnvelope
from gateway.smtp import grammar, replies
from gateway.smtp.auth import Authentication
from gateway.smtp.content import ContentReader
from gateway.smtp.door import Door
from gateway.smtp.grammar import BadAddress, BadCommand
from gateway.smtp.lines import LineReader
from gateway.smtp.rules import Rules
from gateway.smtp.transaction import Transaction, harmless_name, protocol_name

MAX_ERRORS: Final = 20  # on one connection
MAX_IDLE_COMMANDS: Final = 100  # commands without effect since the last message


class Need(Enum):
    INPUT = 0
    STORE = 1
    COMMIT = 2
    STARTTLS = 3
    CLOSE = 4


class Engine:
    """One connection. `network_key` names the key its address stands for; `authenticate` judges (login,
    password) as `Door.authenticate` does."""

    __slots__ = (
        "_auth",
        "_commands",
        "_door",
        "_draining",
        "_errors",
        "_esmtp",
        "_helo",
        "_lines",
        "_need",
        "_network_key",
        "_out",
        "_peer",
        "_reader",
        "_rules",
        "_tls",
        "piece",
        "transaction",
    )

    def __init__(
        self,
        rules: Rules,
        door: Door,
        *,
        peer: str,
        network_key: str | None,
        tls: bool,
        authenticate: Callable[[bytes, bytes], Any],
    ) -> None:
        self.piece = b""
        self.transaction: Transaction | None = None
        self._rules = rules
        self._door = door
        self._peer = peer
        self._network_key = network_key
        self._tls = tls
        self._helo = ""
        self._esmtp = False
        self._lines = LineReader(convert=rules.convert)
        self._auth = Authentication(authenticate)
        self._reader: ContentReader | None = None
        self._out: list[bytes] = [rules.greeting]
        self._need = Need.INPUT
        self._errors = self._commands = 0
        self._draining = False

    @property
    def in_content(self) -> bool:
        return self._reader is not None

    @property
    def buffered(self) -> int:
        """Octets kept for later."""
        return self._lines.buffered

    @property
    def envelope(self) -> SmtpEnvelope:
        """Of the transaction in hand."""
        assert self.transaction is not None
        protocol = protocol_name(esmtp=self._esmtp, tls=self._tls, authenticated=self._auth.principal is not None)
        return self.transaction.envelope(helo=self._helo, peer=self._peer, protocol=protocol)

    def take(self) -> bytes:
        """The replies since the last call, in order; b"" for none."""
        out = self._out
        if not out:
            return b""
        self._out = []
        return out[0] if len(out) == 1 else b"".join(out)

    def keep(self, data: bytes) -> None:
        """Take bytes while a need is being served."""
        self._lines.feed(data)

    def feed(self, data: bytes) -> Need:
        """Take bytes and go on."""
        self._lines.feed(data)
        self._need = Need.INPUT
        while self._step():
            pass
        return self._need

    def proceed(self, reply: bytes | None) -> Need:
        """Go on after STORE (a reply refuses the content) or COMMIT (the reply is sent)."""
        self.piece = b""
        if self._reader is None:
            self._out.append(reply or replies.OUR_FAULT)
            self._commands = 0
            self.transaction = None
        elif reply is not None:
            self._reader.refuse(reply)
        return self._run()

    def secured(self) -> Need:
        """Go on after the TLS handshake: the client is unknown again (RFC 3207, 4.2)."""
        self._tls = True
        self._helo = ""
        self._esmtp = False
        self._auth.forget()
        self.transaction = None
        return self._run()

    def fault(self) -> Need:
        """Go on after an error of ours: a command is answered with 451, content in hand ends the session."""
        if self._reader is not None:
            self.end(replies.BROKEN)
            return Need.CLOSE
        self._auth.cancel()
        self._out.append(replies.OUR_FAULT)
        return self._run()

    def drain(self) -> Need:
        """Let the open transaction end, then close; CLOSE if there is none."""
        self._draining = True
        return self._run() if self._need is Need.INPUT else self._need

    def end(self, reply: bytes) -> None:
        """Say a last word, whatever is in hand; CLOSE is next."""
        self._out.append(reply)
        self._need = Need.CLOSE
        self._reader = None
        self._lines.clear()

    def _run(self) -> Need:
        self._need = Need.INPUT
        while self._step():
            pass
        return self._need

    def _step(self) -> bool:
        """Go on by a line or a piece; False where that needs something."""
        if self._reader is not None:
            return self._read_content(self._reader)
        lines = self._lines
        if self._draining and self.transaction is None:
            self.end(replies.SHUTTING_DOWN)
            return False
        try:
            line = lines.next(in_auth=self._auth.running)
            if line is None:
                return False
            self._obey(line)
        except BadAddress as bad:
            self._out.append(bad.reply)
        except BadCommand as bad:
            self._auth.cancel()
            self._bad(bad.reply)
        except GatewayError as error:
            self._out.append(replies.of(error))
        return (lines.pending or self._draining) and self._need is Need.INPUT

    def _read_content(self, reader: ContentReader) -> bool:
        if self._lines.pending:
            reader.feed(self._lines.rest())
        piece = reader.pull()
        if piece is None:
            return False
        if not reader.ended:
            self.piece, self._need = piece, Need.STORE
            return False
        self._reader = None
        self._lines.feed(reader.rest)
        if reader.fault is None:
            self.piece, self._need = piece, Need.COMMIT
            return False
        self._out.append(reader.fault)
        self.transaction = None
        return True

    def _obey(self, line: bytes) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise BadCommand(replies.NOT_TEXT) from None
        if self._auth.running:
            self._say_auth(self._auth.respond(line))
            return
        verb, _, argument = text.partition(" ")
        handler = self._COMMANDS.get(verb) or self._COMMANDS.get(verb.upper())
        if handler is None:
            raise BadCommand(replies.UNKNOWN)
        handler(self, argument.rstrip(" "))

    # Commands, in the order of a session

    def _do_helo(self, name: str) -> None:
        self._greet(name, self._rules.helo)
        self._esmtp = False

    def _do_ehlo(self, name: str) -> None:
        self._greet(name, self._rules.ehlo_tls if self._tls else self._rules.ehlo_clear)
        self._esmtp = True

    def _greet(self, name: str, reply: bytes) -> None:
        if not name:
            raise BadCommand(replies.NO_NAME)
        self._idle(reply)
        self._helo = harmless_name(name)
        self.transaction = None  # RFC 5321, 4.1.4

    def _do_starttls(self, argument: str) -> None:
        _no_argument(argument)
        if self._tls:
            raise BadCommand(replies.ALREADY_TLS)
        if not self._rules.starttls:
            raise BadCommand(replies.NOT_IMPLEMENTED)
        self._out.append(replies.READY_FOR_TLS)
        self._lines.clear()  # RFC 3207, 4.2: never carried over into the secure session
        self._need = Need.STARTTLS

    def _do_auth(self, argument: str) -> None:
        rules = self._rules
        if not self._helo:
            raise BadCommand(replies.HELO_FIRST)
        if rules.auth is Auth.NONE:
            raise BadCommand(replies.NOT_IMPLEMENTED)
        if self._auth.principal is not None:
            raise BadCommand(replies.AUTH_TWICE)  # RFC 4954, 4
        if self.transaction is not None:
            raise BadCommand(replies.AUTH_LATE)  # RFC 4954, 4
        if not self._tls and not rules.plaintext_auth:
            raise BadCommand(replies.AUTH_NEEDS_TLS)
        self._say_auth(self._auth.start(argument))

    def _say_auth(self, reply: bytes) -> None:
        if self._auth.locked:
            self.end(reply)
        else:
            self._out.append(reply)

    def _do_mail(self, argument: str) -> None:
        if not self._helo:
            raise BadCommand(replies.HELO_FIRST)
        if self.transaction is not None:
            raise BadCommand(replies.MAIL_TWICE)
        principal = self._principal()
        address, size, eight_bit, utf8 = grammar.parse_mail(argument)
        if size > self._rules.max_bytes:
            self._out.append(replies.TOO_LARGE)  # RFC 1870, 6.1
            return
        self._door.check_sender(principal, address, self._peer)
        self.transaction = Transaction(principal, address, eight_bit=eight_bit, utf8=utf8)
        self._out.append(replies.SENDER_OK)

    def _principal(self) -> Any:
        """Who answers for a transaction: the authenticated key, or the one of the client's network."""
        if self._auth.principal is not None:
            return self._auth.principal
        if self._rules.auth is not Auth.REQUIRED and self._network_key is not None:
            try:
                return self._door.network_principal(self._network_key)
            except Refused as refused:
                if refused.reason is not Reason.AUTHENTICATION_REQUIRED:
                    raise
        raise BadCommand(replies.NOT_LISTED if self._rules.auth is Auth.NONE else replies.AUTH_REQUIRED)

    def _do_rcpt(self, argument: str) -> None:
        transaction = self.transaction
        if transaction is None:
            raise BadCommand(replies.MAIL_FIRST)
        if len(transaction.recipients) >= self._rules.max_recipients:
            self._out.append(replies.TOO_MANY_RECIPIENTS)
            return
        address = grammar.parse_rcpt(argument, utf8=transaction.utf8)
        transaction.recipients.append(self._door.check_recipient(transaction.principal, address))
        self._out.append(replies.RECIPIENT_OK)

    def _do_data(self, argument: str) -> None:
        _no_argument(argument)
        if self.transaction is None:
            raise BadCommand(replies.MAIL_FIRST)
        if not self.transaction.recipients:
            self._out.append(replies.NO_RECIPIENTS)
            return
        self._out.append(replies.GO_AHEAD)
        self._reader = ContentReader(max_bytes=self._rules.max_bytes, convert=self._rules.convert)

    def _do_rset(self, argument: str) -> None:
        _no_argument(argument)
        self._idle(replies.OK)
        self.transaction = None

    def _do_noop(self, _: str) -> None:
        self._idle(replies.OK)

    def _do_vrfy(self, argument: str) -> None:
        if not argument:
            raise BadCommand(replies.BAD_ARGUMENT)
        self._idle(replies.CANNOT_VERIFY)

    def _do_help(self, _: str) -> None:
        self._idle(replies.HELP)

    def _do_quit(self, argument: str) -> None:
        _no_argument(argument)
        self.end(replies.BYE)

    def _do_nothing(self, _: str) -> None:
        raise BadCommand(replies.NOT_IMPLEMENTED)

    _COMMANDS: ClassVar[dict[str, Callable[["Engine", str], None]]] = {
        "HELO": _do_helo,
        "EHLO": _do_ehlo,
        "STARTTLS": _do_starttls,
        "AUTH": _do_auth,
        "MAIL": _do_mail,
        "RCPT": _do_rcpt,
        "DATA": _do_data,
        "RSET": _do_rset,
        "NOOP": _do_noop,
        "VRFY": _do_vrfy,
        "HELP": _do_help,
        "QUIT": _do_quit,
        **dict.fromkeys(("EXPN", "BDAT", "ETRN", "TURN", "SEND", "SOML", "SAML"), _do_nothing),
    }

    # Bounds

    def _bad(self, reply: bytes) -> None:
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self.end(replies.TOO_MANY_ERRORS)
        else:
            self._out.append(reply)

    def _idle(self, reply: bytes) -> None:
        self._commands += 1
        if self._commands > MAX_IDLE_COMMANDS:
            self.end(replies.TOO_MANY_COMMANDS)
        else:
            self._out.append(reply)


def _no_argument(argument: str) -> None:
    if argument:
        raise BadCommand(replies.NO_ARGUMENT)
