"""The body of a request to unsubscribe: urlencoded or multipart/form-data (RFC 8058, 3.1).

Guarantees: at most MAX_BYTES are read, for at most MAX_S; nothing here raises on foreign bytes.
"""

import asyncio
from email import message_from_bytes
from email.message import Message
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.api.envelope import Fault, HttpError
from gateway.api.unsubscribepage import ONE_CLICK
from gateway.errors import Reason, Refused

MAX_BYTES: Final = 4096  # the form has 26; multipart with its boundary some 200
MAX_S: Final = 10.0
_MAX_FIELDS: Final = 10
_MAX_TYPE: Final = 300  # characters of the content type: it is read in time by the square of them
_MULTIPART: Final = "multipart/form-data"


async def read(request: web.BaseRequest) -> bytes:
    """The whole body. Raises Refused (too large), HttpError (too slow, cut short)."""
    too_large = Refused(Reason.PAYLOAD_TOO_LARGE, f"The body is larger than {MAX_BYTES} bytes.")
    if (request.content_length or 0) > MAX_BYTES:
        raise too_large
    body = b""
    try:
        async with asyncio.timeout(MAX_S):
            while chunk := await request.content.read(MAX_BYTES + 1 - len(body)):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise too_large
    except TimeoutError:
        raise HttpError(Fault.REQUEST_TIMEOUT, "The form came too slowly.", close=True) from None
    except (web.RequestPayloadError, ConnectionError):
        raise HttpError(Fault.BAD_REQUEST, "The form is incomplete.", close=True) from None
    return body


def means_it(content_type: str, body: bytes) -> bool:
    """Whether the form says `List-Unsubscribe=One-Click`; without a type it is urlencoded. A line end behind it is not
    meant: some programs send a text so."""
    if content_type.partition(";")[0].strip().lower() == _MULTIPART:
        return _in_parts(content_type, body)
    try:
        return ONE_CLICK in parse_qsl(body.decode().strip(), max_num_fields=_MAX_FIELDS)
    except ValueError:  # no UTF-8, too many fields
        return False


def _in_parts(content_type: str, body: bytes) -> bool:
    """RFC 7578, 4."""
    form = b"Content-Type: " + content_type.encode("utf-8", "replace") + b"\r\n\r\n" + body
    # A boundary may name a charset (RFC 2231), which would be asked of Python: charset.py.
    if len(content_type) > _MAX_TYPE or b"boundary*" in form.lower():
        return False
    parts = message_from_bytes(form).get_payload()
    return isinstance(parts, list) and any(_says_it(part) for part in parts[:_MAX_FIELDS])


def _says_it(part: object) -> bool:
    if not isinstance(part, Message) or part.is_multipart():
        return False
    value = part.get_payload(decode=True)
    name = part.get_param("name", header="content-disposition")
    return name == ONE_CLICK[0] and isinstance(value, bytes) and value.strip() == ONE_CLICK[1].encode()
