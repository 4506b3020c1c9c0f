"""One SMTP connection on the wire: the shell round the engine.

aiosmtpd's SMTP class is not subclassed: it reads through a StreamReader and a task for each connection,
looks itself over for every client, and each of its inherited commands would be a way round our grammar. Its
Session and LoginPassword are the values kept here for who the client is.

Guarantees: the replies to one read leave in one write; a commit in flight is finished even when the client
goes away; while content is stored, and while replies are not read, nothing more is read. An unforeseen
error is logged and answered with a temporary reply, never with its text. It does not decide anything about
mail: engine and door do.
"""

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol, cast

from aiosmtpd.smtp import LoginPassword, Session

from gateway.config import Auth, SmtpListener
from gateway.errors import GatewayError, Reason, Refused
from gateway.runtime import Supervisor
from gateway.smtp import replies
from gateway.smtp.door import Door
from gateway.smtp.engine import Engine, Need
from gateway.smtp.rules import Rules

HANDSHAKE_S: Final = 60.0
LINGER_S: Final = 30.0  # for a closed connection to take its last reply
MIN_BYTES_PER_S: Final = 500  # of content, over one timeout: slow lines yes, dripping no
KEEP_BYTES: Final = 64 * 1024  # read ahead while a need is served
_BUSY: Final = 1
_UNREAD: Final = 2

log = logging.getLogger("gateway.smtp")


class Registry(Protocol):
    """Who keeps count of connections."""

    def admit(self, connection: "Connection") -> bytes | None:
        """None if there is room, else the reply to close with."""

    def leave(self, connection: "Connection") -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What the connections of one listener share. `tls` is None where there is none or it is implicit; `network_key`
    names the key that the narrowest network with an address stands for."""

    listener: SmtpListener
    rules: Rules
    network_key: Callable[[str], str | None]
    door: Door
    registry: Registry
    supervisor: Supervisor
    tls: ssl.SSLContext | None
    timeout_s: float


class Connection(asyncio.Protocol):
    """`peer` is the client's address, "" before there is one."""

    __slots__ = (
        "_busy",
        "_closing_at",
        "_context",
        "_engine",
        "_eof",
        "_gone",
        "_hold",
        "_loop",
        "_marked_at",
        "_marked_bytes",
        "_moved",
        "_received",
        "_secure",
        "_transport",
        "peer",
        "session",
    )

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = ""
        self.session: Session
        self._context = context
        self._loop = loop
        self._engine: Engine
        self._transport: asyncio.Transport
        self._secure = False
        self._busy = False  # a need is being served by a task
        self._eof = False
        self._gone = False
        self._hold = 0  # why reading is paused
        self._received = 0  # octets, all in all
        self._moved = True  # a reply was sent since the last check
        self._marked_at = 0.0  # when a check last saw that
        self._marked_bytes = 0
        self._closing_at: float | None = None

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        context = self._context
        name = transport.get_extra_info("peername")
        self.peer = plain_address(name[0]) if name else ""
        self._secure = transport.get_extra_info("sslcontext") is not None
        self.session = session = Session(self._loop)
        session.peer = self.peer
        self._engine = Engine(
            context.rules,
            context.door,
            peer=self.peer,
            network_key=context.network_key(self.peer),
            tls=self._secure,
            # No method of this object: a cycle for each connection would be the garbage collector's work.
            authenticate=functools.partial(_authenticate, context, session),
        )
        refusal = context.registry.admit(self)
        if refusal is not None:
            self._engine.take()
            self._engine.end(refusal)
            self._close()
        else:
            self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closing_at is not None:
            return
        if self._busy:
            self._engine.keep(data)
            if self._engine.buffered > KEEP_BYTES:
                self._pause(_BUSY)
            return
        self._received += len(data)
        engine = self._engine
        try:
            need = engine.feed(data)
        except Exception:
            log.exception("a command from %s failed", self.peer)
            need = engine.fault()
        if need is not Need.INPUT:
            self._serve(need)
        elif out := engine.take():
            self._transport.write(out)
            self._moved = True

    def eof_received(self) -> bool:
        # A client may close its half and wait for the replies; TLS knows no half.
        self._eof = True
        return self._busy and not self._secure

    def connection_lost(self, _: Exception | None) -> None:
        if not self._gone:
            self._gone = True
            self._closing_at = self._closing_at or self._loop.time()
            self._context.registry.leave(self)

    def pause_writing(self) -> None:
        self._pause(_UNREAD)

    def resume_writing(self) -> None:
        self._resume(_UNREAD)

    # What the listener calls

    def check(self, now: float) -> None:
        """Close what takes too long; called several times in a timeout. `now` is the loop's time."""
        if self._closing_at is not None:
            if now - self._closing_at > LINGER_S:
                self._transport.abort()
        elif self._busy or self._moved or self._made_way(now):
            self._moved = False
            self._marked_at = now
            self._marked_bytes = self._received
        elif now - self._marked_at >= self._context.timeout_s:
            self._engine.end(replies.TIMEOUT)
            self._close()

    def _made_way(self, now: float) -> bool:
        """Whether a whole timeout brought enough of a content."""
        took = now - self._marked_at
        enough = self._received - self._marked_bytes >= took * MIN_BYTES_PER_S
        return enough and took >= self._context.timeout_s and self._engine.in_content

    def drain(self) -> None:
        """Close when no transaction is open, or once it ends."""
        if self._closing_at is None and self._engine.drain() is Need.CLOSE:
            self._close()

    def shut(self) -> None:
        """Close now, but for a commit in flight: no reply must deny what may be queued."""
        if self._closing_at is None and not self._busy:
            self._engine.end(replies.SHUTTING_DOWN)
            self._close()

    def abort(self) -> None:
        self._transport.abort()

    # Needs

    def _serve(self, need: Need) -> None:
        if need is Need.INPUT:
            self._flush()
            if self._eof:
                self._close()
        elif need is Need.CLOSE:
            self._close()
        else:
            self._flush()
            self._busy = True
            if need is Need.STARTTLS:
                self._transport.pause_reading()  # until the handshake has its own reader
                self._context.supervisor.start(self._upgrade(), name="smtp: starttls")
            else:
                if need is Need.STORE:
                    self._pause(_BUSY)
                self._context.supervisor.start(self._take_content(need), name="smtp: content")

    async def _take_content(self, need: Need) -> None:
        """Store and commit until the client is to speak again."""
        try:
            while need is Need.STORE or need is Need.COMMIT:
                reply = await self._hand_over(need)
                if self._gone:
                    return
                try:
                    need = self._engine.proceed(reply)
                except Exception:
                    log.exception("a command from %s failed", self.peer)
                    need = self._engine.fault()
                self._flush()
        except asyncio.CancelledError:
            self._transport.abort()  # the client must not take silence for anything
            raise
        self._free(need)

    async def _hand_over(self, need: Need) -> bytes | None:
        """Give the piece to the door; the reply, or None if there is none yet."""
        engine = self._engine
        transaction = engine.transaction
        assert transaction is not None
        try:
            if transaction.receiving is None:
                transaction.receiving = self._context.door.begin(transaction.principal, engine.envelope)
            if need is Need.COMMIT:
                return replies.queued(await transaction.receiving.finish(engine.piece))
            await transaction.receiving.add(engine.piece)
        except GatewayError as error:
            return replies.of(error)
        except Exception:
            log.exception("a message from %s could not be taken", self.peer)
            return replies.OUR_FAULT
        return None

    async def _upgrade(self) -> None:
        assert self._context.tls is not None
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                self._context.tls,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except OSError as error:
            log.info("TLS with %s failed: %s", self.peer, error)
            transport = None
        if transport is None or self._gone:
            self._transport.abort()
            self.connection_lost(None)
            return
        self._transport = transport
        self._secure = True
        self._free(self._engine.secured())

    def _free(self, need: Need) -> None:
        """The need is served."""
        self._busy = False
        self._resume(_BUSY)
        self._moved = True
        if not self._gone:
            self._serve(need)

    # The wire

    def _flush(self) -> None:
        out = self._engine.take()
        if out and self._closing_at is None:
            self._transport.write(out)
            self._moved = True

    def _close(self) -> None:
        self._flush()
        self._closing_at = self._closing_at or self._loop.time()
        self._transport.close()

    def _pause(self, why: int) -> None:
        if not self._hold and not self._transport.is_closing():
            self._transport.pause_reading()
        self._hold |= why

    def _resume(self, why: int) -> None:
        if self._hold == why and not self._transport.is_closing():
            self._transport.resume_reading()
        self._hold &= ~why


def _authenticate(context: Context, session: Session, login: bytes, password: bytes) -> Any:
    """As `Door.authenticate`, for the client of a session."""
    given = LoginPassword(login, password)
    peer = session.peer or ""
    try:
        principal = context.door.authenticate(given.login.decode(), given.password.decode(), peer)
    except UnicodeDecodeError:
        raise Refused(Reason.AUTHENTICATION_REQUIRED, "Credentials are UTF-8.") from None
    if context.listener.auth is Auth.REQUIRED:
        _check_network(context, peer, principal)
    session.authenticated = True
    session.auth_data = principal
    return principal


def _check_network(context: Context, peer: str, principal: Any) -> None:
    """Where the secret is required too, a key that stands for networks works from these only."""
    own = context.network_key(peer)
    for key in {key for _, key in context.listener.networks} - {own}:
        try:
            theirs = context.door.network_principal(key)
        except Refused:
            continue
        if theirs == principal:
            raise Refused(Reason.AUTHENTICATION_REQUIRED, "This key is not for this address.")


def plain_address(text: str) -> str:
    """An address as people write it: no scope, and IPv4 where IPv6 carries it."""
    if ":" not in text:
        return text
    address = IPv6Address(text.partition("%")[0])
    return str(address.ipv4_mapped or address)


def network_key(listener: SmtpListener, peer: str) -> str | None:
    """The key that the narrowest network with this address stands for."""
    if not listener.networks or not peer:
        return None
    address = ip_address(peer)
    matching = [pair for pair in listener.networks if address in pair[0]]
    return max(matching, key=lambda pair: pair[0].prefixlen)[1] if matching else None
