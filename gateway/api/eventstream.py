"""The event log as Server-Sent Events (WHATWG HTML, 9.2): what happened, as it happens.

Guarantees: `id` is the cursor, so a client that comes again with Last-Event-ID misses nothing and sees nothing twice;
something is sent every HEARTBEAT_S, and a key that may not read it any more is cut off then. It ends when the gateway
stops.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from gateway.api import following
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.following import Look, Wanted
from gateway.api.query import Query, read_event_cursor
from gateway.api.service import Service
from gateway.api.streaming import Streamed
from gateway.errors import Refused
from gateway.policy.auth import Principal
from gateway.tokens import Tokens

CONTENT_TYPE: Final = "text/event-stream"
HEARTBEAT_S: Final = 15.0
_RESUME: Final = "Last-Event-ID"
_AT_ONCE: Final = 100  # events of one write
_AGAIN_MS: Final = 3000  # after which a client comes again
# RFC 9111, 5.2.2.5; the other tells nginx not to collect it.
_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))


def is_asked_for(call: Call) -> bool:
    """Whether the client takes a stream."""
    accepted = call.request.headers.get("Accept", "").split(",")
    return any(one.partition(";")[0].strip().lower() == CONTENT_TYPE for one in accepted)


def resumed(call: Call, query: Query, tokens: Tokens, after: int) -> int:
    """Where the client's last stream ended, else `after`. A bad Last-Event-ID is a problem of the query."""
    given = call.request.headers.get(_RESUME)
    if not given:
        return after
    try:
        return read_event_cursor(given, tokens)
    except ValueError as error:
        query.problems.add(_RESUME, str(error))
        return after


async def open_(service: Service, call: Call, principal: Principal, wanted: Wanted, after: int) -> Answer:
    """The stream. Raises Refused (too many), StoreError."""
    first = await following.look(service.door.mail, wanted, after, _AT_ONCE)  # what is wrong is told as an answer
    service.feeds.enter(principal)
    return Streamed(
        200,
        b"",
        _HEADERS,
        close=True,
        content_type=CONTENT_TYPE,
        parts=_parts(service, call, wanted, after, first),
        end=lambda: service.feeds.leave(principal),
    )


async def _parts(service: Service, call: Call, wanted: Wanted, told: int, seen: Look) -> AsyncGenerator[bytes, None]:
    """`told` is the place that the client knows of, `seen` what was found behind it."""
    mail = service.door.mail
    loop = asyncio.get_running_loop()
    beat_at = loop.time() + HEARTBEAT_S
    # Who asked for `now` would come again with that, and miss what was between.
    yield f"retry: {_AGAIN_MS}\nid: {mail.tokens.cursor(told)}\n\n".encode()
    while True:
        for some in following.views(seen.events, mail.tokens):
            yield b"".join(map(_event, some))
            await asyncio.sleep(0)
        if seen.events:
            told = seen.events[-1].seq
        if service.stopping or call.request.transport is None:
            return
        if loop.time() >= beat_at:
            beat_at = loop.time() + HEARTBEAT_S
            if not _may_read(service, call, wanted.account):
                return
            yield _heartbeat(mail.tokens.cursor(seen.after) if seen.after > told else "")
            told = max(told, seen.after)
        left_s = 0.0 if seen.more else max(0.0, beat_at - loop.time())
        seen = await following.follow(service, call, wanted, seen.after, limit=_AT_ONCE, wait_s=left_s)


def _event(view: dict[str, Any]) -> bytes:
    head = f"id: {view['cursor']}\nevent: {view['type']}\ndata: "
    return head.encode() + msgspec.json.encode(view) + b"\n\n"  # JSON has no line end


def _heartbeat(cursor: str) -> bytes:
    """A comment; with it the place that was reached, where only what the client did not want came since: an id without
    data is no event, but is remembered."""
    return f": \nid: {cursor}\n\n".encode() if cursor else b": \n\n"


def _may_read(service: Service, call: Call, account: str) -> bool:
    """Still: a key of the configuration may have lost its scope, or be another account's now."""
    try:
        principal = service.door.authenticate(call.bearer() or "", call.peer)
    except Refused:
        return False
    return principal.account == account and "read" in principal.scopes
