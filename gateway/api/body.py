"""Reading a request's body: checked before it is read, bounded in size, time and memory.

Guarantees: a body that declares too much, another encoding or another type is refused unread; a slow one
ends at its deadline; all bodies in hand together never pass BUFFER_BYTES. It does not decode.
"""

import asyncio
from typing import Final

from aiohttp import web

from gateway.api.envelope import Fault, HttpError
from gateway.errors import Reason, Refused

BUFFER_BYTES: Final = 256_000_000  # bodies in hand, all connections together
GRACE_S: Final = 30.0  # for a body of any size
MIN_BYTES_PER_S: Final = 500  # what comes slower than this is not a client that wants to send mail
MAX_S: Final = 900.0  # for the largest body, however steadily it comes
_JSON_OVERHEAD: Final = 4 / 3 * 1.1  # base64, line breaks and escapes
_JSON_EXTRA_BYTES: Final = 1_000_000
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PLAIN_TYPES: Final = frozenset(("application/json", "application/json; charset=utf-8"))


class Bodies:
    """The bodies in hand of one server. `max_message` is in bytes of the composed message."""

    def __init__(self, max_message: int, *, grace_s: float = GRACE_S, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.max_bytes = int(max_message * _JSON_OVERHEAD) + _JSON_EXTRA_BYTES
        self._grace_s = grace_s
        self._buffer_bytes = buffer_bytes
        self._held = 0

    def check(self, request: web.BaseRequest, max_bytes: int | None = None) -> None:
        """Refuse by the header alone: encoding, type, declared size. `max_bytes`: a bound below the server's.

        Raises HttpError, Refused.
        """
        headers = request.headers
        if headers.get("Content-Encoding", "identity").lower() != "identity":  # no decompression: no bombs
            raise HttpError(Fault.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding must be absent or identity.", close=True)
        declared = headers.get("Content-Type")
        if declared is not None and declared not in _PLAIN_TYPES and not _is_json(declared):
            raise HttpError(Fault.UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json in UTF-8.", close=True)
        length = request.content_length
        most = self._most(max_bytes)
        if length is not None and length > most:
            raise _too_large(most)

    async def read(self, request: web.BaseRequest, max_bytes: int | None = None) -> bytes | bytearray:
        """The whole body; give it back with `release(len(body))`. Raises HttpError, Refused."""
        content = request.content
        if content.is_eof():  # it came with the header: no timer, no copy
            body = content.read_nowait()
            self._take(len(body), len(body), self._most(max_bytes))
            return body
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(_CONTINUE)  # RFC 9110, 10.1.1
        return await self._receive(request, self._most(max_bytes))

    def release(self, size: int) -> None:
        self._held -= size

    async def _receive(self, request: web.BaseRequest, most: int) -> bytearray:
        content = request.content
        start = asyncio.get_running_loop().time()
        body = bytearray()
        try:
            async with asyncio.timeout(self._grace_s) as timer:
                while not content.at_eof():
                    chunk = await content.readany()
                    self._take(len(chunk), len(body) + len(chunk), most)
                    body += chunk
                    timer.reschedule(start + min(self._grace_s + len(body) / MIN_BYTES_PER_S, MAX_S))
        except BaseException as error:
            self._held -= len(body)
            if isinstance(error, TimeoutError):
                raise HttpError(Fault.REQUEST_TIMEOUT, "The body came too slowly.", close=True) from None
            if isinstance(error, (web.RequestPayloadError, ConnectionError)):
                raise HttpError(Fault.BAD_REQUEST, "The body is incomplete.", close=True) from None
            raise
        return body

    def _take(self, more: int, size: int, most: int) -> None:
        if size > most:
            raise _too_large(most)
        if self._held + more > self._buffer_bytes:
            raise Refused(Reason.BACKLOG_FULL, "Too much mail is being taken in at this moment.", retry_after_s=5)
        self._held += more

    def _most(self, max_bytes: int | None) -> int:
        return self.max_bytes if max_bytes is None else min(max_bytes, self.max_bytes)


def _too_large(most: int) -> Refused:
    return Refused(Reason.PAYLOAD_TOO_LARGE, f"The body is larger than {most} bytes.")


def _is_json(declared: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in declared.split(";"))
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return False
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    return all(charset in {"utf-8", "utf8", "us-ascii"} for charset in charsets)
