"""A message as it is stored, read for what is to be put in, and made into another one.

Guarantees: the facts of a form are its own: its body is hashed anew where it changed, and only there. A large message
streams through both ways; the loop has turns for others between its pieces. It does not know for whom a form is made.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import structs

from gateway.delivery.variants import Stream
from gateway.message import canonical
from gateway.message.model import Facts
from gateway.message.tracking import patching
from gateway.message.tracking import survey as surveying
from gateway.message.tracking.patching import Patch, Patching
from gateway.message.tracking.stencil import Addresses
from gateway.message.tracking.survey import Plan, Survey, Wish
from gateway.runtime import run

DKIM: Final = surveying.DKIM
READ_BYTES: Final = 8 * 1024  # more than this is read in a thread: made of links or parts it takes some milliseconds
FILL_BYTES: Final = 256 * 1024  # and more than this is filled there
FILL_HOLES: Final = 1000  # as are so many addresses


class Form(NamedTuple):
    """A message as one recipient gets it: its facts, the whole of it or None, its pieces. `note` is "", or says why it
    is not tracked."""

    facts: Facts
    content: bytes | None
    stream: Stream
    note: str


class Source(msgspec.Struct, frozen=True, gc=False):
    """A stored message: `content` is the whole of it, or `stream` gives it in pieces, the first with all its header."""

    facts: Facts
    content: bytes | None
    stream: Stream

    async def header(self) -> bytes:
        if self.content is not None:
            return self.content[: self.facts.header_size]
        async for piece in self.stream():
            return piece[: self.facts.header_size]
        return b""

    async def plan(self, header: bytes, wish: Wish, sample: Addresses) -> Plan:
        """What is to be done to it."""
        survey, last = await run(Survey, header, wish, apart=len(header) > READ_BYTES), b""
        if wish.track:
            async for piece in self._body():
                if last:
                    await asyncio.to_thread(survey.feed, last)
                if survey.over:
                    break
                last = piece
        return await run(_read, survey, last, sample, apart=len(header) + survey.held + len(last) > READ_BYTES)

    async def formed(self, header: bytes, patches: Sequence[Patch], *, note: str, dot_lines: bool) -> Form:
        """It with this header, and the patches in its body. `dot_lines`: they may begin a line with a dot."""
        facts = self.facts
        grown = sum(len(patch.data) - (patch.end - patch.start) for patch in patches)
        new = structs.replace(
            facts,
            size=facts.size - facts.header_size + len(header) + grown,
            header_size=len(header),
            dot_lines=facts.dot_lines or dot_lines,
        )
        if self.content is not None:
            body = self.content[facts.header_size :]
            if patches:
                body = patching.whole(body, patches)
                new = structs.replace(new, body_hash=_hash(body))
            content = header + body
            return Form(new, content, lambda: _once(content), note)
        if patches:
            hasher = canonical.BodyHasher()
            async for piece in self._patched(patches):
                hasher.update(piece)
                await asyncio.sleep(0)
            new = structs.replace(new, body_hash=hasher.digest())
        return Form(new, None, lambda: self._streamed(header, patches), note)

    async def _streamed(self, header: bytes, patches: Sequence[Patch]) -> AsyncIterator[bytes]:
        yield header
        async for piece in self._patched(patches) if patches else self._body():
            yield piece

    async def _patched(self, patches: Sequence[Patch]) -> AsyncIterator[bytes]:
        placing = Patching(patches)
        async for piece in self._body():
            for made in placing.feed(piece):
                yield made
        for made in placing.finish():
            yield made

    async def _body(self) -> AsyncIterator[bytes]:
        left = self.facts.header_size
        if self.content is not None:
            yield self.content[left:]
            return
        async for piece in self.stream():
            if left < len(piece):
                yield piece[left:] if left else piece
            left = max(left - len(piece), 0)


def _read(survey: Survey, last: bytes, sample: Addresses) -> Plan:
    survey.feed(last)
    survey.end()
    return survey.plan(sample)


def _hash(body: bytes) -> bytes:
    hasher = canonical.BodyHasher()
    hasher.update(body)
    return hasher.digest()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def patches(plan: Plan, addresses: Addresses) -> list[Patch]:
    """What changes for a recipient."""
    return await run(plan.patches, addresses, apart=plan.size > FILL_BYTES or plan.holes > FILL_HOLES)
