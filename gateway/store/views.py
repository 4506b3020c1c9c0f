"""Questions to the store: messages, events, content, what is queued. Each is a function of a reading cursor.

Guarantees: content is handed out only if its SHA-256 is the one it was stored with. Costs do not grow with
the backlog, but that of `counts`, and that of `find_slice` where its conditions hold for few.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.runtime import ID_EPOCH_MS
from gateway.store.db import Cursor, Row, Statements
from gateway.store.shown import Count, EventView, Filter, MessageView, QueueRow, RecipientView

SLICE_MESSAGES: Final = 1000  # looked at in one read transaction of a search

Position = tuple[int, int]  # (at, message) of the table `expiry`


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a search: what it found, and from where to go on (None: that was all)."""

    rows: list[QueueRow]
    position: Position | None


@dataclass(slots=True)
class _Tally:
    """One destination's line of the counts: ready, waiting, leased, held; the lowest id of a recipient."""

    places: list[int] = field(default_factory=lambda: [0] * 4)
    oldest: int = (1 << 63) - 1
    next_at: int | None = None


class Views:
    """The questions; it holds no connection."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def counts(self, cursor: Cursor) -> list[Count]:
        tallies: dict[int, _Tally] = {}
        for place, name in enumerate(("count_ready", "count_waiting", "count_leased", "count_held")):
            for destination, number, oldest, *first in cursor.execute(self._sql[name]).fetchall():
                tally = tallies.setdefault(destination, _Tally())
                tally.places[place] = number
                tally.oldest = min(tally.oldest, oldest)
                tally.next_at = first[0] if first else tally.next_at
        counts = []
        for destination, tally in tallies.items():
            route, domain = _one(cursor, self._sql["destination_name"], (destination,)) or ("", "")
            counts.append(_count(route, domain, tally))
        return sorted(counts, key=lambda count: (count.route, count.domain))

    def message(self, cursor: Cursor, uuid: bytes, account: str | None) -> MessageView | None:
        row = _one(cursor, self._sql["message_view"], (uuid, account))
        if row is None:
            return None
        recipients = cursor.execute(self._sql["message_recipients"], (row[0],)).fetchall()
        return MessageView(
            uuid=row[1],
            account=row[2],
            key=row[3],
            door=row[4],
            envelope_sender=row[5],
            header_from=row[6],
            subject=row[7],
            message_id=row[8],
            size=row[9],
            tags=row[10],
            metadata=row[11],
            created_at=row[12],
            expires_at=row[13],
            recipients=tuple(_recipient(recipient) for recipient in recipients),
        )

    def events(self, cursor: Cursor, uuid: bytes) -> list[EventView]:
        rows = cursor.execute(self._sql["events_view"], (uuid,)).fetchall()
        return [EventView(seq, address, EventType(type_), at, data) for seq, address, type_, at, data in rows]

    def content(self, cursor: Cursor, uuid: bytes) -> bytes | None:
        """All pieces in one; None where the message is unknown or its content was erased."""
        row = _one(cursor, self._sql["piece_count"], (uuid,))
        if row is None:
            return None
        id_, pieces = row
        if _one(cursor, self._sql["content_get"], (id_,)) is None:
            return None
        return b"".join(self.piece(cursor, id_, index) for index in range(pieces))

    def piece(self, cursor: Cursor, message: int, index: int) -> bytes:
        """A stored piece. StoreError where it is missing or altered."""
        if index == 0:
            row = _one(cursor, self._sql["content_get"], (message,))
        else:
            row = _one(cursor, self._sql["piece_get"], (message, index))
        if row is None:
            raise StoreError(f"Piece {index} of a message is missing from the store.")
        stored, data = row
        if hashlib.sha256(data).digest() != stored:
            raise StoreError(f"Piece {index} of a message is not what was stored: the database is damaged.")
        content: bytes = data
        return content

    def place(self, cursor: Cursor, uuid: bytes) -> Position | None:
        """Where a search finds that message alone: the position just before it is one message less."""
        row = _one(cursor, self._sql["message_position"], (uuid,))
        return (row[0], row[1]) if row is not None else None

    def find_slice(
        self, cursor: Cursor, which: Filter, after: Position, last: Position | None, *, waiting: str | None
    ) -> Slice:
        """Queued recipients that match, after a position and up to `last` (None: some further). `waiting`: only those
        that wait, "backoff" or "schedule" (then both)."""
        position = None
        if last is None:
            row = _one(cursor, self._sql["find_boundary"], (*after, SLICE_MESSAGES - 1))
            last = position = (row[0], row[1]) if row is not None else None
        conditions = (which.account, which.key, which.older_than, which.route, which.domain)
        rows = cursor.execute(
            self._sql["find_slice"],
            (
                *after,
                *(last or _END),
                *conditions,
                which.state.value if which.state else None,
                waiting,
                which.limit,
            ),
        ).fetchall()
        return Slice([QueueRow(*_heading(row), recipient=_recipient(row[6:])) for row in rows], position)


_END: Final[Position] = ((1 << 63) - 1, (1 << 63) - 1)
START: Final[Position] = (-(1 << 63), 0)


def _one(cursor: Cursor, sql: str, values: tuple[object, ...]) -> Row | None:
    rows = cursor.execute(sql, values).fetchall()
    return rows[0] if rows else None


def _count(route: str, domain: str, tally: _Tally) -> Count:
    ready, waiting, leased, held = tally.places
    return Count(
        route=route,
        domain=domain,
        ready=ready,
        waiting=waiting,
        leased=leased,
        held=held,
        # The id of a recipient holds the time at which its message was accepted.
        oldest_at=ID_EPOCH_MS + (tally.oldest >> 22),
        next_at=tally.next_at,
    )


def _heading(row: Row) -> tuple[bytes, str, str, str, str, int]:
    return row[0], row[1], row[2], row[3], row[4], row[5]


def _recipient(row: Row) -> RecipientView:
    """A row of the columns that `message_recipients` and `find_slice` share."""
    return RecipientView(
        id=row[0],
        address=row[1],
        state=State(row[2]),
        attempts=row[3],
        next_at=row[4],
        expires_at=row[5],
        reply=row[6],
        host=row[7],
        bounce_class=row[8],
        blocked_by=row[9],
        updated_at=row[10],
        possible_duplicate=bool(row[11]),
        route=row[12],
        domain=row[13],
    )
