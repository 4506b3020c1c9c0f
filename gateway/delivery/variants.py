"""The forms of one message: as it is, and what hosts without 8BITMIME or SMTPUTF8 get in its place.

Guarantees: each form is made once for an attempt, and signed for what it is (its body hash is its own); the message as
it is costs nothing but its signature. Memory is bounded by a few pieces however large a message is: what is re-encoded
is kept whole up to INLINE_BYTES, else made anew each time it leaves. What cannot be re-encoded without harm has a word
that says why. It does not talk to hosts.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec

from gateway.delivery.envelope import Offer
from gateway.delivery.verdict import Word
from gateway.message import canonical
from gateway.message.model import Facts
from gateway.message.recode import Rewriting, Unrepairable, downgrade
from gateway.message.recode import header as part_header
from gateway.message.recode.sevenbit import DKIM, SevenBitSurvey
from gateway.runtime import run
from gateway.store.queue import INLINE_BYTES

_THREAD_BYTES: Final = 8 * 1024  # more than this is read in a thread: made of names it takes ten milliseconds
_SLICE_BYTES: Final = 32 * 1024  # 2 ms of work where quoted-printable is made of it

Stream = Callable[[], AsyncIterator[bytes]]
Sign = Callable[[bytes, bytes], Awaitable[bytes]]

_NO_EIGHT_BIT: Final = "the next hop does not take 8-bit content (8BITMIME), and the message cannot be re-encoded"
_NO_UTF8: Final = "the next hop does not take internationalized mail (SMTPUTF8), and the header cannot be downgraded"


class Variant(msgspec.Struct, frozen=True, gc=False):
    """A form of a message. `content` is the whole of it, or `stream` gives it in pieces; `prefix`, its signatures, goes
    in front; `size` counts all."""

    prefix: bytes
    content: bytes | None
    stream: Stream
    size: int
    eight_bit: bool
    utf8: bool
    dot_lines: bool


class Variants:
    """Of the message with these facts. `content` is the whole of it where that is in memory; `sign` gives the fields
    for a header and a body hash, None: it is not signed. `stream` and `sign` may raise what they like."""

    def __init__(self, facts: Facts, content: bytes | None, stream: Stream, sign: Sign | None) -> None:
        self._facts = facts
        self._content = content
        self._stream = stream
        self._sign = sign
        self._plain: Variant | None = None
        self._seven_bit: Variant | Word | None = None
        self._downgraded: Variant | Word | None = None

    async def fit(self, offer: Offer) -> Variant | Word:
        """The form for a host that offers that, or why there is none."""
        facts = self._facts
        if facts.eight_bit and not offer.eight_bit:
            if self._seven_bit is None:
                self._seven_bit = await self._make_seven_bit()
            return self._seven_bit
        if facts.utf8_header and not offer.smtputf8:
            if self._downgraded is None:
                self._downgraded = await self._make_downgraded()
            return self._downgraded
        return self._plain or await self.plain()

    async def plain(self) -> Variant:
        """As it is."""
        if self._plain is None:
            facts = self._facts
            prefix = b"" if self._sign is None else await self._sign(await self._header(), facts.body_hash)
            self._plain = Variant(
                prefix=prefix,
                content=self._content,
                stream=self._stream,
                size=facts.size + len(prefix),
                eight_bit=facts.eight_bit,
                utf8=facts.utf8_header,
                dot_lines=facts.dot_lines,
            )
        return self._plain

    async def _header(self) -> bytes:
        if self._content is not None:
            return self._content[: self._facts.header_size]
        async for piece in self._stream():
            return piece[: self._facts.header_size]
        return b""

    # For hosts without SMTPUTF8: another header, the same body

    async def _make_downgraded(self) -> Variant | Word:
        facts = self._facts
        header = await self._header()
        try:
            new = await run(_downgraded, header, apart=len(header) > _THREAD_BYTES)
        except downgrade.Undowngradable as error:
            return Word("mail", 554, "5.6.9", f"554 5.6.9 {_NO_UTF8}: {error}")  # RFC 6531, 4
        prefix = b"" if self._sign is None else await self._sign(new, facts.body_hash)
        return Variant(
            prefix=prefix,
            content=None if self._content is None else new + self._content[facts.header_size :],
            stream=lambda: self._with_header(new),
            size=facts.size - facts.header_size + len(new) + len(prefix),
            eight_bit=facts.eight_bit,
            utf8=False,
            dot_lines=facts.dot_lines,
        )

    async def _with_header(self, header: bytes) -> AsyncIterator[bytes]:
        yield header
        async for piece in self._body():
            yield piece

    async def _body(self) -> AsyncIterator[bytes]:
        left = self._facts.header_size
        if self._content is not None:
            yield self._content[left:]
            return
        async for piece in self._stream():
            if left < len(piece):
                yield piece[left:] if left else piece
            left = max(left - len(piece), 0)

    async def _slices(self) -> AsyncIterator[bytes]:
        """The body cut small, after line ends, with a turn of the loop for others between."""
        async for piece in self._body():
            start = 0
            while start < len(piece):
                end = piece.rfind(b"\n", start, start + _SLICE_BYTES) + 1
                if not end or len(piece) - start <= _SLICE_BYTES:
                    end = len(piece)  # nothing is cut in a line
                yield piece[start:end]
                start = end
                await asyncio.sleep(0)

    # For hosts without 8BITMIME: everything in seven bits

    async def _make_seven_bit(self) -> Variant | Word:
        try:
            header = await self._header()
            survey = await run(SevenBitSurvey, header, apart=len(header) > _THREAD_BYTES)
            async for some in self._slices():
                await run(survey.feed, some, apart=len(some) > _THREAD_BYTES)
            survey.end()
        except Unrepairable as error:
            return Word("mail", 554, "5.6.3", f"554 5.6.3 {_NO_EIGHT_BIT}: {error.why}")
        except downgrade.Undowngradable as error:
            return Word("mail", 554, "5.6.3", f"554 5.6.3 {_NO_EIGHT_BIT}: {error}")
        hasher, size, kept = canonical.BodyHasher(), 0, []
        async for piece in self._rewritten(survey):
            if not size:
                header = piece
            else:
                hasher.update(piece)
            size += len(piece)
            if size <= INLINE_BYTES:
                kept.append(piece)
        prefix = b"" if self._sign is None else await self._sign(header, hasher.digest())
        return Variant(
            prefix=prefix,
            content=b"".join(kept) if size <= INLINE_BYTES else None,
            stream=lambda: self._rewritten(survey),
            size=size + len(prefix),
            eight_bit=False,
            utf8=False,
            dot_lines=True,
        )

    async def _rewritten(self, survey: SevenBitSurvey) -> AsyncIterator[bytes]:
        """The new header, then the new body."""
        rewriting = await run(Rewriting, survey, apart=len(survey.header) > _THREAD_BYTES)
        yield rewriting.header
        async for some in self._slices():
            for new in await run(rewriting.feed, some, apart=len(some) > _THREAD_BYTES):
                yield new
        for new in rewriting.finish():
            yield new


def _downgraded(header: bytes) -> bytes:
    if part_header.is_signed(header):
        raise downgrade.Undowngradable(DKIM)
    return downgrade.header(header)
