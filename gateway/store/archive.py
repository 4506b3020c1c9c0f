"""The mail of one account as its programs look it up: search, content, events of a message.

Guarantees: nothing of another account is found; a search looks at a bounded number of messages and says where to go on,
each read a short transaction of its own. Newest first.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.events import State
from gateway.runtime import id_at
from gateway.store import db, eventlog
from gateway.store.db import Cursor
from gateway.store.eventlog import LoggedEvent
from gateway.store.readers import Readers
from gateway.store.shown import MessageView
from gateway.store.views import Views

NEWEST: Final = (1 << 63) - 1
SLICE_MESSAGES: Final = 1000  # looked at in one read: about 5 ms
SEARCH_SLICES: Final = 5  # of one search
PAGE_RECIPIENTS: Final = 2000  # of a page of several messages
_DAY_MS: Final = 86_400_000  # by how much an id may be ahead of its time: where the clock was set back


@dataclass(frozen=True, slots=True)
class MailFilter:
    """Which messages are meant; all given conditions must hold. Addresses in normal form; times Unix ms.

    `state` is that of a recipient, while none stands in one of `but_none_in`. `subject` is a part of it, in which
    letters of ASCII have no case.
    """

    state: State | None = None
    but_none_in: tuple[State, ...] = ()
    to: str | None = None
    sender: str | None = None
    tag: str | None = None
    key: str | None = None
    subject: str | None = None
    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class MailPage:
    """`after`: from where to go on, None at the end."""

    messages: tuple[MessageView, ...]
    after: int | None


@dataclass(frozen=True, slots=True)
class StoredContent:
    """`size` in bytes, None where it was erased."""

    message: int
    pieces: int
    size: int | None


class Archive:
    """Asks the readers; it holds no connection."""

    def __init__(self, readers: Readers, views: Views) -> None:
        self._readers = readers
        self._views = views
        self._sql = db.load("archive")

    async def search(self, account: str, which: MailFilter, *, after: int, limit: int) -> MailPage:
        """Up to `limit` messages older than the id `after` (NEWEST: from the newest), fewer where they have very many
        recipients. Raises StoreError."""
        found: list[MessageView] = []
        position: int | None = after
        if which.before is not None:
            position = min(after, id_at(which.before + _DAY_MS))
        for _ in range(SEARCH_SLICES):
            assert position is not None
            read = partial(self._slice, account=account, which=which, below=position, limit=limit - len(found))
            views, position = await self._readers.read(read)
            found += views
            if position is None or len(found) == limit or _weight(found) >= PAGE_RECIPIENTS:
                break
        return MailPage(tuple(found), position)

    async def content(self, uuid: bytes, account: str) -> StoredContent | None:
        """None where the account has no such message. Raises StoreError."""
        return await self._readers.read(partial(self._content, uuid=uuid, account=account))

    async def pieces(self, content: StoredContent) -> AsyncGenerator[bytes, None]:
        """One by one. Raises StoreError where one is missing or altered."""
        for index in range(content.pieces):
            yield await self._readers.read(partial(self._views.piece, message=content.message, index=index))

    async def events(self, uuid: bytes, account: str, *, after: int, limit: int) -> list[LoggedEvent] | None:
        """The next events of a message; None where the account has no such message. Raises StoreError."""
        return await self._readers.read(partial(self._events, uuid=uuid, account=account, after=after, limit=limit))

    def _slice(
        self, cursor: Cursor, account: str, which: MailFilter, below: int, limit: int
    ) -> tuple[list[MessageView], int | None]:
        boundary = cursor.execute(self._sql["archive_boundary"], (account, below, SLICE_MESSAGES - 1)).fetchall()
        lowest = boundary[0][0] if boundary else 0
        conditions = (account, below, lowest, *_conditions(which), limit)
        rows = cursor.execute(self._sql["archive_slice"], conditions).fetchall()
        views: list[MessageView] = []
        for number, uuid in rows:
            view = self._views.message(cursor, uuid, account)
            if view is not None:
                views.append(view)
            if len(views) == limit or _weight(views) >= PAGE_RECIPIENTS:
                return views, number
        following = lowest if boundary else None
        if following is not None and which.since is not None and following < id_at(which.since - _DAY_MS):
            following = None  # all that is left is older
        return views, following

    def _content(self, cursor: Cursor, uuid: bytes, account: str) -> StoredContent | None:
        rows = cursor.execute(self._sql["archive_content"], (uuid, account)).fetchall()
        return StoredContent(*rows[0]) if rows else None

    def _events(self, cursor: Cursor, uuid: bytes, account: str, after: int, limit: int) -> list[LoggedEvent] | None:
        found = eventlog.following(cursor, self._sql["archive_events"], after, limit, (uuid, account))
        if not found and not cursor.execute(self._sql["archive_known"], (uuid, account)).fetchall():
            return None
        return found


def _weight(views: Sequence[MessageView]) -> int:
    """How many recipients they have: of so many an answer is made in the event loop."""
    return sum(len(view.recipients) for view in views)


def _conditions(which: MailFilter) -> Sequence[object]:
    subject = which.subject
    if subject is not None:
        for special in "\\%_":
            subject = subject.replace(special, f"\\{special}")
        subject = f"%{subject}%"
    return (
        which.since,
        which.before,
        which.key,
        which.sender,
        subject,
        which.tag,
        which.state.value if which.state is not None else None,
        json.dumps([state.value for state in which.but_none_in]),
        which.to,
    )
