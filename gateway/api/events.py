"""GET /api/v1/events: the event log of the key's account, in order, from any place on; also as a stream.

Guarantees: who goes on from `next_cursor` misses nothing and sees nothing twice, whatever was filtered out; a cursor
older than the log goes on with the oldest. Requests that wait are bounded, and answered at once when the gateway stops.
"""

import asyncio
from typing import Final

import msgspec

from gateway import eventview
from gateway.api import eventstream, following, listing, status
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.following import Look, Wanted
from gateway.api.query import Query
from gateway.api.service import Service
from gateway.policy.auth import Principal
from gateway.tokens import Tokens

PATH: Final = "/api/v1/events"
OF_MESSAGE: Final = f"{status.PATH}/events"
MOST: Final = 1000  # events of an answer
USUALLY: Final = 100
LONGEST_WAIT_S: Final = 60
NOW: Final = ("now", "latest")
_FILTERS: Final = ("types", "key", "tag", "message")
_PARAMETERS: Final = ("after", *_FILTERS, "limit", "wait")


async def events(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    mail = service.door.mail
    is_stream = eventstream.is_asked_for(call)
    query = Query(call.query, ("after", *_FILTERS) if is_stream else _PARAMETERS)
    wanted = _wanted(query, principal)
    after = await mail.events.end() if query.text("after") in NOW else query.event_cursor("after", mail.tokens) or 0
    if is_stream:
        after = eventstream.resumed(call, query, mail.tokens, after)
        query.end()
        return await eventstream.open_(service, call, principal, wanted, min(after, mail.events.last))
    limit = query.number("limit", default=USUALLY, most=MOST)
    wait_s = query.seconds("wait", most=LONGEST_WAIT_S)
    query.end()
    # Behind the end is a place that was lost when an older database was restored.
    after = min(after, mail.events.last)
    if not wait_s:
        return await _page(call, mail.tokens, await following.look(mail, wanted, after, limit))
    service.feeds.enter(principal)
    try:
        seen = await following.follow(service, call, wanted, after, limit=limit, wait_s=wait_s)
    finally:
        service.feeds.leave(principal)
    return await _page(call, mail.tokens, seen)


async def of_message(service: Service, call: Call) -> Answer:
    """GET /api/v1/emails/{id}/events: what happened to one message. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    mail = service.door.mail
    query = Query(call.query, ("after", "types", "limit"))
    types = frozenset(query.choices("types", eventview.read_name, eventview.NAMES))
    after = query.event_cursor("after", mail.tokens) or 0
    limit = query.number("limit", default=USUALLY, most=MOST)
    query.end()
    uuid = status.parse_id(call.argument)
    if uuid is None:
        raise status.unknown()
    wanted = Wanted(principal.account, types, message=uuid, param="id")
    return await _page(call, mail.tokens, await following.look(mail, wanted, after, limit))


OPERATIONS: Final = (
    Operation("GET", PATH, events),
    Operation("GET", OF_MESSAGE, of_message),
)


def _wanted(query: Query, principal: Principal) -> Wanted:
    message = query.text("message")
    uuid = status.parse_id(message) if message is not None else None
    if message is not None and uuid is None:
        query.problems.add("message", "is not the id of a message")
    return Wanted(
        principal.account,
        types=frozenset(query.choices("types", eventview.read_name, eventview.NAMES)),
        key=query.text("key"),
        tag=query.text("tag"),
        message=uuid,
    )


async def _page(call: Call, tokens: Tokens, seen: Look) -> Answer:
    data: list[msgspec.Raw] = []
    for some in following.views(seen.events, tokens):
        data += [msgspec.Raw(msgspec.json.encode(view)) for view in some]
        await asyncio.sleep(0)
    return listing.page(data, call, next_cursor=tokens.cursor(seen.after), has_more=seen.more)
