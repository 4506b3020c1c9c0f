"""Accepting messages: a group of them, with recipients, events and idempotency records, in the writer's
transaction.

Guarantees: of messages with the same idempotency key at most one is stored, within a group too; a message
whose pieces are not all there is refused with StoreError. One statement per table serves the whole group.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.errors import StoreError
from gateway.events import EventType
from gateway.runtime import Clock
from gateway.store.db import Row, Statements, Transaction
from gateway.store.names import Counter, Names
from gateway.store.queue import Accepted, Conflict, NewMessage

IDEMPOTENCY_MS: Final = 24 * 3600 * 1000
ID_RESERVE: Final = 1000 << 22  # ids of one second: how seldom the highest one is written down

_ACCEPTED: Final = EventType.ACCEPTED.value


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a message that is still being received."""

    message: int
    index: int
    data: bytes


class _AcceptedData(msgspec.Struct):
    door: str
    client: str


@dataclass(slots=True)
class _Rows:
    """What a group adds, by table."""

    messages: list[Row] = field(default_factory=list)
    contents: list[Row] = field(default_factory=list)
    pieces: list[Row] = field(default_factory=list)
    recipients: list[Row] = field(default_factory=list)
    ready: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    expiries: list[Row] = field(default_factory=list)
    pending: list[Row] = field(default_factory=list)
    idempotency: list[Row] = field(default_factory=list)


class Acceptance:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names, events: Counter, clock: Clock) -> None:
        self._sql = sql
        self._names = names
        self._events = events
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self._id_limit = 0  # as written down; 0: not known
        self._highest = 0

    def forget(self) -> None:
        """After a rollback."""
        self._id_limit = 0

    def put_pieces(self, tx: Transaction, pieces: Sequence[Piece]) -> list[None]:
        """Store pieces; as long as their message is not accepted, they are marked for the sweep."""
        rows = _Rows()
        for piece in pieces:
            _add_piece(rows, piece.message, piece.index, piece.data)
        now = self._clock.now_ms()
        self._note_highest(tx, max(piece.message for piece in pieces))
        tx.cursor.executemany(self._sql["staging_put"], [(piece.message, now) for piece in pieces])
        tx.cursor.executemany(self._sql["content_put"], rows.contents)
        tx.cursor.executemany(self._sql["piece_put"], rows.pieces)
        return [None] * len(pieces)

    def accept(self, tx: Transaction, messages: Sequence[NewMessage]) -> list[Accepted | Conflict]:
        """Store messages, in order."""
        rows = _Rows()
        group: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        outcomes: list[Accepted | Conflict] = []
        staged: list[NewMessage] = []
        highest = 0
        for message in messages:
            earlier = self._earlier(tx, message, group) if message.idempotency is not None else None
            outcomes.append(earlier or Accepted(message.uuid))
            if earlier is None:
                highest = max(highest, self._add(tx, rows, message))
                if message.piece_count > len(message.pieces):
                    staged.append(message)
        if rows.messages:
            self._note_highest(tx, highest)
            self._insert(tx, rows)
        for message in staged:
            self._unstage(tx, message)
        return outcomes

    def save_highest(self, tx: Transaction) -> None:
        """Write down the highest id exactly, at an orderly end."""
        if self._highest:
            self._id_limit = self._highest
            tx.cursor.execute(self._sql["instance_put"], ("id_limit", self._highest))

    def _earlier(
        self, tx: Transaction, message: NewMessage, group: dict[tuple[str, str], tuple[bytes, bytes]]
    ) -> Accepted | Conflict | None:
        """What became of the first message under this idempotency key, None where this is the first."""
        key = message.idempotency
        assert key is not None
        name = (key.account, key.text)
        first = group.get(name) or tx.one(self._sql["idempotency_find"], (*name, self._clock.now_ms() - IDEMPOTENCY_MS))
        if first is None:
            group[name] = (key.hash, message.uuid)
            return None
        return Accepted(first[1], replayed=True) if first[0] == key.hash else Conflict()

    def _add(self, tx: Transaction, rows: _Rows, message: NewMessage) -> int:
        """Note the rows of a message; returns the highest id in it."""
        id_ = message.id
        at = message.created_at
        key = self._names.key(tx, message.key)
        rows.messages.append(_message_row(message, key))
        for index, content in message.pieces:
            _add_piece(rows, id_, index, content)
        rows.expiries.append((message.expires_at, id_))
        data = self._encode(_AcceptedData(message.door, message.client)).decode()
        highest = id_
        for recipient in message.recipients:
            destination = self._names.destination(tx, message.route, recipient.domain)
            rows.recipients.append((id_, recipient.id, recipient.address, destination, at))
            rows.ready.append((destination, message.priority, key, recipient.id, id_))
            rows.events.append((self._events.next(), id_, recipient.id, _ACCEPTED, at, data))
            if tx.due.get(destination) is None:  # not known yet, or emptied by a claim in this group
                tx.due[destination] = self._names.due(tx, destination)
            highest = max(highest, recipient.id)
        if len(message.recipients) > 1:
            rows.pending.append((id_, len(message.recipients)))
        if (idempotency := message.idempotency) is not None:
            rows.idempotency.append(
                (idempotency.account, idempotency.text, idempotency.hash, message.uuid, self._clock.now_ms())
            )
        return highest

    def _insert(self, tx: Transaction, rows: _Rows) -> None:
        sql = self._sql
        many = tx.cursor.executemany
        many(sql["message_add"], rows.messages)
        many(sql["content_put"], rows.contents)
        many(sql["recipient_add"], rows.recipients)
        many(sql["ready_add"], rows.ready)
        many(sql["event_add"], rows.events)
        many(sql["expiry_add"], rows.expiries)
        for name, some in (
            ("piece_put", rows.pieces),
            ("pending_add", rows.pending),
            ("idempotency_put", rows.idempotency),
        ):
            if some:
                many(sql[name], some)

    def _unstage(self, tx: Transaction, message: NewMessage) -> None:
        # The sweep may have dropped pieces of a client that took very long: then nothing may be acknowledged.
        stored = tx.one(self._sql["pieces_stored"], (message.id,))
        if stored is None or stored[0] != message.piece_count:
            raise StoreError("Parts of the message are missing; it must be sent again.")
        tx.cursor.execute(self._sql["staging_delete"], (message.id,))

    def _note_highest(self, tx: Transaction, highest: int) -> None:
        """Write down a bound of the ids in use, about once a second: a restart with a clock that went back
        begins above it."""
        self._highest = max(self._highest, highest)
        if highest > self._id_limit:
            self._id_limit = highest + ID_RESERVE
            tx.cursor.execute(self._sql["instance_raise"], ("id_limit", self._id_limit))


def _message_row(message: NewMessage, key: int) -> tuple[Any, ...]:
    facts = message.facts
    return (
        message.id,
        message.uuid,
        message.account,
        key,
        message.door,
        message.envelope_sender,
        message.header_from,
        message.subject,
        message.message_id,
        facts.size,
        facts.header_size,
        facts.body_hash,
        facts.eight_bit | facts.utf8_header << 1 | facts.dot_lines << 2,
        message.tags,
        message.metadata,
        message.created_at,
        message.expires_at,
        message.priority,
        len(message.recipients),
        message.piece_count,
    )


def _add_piece(rows: _Rows, message: int, index: int, data: bytes) -> None:
    digest = hashlib.sha256(data).digest()
    if index == 0:
        rows.contents.append((message, digest, data))
    else:
        rows.pieces.append((message, index, digest, data))
