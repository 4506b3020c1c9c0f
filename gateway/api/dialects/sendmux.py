"""Sendmux: POST /sendmux/api/v1/emails/send and /send/batch, GET /sendmux/api/v1/me: the vendor's own limits and words.

At the root the same paths are the native API, which takes more; here is what is as strict as the vendor.

Guarantees: the vendor's generated clients can read every answer: a message that was taken is `queued`, a problem of the
list `errors` names its field. 201 only after the message is stored for good; a batch keeps its order.
"""

import time
from dataclasses import replace
from typing import Any, Final

import msgspec

from gateway.api import batch, envelope, me, send
from gateway.api.bounds import Bounds
from gateway.api.dialect import Dialect, Operation
from gateway.api.door import Call
from gateway.api.envelope import Answer, Headers, HttpError
from gateway.api.service import Service
from gateway.errors import Refused
from gateway.policy.limits import Allowance

BATCH_MESSAGES: Final = 100
BOUNDS: Final = Bounds(
    required=("from", "subject", "html_body"),
    entries=(("to", 1), ("cc", 100), ("bcc", 100), ("reply_to", 1), ("attachments", 10)),
    name_characters=100,
    subject_characters=998,
    header_prefix="x-",
    header_characters=500,
    extensions=frozenset(
        (
            *("png", "jpg", "jpeg", "gif", "webp", "bmp", "ico", "svg"),
            *("pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp"),
            *("txt", "csv", "json", "xml", "md", "ics", "vcf"),
        )
    ),
)
_NO_STORE: Final = (("Cache-Control", "no-store"),)


async def send_one(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, HttpError, StoreError."""
    return _told(await send.send(service, call, bounds=BOUNDS))


async def send_batch(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, HttpError, StoreError."""
    return _told(await batch.batch(service, call, bounds=BOUNDS, most=BATCH_MESSAGES))


def refusal(refused: Refused, request_id: str) -> Answer:
    """`{"ok": false, "error": {…}, "meta": {"request_id": …}}`."""
    return _told(envelope.refusal(refused, request_id))


def http_error(error: HttpError, request_id: str) -> Answer:
    """The same shape for what is wrong as HTTP."""
    return _told(envelope.http_error(error, request_id))


def limit_headers(allowances: tuple[Allowance, ...]) -> Headers:
    """The limit that is nearest to its end. Reset is a Unix time, as the vendor's clients read it."""
    nearest = min(allowances, key=lambda one: one.remaining / one.burst)
    return (
        ("X-RateLimit-Limit", str(nearest.count)),
        ("X-RateLimit-Remaining", str(nearest.remaining)),
        ("X-RateLimit-Reset", str(int(time.time()) + nearest.reset_s)),
    )


def _told(answer: Answer) -> Answer:
    """The native answer in the words that the vendor's clients know; they fail on any other."""
    document = msgspec.json.decode(answer.body)
    if document["ok"]:
        data = document["data"]
        for result in data.get("results", (data,)):
            _tell_result(result)
    else:
        _tell_error(document["error"])
    return replace(answer, body=msgspec.json.encode(document), headers=(*answer.headers, *_NO_STORE))


def _tell_result(result: dict[str, Any]) -> None:
    if "error" in result:
        _tell_error(result["error"])
    else:
        result["status"] = "queued"  # also what is captured or scheduled


def _tell_error(error: dict[str, Any]) -> None:
    error["errors"] = [problem for problem in error["errors"] if problem["field"] is not None]


DIALECT: Final = Dialect(
    name="sendmux",
    operations=(
        Operation("POST", f"/sendmux{send.PATH}", send_one),
        Operation("POST", f"/sendmux{batch.PATH}", send_batch),
        Operation("GET", f"/sendmux{me.PATH}", me.me),
    ),
    owns=(),
    refusal=refusal,
    http_error=http_error,
    limit_headers=limit_headers,
)
