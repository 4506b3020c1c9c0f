"""GET /api/v1/emails/{id}: where a message stands, recipient by recipient.

Guarantees: a message of another account, an unknown id and a malformed one give one and the same 404.
"""

import re
import uuid as uuids
from typing import Any, Final

import msgspec

from gateway.api import envelope, state
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.service import Service
from gateway.errors import Reason, Refused
from gateway.runtime import read_id, rfc3339, show_id
from gateway.store.shown import MessageView, RecipientView

PATH: Final = "/api/v1/emails/{}"
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


async def show(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    uuid = parse_id(call.argument)
    view = await service.door.status(principal, uuid) if uuid is not None else None
    if view is None:
        raise unknown()
    return envelope.success(describe(view), call.id)


def unknown(param: str = "id") -> Refused:
    """One answer, whether it never was, is another account's, or is gone."""
    return Refused(Reason.NOT_FOUND, "There is no message with this id.", param=param)


def parse_id(text: str) -> bytes | None:
    """A message id as `eml_…` or as a UUID; None where it is neither."""
    if _UUID.fullmatch(text) is not None:
        return uuids.UUID(text).bytes
    return read_id("eml_", text)


def describe(view: MessageView) -> dict[str, Any]:
    """A message as JSON; `status` repeats `state` for clients of other APIs."""
    aggregate = state.aggregate(recipient.state for recipient in view.recipients)
    return {
        "message_id": show_id("eml_", view.uuid),
        "state": aggregate,
        "status": aggregate,
        "from": view.header_from,
        "subject": view.subject,
        "created_at": rfc3339(view.created_at),
        "delivered_at": _time(state.delivered_at(view.recipients)),
        "bounce_reason": state.bounce_reason(view.recipients),
        "opens": sum(recipient.opens for recipient in view.recipients),
        "clicks": sum(recipient.clicks for recipient in view.recipients),
        "recipients": [_recipient(recipient) for recipient in view.recipients],
        "tags": msgspec.Raw(view.tags.encode()),
        "metadata": msgspec.Raw(view.metadata.encode()),
    }


def _recipient(view: RecipientView) -> dict[str, Any]:
    return {
        "address": view.address,
        "state": view.state,
        "attempts": view.attempts,
        "last_reply": view.reply or None,
        "blocked_by": view.blocked_by or None,
        "next_attempt_at": _time(view.next_at),
        "host": view.host or None,
        "bounce_class": view.bounce_class or None,
        "updated_at": rfc3339(view.updated_at),
        "possible_duplicate": view.possible_duplicate,
        "opens": view.opens,
        "clicks": view.clicks,
    }


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
