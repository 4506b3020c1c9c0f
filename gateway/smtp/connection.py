"""One SMTP connection on the wire: the shell round the engine.

aiosmtpd's SMTP class is not subclassed: it reads through a StreamReader and a task for each connection,
looks itself over for every client, and each of its inherited commands would be a way round our grammar. Its
Session and LoginPassword are the values kept for who the client is.

Guarantees: the replies to one read leave in one write; a commit in flight is finished even when the client
goes away; while content is stored, waits for memory, and while replies are not read, nothing more is read. An
unforeseen error is logged and answered with a temporary reply, never with its text. It does not decide anything about
mail: engine and door do.
"""

import asyncio
import functools
import logging
import re
from collections.abc import Callable
from typing import Final, cast

from aiosmtpd.smtp import Session

from gateway.budget import Share
from gateway.smtp import replies, verdict
from gateway.smtp.context import Context
from gateway.smtp.engine import Engine
from gateway.smtp.need import Need
from gateway.smtp.peer import authenticate, plain_address

HANDSHAKE_S: Final = 60.0
LINGER_S: Final = 30.0  # for a closed connection to take its last reply
MIN_BYTES_PER_S: Final = 500  # of content, over one timeout: slow lines yes, dripping no
TRANSACTION_S: Final = 3600.0  # from MAIL to the end of the content, however steadily it comes: 25 MB at 7 kB/s
KEEP_BYTES: Final = 64 * 1024  # read ahead while a need is served
_FOUR: Final = ord("4")
_REFUSAL_BEHIND: Final = re.compile(rb"\n[45]").search  # another reply, to a pipelined command; half the time of `in`
_BUSY: Final = 1
_UNREAD: Final = 2

log = logging.getLogger("gateway.smtp")


class Connection(asyncio.Protocol):
    """`peer` is the client's address, "" before there is one."""

    __slots__ = (
        "_busy",
        "_closing_at",
        "_context",
        "_engine",
        "_eof",
        "_gone",
        "_handshake",
        "_hold",
        "_loop",
        "_marked_at",
        "_marked_bytes",
        "_moved",
        "_received",
        "_secure",
        "_share",
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
        self._handshake: asyncio.Task[None] | None = None  # of implicit TLS: nothing else is there yet
        self._share: Share | None = None  # of the memory for content
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
        admitted, self._handshake, self._busy = self._handshake is not None, None, False
        name = transport.get_extra_info("peername")
        self.peer = plain_address(name[0]) if name else ""
        own_key = context.network_key(self.peer)
        self._secure = transport.get_extra_info("sslcontext") is not None
        self.session = session = Session(self._loop)
        session.peer = self.peer
        self._engine = Engine(
            context.rules,
            context.door,
            peer=self.peer,
            network_key=own_key,
            tls=self._secure,
            # No method of this object: a cycle for each connection would be the garbage collector's work.
            authenticate=functools.partial(authenticate, context.door, context.listener, session, own_key=own_key),
        )
        if self._secure:
            context.registry.secured(transport.get_extra_info("ssl_object").version())
        refusal = None if admitted else context.registry.admit(self)
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
            need = self._advance(engine.fault)
        if need is not Need.INPUT:
            self._serve(need)
            return
        if out := engine.take():
            self._write(out)
        if self._share is not None:
            self._settle()

    def eof_received(self) -> bool:
        # A client may close its half and wait for the replies; TLS knows no half.
        self._eof = True
        return self._busy and not self._secure

    def connection_lost(self, _: Exception | None) -> None:
        if not self._gone:
            self._gone = True
            self._closing_at = self._closing_at or self._loop.time()
            self._settle()
            self._context.registry.leave(self)

    def pause_writing(self) -> None:
        self._pause(_UNREAD)

    def resume_writing(self) -> None:
        self._resume(_UNREAD)

    # What the listener calls

    def check(self, now: float, *, most_s: float) -> None:
        """Close what takes too long: the listener's timeout, or `most_s`. `now` is the loop's time."""
        timeout_s = min(self._context.timeout_s, most_s)
        if self._closing_at is not None:
            if now - self._closing_at > LINGER_S:
                self._transport.abort()
        elif self._busy:
            self._mark(now)
        elif self._outlasts(now):
            self._time_out()
        elif self._moved or self._made_way(now, timeout_s):
            self._mark(now)
        elif now - self._marked_at >= timeout_s:
            self._time_out()

    def _mark(self, now: float) -> None:
        self._moved = False
        self._marked_at = now
        self._marked_bytes = self._received

    def _made_way(self, now: float, timeout_s: float) -> bool:
        """Whether a whole timeout brought enough of a content."""
        took = now - self._marked_at
        enough = self._received - self._marked_bytes >= took * MIN_BYTES_PER_S
        return enough and took >= timeout_s and self._engine.in_content

    def _outlasts(self, now: float) -> bool:
        """Whether the transaction in hand takes longer than any may."""
        transaction = self._engine.transaction
        if transaction is None:
            return False
        transaction.since = transaction.since or now
        return now - transaction.since > TRANSACTION_S

    def _time_out(self) -> None:
        self._engine.end(replies.TIMEOUT)
        self._close()

    def drain(self) -> None:
        """Close when no transaction is open, or once it ends."""
        if self._handshake is not None:
            self._handshake.cancel()
        elif self._closing_at is None and self._engine.drain() is Need.CLOSE:
            self._close()

    def shut(self) -> None:
        """Close now, but for a commit in flight: no reply must deny what may be queued."""
        if self._closing_at is None and not self._busy:
            self._engine.end(replies.SHUTTING_DOWN)
            self._close()

    def abort(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
        else:
            self._transport.abort()

    @property
    def is_stranger(self) -> bool:
        """It came to a listener that is there for anybody."""
        return self._context.rules.anybody

    @property
    def shakes_hands(self) -> bool:
        """Nothing was made of it yet, and perhaps never is."""
        return self._handshake is not None

    def expect(self, peer: str, handshake: asyncio.Task[None]) -> None:
        """It is admitted, and TLS comes first."""
        self.peer = peer
        self._handshake = handshake
        self._busy = True

    # Needs

    def _serve(self, need: Need) -> None:
        while need is Need.ROOM and self._memory().try_grow(self._engine.room.bytes):
            need = self._advance(functools.partial(self._engine.admitted, True))
        if need is Need.INPUT:
            self._settle()
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
                if need is not Need.COMMIT:
                    self._pause(_BUSY)
                if need is Need.RECIPIENT:
                    self._context.supervisor.start(self._judge_recipient(), name="smtp: recipient")
                else:
                    self._context.supervisor.start(self._take_content(need), name="smtp: content")

    async def _take_content(self, need: Need) -> None:
        """Store, commit and wait for memory until the client is to speak again."""
        engine = self._engine
        try:
            while need is Need.STORE or need is Need.COMMIT or need is Need.ROOM:
                if need is Need.ROOM:
                    granted = await self._memory().grow(engine.room.bytes, self._context.registry.room_wait_s)
                    step = functools.partial(engine.admitted, granted)
                else:
                    reply = await verdict.of_content(self._context.door, engine, need, self.peer)
                    step = functools.partial(engine.proceed, reply)
                if self._gone:
                    break
                need = self._advance(step)
                self._flush()
        except asyncio.CancelledError:
            self._busy = False
            self._transport.abort()  # the client must not take silence for anything
            raise
        self._free(need)

    async def _judge_recipient(self) -> None:
        """Look up whether a recipient is taken; the client waits for the answer to RCPT meanwhile."""
        engine = self._engine
        try:
            reply = await verdict.of_recipient(self._context.door, engine, self.peer)
        except asyncio.CancelledError:
            self._busy = False
            self._transport.abort()
            raise
        self._free(self._advance(functools.partial(engine.judged, reply)))

    def _advance(self, step: Callable[[], Need]) -> Need:
        while True:
            try:
                return step()
            except Exception:
                log.exception("a command from %s failed", self.peer)
                step = self._engine.fault  # which goes on with the commands behind it

    def _memory(self) -> Share:
        if self._share is None:
            self._share = Share(self._context.registry.budget_of(self))
        return self._share

    def _settle(self) -> None:
        """Give memory back as soon as there is no content that needs it."""
        if self._share is not None and not self._busy and (self._gone or not self._engine.keeps_content):
            self._share.release()
            self._share = None

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
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        if transport is None or self._gone:
            self._transport.abort()
            self._busy = False
            self.connection_lost(None)
            return
        self._transport = transport
        self._secure = True
        self._context.registry.secured(transport.get_extra_info("ssl_object").version())
        self._free(self._engine.secured())

    def _free(self, need: Need) -> None:
        """The need is served."""
        self._busy = False
        if self._gone:
            self._settle()
            return
        self._resume(_BUSY)
        self._moved = True
        self._serve(need)

    # The wire

    def _flush(self) -> None:
        out = self._engine.take()
        if out and self._closing_at is None:
            self._write(out)

    def _write(self, out: bytes) -> None:
        if out[0] >= _FOUR or _REFUSAL_BEHIND(out) is not None:
            self._context.registry.refused(self.peer, out)
        self._transport.write(out)
        self._moved = True

    def _close(self) -> None:
        self._flush()
        self._settle()
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
