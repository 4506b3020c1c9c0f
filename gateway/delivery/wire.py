"""The client side of a mail transaction on a connection that is already negotiated.

Guarantees: MAIL, RCPT and DATA leave in one write where the peer pipelines (RFC 2920); every wait has a timeout; what
leaves is CRLF-only and dot-stuffed exactly, or nothing leaves; an accepted DATA stays delivered whatever happens later.
Each recipient gets its own word. It does not connect (session.py) and does not decide what a word means (verdict.py).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

import msgspec

from gateway.config import Timeouts
from gateway.delivery import dialogue as dialogues
from gateway.delivery import framing
from gateway.delivery.channel import Channel
from gateway.delivery.dialogue import Dialogue
from gateway.delivery.reply import Reply
from gateway.delivery.verdict import Word

MAX_RECIPIENTS: Final = 100  # of one transaction: RFC 5321, 4.5.3.1.8, is what every host must take


class StaleConnection(Exception):
    """A kept connection that was dead before it took the first command: another one may be tried at no cost."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the peer announced (EHLO keywords that matter here)."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    size: int | None = None  # octets; None: SIZE not offered; 0: no limit stated
    max_recipients: int | None = None  # RFC 9422, LIMITS RCPTMAX
    max_transactions: int | None = None  # RFC 9422, LIMITS MAILMAX


class Mail(msgspec.Struct, frozen=True, gc=False):
    """An envelope and its content. `content` is the whole of it, or `stream` gives it in pieces, however they are cut;
    `prefix` (new header fields, each with its CRLF) goes in front. `size` counts all of it."""

    sender: str
    recipients: tuple[str, ...]
    size: int
    eight_bit: bool
    utf8: bool
    dot_lines: bool
    prefix: bytes
    content: bytes | None
    stream: Callable[[], AsyncIterator[bytes]]


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
        self._offer = offer
        self._timeouts = timeouts
        self._used = False
        self._reset_due = False
        self.transactions = 0  # begun on this connection
        self.spent = Spent()  # by the last `send`, also by one that was cancelled

    @property
    def usable(self) -> bool:
        """Whether the next message may go here."""
        most = self._offer.max_transactions
        return self._channel.alive and (most is None or self.transactions < most)

    def close(self) -> None:
        """Say QUIT and go, without waiting for the answer; in the middle of a transaction just go."""
        self._channel.close()

    async def send(self, mail: Mail) -> list[Word]:
        """Send to all recipients; one word each, in order. Raises StaleConnection, and what `mail.stream` raises.

        Recipients for whom there was no room in a transaction (RCPTMAX, 452) get another one at once.
        """
        kept, self._used = self._used, True
        self.spent = Spent()
        if kept and not self.usable:
            raise StaleConnection
        payload, refusal = self._prepare(mail)
        if refusal is not None:
            return [refusal] * len(mail.recipients)
        room = min(self._offer.max_recipients or MAX_RECIPIENTS, MAX_RECIPIENTS)
        if len(mail.recipients) > room:
            return await self._send_split(mail, payload, room, kept=kept)
        words = await self._transaction(mail, mail.recipients, payload, kept=kept)
        if len(words) > 1 and any(map(dialogues.crowded, words)):
            return await self._after_crowding(mail, mail.recipients, payload, words)
        return words

    async def _send_split(self, mail: Mail, payload: bytes | None, room: int, *, kept: bool) -> list[Word]:
        words: list[Word] = []
        for start in range(0, len(mail.recipients), room):
            batch = mail.recipients[start : start + room]
            if start:
                said = await self._another(mail, batch, payload)
            else:
                said = await self._transaction(mail, batch, payload, kept=kept)
            words += await self._after_crowding(mail, batch, payload, said)
        return words

    async def _after_crowding(
        self, mail: Mail, recipients: Sequence[str], payload: bytes | None, words: list[Word]
    ) -> list[Word]:
        """A 452 is no failure while others got in: those that found no room follow at once, in a transaction each
        time smaller."""
        left = [index for index, word in enumerate(words) if dialogues.crowded(word)]
        while left and len(left) < len(words) and self.usable:
            said = await self._another(mail, [recipients[index] for index in left], payload)
            for index, word in zip(left, said, strict=True):
                words[index] = word
            still = [index for index, word in zip(left, said, strict=True) if dialogues.crowded(word)]
            if len(still) == len(left):
                break
            left = still
        return words

    async def _another(self, mail: Mail, recipients: Sequence[str], payload: bytes | None) -> list[Word]:
        """A further transaction of the same message: what is delivered already must not be sent again elsewhere."""
        if self.usable:
            with contextlib.suppress(StaleConnection):
                return await self._transaction(mail, recipients, payload, kept=True)
        return [Word("mail", 421, "4.3.2", "421 4.3.2 the connection ended before its turn")] * len(recipients)

    def _prepare(self, mail: Mail) -> tuple[bytes | None, Word | None]:
        """The content as it will leave where it is small, and what is certain to be refused."""
        offer = self._offer
        if offer.size and mail.size > offer.size:
            text = f"552 5.3.4 the next hop takes {offer.size} bytes at most; this message has {mail.size}"
            return None, Word("mail", 552, "5.3.4", text)
        if mail.utf8 and not offer.smtputf8:
            return None, Word(
                "mail", 550, "5.6.7", "550 5.6.7 the next hop does not take internationalized mail (SMTPUTF8)"
            )
        if mail.eight_bit and not offer.eight_bit:
            return None, Word("mail", 554, "5.6.3", "554 5.6.3 the next hop does not take 8-bit content (8BITMIME)")
        if mail.content is None:
            return None, None
        try:
            return framing.whole(mail.prefix, mail.content, dot_lines=mail.dot_lines), None
        except framing.NotCanonical as error:
            return None, _not_canonical(error)

    async def _transaction(
        self, mail: Mail, recipients: Sequence[str], payload: bytes | None, *, kept: bool
    ) -> list[Word]:
        channel = self._channel
        commands = [self._mail_command(mail), *[f"RCPT TO:<{recipient}>\r\n" for recipient in recipients]]
        if not _clean(commands):
            text = "an address holds a line end"
            return [Word("rcpt", 0, "5.1.3", text, permanent=True)] * len(recipients)
        self.transactions += 1
        channel.begin()
        dialogue = Dialogue(len(recipients))
        began = monotonic()
        if self._offer.pipelining:
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
            await self._content(mail, payload, dialogue)
            self.spent.content_s += monotonic() - told
        elif dialogue.complete and replies[-1].positive:
            channel.end("the remote host answered DATA out of order")
        else:
            self._reset_due = True
        if channel.early is not None:
            channel.end(channel.early.text)
        channel.busy = False
        return dialogue.words(channel.gone)

    def _mail_command(self, mail: Mail) -> str:
        offer = self._offer
        command = f"MAIL FROM:<{mail.sender}>"
        if offer.size is not None:
            command += f" SIZE={mail.size}"
        if mail.eight_bit or (mail.utf8 and offer.eight_bit):
            command += " BODY=8BITMIME"
        if mail.utf8:
            command += " SMTPUTF8"
        return command + "\r\n"

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
        first = b"RSET\r\n" + (lines if self._offer.pipelining else b"")
        said = await channel.exchange(first, count + 1 if self._offer.pipelining else 1, timeout_s)
        reset, replies = said[0] if said else None, said[1:]
        if reset is None or not reset.positive:
            channel.end("RSET was not answered" if reset is None else f"RSET was answered: {reset.text}")
            return []
        self._reset_due = False
        return replies if self._offer.pipelining else await channel.exchange(lines, count, timeout_s)

    async def _content(self, mail: Mail, payload: bytes | None, dialogue: Dialogue) -> None:
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
            if end is not None:
                self.spent.wire_bytes = streamed + len(end)
                await self._finish(end, dialogue)

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
        replies = await self._channel.exchange(end, 1, self._timeouts.data_end_s)
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
