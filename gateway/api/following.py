"""Looking through the event log for what a client wants to hear of.

Guarantees: a look reads a bounded number of events and says where the next one begins, past what the client did not
want; what it found is of a bounded size; nothing of another account is seen. A wait holds no connection to the store.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway import eventview
from gateway.api import status
from gateway.api.door import Call
from gateway.api.service import Service
from gateway.events import EventType
from gateway.manage.mail import AccountMail
from gateway.store.eventlog import LoggedEvent
from gateway.tokens import Tokens

READ_ROWS: Final = 200  # of one read: some 2 ms of the interpreter
PAGE_BYTES: Final = 1024 * 1024  # of a look, but for the last event: each has all metadata of its message
_READS: Final = 25  # in one look
_TURN: Final = 25  # events: 0.5 ms, and 4 with all the metadata they can have
_LOOK_S: Final = 5.0  # how long a client that is gone can keep its place


@dataclass(frozen=True, slots=True)
class Wanted:
    """All given conditions must hold; `types` empty: any. `message` is a UUID, `param` where the client named it."""

    account: str
    types: frozenset[EventType] = frozenset()
    key: str | None = None
    tag: str | None = None
    message: bytes | None = None
    param: str = "message"

    def wants(self, event: LoggedEvent) -> bool:
        if self.types and event.type not in self.types:
            return False
        if self.tag is not None and self.tag not in eventview.tags_of(event):
            return False
        return self.key is None or self.key == eventview.key_of(event)

    @property
    def all(self) -> bool:
        return not self.types and self.key is None and self.tag is None


@dataclass(frozen=True, slots=True)
class Look:
    """What was found, where to go on, and whether there is more already."""

    events: tuple[LoggedEvent, ...]
    after: int
    more: bool


async def look(mail: AccountMail, wanted: Wanted, after: int, limit: int) -> Look:
    """At what is there. Raises StoreError, and Refused where the account has no such message."""
    found: list[LoggedEvent] = []
    size = 0
    for _ in range(_READS):
        rows_most = min(limit - len(found), READ_ROWS) if wanted.all else READ_ROWS
        rows = await _read(mail, wanted, after, rows_most)
        for event in rows:
            after = event.seq
            if wanted.wants(event):
                found.append(event)
                size += len(event.data) + len(event.metadata) + len(event.subject)
                if len(found) == limit or size >= PAGE_BYTES:
                    return Look(tuple(found), after, more=event is not rows[-1] or len(rows) == rows_most)
        if len(rows) < rows_most:
            return Look(tuple(found), after, more=False)
    return Look(tuple(found), after, more=True)


async def follow(service: Service, call: Call, wanted: Wanted, after: int, *, limit: int, wait_s: float) -> Look:
    """As `look`; where there is nothing yet, what comes first, or nothing at the end of that time. It ends early where
    the gateway stops, or the client is gone."""
    mail = service.door.mail
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        with mail.commits.listen() as ear:  # before the look: what is committed meanwhile is heard of
            seen = await look(mail, wanted, after, limit)
            left = until - loop.time()
            if seen.events or seen.more or left <= 0 or service.stopping or call.request.transport is None:
                return seen
            await ear.wait(min(left, _LOOK_S))
        after = seen.after


def views(events: Sequence[LoggedEvent], tokens: Tokens) -> Iterator[list[dict[str, Any]]]:
    """The events as clients see them, as many at a time as one turn of the loop may make."""
    for start in range(0, len(events), _TURN):
        yield [eventview.native(event, tokens) for event in events[start : start + _TURN]]


async def _read(mail: AccountMail, wanted: Wanted, after: int, most: int) -> list[LoggedEvent]:
    if wanted.message is None:
        return await mail.events.read(after, most, account=wanted.account)
    rows = await mail.archive.events(wanted.message, wanted.account, after=after, limit=most)
    if rows is None:
        raise status.unknown(wanted.param)
    return rows
