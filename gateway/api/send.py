"""POST /api/v1/emails/send: one message.

Guarantees: 201 only after `Door.submit` returned, so the message is stored for good; a request is refused with every
problem at once; nothing in it can choose the route. With `wait` the answer is 200 and the final result if it came in
time, else 202.
"""

from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

from gateway.api import envelope, idempotency, message, status
from gateway.api.door import Call, Idempotency
from gateway.api.envelope import Answer
from gateway.api.message import Bounds, Request
from gateway.api.service import Document, Service
from gateway.config import Limits
from gateway.errors import Reason, Refused
from gateway.intake import Receipt
from gateway.runtime import rfc3339, show_id

PATH: Final = "/api/v1/emails/send"


async def send(service: Service, call: Call, *, bounds: Bounds | None = None) -> Answer:
    """The operation; a dialect of the same shape has `bounds` of its own. Raises Refused, HttpError, StoreError."""
    principal = service.principal(call, call.bearer(), "send")
    if call.query:
        check_query(call.query)
    key = idempotency.key(call.request)
    async with service.body(call) as body:
        parse = partial(
            _parse, limits=service.config.limits, bounds=bounds, from_required=principal.default_from is None, key=key
        )
        request, named = await body.decode(parse)
        receipt = await service.door.submit(principal, request.submission, idempotency=named, peer=call.peer)
    headers = idempotency.REPLAYED if receipt.replayed else ()
    if request.wait_s is not None:
        outcome = await service.door.outcome(principal, receipt.uuid, request.wait_s)
        if outcome is not None:
            code = 200 if all(recipient.state.final for recipient in outcome.view.recipients) else 202
            return envelope.success(status.describe(outcome.view), call.id, status=code, headers=headers)
    data = describe(service, receipt)
    if receipt.replayed and request.idempotency_key is not None:
        data["idempotent"] = True
    return envelope.success(data, call.id, status=service.config.dialects.sendmux_success_status, headers=headers)


def describe(service: Service, receipt: Receipt) -> dict[str, Any]:
    """What a client is told of an accepted message."""
    return {
        "message_id": show_id("eml_", receipt.uuid),
        "status": word(service, receipt),
        "created_at": rfc3339(int.from_bytes(receipt.uuid[:6], "big")),  # a UUIDv7 begins with its time
    }


def word(service: Service, receipt: Receipt) -> str:
    """The status of an accepted message: the generated clients of Sendmux, where they are served, know one only."""
    return "queued" if service.config.dialects.sendmux_success_status == 200 else receipt.status


def named(request: Request, header: str | None) -> Idempotency | None:
    """The request's own name, in the header or (for clients of Sendmux) in the body. Raises Refused."""
    given = request.idempotency_key
    if given is not None and header is not None and given != header:
        text = "idempotency_key: another one than the header Idempotency-Key has; give one of them."
        raise Refused(Reason.INVALID_PARAMETER, text, param="idempotency_key")
    key = header if header is not None else given
    return (key, idempotency.fingerprint(request.submission)) if key is not None else None


def check_query(query: str) -> None:
    """Nothing of the query is served; a `dry_run` that sent mail would be the worst of answers. Raises Refused."""
    names = dict(parse_qsl(query, keep_blank_values=True))
    if "dry_run" in names:
        raise Refused(Reason.NOT_SUPPORTED, "dry_run: is not available in this version.", param="dry_run")
    raise Refused(Reason.INVALID_PARAMETER, "The query takes no parameters.", param=next(iter(names), None))


def _parse(
    document: Document, *, limits: Limits, bounds: Bounds | None, from_required: bool, key: str | None
) -> tuple[Request, Idempotency | None]:
    request = message.parse_request(document, limits, from_required=from_required, bounds=bounds)
    return request, named(request, key)
