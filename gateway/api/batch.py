"""POST /api/v1/emails/send/batch: many messages, each with a result of its own.

Guarantees: results are in the order of the request; an item that is wrong fails alone; what is accepted is stored in
one transaction before the answer. With an Idempotency-Key the whole answer is kept in that transaction too.
"""

from functools import partial
from typing import Any, Final

from gateway.api import envelope, fields, idempotency, message, send
from gateway.api.door import Call, Idempotency
from gateway.api.envelope import Answer
from gateway.api.message import Bounds
from gateway.api.service import Document, Service
from gateway.config import Limits
from gateway.errors import Reason, Refused
from gateway.intake import Item
from gateway.message.model import Submission
from gateway.runtime import show_id

PATH: Final = "/api/v1/emails/send/batch"

Asked = tuple[Submission, Idempotency | None] | Refused


async def batch(
    service: Service,
    call: Call,
    *,
    bounds: Bounds | None = None,
    most: int | None = None,
) -> Answer:
    """The operation; a dialect of the same shape has bounds of its own. Raises Refused, HttpError, StoreError."""
    principal = service.principal(call, call.bearer(), "send")
    if call.query:
        send.check_query(call.query)
    key = idempotency.key(call.request)
    limits = service.config.limits
    async with service.body(call) as body:
        parse = partial(
            _parse,
            limits=limits,
            bounds=bounds,
            most=min(most or limits.batch, limits.batch),
            from_required=principal.default_from is None,
            key=key,
        )
        items, request = await body.decode(parse, in_thread=True)
        receipt = await service.door.submit_all(principal, items, request=request, peer=call.peer)
    headers = idempotency.REPLAYED if receipt.replayed else ()
    status = service.config.dialects.sendmux_success_status
    return envelope.success(describe(service, receipt.items), call.id, status=status, headers=headers)


def describe(service: Service, items: tuple[Item, ...]) -> dict[str, Any]:
    """The results by input index, and how many there are of each kind."""
    results = [_result(service, index, item) for index, item in enumerate(items)]
    failed = sum(item.refused is not None for item in items)
    return {"results": results, "summary": {"total": len(items), "queued": len(items) - failed, "failed": failed}}


def messages(document: Document, most: int) -> list[Any]:
    """The field `messages`: 1 to `most` of them. Raises Refused."""
    for name in document:
        if name != "messages":
            text = f"{fields.shown(name)}: is not a known field; a batch has messages."
            raise Refused(Reason.INVALID_PARAMETER, text, param=fields.shown(name))
    value = document.get("messages")
    if fields.absent(value):
        raise Refused(Reason.MISSING_PARAMETER, "messages: is required.", param="messages")
    if not isinstance(value, list):
        text = f"messages: must be a list of messages, got {fields.kind(value)}."
        raise Refused(Reason.INVALID_PARAMETER, text, param="messages")
    if len(value) > most:
        text = f"messages: has {len(value)} entries; at most {most} are taken."
        raise Refused(Reason.VALIDATION_ERROR, text, param="messages")
    return value


def _parse(
    document: Document, *, limits: Limits, bounds: Bounds | None, most: int, from_required: bool, key: str | None
) -> tuple[list[Asked], Idempotency | None]:
    given = messages(document, most)
    items = [_item(item, limits, bounds, from_required=from_required, named=key is not None) for item in given]
    if key is None:
        return items, None
    digest = idempotency.fingerprint_all(item if isinstance(item, Refused) else item[0] for item in items)
    return items, (key, digest)


def _item(value: Any, limits: Limits, bounds: Bounds | None, *, from_required: bool, named: bool) -> Asked:
    """One message of the batch, or why it is refused. `named`: the whole request has an idempotency key."""
    if not isinstance(value, dict):
        return Refused(Reason.INVALID_PARAMETER, f"A message must be an object, got {fields.kind(value)}.")
    try:
        request = message.parse_request(value, limits, from_required=from_required, bounds=bounds)
        if request.wait_s is not None:
            return Refused(Reason.INVALID_PARAMETER, "wait: a batch does not wait.", param="wait")
        if named and request.idempotency_key is not None:
            text = "idempotency_key: the request has the header Idempotency-Key; give one of them."
            return Refused(Reason.INVALID_PARAMETER, text, param="idempotency_key")
        return request.submission, send.named(request, None)
    except Refused as refused:
        return refused


def _result(service: Service, index: int, item: Item) -> dict[str, Any]:
    if item.refused is not None:
        error = envelope.error_of(item.refused)
        return {"index": index, "message_id": None, "status": "failed", "error": error}
    assert item.receipt is not None
    result = {
        "index": index,
        "message_id": show_id("eml_", item.receipt.uuid),
        "status": send.word(service, item.receipt),
    }
    if item.receipt.replayed:
        result["idempotent"] = True
    return result
