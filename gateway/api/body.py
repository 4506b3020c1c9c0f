"""Reading a request's body: checked before it is read, bounded in size, time and memory.

Guarantees: a body that declares too much, another encoding or another type is refused unread; a slow one ends at its
deadline; what all requests in hand need together stays in the budget: who comes when it is used up waits a while, and
is then told to come again. It does not decode.
"""

import asyncio
from typing import Final

from aiohttp import web

from gateway.api.envelope import Fault, HttpError
from gateway.budget import SMALL_BYTES, WAIT_S, Budget, Share
from gateway.errors import Reason, Refused

GRACE_S: Final = 30.0  # for a body of any size
MIN_BYTES_PER_S: Final = 500  # what comes slower than this is not a client that wants to send mail
MAX_S: Final = 900.0  # for the largest body, however steadily it comes
# A message is in memory more than once on its way: body and decoded parts, then those and the composed pieces. Measured
# as growth of the process by several of 20 MB at once: 2.0 times their bodies with attachments, 2.9 with plain text.
MEMORY_FACTOR: Final = 3
RETRY_AFTER_S: Final = 5
# Room for the beginning of a body that does not say its size, or a small one: who sends slowly, holds little. It
# doubles as the body grows.
_FIRST_BYTES: Final = 16 * 1024
_JSON_OVERHEAD: Final = 4 / 3 * 1.1  # base64, line breaks and escapes
_JSON_EXTRA_BYTES: Final = 1_000_000
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PLAIN_TYPES: Final = frozenset(("application/json", "application/json; charset=utf-8"))


class Bodies:
    """The bodies in hand of one server. `max_message` is in bytes of the composed message; `grace_s` any body may
    take, `wait_s` it may wait for memory."""

    def __init__(self, max_message: int, budget: Budget, *, grace_s: float = GRACE_S, wait_s: float = WAIT_S) -> None:
        self.resize(max_message)
        self._budget = budget
        self._grace_s = grace_s
        self._wait_s = wait_s

    def resize(self, max_message: int) -> None:
        """For the requests to come."""
        self.max_bytes = int(max_message * _JSON_OVERHEAD) + _JSON_EXTRA_BYTES

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

    def share(self) -> Share:
        """What a request will have of the memory; to be given back when it is done."""
        return Share(self._budget)

    async def read(self, request: web.BaseRequest, share: Share, max_bytes: int | None = None) -> bytes | bytearray:
        """The whole body; `share` then holds what its message needs. Raises HttpError, Refused."""
        content = request.content
        most = self._most(max_bytes)
        if content.is_eof():  # it came with the header: no timer, no copy
            body = content.read_nowait()
            if len(body) > most:
                raise _too_large(most)
            await self._reserve(share, len(body))
            return body
        # All that a large body of a declared size needs is reserved before it is read: two halves could wait for each
        # other.
        declared = request.content_length
        reserved = min(_FIRST_BYTES, most)
        if declared is not None:
            most = min(declared, most)
            if declared < reserved or MEMORY_FACTOR * declared > SMALL_BYTES:
                reserved = declared
        await self._reserve(share, reserved)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(_CONTINUE)  # RFC 9110, 10.1.1
        return await self._receive(request, share, reserved, most)

    async def _receive(self, request: web.BaseRequest, share: Share, reserved: int, most: int) -> bytearray:
        content = request.content
        loop = asyncio.get_running_loop()
        start = loop.time()
        body = bytearray()
        try:
            async with asyncio.timeout(self._grace_s) as timer:
                while not content.at_eof():
                    chunk = await content.readany()
                    size = len(body) + len(chunk)
                    if size > most:
                        raise _too_large(most)
                    if size > reserved:
                        timer.reschedule(None)  # the wait for memory is not the client's
                        before = loop.time()
                        reserved = max(2 * reserved, size)
                        await self._reserve(share, min(reserved, most))
                        start += loop.time() - before
                    body += chunk
                    timer.reschedule(start + min(self._grace_s + size / MIN_BYTES_PER_S, MAX_S))
        except TimeoutError:
            raise HttpError(Fault.REQUEST_TIMEOUT, "The body came too slowly.", close=True) from None
        except (web.RequestPayloadError, ConnectionError):
            raise HttpError(Fault.BAD_REQUEST, "The body is incomplete.", close=True) from None
        return body

    async def _reserve(self, share: Share, size: int) -> None:
        """Room for the message of a body of `size` bytes. Raises Refused."""
        total = MEMORY_FACTOR * size
        if not share.try_grow(total) and not await share.grow(total, self._wait_s):
            text = "Too much mail is being taken in at this moment."
            raise Refused(Reason.BACKLOG_FULL, text, retry_after_s=RETRY_AFTER_S)

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
