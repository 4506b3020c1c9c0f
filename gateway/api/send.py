"""POST /api/v1/emails/send: one message.

Guarantees: 201 only after `Door.submit` returned, so the message is stored for good; a request is refused
with every problem at once; nothing in it can choose the route. A body of more than LARGE_BYTES is decoded
in a thread.
"""

import asyncio
import functools
import hashlib
import re
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from gateway.api import document, envelope, message
from gateway.api.body import Bodies
from gateway.api.door import Call, Door
from gateway.api.envelope import Answer
from gateway.config import Limits
from gateway.errors import Reason, Refused
from gateway.intake import Receipt
from gateway.message.model import Submission
from gateway.runtime import rfc3339, show_id

PATH: Final = "/api/v1/emails/send"
_IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,255}")
_REPLAYED: Final = (("Idempotent-Replayed", "true"),)


class Send:
    """The handler; `pool` takes the decoding of large bodies."""

    def __init__(self, door: Door, bodies: Bodies, limits: Limits, pool: Executor) -> None:
        self._door = door
        self._bodies = bodies
        self._limits = limits
        self._pool = pool

    async def __call__(self, call: Call) -> Answer:
        """Raises Refused, HttpError, StoreError."""
        principal = call.principal(self._door, "send")
        if call.query:
            _check_query(call.query)
        self._bodies.check(call.request)
        key = idempotency_key(call.request)
        body = await self._bodies.read(call.request)
        size = len(body)
        try:
            decode = functools.partial(
                _decode,
                body,
                self._limits,
                from_required=principal.default_from is None,
                hashed=key is not None,
            )
            del body  # the decoded message is what is kept while it is stored
            if size <= document.LARGE_BYTES:
                submission, digest = decode()
            else:
                submission, digest = await asyncio.get_running_loop().run_in_executor(self._pool, decode)
            del decode
            receipt = await self._door.submit(
                principal,
                submission,
                idempotency=(key, digest) if key is not None else None,
                peer=call.peer,
            )
        finally:
            self._bodies.release(size)
        return envelope.success(describe(receipt), call.id, status=201, headers=_REPLAYED if receipt.replayed else ())


def describe(receipt: Receipt) -> dict[str, str]:
    """What a client is told of an accepted message."""
    return {
        "message_id": show_id("eml_", receipt.uuid),
        "status": receipt.status,
        "created_at": rfc3339(int.from_bytes(receipt.uuid[:6], "big")),  # a UUIDv7 begins with its time
    }


def idempotency_key(request: web.BaseRequest) -> str | None:
    """The header's text, bare or quoted (a Structured Field string). Raises Refused."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    text = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if _IDEMPOTENCY_KEY.fullmatch(text) is None:
        raise Refused(
            Reason.INVALID_PARAMETER,
            "Idempotency-Key: must be 1 to 255 printable ASCII characters.",
            param="Idempotency-Key",
        )
    return text


def fingerprint(submission: Submission) -> bytes:
    """SHA-256 of what is asked for, however it is written: absent fields, aliases, spaces do not count."""
    asked: dict[str, Any] = msgspec.to_builtins(replace(submission, attachments=()))
    hasher = hashlib.sha256(msgspec.json.encode({name: value for name, value in asked.items() if value}))
    for item in submission.attachments:
        head = (item.filename, item.content_type, item.content_id, item.disposition, len(item.content))
        hasher.update(msgspec.json.encode(head))
        hasher.update(item.content)
    return hasher.digest()


def _decode(body: bytes | bytearray, limits: Limits, *, from_required: bool, hashed: bool) -> tuple[Submission, bytes]:
    submission = message.parse(document.decode(body), limits, from_required=from_required)
    return submission, fingerprint(submission) if hashed else b""


def _check_query(query: str) -> None:
    """Nothing of the query is served; a `dry_run` that sent mail would be the worst of answers."""
    names = dict(parse_qsl(query, keep_blank_values=True))
    if "dry_run" in names:
        raise Refused(Reason.NOT_SUPPORTED, "dry_run: is not available in this version.", param="dry_run")
    raise Refused(Reason.INVALID_PARAMETER, "The query takes no parameters.", param=next(iter(names), None))
