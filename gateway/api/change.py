"""POST /api/v1/emails/{id}/cancel, /retry and /release, PATCH /api/v1/emails/{id}: the fate of a message changed.

Guarantees: a recipient that is being tried is left to its attempt; where nothing could be changed, 409 says where the
message stands. Releasing needs `manage`, for it approves what was held; the others need that or `send`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.api import envelope, fields, state, status, timing
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.fields import Problems
from gateway.api.query import Query
from gateway.api.service import Document, Service
from gateway.errors import Reason, Refused
from gateway.manage.mail import AccountMail
from gateway.message.schedule import Start
from gateway.policy.auth import Principal
from gateway.store.shown import MessageView

MAX_BYTES: Final = 4096  # of the body of a PATCH
_EITHER: Final = ("send", "manage")

Change = Callable[[AccountMail, bytes, Principal], Awaitable[int]]


async def _cancel(mail: AccountMail, uuid: bytes, principal: Principal) -> int:
    return await mail.cancel(uuid, principal.account, key=principal.name)


async def _retry(mail: AccountMail, uuid: bytes, principal: Principal) -> int:
    return await mail.retry(uuid, principal.account, key=principal.name)


async def _release(mail: AccountMail, uuid: bytes, principal: Principal) -> int:
    return await mail.release(uuid, principal.account, key=principal.name)


async def reschedule(service: Service, call: Call) -> Answer:
    """PATCH. Raises Refused, HttpError, StoreError."""
    principal = _may(service, call, _EITHER)
    Query(call.query, ()).end()
    async with service.body(call, max_bytes=MAX_BYTES) as body:
        start = await body.decode(parse)

    async def move(mail: AccountMail, uuid: bytes, principal: Principal) -> int:
        return await mail.reschedule(uuid, principal.account, start, key=principal.name)

    return await _answer(service, call, principal, move, "rescheduled")


def parse(document: Document) -> Start:
    """`{"send_at": …}`: an RFC 3339 time, `in 10m`, or `now`. Raises Refused."""
    problems = Problems()
    for name in document:
        if name != "send_at":
            problems.add(fields.shown(name), "is not a known field; only send_at can be changed")
    value = document.get("send_at")
    start = Start()
    if fields.absent(value):
        problems.add("send_at", "is required", "missing_parameter")
    elif value != "now":
        start = timing.send_at(value, "send_at", problems)
    problems.refuse()
    return start


def _operation(verb: str, scopes: tuple[str, ...], change: Change, done: str) -> Operation:
    async def serve(service: Service, call: Call) -> Answer:
        principal = _may(service, call, scopes)
        Query(call.query, ()).end()
        return await _answer(service, call, principal, change, done)

    return Operation("POST", f"{status.PATH}/{verb}", serve)


def _may(service: Service, call: Call, scopes: tuple[str, ...]) -> Principal:
    """Who calls, with one of these scopes. Raises Refused."""
    principal = service.principal(call, call.bearer(), None)
    if principal.scopes.isdisjoint(scopes):
        text = f"The key {principal.name} lacks the scope {' or '.join(scopes)}."
        raise Refused(Reason.INSUFFICIENT_PERMISSIONS, text)
    return principal


async def _answer(service: Service, call: Call, principal: Principal, change: Change, done: str) -> Answer:
    """The message as it stands then, and how many recipients were changed."""
    uuid = status.parse_id(call.argument)
    view = await service.door.status(principal, uuid) if uuid is not None else None
    if uuid is None or view is None:
        raise status.unknown()
    count = await change(service.door.mail, uuid, principal)
    view = await service.door.status(principal, uuid) or view
    if not count:
        stands = state.aggregate(recipient.state for recipient in view.recipients)
        raise Refused(Reason.CONFLICT, f"Nothing of this message can be {done}: it is {stands}{_why(view)}.")
    told: dict[str, Any] = {**status.describe(view), "changed": count}
    return envelope.success(told, call.id)


def _why(view: MessageView) -> str:
    """Where it is open and nothing can be done."""
    return ", and in hand" if any(one.blocked_by == "lease" for one in view.recipients) else ""


OPERATIONS: Final = (
    _operation("cancel", _EITHER, _cancel, "cancelled"),
    _operation("retry", _EITHER, _retry, "tried again now"),
    _operation("release", ("manage",), _release, "released"),
    Operation("PATCH", status.PATH, reschedule),
)
