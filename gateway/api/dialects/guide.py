"""The guide's generic API: POST /send-email with a bearer key and four fields.

Guarantees: 202 only after the message is stored for good; its id is the one that status and log show.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.api import fields
from gateway.api.dialect import Dialect, Operation
from gateway.api.dialects import failure, fieldtable, letter
from gateway.api.dialects.fieldtable import Field
from gateway.api.door import Call
from gateway.api.envelope import Answer, HttpError
from gateway.api.service import Document, Service
from gateway.errors import Refused
from gateway.message.model import Mailbox, Submission
from gateway.runtime import show_id

PATH: Final = "/send-email"
_UNAUTHENTICATED: Final = "The key is missing, unknown, expired or revoked: send Authorization: Bearer <key>."
_CHALLENGE: Final = (("WWW-Authenticate", "Bearer"),)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    to: Mailbox
    sender: Mailbox
    subject: str
    body: str


FIELDS: Final = (
    Field("to", fieldtable.one_mailbox, "to", required=True),
    Field("from", fieldtable.one_mailbox, "sender", required=True),
    Field("subject", fields.line, "subject", required=True),
    Field("body", fields.body, "body", required=True),
    Field("cc", fieldtable.unsupported),
    Field("bcc", fieldtable.unsupported),
    Field("reply_to", fieldtable.unsupported),
    Field("html", fieldtable.unsupported),
    Field("text", fieldtable.unsupported),
    Field("attachments", fieldtable.unsupported),
)


async def send(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, HttpError, StoreError."""
    principal = service.principal(call, call.bearer(), "send")
    async with service.body(call) as body:
        submission = await body.decode(_parse, in_thread=body.size > fieldtable.THREAD_BYTES)
        receipt = await service.door.submit(principal, submission, idempotency=None, peer=call.peer)
    shown = show_id("eml_", receipt.uuid)
    return Answer(202, msgspec.json.encode({"id": shown, "message_id": shown, "status": "accepted"}))


def _parse(document: Document) -> Submission:
    request = fieldtable.decode(document, FIELDS, Request, closed=False)
    return letter.of_body(request.sender, request.to, request.subject, request.body)


def _failed(code: str, text: str) -> dict[str, Any]:
    return {"error": code, "message": text}


def refusal(refused: Refused, _request_id: str) -> Answer:
    """`{"error": code, "message": text}`."""
    return failure.refusal(refused, _failed, unauthenticated=_UNAUTHENTICATED, challenge=_CHALLENGE)


def http_error(error: HttpError, _request_id: str) -> Answer:
    return failure.http_error(error, _failed)


DIALECT: Final = Dialect(
    name="guide",
    operations=(Operation("POST", PATH, send),),
    owns=(f"{PATH}/",),
    refusal=refusal,
    http_error=http_error,
    limit_headers=failure.limit_headers,
)
