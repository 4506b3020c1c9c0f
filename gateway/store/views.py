"""Questions to the store: messages, events, content, what is queued. Each is a function of a reading cursor.

Guarantees: content is handed out only if its SHA-256 is the one it was stored with. Costs do not grow with
the backlog, but that of `counts`. Which recipients a filter means is found by finding.py.
"""

from dataclasses import dataclass, field

from gateway.events import EventType
from gateway.runtime import ID_EPOCH_MS, Clock
from gateway.store import flags, seal, viewed
from gateway.store.connection import Damaged
from gateway.store.db import Cursor, Row, Statements
from gateway.store.shown import Count, EventView, MessageView
from gateway.store.suspensions import InForce


@dataclass(slots=True)
class _Tally:
    """One destination's line of the counts: ready, waiting, leased, held; the lowest id of a recipient; how many of
    those that wait do so for their time."""

    places: list[int] = field(default_factory=lambda: [0] * 4)
    oldest: int = (1 << 63) - 1
    next_at: int | None = None
    scheduled: int = 0


class Views:
    """The questions; it holds no connection."""

    def __init__(self, sql: Statements, in_force: InForce, clock: Clock) -> None:
        self._sql = sql
        self._in_force = in_force
        self._clock = clock

    def counts(self, cursor: Cursor) -> list[Count]:
        tallies: dict[int, _Tally] = {}
        for place, name in enumerate(("count_ready", "count_waiting", "count_leased", "count_held")):
            for destination, number, oldest, *first in cursor.execute(self._sql[name]).fetchall():
                tally = tallies.setdefault(destination, _Tally())
                tally.places[place] = number
                tally.oldest = min(tally.oldest, oldest)
                tally.next_at = first[0] if first else tally.next_at
        for destination, number in cursor.execute(self._sql["count_scheduled"]).fetchall():
            tallies[destination].scheduled = number
        counts = []
        for destination, tally in tallies.items():
            route, domain = _one(cursor, self._sql["destination_shown"], (destination,)) or ("", "")
            counts.append(_count(route, domain, tally))
        return sorted(counts, key=lambda count: (count.route, count.domain))

    def message(self, cursor: Cursor, uuid: bytes, account: str | None) -> MessageView | None:
        row = _one(cursor, self._sql["message_view"], (uuid, account))
        if row is None:
            return None
        recipients = cursor.execute(self._sql["message_recipients"], (row[0],)).fetchall()
        now = self._clock.now_ms()
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
            recipients=tuple(viewed.recipient(one, key=row[3], now=now, in_force=self._in_force) for one in recipients),
            tls_wish=flags.tls_wish(row[14]),
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
            raise Damaged(f"Piece {index} of a message is missing from the store.")
        stored, data = row
        if not seal.is_content(stored, message, index, data):
            raise Damaged(f"Piece {index} of a message is not what was stored: the database is damaged.")
        content: bytes = data
        return content


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
        scheduled=tally.scheduled,
    )
