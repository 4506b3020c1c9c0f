"""GET /api/v1/emails: the account's messages, the newest first.

Guarantees: an answer costs a bounded look; where nothing was found in it, `has_more` says that it is not over.
"""

import asyncio
from typing import Final

import msgspec

from gateway.api import listing, query, state, status
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.query import Query
from gateway.api.service import Service
from gateway.events import State
from gateway.store.archive import NEWEST, MailFilter

PATH: Final = "/api/v1/emails"
MOST: Final = 100  # messages of an answer, with their recipients
USUALLY: Final = 25
_PARAMETERS: Final = ("state", "to", "from", "tag", "key", "subject", "since", "before", "after", "limit")
_STATES: Final = {one.value: one for one in State}


async def search(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    mail = service.door.mail
    asked = Query(call.query, _PARAMETERS)
    which = _which(asked)
    after = asked.mail_cursor("after", mail.tokens)
    limit = asked.number("limit", default=USUALLY, most=MOST)
    asked.end()
    found = await mail.archive.search(principal.account, which, after=NEWEST if after is None else after, limit=limit)
    cursor = query.mail_cursor(found.after, mail.tokens) if found.after is not None else None
    data: list[msgspec.Raw] = []
    for view in found.messages:
        data.append(msgspec.Raw(msgspec.json.encode(status.describe(view))))
        await asyncio.sleep(0)  # a thousand recipients are 4 ms
    return listing.page(data, call, next_cursor=cursor, has_more=cursor is not None)


OPERATIONS: Final = (Operation("GET", PATH, search),)


def _which(asked: Query) -> MailFilter:
    wanted = asked.choice("state", _STATES.get, tuple(_STATES))
    return MailFilter(
        state=wanted,
        but_none_in=state.before(wanted) if wanted is not None else (),
        to=asked.address("to"),
        sender=asked.address("from"),
        tag=asked.text("tag"),
        key=asked.text("key"),
        subject=asked.text("subject"),
        since=asked.time("since"),
        before=asked.time("before"),
    )
