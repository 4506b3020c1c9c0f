"""Answers whose body is made while it is sent: content in pieces, events as they come.

Guarantees: at most one part is in memory beside what the socket holds; a client that does not take a part in WRITE_S is
cut off; a body that fails on its way is cut, so that nobody takes it for whole.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gateway.api.connection import WRITE_S, Written
from gateway.api.envelope import Answer, Headers
from gateway.errors import GatewayError

_END: Final = b"0\r\n\r\n"

log = logging.getLogger("gateway.api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed(Answer):
    """`length` None: not known before its end. `end` is called once, whatever became of it."""

    parts: AsyncGenerator[bytes, None]
    length: int | None = None
    end: Callable[[], None] = lambda: None


class Flowing(Written):
    """A streamed answer on its connection. `over` is called when nothing of it is left to do."""

    def __init__(
        self, answer: Streamed, request_id: str, date: str, headers: Headers, over: Callable[[], None]
    ) -> None:
        super().__init__(answer, request_id, date, headers)
        self._streamed = answer
        self._over = over

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        try:
            async with aclosing(self._streamed.parts):
                await self._flow(request)
        except (ConnectionError, TimeoutError):
            _cut(request)
            raise ConnectionResetError from None
        except GatewayError as error:
            log.warning("an answer was cut: %s", error)
            _cut(request)
            raise ConnectionResetError from error
        finally:
            self._streamed.end()
            self._over()
        return None

    async def _flow(self, request: web.BaseRequest) -> None:
        ends_with_connection = self._streamed.length is None and request.version < (1, 1)
        self._kept = request.keep_alive and not self._streamed.close and not ends_with_connection
        is_chunked = self._streamed.length is None and not ends_with_connection
        await _write(request, self._head(http10=request.version < (1, 1)).encode("ascii"))
        if request.method == "HEAD":
            return
        async for part in self._streamed.parts:
            # RFC 9112, 7.1; an empty chunk would be the end.
            await _write(request, b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
        if is_chunked:
            await _write(request, _END)

    def _framing(self, *, http10: bool) -> str:
        if self._streamed.length is not None:
            return f"Content-Length: {self._streamed.length}\r\n"
        return "" if http10 else "Transfer-Encoding: chunked\r\n"


async def _write(request: web.BaseRequest, data: bytes) -> None:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError
    transport.write(data)
    if request.protocol.writing_paused:
        async with asyncio.timeout(WRITE_S):
            await request.writer.drain()


def _cut(request: web.BaseRequest) -> None:
    """Without what is still in its buffer: nobody reads it."""
    if request.transport is not None:
        request.transport.abort()
