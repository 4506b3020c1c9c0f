"""A message as it is stored, read for what is to be put in, and made into another one.

Guarantees: the facts of a form are its own: its body is hashed anew where it changed, and only there. A large message
streams through both ways; the loop has turns for others between its pieces. It does not know for whom a form is made.
"""

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from typing import Final, NamedTuple, TypeVar

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

DKIM: Final = surveying.DKIM
THREAD_BYTES: Final = 256 * 1024  # texts larger than this are read, and filled, in a thread: some milliseconds each
THREAD_HOLES: Final = 1000  # as do so many addresses

Result = TypeVar("Result")


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
        survey = Survey(header, wish)
        if wish.track:
            async for piece in self._body():
                survey.feed(piece)
                if survey.over:
                    break
                await asyncio.sleep(0)
            survey.end()
        steps = survey.plan(sample)
        return await (asyncio.to_thread(_at_once, steps) if survey.held > THREAD_BYTES else _run(steps))

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


def _hash(body: bytes) -> bytes:
    hasher = canonical.BodyHasher()
    hasher.update(body)
    return hasher.digest()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def patches(plan: Plan, addresses: Addresses) -> list[Patch]:
    """What changes for a recipient."""
    if plan.size > THREAD_BYTES or plan.holes > THREAD_HOLES:
        return await asyncio.to_thread(plan.patches, addresses)
    return plan.patches(addresses)


async def _run(steps: Generator[None, None, Result]) -> Result:
    """To its end, with a turn for others after each step."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        await asyncio.sleep(0)


def _at_once(steps: Generator[None, None, Result]) -> Result:
    """To its end, in a thread."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
