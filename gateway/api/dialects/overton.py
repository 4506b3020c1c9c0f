"""Overton (mxroute): POST /, credentials in the body, one recipient, one body that is HTML or text.

Guarantees: 200 only after the message is stored for good, or after the relay that the request names took it. The
secret is part of the body, so a body of up to MAX_BYTES is read from clients that are not known yet.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.api import fields
from gateway.api.dialect import Dialect, Operation
from gateway.api.dialects import failure, fieldtable, letter, namedrelay
from gateway.api.dialects.fieldtable import Field
from gateway.api.door import Call
from gateway.api.envelope import Answer, HttpError
from gateway.api.service import Document, Service
from gateway.config import MB, Secret
from gateway.delivery.passthrough import Ending, NamedRelay
from gateway.errors import Refused
from gateway.message.model import Mailbox, Submission

PATH: Final = "/"
MAX_BYTES: Final = 10 * MB
_SENT: Final = msgspec.json.encode({"success": True, "message": "Email sent successfully."})
_UNAUTHENTICATED: Final = "Authentication failed"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    server: str
    username: str
    password: Secret
    sender: Mailbox
    to: Mailbox
    subject: str
    body: str


FIELDS: Final = (
    Field("server", fieldtable.credential, "server", required=True),
    Field("username", fieldtable.credential, "username", required=True),
    Field("password", fieldtable.secret, "password", required=True),
    Field("from", fieldtable.one_mailbox, "sender", required=True),
    Field("to", fieldtable.one_mailbox, "to", required=True),
    Field("subject", fields.line, "subject", required=True),
    Field("body", fields.body, "body", required=True),
    Field("attachments", fieldtable.unsupported),
    Field("cc", fieldtable.unsupported),
    Field("bcc", fieldtable.unsupported),
)


async def send(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, HttpError, StoreError."""
    async with service.body(call, max_bytes=MAX_BYTES) as body:
        request, submission = await body.decode(_parse, in_thread=body.size > fieldtable.THREAD_BYTES)
        if not namedrelay.is_ours(service, request.server):
            return await _pass_on(service, call, request, submission)
        principal = service.principal(call, request.password.value, "send", login=request.username)
        await service.door.submit(principal, submission, idempotency=None, peer=call.peer)
    return Answer(200, _SENT)


async def _pass_on(service: Service, call: Call, request: Request, submission: Submission) -> Answer:
    namedrelay.require_listed(service, request.server, None, call.peer)
    secure = not namedrelay.is_loopback(request.server)  # the request cannot say it
    relay = NamedRelay(request.server, None, secure, request.username, request.password)
    passed = await service.door.pass_through(relay, submission, peer=call.peer)
    match passed.ending:
        case Ending.ACCEPTED:
            return Answer(200, _SENT)
        case Ending.AUTHENTICATION_FAILED:
            raise namedrelay.unauthenticated()
        case Ending.REFUSED | Ending.UNREACHABLE | Ending.UNCERTAIN as ending:
            status, text = namedrelay.FAILURES[ending]
            return Answer(status, msgspec.json.encode(_failed("", text)))


def _parse(document: Document) -> tuple[Request, Submission]:
    request = fieldtable.decode(document, FIELDS, Request, closed=True)
    return request, letter.of_body(request.sender, request.to, request.subject, request.body)


def _failed(_code: str, text: str) -> dict[str, Any]:
    return {"success": False, "error": text, "message": text}  # one document reads `error`, the other `message`


def refusal(refused: Refused, _request_id: str) -> Answer:
    """`{"success": false, "error": …, "message": …}`. A 401 names no scheme: none carries these credentials, and a
    challenge to Basic would make a browser ask for them."""
    return failure.refusal(refused, _failed, unauthenticated=_UNAUTHENTICATED)


def http_error(error: HttpError, _request_id: str) -> Answer:
    return failure.http_error(error, _failed)


DIALECT: Final = Dialect(
    name="overton",
    operations=(Operation("POST", PATH, send),),
    owns=(),
    refusal=refusal,
    http_error=http_error,
    limit_headers=failure.limit_headers,
)
