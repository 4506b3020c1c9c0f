"""CloudMails: POST /v1/send, POST /v1/send/batch and GET /v1/emails/{id}; and POST /v1/email/send and /v1/email/batch
of the vendor's other page.

Guarantees: 202 only after the message is stored for good; a batch keeps its order, and what is wrong with one of its
messages fails that one only; a bad request is 400 with every problem in `details`, never 422.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from gateway.api import idempotency, state, status
from gateway.api.dialect import Dialect, Operation
from gateway.api.dialects import cloudmailsrequest, failure
from gateway.api.dialects.cloudmailsrequest import Entry
from gateway.api.dialects.fieldtable import Field
from gateway.api.door import Call, Idempotency
from gateway.api.envelope import Answer, Fault, HttpError
from gateway.api.service import Document, Service
from gateway.errors import Reason, Refused
from gateway.events import State
from gateway.intake import Item
from gateway.message.model import Submission
from gateway.runtime import read_id, rfc3339, show_id
from gateway.store.shown import MessageView

STATUS_WORDS: Final = {
    State.SCHEDULED: "sent",
    State.HELD: "sent",
    State.QUEUED: "sent",
    State.CAPTURED: "sent",
    State.DEFERRED: "deferred",
    State.DELIVERED: "delivered",
    State.BOUNCED: "bounced",
    State.FAILED: "failed",
    State.SUPPRESSED: "failed",
    State.CANCELLED: "failed",
}
INVALID_REQUEST: Final = "invalid_request"
INVALID_RECIPIENT: Final = "invalid_recipient"
CODES: Final = {
    Reason.AUTHENTICATION_REQUIRED: "invalid_api_key",
    Reason.INSUFFICIENT_PERMISSIONS: "forbidden",
    Reason.SENDER_NOT_ALLOWED: "domain_not_verified",
    Reason.NOT_FOUND: "not_found",
    Reason.CONFLICT: "conflict",
    Reason.IDEMPOTENCY_CONFLICT: "idempotency_conflict",
    Reason.PAYLOAD_TOO_LARGE: "payload_too_large",
    Reason.RATE_LIMITED: "rate_limited",
    Reason.THROTTLED: "rate_limited",
    Reason.NO_ROUTE: "service_unavailable",
    Reason.BACKLOG_FULL: "service_unavailable",
    Reason.STORAGE_UNAVAILABLE: "service_unavailable",
    Reason.SHUTTING_DOWN: "service_unavailable",
}
FAULT_CODES: Final = {
    Fault.BAD_REQUEST: INVALID_REQUEST,
    Fault.METHOD_NOT_ALLOWED: "method_not_allowed",
    Fault.REQUEST_TIMEOUT: "request_timeout",
    Fault.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    Fault.INTERNAL_ERROR: "server_error",
}
_UNAUTHENTICATED: Final = "The API key is missing or invalid: send Authorization: Bearer <key>."
_CHALLENGE: Final = (("WWW-Authenticate", "Bearer"),)
_RECIPIENTS: Final = ("to", "cc", "bcc")
_RENAMED: Final = (("html_body", "html"), ("text_body", "text"))  # what intake calls a field, and its name here

Asked = tuple[Submission, Idempotency | None] | Refused


async def send(service: Service, call: Call) -> Answer:
    """POST /v1/send. Raises Refused, HttpError, StoreError."""
    return await _send(service, call, lambda at_ms: {"status": "sent", "timestamp": rfc3339(at_ms)})


async def send_other(service: Service, call: Call) -> Answer:
    """POST /v1/email/send: the time in Unix seconds. Raises Refused, HttpError, StoreError."""
    return await _send(service, call, lambda at_ms: {"timestamp": at_ms // 1000})


async def send_batch(service: Service, call: Call) -> Answer:
    """POST /v1/send/batch. Raises Refused, HttpError, StoreError."""
    return await _send_all(service, call, cloudmailsrequest.messages)


async def send_other_batch(service: Service, call: Call) -> Answer:
    """POST /v1/email/batch: one mail, filled in for each recipient. Raises Refused, HttpError, StoreError."""
    return await _send_all(service, call, cloudmailsrequest.recipients)


async def show(service: Service, call: Call) -> Answer:
    """GET /v1/emails/{id}. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    uuid = read_id("msg_", call.argument) or status.parse_id(call.argument)
    view = await service.door.status(principal, uuid) if uuid is not None else None
    if view is None:
        raise Refused(Reason.NOT_FOUND, "There is no message with this id.")
    return Answer(200, msgspec.json.encode(describe(view)))


def describe(view: MessageView) -> dict[str, Any]:
    """A message as its status is told."""
    at_ms = state.delivered_at(view.recipients)
    return {
        "message_id": show_id("msg_", view.uuid),
        "status": STATUS_WORDS[state.aggregate(recipient.state for recipient in view.recipients)],
        "created_at": rfc3339(view.created_at),
        "delivered_at": rfc3339(at_ms) if at_ms is not None else None,
        "bounce_reason": state.bounce_reason(view.recipients),
        "opens": sum(recipient.opens for recipient in view.recipients),
        "clicks": sum(recipient.clicks for recipient in view.recipients),
    }


async def _send(service: Service, call: Call, rest: Callable[[int], dict[str, Any]]) -> Answer:
    principal = service.principal(call, call.bearer(), "send")
    key = idempotency.key(call.request)
    known = cloudmailsrequest.table(service.config.limits, from_required=principal.default_from is None)
    async with service.body(call) as body:
        submission, named = await body.decode(partial(_parse, known=known, key=key))
        receipt = await service.door.submit(principal, submission, idempotency=named, peer=call.peer)
    at_ms = int.from_bytes(receipt.uuid[:6], "big")  # a UUIDv7 begins with its time
    return _accepted({"message_id": show_id("msg_", receipt.uuid), **rest(at_ms)}, replayed=receipt.replayed)


async def _send_all(service: Service, call: Call, read: Callable[..., list[Entry]]) -> Answer:
    principal = service.principal(call, call.bearer(), "send")
    key = idempotency.key(call.request)
    entries = partial(read, config=service.config, from_required=principal.default_from is None)
    async with service.body(call) as body:
        asked, request = await body.decode(partial(_parse_all, read=entries, key=key), in_thread=True)
        receipt = await service.door.submit_all(principal, asked, request=request, peer=call.peer)
    results = [_result(index, item) for index, item in enumerate(receipt.items)]
    accepted = sum(item.receipt is not None for item in receipt.items)
    return _accepted({"accepted": accepted, "results": results}, replayed=receipt.replayed)


def _parse(document: Document, *, known: tuple[Field, ...], key: str | None) -> tuple[Submission, Idempotency | None]:
    submission = cloudmailsrequest.message(document, known)
    return submission, (key, idempotency.fingerprint(submission)) if key is not None else None


def _parse_all(
    document: Document, *, read: Callable[[Document], list[Entry]], key: str | None
) -> tuple[list[Asked], Idempotency | None]:
    entries = read(document)
    asked: list[Asked] = [entry if isinstance(entry, Refused) else (entry, None) for entry in entries]
    return asked, (key, idempotency.fingerprint_all(entries)) if key is not None else None


def _accepted(told: dict[str, Any], *, replayed: bool) -> Answer:
    body = msgspec.json.encode({"success": True, **told})
    return Answer(202, body, idempotency.REPLAYED if replayed else ())


def _result(index: int, item: Item) -> dict[str, Any]:
    if item.refused is not None:
        return {"index": index, "error": error_of(item.refused)}
    assert item.receipt is not None
    return {"index": index, "message_id": show_id("msg_", item.receipt.uuid)}


def refusal(refused: Refused, _request_id: str) -> Answer:
    """`{"success": false, "error": {"code", "message", "details"}}`."""
    reason = refused.reason
    http = 400 if reason.answer.http == 422 else reason.answer.http
    unknown = reason is Reason.AUTHENTICATION_REQUIRED
    headers = _CHALLENGE if unknown else failure.retry_after(http, refused.retry_after_s)
    closes = reason in (Reason.PAYLOAD_TOO_LARGE, Reason.SHUTTING_DOWN)
    return Answer(http, _failed(error_of(refused)), headers, close=closes)


def http_error(error: HttpError, _request_id: str) -> Answer:
    """The same shape for what is wrong as HTTP."""
    http = error.fault.value[0]
    body = _failed({"code": FAULT_CODES[error.fault], "message": error.text, "details": []})
    return Answer(http, body, (*error.headers, *failure.retry_after(http, None)), close=error.close)


def error_of(refused: Refused) -> dict[str, Any]:
    """A refusal as the member `error` of an answer, or of a batch's result; `details` has each problem."""
    if refused.reason is Reason.AUTHENTICATION_REQUIRED:  # one answer for every cause: nothing can be learnt from it
        return {"code": CODES[refused.reason], "message": _UNAUTHENTICATED, "details": []}
    if refused.problems:
        told = [(problem.path, str(problem), problem.code) for problem in refused.problems]
    else:
        told = [(refused.param, refused.text, refused.reason.code)] if refused.param is not None else []
    details = [{"field": _renamed(field), "message": _renamed(text), "code": code} for field, text, code in told]
    more = f" ({len(details) - 1} more in details)" if len(details) > 1 else ""
    text = f"{details[0]['message']}{more}" if details else refused.text
    return {"code": _code(refused), "message": text, "details": details}


def _failed(error: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"success": False, "error": error})


def _code(refused: Refused) -> str:
    code = CODES.get(refused.reason)
    if code is not None:
        return code
    field = (refused.param or "").partition("[")[0]
    missing = refused.reason is Reason.MISSING_PARAMETER
    return INVALID_RECIPIENT if field in _RECIPIENTS and not missing else INVALID_REQUEST


def _renamed(text: str) -> str:
    for native, ours in _RENAMED:
        if text.startswith(native):
            return ours + text.removeprefix(native)
    return text


DIALECT: Final = Dialect(
    name="cloudmails",
    operations=(
        Operation("POST", "/v1/send", send),
        Operation("POST", "/v1/send/batch", send_batch),
        Operation("GET", "/v1/emails/{}", show),
        Operation("POST", "/v1/email/send", send_other),
        Operation("POST", "/v1/email/batch", send_other_batch),
    ),
    owns=("/v1/",),
    refusal=refusal,
    http_error=http_error,
    limit_headers=failure.limit_headers,
)
