"""Reading the log of events: in order, from a place on, for one account or for all.

Guarantees: what is read is a prefix of what was committed, so a reader that goes on from the last number it saw misses
nothing; a read is short, whatever it looks for. Nothing is written here: an event is in the transaction of the state
that it reports.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.events import EventType
from gateway.store import db
from gateway.store.commits import Commits
from gateway.store.db import Cursor, Row
from gateway.store.readers import Readers

MOST_ROWS: Final = 1000  # of one read
SLICE_ROWS: Final = 10_000  # looked at in one read for a time; a clock that was behind for fewer hides nothing
_END_MS: Final = 253_402_300_800_000  # of the year 9999: a time that is not before it cannot be shown, and is damaged
_KNOWN: Final = frozenset(EventType)  # a damaged row is passed over
# What the columns of a row hold, in order. One bad byte can make another kind of any, and SQLite gives it as it is.
_KINDS: Final = (int, str, int, str, str | None, bytes | None, int, *[str | None] * 7, int)


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event with what is known of its message, which is "" (`uuid` None) where there is none, or it is gone.

    `data` is a JSON object; `tags` a JSON array, `metadata` a JSON object. `message` and `recipient` are row ids.
    """

    seq: int
    type: EventType
    at: int
    data: str
    account: str
    uuid: bytes | None
    message: int
    recipient: int
    address: str
    key: str
    tags: str
    metadata: str
    subject: str
    message_id: str
    header_from: str


class EventLog:
    """`last` tells the number that was given out last, committed or not."""

    def __init__(self, readers: Readers, commits: Commits, last: Callable[[], int]) -> None:
        self._readers = readers
        self._commits = commits
        self._sql = db.load("events")
        self._last = last

    @property
    def last(self) -> int:
        """No event has a higher number."""
        return self._last()

    async def read(self, after: int, limit: int, *, account: str | None = None) -> list[LoggedEvent]:
        """The next `limit` events (at most MOST_ROWS) behind `after`; of every account where none is given. Raises
        StoreError."""
        if self._last() <= after:
            return []
        limit = min(limit, MOST_ROWS)
        if account is None:
            question = partial(following, sql=self._sql["log_all"], after=after, limit=limit)
        else:
            question = partial(following, sql=self._sql["log_of_account"], after=after, limit=limit, more=(account,))
        return await self._readers.read(question)

    async def one(self, seq: int) -> LoggedEvent | None:
        """None where it is gone, or damaged. Raises StoreError."""
        found = await self._readers.read(partial(_one, sql=self._sql["log_one"], seq=seq))
        return found[0] if found else None

    async def end(self) -> int:
        """The place behind all that is committed. Raises StoreError."""
        return await self._readers.read(partial(_place, sql=self._sql["log_end"]))

    async def before(self, at: int) -> int:
        """The place from which everything since that time (Unix ms) follows: back to where SLICE_ROWS events are all
        older. Raises StoreError."""
        place = await self.end()  # what comes while it is looked for is behind it
        below = place + 1
        look = partial(_slice, sql=self._sql["log_slice"], at=at)
        while (found := await self._readers.read(partial(look, below=below))) is not None:
            below, first = found
            place = first - 1
        return place

    async def follow(self, after: int, limit: int, *, account: str | None = None, within_s: float) -> list[LoggedEvent]:
        """As `read`; where there is nothing yet, what comes first, or nothing at the end of that time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            with self._commits.listen() as commit:  # before the look: what is committed meanwhile is heard of
                found = await self.read(after, limit, account=account)
                left = until - loop.time()
                if found or left <= 0:
                    return found
                await commit.wait(left)


def following(cursor: Cursor, sql: str, after: int, limit: int, more: tuple[object, ...] = ()) -> list[LoggedEvent]:
    """The next `limit` events by a statement of this form; fewer only at the end: others stand for damaged rows."""
    found: list[LoggedEvent] = []
    ahead = 0  # rows behind `after` of which not even the number can be read
    while True:
        wanted = limit - len(found) + ahead
        rows, unreadable = readable(cursor, sql, (after, wanted, *more))
        found += [_event(row) for row in rows if _is_whole(row)]
        if len(found) == limit or len(rows) + unreadable < wanted:
            return found
        after, ahead = (rows[-1][0], 0) if rows else (after, unreadable)


def readable(cursor: Cursor, sql: str, values: Sequence[object]) -> tuple[list[Row], int]:
    """The rows that can be read, and how many cannot: a text may be none, where a byte is damaged."""
    try:
        return cursor.execute(sql, values).fetchall(), 0
    except UnicodeDecodeError:
        rows: list[Row] = []
        unreadable = 0
    reading = iter(cursor.execute(sql, values))
    while True:
        try:
            rows.append(next(reading))
        except StopIteration:
            return rows, unreadable
        except UnicodeDecodeError:
            unreadable += 1


def _one(cursor: Cursor, sql: str, seq: int) -> list[LoggedEvent]:
    return [_event(row) for row in readable(cursor, sql, (seq,))[0] if _is_whole(row)]


def _is_whole(row: Row) -> bool:
    return row[1] in _KNOWN and all(map(isinstance, row, _KINDS))


def _place(cursor: Cursor, sql: str) -> int:
    rows = cursor.execute(sql).fetchall()
    return rows[0][0] or 0


def _slice(cursor: Cursor, sql: str, at: int, below: int) -> tuple[int, int] | None:
    """The lowest number of a slice, and the lowest since that time; None where there is none of these."""
    lowest, first = cursor.execute(sql, (below, at, SLICE_ROWS)).fetchall()[0]
    return None if first is None else (lowest, first)


def _event(row: Row) -> LoggedEvent:
    (
        seq,
        type_,
        at,
        data,
        account,
        uuid,
        recipient,
        address,
        key,
        tags,
        metadata,
        subject,
        message_id,
        author,
        message,
    ) = row
    return LoggedEvent(
        seq=seq,
        type=EventType(type_),
        at=at if 0 <= at < _END_MS else 0,
        data=data,
        account=account or "",
        uuid=uuid,
        message=message,
        recipient=recipient,
        address=address or "",
        key=key or "",
        tags=tags or "[]",
        metadata=metadata or "{}",
        subject=subject or "",
        message_id=message_id or "",
        header_from=author or "",
    )
