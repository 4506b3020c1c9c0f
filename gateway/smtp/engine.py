"""The grammar of SMTP submission: bytes in, replies and needs out. No I/O, no await, no clock.

    need = engine.feed(data)    what the shell must do next (need.py); `take()` has the replies so far, for one write

Guarantees: one reply for each command, in order, whatever the segments were (RFC 2920); what was buffered
behind STARTTLS is dropped (RFC 3207, 4.2); memory is bounded, and beyond a little it is asked for; nothing is taken
from a client that the listener's rules or the door do not let in; 421 is the last word, whoever says it. Time,
connections and the wire are the shell's.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from gateway.errors import GatewayError
from gateway.message.model import SmtpEnvelope
from gateway.smtp import authority, grammar, replies
from gateway.smtp.auth import Authentication
from gateway.smtp.client import Client
from gateway.smtp.content import ContentReader
from gateway.smtp.door import Door
from gateway.smtp.grammar import BadCommand, Unusable
from gateway.smtp.lines import LineReader
from gateway.smtp.need import Need, Room
from gateway.smtp.patience import Patience
from gateway.smtp.rules import Rules
from gateway.smtp.transaction import Transaction


class Engine:
    """One connection. `network_key` names the key its address stands for; `authenticate` judges (login,
    password) as `Door.authenticate` does."""

    __slots__ = (
        "_auth",
        "_client",
        "_door",
        "_draining",
        "_lines",
        "_need",
        "_out",
        "_patience",
        "_reader",
        "_rules",
        "_wary",
        "piece",
        "room",
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
        self.room = Room()
        self.transaction: Transaction | None = None
        self._rules = rules
        self._door = door
        self._client = Client(peer=peer, network_key=network_key, tls=tls)
        self._lines = LineReader(convert=rules.convert)
        self._auth = Authentication(authenticate)
        self._reader: ContentReader | None = None
        self._out: list[bytes] = [rules.greeting]
        self._need = Need.INPUT
        self._patience = Patience()
        self._wary = False  # DATA was said and not granted: its content may come all the same
        self._draining = False

    @property
    def in_content(self) -> bool:
        return self._reader is not None

    @property
    def keeps_content(self) -> bool:
        """There is content in hand that is not refused."""
        return self._reader is not None and self._reader.fault is None

    @property
    def buffered(self) -> int:
        """Octets kept for later."""
        return self._lines.buffered

    @property
    def envelope(self) -> SmtpEnvelope:
        """Of the transaction in hand."""
        assert self.transaction is not None
        return self._client.envelope(self.transaction, self._auth.principal)

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
        self._need = Need.INPUT
        if self._reader is None:
            self._judged(reply or replies.OUR_FAULT)
        elif reply is not None:
            self._reader.refuse(reply)
        return self._run()

    def admitted(self, granted: bool) -> Need:
        """Go on after ROOM. Without it the content is refused, before it comes where it was announced."""
        self._need = Need.INPUT
        if self._reader is not None:
            if not granted:
                self._reader.refuse(replies.NO_ROOM)
        elif granted:
            self._open_content()
        else:
            self._judged(replies.NO_ROOM)
        return self._run()

    def judged(self, reply: bytes | None) -> Need:
        """Go on after RECIPIENT, which is taken unless a reply refuses it."""
        assert self.transaction is not None
        self.transaction.settle(taken=reply is None)
        self._need = Need.INPUT
        if reply is None:
            self._out.append(replies.RECIPIENT_OK)
        else:
            self._refuse(reply)
        return self._run()

    def secured(self) -> Need:
        """Go on after the TLS handshake: the client is unknown again (RFC 3207, 4.2)."""
        self._client.secure()
        self._auth.forget()
        self.transaction = None
        self._need = Need.INPUT
        return self._run()

    def fault(self) -> Need:
        """Go on after an error of ours: a command is answered with 451, content in hand ends the session."""
        if self._reader is not None:
            self.end(replies.BROKEN)
            return Need.CLOSE
        self._auth.cancel()
        self._need = Need.INPUT
        self._refuse(replies.OUR_FAULT)
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
        while self._need is Need.INPUT and self._step():
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
        except Unusable as bad:
            self._refuse(bad.reply)
        except BadCommand as bad:
            self._auth.cancel()
            self._say(self._patience.error(bad.reply))
        except GatewayError as error:
            self._refuse(replies.of(error))
        return (lines.pending or self._draining) and self._need is Need.INPUT

    def _read_content(self, reader: ContentReader) -> bool:
        if self._lines.pending:
            reader.feed(self._lines.rest())
            if self.room.lacks(reader.held):
                self._need = Need.ROOM
                return False
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
        self._judged(reader.fault)
        return self._need is Need.INPUT

    def _judged(self, reply: bytes) -> None:
        """The end of a transaction."""
        self.transaction = None
        self._patience.restore()
        self._say(reply)

    def _obey(self, line: bytes) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise self._no_command(replies.NOT_TEXT) from None
        if self._auth.running:
            self._say(self._auth.respond(line))
            return
        verb, _, argument = text.partition(" ")
        handler = self._COMMANDS.get(verb) or self._COMMANDS.get(verb.upper())
        if handler is None:
            raise self._no_command(replies.UNKNOWN)
        handler(self, argument.strip(" "))

    def _no_command(self, reply: bytes) -> BadCommand:
        # Who sends all in one go sends the content of a refused message too: no line of it may become a command.
        return BadCommand(replies.NO_COMMAND if self._wary else reply)

    # Commands, in the order of a session

    def _do_helo(self, name: str) -> None:
        self._greet(name, self._rules.helo, esmtp=False)

    def _do_ehlo(self, name: str) -> None:
        self._greet(name, self._rules.ehlo_tls if self._client.tls else self._rules.ehlo_clear, esmtp=True)

    def _greet(self, name: str, reply: bytes, *, esmtp: bool) -> None:
        if not name:
            raise BadCommand(replies.NO_NAME)
        self._idle(reply)
        self._client.greet(name, esmtp=esmtp)
        self._wary = False
        self.transaction = None  # RFC 5321, 4.1.4

    def _do_starttls(self, argument: str) -> None:
        grammar.parse_nothing(argument)
        if self._client.tls:
            raise BadCommand(replies.ALREADY_TLS)
        if not self._rules.starttls:
            raise BadCommand(replies.NOT_IMPLEMENTED)
        self._out.append(replies.READY_FOR_TLS)
        self._lines.clear()  # RFC 3207, 4.2: never carried over into the secure session
        self._need = Need.STARTTLS

    def _do_auth(self, argument: str) -> None:
        authority.check_auth(self._rules, self._client, self._auth.principal, self.transaction)
        self._say(self._auth.start(argument))

    def _do_mail(self, argument: str) -> None:
        if not self._client.name:
            raise BadCommand(replies.HELO_FIRST)
        if self.transaction is not None:
            raise BadCommand(replies.MAIL_TWICE)
        principal = authority.principal_of(self._rules, self._client, self._auth.principal, self._door)
        mail = grammar.parse_mail(argument)
        if mail.size > self._rules.max_bytes:
            self._refuse(replies.TOO_LARGE)  # RFC 1870, 6.1
        elif mail.require_tls and not self._client.tls:
            self._refuse(replies.REQUIRETLS_IN_CLEAR)  # RFC 8689, 2: nobody announced it here
        else:
            sender = self._door.check_sender(principal, mail.address, self._client.peer)
            self.transaction = Transaction(principal, sender, mail)
            self._out.append(replies.SENDER_OK)

    def _do_rcpt(self, argument: str) -> None:
        transaction = self.transaction
        if transaction is None:
            raise BadCommand(replies.MAIL_FIRST)
        if len(transaction.recipients) >= self._rules.max_recipients:
            self._refuse(replies.TOO_MANY_RECIPIENTS)
            return
        rcpt = grammar.parse_rcpt(argument, utf8=transaction.utf8)
        address = self._door.check_recipient(transaction.principal, rcpt.address, self._client.peer)
        if self._door.is_suspect(transaction.principal, address):
            transaction.doubt(address, rcpt)
            self._need = Need.RECIPIENT
            return
        transaction.add(address, rcpt)
        self._out.append(replies.RECIPIENT_OK)

    def _do_data(self, argument: str) -> None:
        self._wary = True
        grammar.parse_nothing(argument)
        transaction = self.transaction
        if transaction is None:
            raise BadCommand(replies.MAIL_FIRST)
        if not transaction.recipients:
            self._refuse(replies.NO_RECIPIENTS)
            return
        self.room.reset()
        if self.room.lacks(transaction.size):
            self._need = Need.ROOM
        else:
            self._open_content()

    def _open_content(self) -> None:
        self._wary = False
        self._out.append(replies.GO_AHEAD)
        self._reader = ContentReader(max_bytes=self._rules.max_bytes, convert=self._rules.convert)

    def _do_rset(self, argument: str) -> None:
        grammar.parse_nothing(argument)
        self._idle(replies.OK)
        self._wary = False
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
        grammar.parse_nothing(argument)
        self.end(replies.BYE)

    def _do_bdat(self, _: str) -> None:
        # RFC 3030, 2: octets follow at once. CHUNKING is not announced, so their number is not believed either.
        self.end(replies.NOT_IMPLEMENTED)

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
        "BDAT": _do_bdat,
        **dict.fromkeys(("EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML"), _do_nothing),
    }

    # Replies

    def _say(self, reply: bytes) -> None:
        if reply.startswith(replies.CLOSING):
            self.end(reply)
        else:
            self._out.append(reply)

    def _refuse(self, reply: bytes) -> None:
        self._say(self._patience.refusal(reply))

    def _idle(self, reply: bytes) -> None:
        self._say(self._patience.idle(reply))
