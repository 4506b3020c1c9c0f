"""The client side of a mail transaction on a connection that is already negotiated.

Guarantees: MAIL, RCPT and DATA leave in one write where the peer pipelines (RFC 2920); every wait has a timeout, all
before the final dot together a deadline, and the wait after it is honoured in any case; what leaves is CRLF-only and
dot-stuffed exactly, or nothing leaves; an accepted DATA stays delivered whatever happens later. Each recipient gets its
own word. It does not connect (session.py) and does not decide what a word means (verdict.py).
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from gateway.config import Timeouts
from gateway.delivery import dialogue as dialogues
from gateway.delivery import envelope, framing
from gateway.delivery.channel import Channel
from gateway.delivery.dialogue import Dialogue
from gateway.delivery.envelope import Mail, Offer
from gateway.delivery.reply import Reply
from gateway.delivery.trace import Trace
from gateway.delivery.verdict import Word
from gateway.errors import StoreError

__all__ = ["NO_TURN", "UNREADABLE", "Mail", "Offer", "Spent", "StaleConnection", "Wire"]

RCPT_SHARE: Final = 0.1  # of the longest wait for one answer is what each recipient adds to the deadline: 30 s
SLOWEST: Final = 10_000  # octets a second; a host that takes less is a tarpit, and 35 MB still get an hour
NO_TURN: Final = Word("mail", 421, "4.3.2", "421 4.3.2 the connection ended before its turn")
UNREADABLE: Final = Word("store", 0, "4.3.0", "451 4.3.0 the message store cannot be used now")

log = logging.getLogger("gateway.delivery")


class StaleConnection(Exception):
    """A kept connection that was dead before it took the first command: another one may be tried at no cost."""


class Spent:
    """What a message took, all its transactions together: time from MAIL to the answer to DATA, and from there to the
    answer to the final dot; and the octets of its content as written once, 0 where that did not come to its end."""

    __slots__ = ("content_s", "envelope_s", "wire_bytes")

    def __init__(self) -> None:
        self.envelope_s = 0.0
        self.content_s = 0.0
        self.wire_bytes = 0

    def add(self, other: "Spent") -> None:
        """The same message on another connection; the content is that written last."""
        self.envelope_s += other.envelope_s
        self.content_s += other.content_s
        self.wire_bytes = other.wire_bytes or self.wire_bytes


class Wire:
    """A transport taken over after EHLO, STARTTLS and AUTH. One task uses it at a time."""

    def __init__(self, transport: asyncio.Transport, offer: Offer, timeouts: Timeouts) -> None:
        self._channel = Channel(transport)
        if offer.requiretls and transport.get_extra_info("ssl_object") is None:
            offer = replace(offer, requiretls=False)  # RFC 8689, 2: it means nothing in clear
        self.offer = offer
        self._timeouts = timeouts
        self._used = False
        self._reset_due = False
        self.transactions = 0  # begun on this connection
        self.spent = Spent()  # by the last `send`, also by one that was cancelled

    @property
    def usable(self) -> bool:
        """Whether the next message may go here."""
        most = self.offer.max_transactions
        return self._channel.alive and (most is None or self.transactions < most)

    @property
    def worn(self) -> bool:
        """Whether the host takes no more messages on this connection (RFC 9422, MAILMAX)."""
        most = self.offer.max_transactions
        return most is not None and self.transactions >= most

    def follow(self, trace: Trace | None) -> None:
        """Tell what is said from here on."""
        self._channel.trace = trace

    def close(self) -> None:
        """Say QUIT and go, without waiting for the answer; in the middle of a transaction just go."""
        self._channel.close()

    async def send(self, mail: Mail) -> list[Word]:
        """Send to all recipients; one word each, in order, NO_TURN where the connection ended before. Raises
        StaleConnection, and what `mail.stream` and `mail.before_end` raise.

        Recipients for whom there was no room in a transaction (LIMITS, 452) get another one at once.
        """
        kept, self._used = self._used, True
        self.spent = Spent()
        if kept and not self.usable:
            raise StaleConnection
        payload, refusal = self._prepare(mail)
        if refusal is not None:
            return [refusal] * len(mail.recipients)
        first, *others = envelope.batches(mail, self.offer)
        said = await self._transaction(mail, first, payload, kept=kept)
        if not others:
            return said if len(said) == 1 else await self._after_crowding(mail, first, payload, said)
        words = [NO_TURN] * len(mail.recipients)
        for batch in (first, *others):
            if batch is not first:
                said = await self._another(mail, batch, payload)
            said = await self._after_crowding(mail, batch, payload, said)
            for number, word in zip(batch, said, strict=True):
                words[number] = word
        return words

    async def _after_crowding(
        self, mail: Mail, which: Sequence[int], payload: bytes | None, words: list[Word]
    ) -> list[Word]:
        """A 452 is no failure while others got in: those that found no room follow at once, in a transaction each
        time smaller."""
        left = [index for index, word in enumerate(words) if dialogues.crowded(word)]
        while left and len(left) < len(words) and self.usable:
            said = await self._another(mail, [which[index] for index in left], payload)
            for index, word in zip(left, said, strict=True):
                words[index] = word
            still = [index for index, word in zip(left, said, strict=True) if dialogues.crowded(word)]
            if len(still) == len(left):
                break
            left = still
        return words

    async def _another(self, mail: Mail, which: Sequence[int], payload: bytes | None) -> list[Word]:
        """A further transaction of the same message: what is delivered already must not be sent again elsewhere, so
        that nothing is raised any more."""
        if self.usable:
            try:
                return await self._transaction(mail, which, payload, kept=True)
            except StaleConnection:
                pass  # it ended before its turn
            except StoreError as error:
                log.error("a message cannot be read to its end: %s", error)  # noqa: TRY400 - cause in the text
                return [UNREADABLE] * len(which)
        return [NO_TURN] * len(which)

    def _prepare(self, mail: Mail) -> tuple[bytes | None, Word | None]:
        """The content as it will leave where it is small, and what is certain to be refused."""
        refusal = envelope.refusal(mail, self.offer)
        if refusal is not None or mail.content is None:
            return None, refusal
        try:
            return framing.whole(mail.prefix, mail.content, dot_lines=mail.dot_lines), None
        except framing.NotCanonical as error:
            return None, _not_canonical(error)

    async def _transaction(self, mail: Mail, which: Sequence[int], payload: bytes | None, *, kept: bool) -> list[Word]:
        channel = self._channel
        commands = [envelope.mail_command(mail, self.offer), *envelope.rcpt_commands(mail, self.offer, which)]
        if not _clean(commands):
            text = "an address holds a line end"
            return [Word("rcpt", 0, "5.1.3", text, permanent=True)] * len(which)
        self.transactions += 1
        channel.begin(self._within_s(mail, len(which)))
        dialogue = Dialogue(len(which))
        began = monotonic()
        if self.offer.pipelining:
            await self._at_once(commands, dialogue)
        else:
            await self._one_by_one(commands, dialogue)
        replies = dialogue.replies
        told = monotonic()
        self.spent.envelope_s += told - began
        if kept and channel.gone and (not replies or replies[0].code == 421):
            raise StaleConnection  # it died, or said so, while it was idle
        if dialogue.go_ahead:
            self._reset_due = False
            await self._content(mail, which, payload, dialogue)
            self.spent.content_s += monotonic() - told
        elif dialogue.complete and replies[-1].positive:
            channel.end("the remote host answered DATA out of order")
        else:
            self._reset_due = True
        if channel.early is not None:
            channel.end(channel.early.text)
        channel.busy = False
        return dialogue.words(channel.gone)

    def _within_s(self, mail: Mail, count: int) -> float:
        """So long a transaction may take up to its final dot: RFC 5321, 4.5.3.2, grants a host that dribbles five
        minutes for each of a hundred answers and three for each block, which is a worker held for days."""
        timeouts = self._timeouts
        answers_s = timeouts.command_s * (2 + RCPT_SHARE * count) + timeouts.data_start_s
        return answers_s + timeouts.data_block_s + mail.size / SLOWEST

    async def _at_once(self, commands: Sequence[str], dialogue: Dialogue) -> None:
        lines = "".join(commands).encode() + b"DATA\r\n"
        dialogue.replies = await self._with_reset(lines, len(commands) + 1)

    async def _one_by_one(self, commands: Sequence[str], dialogue: Dialogue) -> None:
        channel, timeouts = self._channel, self._timeouts
        dialogue.replies = await self._with_reset(commands[0].encode(), 1)
        for command in commands[1:]:
            if channel.gone or not dialogue.sender_taken:
                return
            dialogue.replies += await channel.exchange(command.encode(), 1, timeouts.command_s)
        if dialogue.accepted and not channel.gone:
            dialogue.replies += await channel.exchange(b"DATA\r\n", 1, timeouts.data_start_s)

    async def _with_reset(self, lines: bytes, count: int) -> list[Reply]:
        """The replies to commands; after a transaction that was refused behind a RSET, which may fail: that is no
        word about this message, and the connection is given up."""
        channel, timeout_s = self._channel, self._timeouts.command_s
        if not self._reset_due:
            return await channel.exchange(lines, count, timeout_s)
        first = b"RSET\r\n" + (lines if self.offer.pipelining else b"")
        said = await channel.exchange(first, count + 1 if self.offer.pipelining else 1, timeout_s)
        reset, replies = said[0] if said else None, said[1:]
        if reset is None or not reset.positive:
            channel.end("RSET was not answered" if reset is None else f"RSET was answered: {reset.text}")
            return []
        self._reset_due = False
        return replies if self.offer.pipelining else await channel.exchange(lines, count, timeout_s)

    async def _content(self, mail: Mail, which: Sequence[int], payload: bytes | None, dialogue: Dialogue) -> None:
        channel = self._channel
        if channel.early is not None:
            dialogue.trouble = dialogues.nonsense("data", channel.early)
        elif not dialogue.sender_taken:
            channel.end("the remote host took DATA after it refused MAIL")  # an empty message would go to someone
        elif not dialogue.accepted:
            # RFC 2920, 3.1: DATA was taken though no recipient was; an empty message ends it, whatever it says.
            await channel.exchange(b".\r\n", 1, self._timeouts.command_s)
        else:
            streamed, end = (0, payload) if payload is not None else await self._stream(mail, dialogue)
            if end is not None and await self._may_end(mail, which, dialogue):
                self.spent.wire_bytes = streamed + len(end)
                if channel.trace is not None:
                    channel.trace.note(f"> ({self.spent.wire_bytes} octets of content)")
                await self._finish(end, dialogue)

    async def _may_end(self, mail: Mail, which: Sequence[int], dialogue: Dialogue) -> bool:
        """Whether the end can leave: until it does, nothing is uncertain."""
        channel = self._channel
        if mail.before_end is not None:
            await mail.before_end([which[index] for index in dialogue.taken])
            if (early := channel.early) is not None:
                dialogue.trouble = dialogues.nonsense(dialogue.stage or "data", early)
                return False
        return not channel.gone

    async def _stream(self, mail: Mail, dialogue: Dialogue) -> tuple[int, bytes | None]:
        """Send all but the end: (octets, the end); None: it did not come to that."""
        channel = self._channel
        framer = framing.Framer(dot_lines=mail.dot_lines)
        dialogue.stage = "body"
        channel.write(mail.prefix)
        written = len(mail.prefix)
        try:
            async for piece in mail.stream():
                framed = framer.feed(piece)
                channel.write(framed)
                written += len(framed)
                if not await channel.drain(self._timeouts.data_block_s):
                    break
            else:
                return written, framer.end()
        except framing.NotCanonical as error:
            channel.end(str(error))
            dialogue.trouble = _not_canonical(error)
            return written, None
        if (early := channel.early) is not None:
            word = dialogues.nonsense if early.positive else dialogues.said
            dialogue.trouble = word("body", early)
        return written, None

    async def _finish(self, end: bytes, dialogue: Dialogue) -> None:
        dialogue.stage = "dot"
        # RFC 1047: who goes before the answer sends the message twice. This wait is honoured whatever it took so far.
        self._channel.unbound()
        replies = await self._channel.exchange(end, 1, self._timeouts.data_end_s, content=True)
        if replies:
            dialogue.final = replies[0]
            if 300 <= replies[0].code < 400:
                self._channel.end("the remote host answered the end of the content out of order")


def _clean(commands: Sequence[str]) -> bool:
    """One line each: an address with a line end must never become a command."""
    text = "".join(commands)
    return text.count("\r") == text.count("\n") == text.count("\r\n") == len(commands)


def _not_canonical(error: framing.NotCanonical) -> Word:
    return Word("body", 0, "5.6.0", str(error), permanent=True)
