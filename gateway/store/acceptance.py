"""Accepting messages: a group of them, with recipients, events and idempotency records, in the writer's
transaction.

Guarantees: of messages or requests with the same idempotency key at most one is stored, within a group too; a
message whose pieces are not all there is refused with StoreError, and the request it came with; a recipient that is
suppressed has ended when it is stored, and its message counts it so. One statement per table serves the whole group.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.message.priority import HIGH
from gateway.runtime import Clock
from gateway.store import flags, reports, seal
from gateway.store.db import Row, Statements, Transaction
from gateway.store.ending import Ended, Endings
from gateway.store.idempotency import Register
from gateway.store.names import Counter, Names
from gateway.store.newmail import Accepted, Conflict, NewMessage, NewRecipient, Replayed, RequestKey
from gateway.store.reports import Noted
from gateway.store.waiting import SCHEDULE

ID_RESERVE: Final = 1000 << 22  # ids of one second: how seldom the highest one is written down

_ACCEPTED: Final = EventType.ACCEPTED.value
_QUEUED: Final = State.QUEUED


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a message that is still being received."""

    message: int
    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that are stored together or not at all."""

    messages: Sequence[NewMessage]
    request: RequestKey | None


BatchOutcome = list[Accepted | Conflict] | Replayed | Conflict


class _AcceptedData(msgspec.Struct, omit_defaults=True):
    door: str
    client: str
    original_to: tuple[str, ...] = ()
    note: str = ""


class _WhyData(msgspec.Struct):
    """Why a recipient is not queued from the start."""

    note: str


@dataclass(slots=True)
class _Rows:
    """What a group adds, by table; its messages with pieces stored before; the highest id in it."""

    messages: list[Row] = field(default_factory=list)
    contents: list[Row] = field(default_factory=list)
    pieces: list[Row] = field(default_factory=list)
    recipients: list[Row] = field(default_factory=list)
    ready: list[Row] = field(default_factory=list)
    beginning: list[Row] = field(default_factory=list)  # recipients that are not queued from the start
    held: list[Row] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    expiries: list[Row] = field(default_factory=list)
    pending: list[Row] = field(default_factory=list)
    staged: list[NewMessage] = field(default_factory=list)
    noted: Noted = field(default_factory=Noted)
    highest: int = 0


class Acceptance:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names, *, events: Counter, endings: Endings, clock: Clock) -> None:
        self._sql = sql
        self._names = names
        self._events = events
        self._endings = endings
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
        rows, register = _Rows(), Register(tx, self._sql, self._clock)
        outcomes = self._take(tx, rows, register, messages)
        self._store(tx, rows)
        register.write()
        return outcomes

    def accept_all(self, tx: Transaction, batches: Sequence[Batch]) -> list[BatchOutcome]:
        """Store batches, in order."""
        rows, register = _Rows(), Register(tx, self._sql, self._clock)
        outcomes = [self._take_batch(tx, rows, register, batch) for batch in batches]
        self._store(tx, rows)
        register.write()
        return outcomes

    def note(self, tx: Transaction, message: NewMessage, key: int, destinations: Sequence[int]) -> None:
        """Store a message that was never queued: with its recipients, whose destinations are given in their order, and
        `accepted` events; with no content and no place in the queue."""
        rows = _Rows()
        account = self._names.account(tx, message.account)
        rows.messages.append(_message_row(message, key, account))
        rows.highest = max(message.id, *[recipient.id for recipient in message.recipients])
        data = self._accepted_data(message)
        at = message.created_at
        for recipient, destination in zip(message.recipients, destinations, strict=True):
            rows.recipients.append(
                (message.id, recipient.id, recipient.address, destination, at, recipient.notify, recipient.orcpt)
            )
            rows.events.append((self._events.next(), message.id, recipient.id, _ACCEPTED, at, data, account))
        self._store(tx, rows)

    def save_highest(self, tx: Transaction) -> None:
        """Write down the highest id exactly, at an orderly end."""
        if self._highest:
            self._id_limit = self._highest
            tx.cursor.execute(self._sql["instance_put"], ("id_limit", self._highest))

    def _take_batch(self, tx: Transaction, rows: _Rows, register: Register, batch: Batch) -> BatchOutcome:
        messages = batch.messages
        if batch.request is not None:
            earlier = register.request(batch.request, messages[0].uuid if messages else None)
            if earlier is not None:
                return earlier
        return self._take(tx, rows, register, messages)

    def _take(
        self, tx: Transaction, rows: _Rows, register: Register, messages: Sequence[NewMessage]
    ) -> list[Accepted | Conflict]:
        """Note the rows of those messages that were not accepted before; what became of each."""
        outcomes: list[Accepted | Conflict] = []
        for message in messages:
            key = message.idempotency
            earlier = register.message(key, message.uuid) if key is not None else None
            outcomes.append(earlier or Accepted(message.uuid))
            if earlier is None:
                self._add(tx, rows, message)
                if message.piece_count > len(message.pieces):
                    rows.staged.append(message)
        return outcomes

    def _add(self, tx: Transaction, rows: _Rows, message: NewMessage) -> None:
        """Note the rows of a message."""
        id_ = message.id
        at = message.created_at
        key = self._names.key(tx, message.key)
        account = self._names.account(tx, message.account)
        rows.messages.append(_message_row(message, key, account))
        for index, content in message.pieces:
            _add_piece(rows, id_, index, content)
        rows.expiries.append((message.expires_at, id_))
        data = self._accepted_data(message)
        later = message.send_at > at
        highest = max(rows.highest, id_)
        for recipient in message.recipients:
            destination = self._names.destination(tx, recipient.route or message.route, recipient.domain)
            queued = recipient.state is _QUEUED
            # Why it is held or suppressed is said by an event of its own.
            told = self._accepted_data(message, recipient.why) if queued and recipient.why else data
            rows.events.append((self._events.next(), id_, recipient.id, _ACCEPTED, at, told, account))
            highest = max(highest, recipient.id)
            if later or not queued:
                self._begin(rows, message, recipient, key=key, destination=destination, account=account)
                continue
            rows.recipients.append(
                (id_, recipient.id, recipient.address, destination, at, recipient.notify, recipient.orcpt)
            )
            rows.ready.append((destination, message.priority, key, recipient.id, id_))
            if message.priority == HIGH:
                tx.urgent.add(destination)
            if tx.due.get(destination) is None:  # not known yet, or emptied by a claim in this group
                tx.due[destination] = self._names.due(tx, destination)
        if later:
            tx.wait(message.send_at)
        if len(message.recipients) > 1:
            rows.pending.append((id_, len(message.recipients)))
        rows.highest = highest

    def _begin(
        self, rows: _Rows, message: NewMessage, recipient: NewRecipient, *, key: int, destination: int, account: int
    ) -> None:
        """A recipient that is not queued from the start: it waits for its time, is held, or is not sent to."""
        id_, at = message.id, message.created_at
        state, next_at, reply = recipient.state, message.send_at if message.send_at > at else 0, ""
        match state:
            case State.QUEUED:
                state = State.SCHEDULED
                rows.waiting.append((next_at, recipient.id, destination, message.priority, key, id_, SCHEDULE))
            case State.HELD:
                rows.held.append((destination, recipient.id, message.priority, key, id_))
                self._say(rows, EventType.HELD, message, recipient, account)
            case State.SUPPRESSED:
                next_at, reply = 0, f"550 5.7.1 {recipient.why}"  # as at an attempt
                counts = (len(message.recipients), message.piece_count, message.expires_at)
                tell = recipient.notify and reports.to_tell(recipient.notify, message.envelope_sender)
                told = tell != 0 and rows.noted.end(id_, recipient.id, tell, State.SUPPRESSED, at)
                rows.ended.append(Ended(id_, *counts, delivered=False, told=told))
                self._say(rows, EventType.SUPPRESSED, message, recipient, account)
            case _:
                raise ValueError(f"a recipient cannot begin {state}")
        common = (id_, recipient.id, recipient.address, destination, at, recipient.notify, recipient.orcpt)
        rows.beginning.append((*common, state.value, next_at, reply))

    def _say(self, rows: _Rows, type_: EventType, message: NewMessage, recipient: NewRecipient, account: int) -> None:
        data = self._encode(_WhyData(recipient.why)).decode()
        row = (self._events.next(), message.id, recipient.id, type_.value, message.created_at, data, account)
        rows.events.append(row)

    def _accepted_data(self, message: NewMessage, note: str = "") -> str:
        return self._encode(_AcceptedData(message.door, message.client, message.original_to, note)).decode()

    def _store(self, tx: Transaction, rows: _Rows) -> None:
        if rows.messages:
            self._note_highest(tx, rows.highest)
            self._insert(tx, rows)
        for message in rows.staged:
            self._unstage(tx, message)

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
            ("recipient_begin", rows.beginning),
            ("waiting_add", rows.waiting),
            ("held_add", rows.held),
        ):
            if some:
                many(sql[name], some)
        if rows.ended:
            rows.noted.write(tx, sql)
            self._endings.end(tx, rows.ended, self._clock.now_ms())

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


def _message_row(message: NewMessage, key: int, account: int) -> tuple[Any, ...]:
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
        flags.pack(message),
        message.tags,
        message.metadata,
        message.created_at,
        message.expires_at,
        message.priority,
        len(message.recipients),
        message.piece_count,
        message.envid,
        message.send_at,
        account,
        message.unsubscribe,
        msgspec.json.encode(message.original_to).decode() if message.original_to else "",
    )


def _add_piece(rows: _Rows, message: int, index: int, data: bytes) -> None:
    digest = seal.content(message, index, data)
    if index == 0:
        rows.contents.append((message, digest, data))
    else:
        rows.pieces.append((message, index, digest, data))
