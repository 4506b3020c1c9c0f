"""Commands out, replies in: one SMTP connection after its negotiation.

Guarantees: every wait has a timeout; a connection that says something unasked, or what is no SMTP, or 421, or nothing,
is gone, with its reason, and never used again; what it says between two transactions is never taken for the answer to
the next command; memory is bounded whatever a peer sends. It knows nothing of mail (wire.py).
"""

import asyncio
import math
from typing import Final

from gateway.delivery.reply import MalformedReply, Reply, ReplyReader
from gateway.delivery.trace import Trace

CLOSE_S: Final = 5.0  # so long what was written last may take to leave
_TIMER_SLACK_S: Final = 0.002  # a loop's timers may fire a millisecond early


class Channel(asyncio.Protocol):
    """Takes a transport over. At most one task uses it at a time."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.gone = ""  # why the connection cannot be used any more
        self.early: Reply | None = None  # said in the middle of a transaction, where nothing was asked
        self.trace: Trace | None = None  # of the message in hand
        self.busy = False  # in a transaction; one that was cancelled leaves it set: nobody knows what comes next
        self._loop = asyncio.get_running_loop()
        self._reader = ReplyReader()
        self._replies: list[Reply] = []
        self._wanted = 0  # replies that are still owed to us
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self._latest = math.inf  # the deadline never goes beyond
        self._within_s = math.inf  # from the beginning of the transaction until then
        self._timeout_s = 0.0
        self._closed = False
        transport.set_protocol(self)
        if transport.is_closing():
            self.gone = "the remote host closed the connection"

    @property
    def alive(self) -> bool:
        """Whether the connection can take a command now."""
        return not self.gone and not self.busy and not self.transport.is_closing()

    def begin(self, within_s: float) -> None:
        """A transaction begins, and however steadily the peer answers, it ends before that time; who began it clears
        `busy` at its end."""
        self.busy = True
        self.early = None
        self._within_s = within_s
        self._latest = self._loop.time() + within_s

    def unbound(self) -> None:
        """From here on each wait has its own timeout only."""
        self._latest = math.inf

    async def exchange(self, data: bytes, count: int, timeout_s: float, *, content: bool = False) -> list[Reply]:
        """Write, then wait for `count` replies; `timeout_s` is the longest silence.

        Fewer come back where the connection ended first: `gone` says why. A 421 ends it and is the last reply.
        `content`: what is written is the end of one, and not for the log.
        """
        if self.gone:
            return []
        replies: list[Reply] = []
        self._replies = replies
        self._wanted = count
        if self.trace is not None and not content:
            self.trace.sent(data)
        self.transport.write(data)
        await self._wait(timeout_s)
        if self.trace is not None:
            self.trace.heard(replies, self.gone)
        return replies

    def write(self, data: bytes) -> None:
        """Write without waiting; `drain` waits."""
        if not self.gone:
            self.transport.write(data)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the peer has taken most of what was written, one turn of the loop in any case.

        False: no more is wanted, because the connection ended or something was said (`early`).
        """
        if self._paused and not self.gone and self.early is None:
            await self._wait(timeout_s)
        else:
            await asyncio.sleep(0)  # large content must not keep the loop from others
        return not self.gone and self.early is None

    def end(self, why: str) -> None:
        """Give the connection up at once."""
        if not self.gone:
            self.gone = why
            self.transport.abort()
        self._wake()

    def close(self) -> None:
        """Say QUIT and go, without waiting for the answer; in the middle of a transaction just go."""
        if self._closed:
            return
        self._closed = True
        if self.busy or self.gone:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(b"QUIT\r\n")
            self.transport.close()
            self._set_timer(self._loop.time() + CLOSE_S)
        self.gone = self.gone or "closed"

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._closed or self.gone:
            return
        try:
            replies = self._reader.feed(data)
        except MalformedReply as error:
            self._take(error.before)  # a 250 to the content stands, whatever follows it
            self.end(f"the remote host does not speak SMTP: {error}")
            return
        if not self._take(replies):
            return
        if not self._wanted:
            self._wake()
        elif replies:
            self._deadline = min(self._loop.time() + self._timeout_s, self._latest)

    def eof_received(self) -> bool:
        return False  # closes the transport; connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.gone:
            self.gone = f"the connection was lost: {exc}" if exc else "the remote host closed the connection"
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._wanted:
            self._wake()  # only `drain` waits without a reply being owed

    def _take(self, replies: list[Reply]) -> bool:
        """Give replies to who waits for them; False: the conversation ends here."""
        for reply in replies:
            if not self._wanted:
                self._unasked(reply)
                return False
            self._wanted -= 1
            self._replies.append(reply)
            if reply.code == 421:  # RFC 5321, 3.8: it closes now, whatever else was asked
                self.end(reply.text)
                return False
        return True

    def _unasked(self, reply: Reply) -> None:
        if not self.busy or self.early is not None:
            self.end(reply.text)
            return
        self.early = reply
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_s: float) -> None:
        # One timer serves many waits: it is set anew only for an earlier deadline, and looks again when it fires.
        self._timeout_s = timeout_s
        deadline = self._deadline = min(self._loop.time() + timeout_s, self._latest)
        if self._timer is None or self._timer_at > deadline:
            self._set_timer(deadline)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._time)

    def _time(self) -> None:
        self._timer = None
        if self._closed:
            self.transport.abort()
        elif self._waiter is None or self._waiter.done():
            return  # nobody waits; the next wait sets a timer
        elif self._loop.time() >= self._deadline - _TIMER_SLACK_S:
            late = self._deadline >= self._latest
            self.end(f"not done within {self._within_s:g} s" if late else f"no answer within {self._timeout_s:g} s")
        else:
            self._set_timer(self._deadline)
