"""The queue on SQLite: one file, one writing thread, a few short readers.

Guarantees: those of `queue.Queue`. One process has the database open at a time (the lock on the data
directory sees to that), so whatever another opening left in hand belongs to a dead process. What is claimable
is known in the process: asking which destinations are due costs no statement.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.config import Retention
from gateway.errors import StoreError
from gateway.events import State
from gateway.runtime import Clock
from gateway.store import connection, db, reports, views
from gateway.store.acceptance import Acceptance, Batch, Piece
from gateway.store.claims import Claims, Wish
from gateway.store.connection import Database
from gateway.store.db import NEVER, Statements, Transaction
from gateway.store.ending import Endings
from gateway.store.expiry import START, Expiry
from gateway.store.leases import RECLAIM_ROWS, Leases, Renewal
from gateway.store.names import Counter, Names
from gateway.store.queue import (
    Accepted,
    Attempt,
    Claimed,
    Conflict,
    Due,
    NewMessage,
    Ready,
    Replayed,
    Report,
    RequestKey,
    Result,
)
from gateway.store.readers import Readers
from gateway.store.recording import Passage, Recording
from gateway.store.records import StoredRecords
from gateway.store.reports import Reports, Telling
from gateway.store.settlement import Settlement
from gateway.store.shown import Count, EventView, Filter, MessageView, QueueRow
from gateway.store.sweep import Sweep
from gateway.store.views import Views
from gateway.store.waiting import BACKOFF, SCHEDULE, Release, Waiting
from gateway.store.writer import Writer

PROMOTE_STEPS: Final = 20  # of 500 rows a call: a storm of retries does not keep new mail waiting
_MESSAGE_BYTES: Final = 512  # of a message's rows beside its content
_EPOCH_SHIFT: Final = 32  # tickets of one opening


class SqliteStore:
    """`Queue` and, as `records`, `Records`. Make it with `open`."""

    def __init__(
        self,
        files: "_Files",
        *,
        sql: Statements,
        clock: Clock,
        retention: Retention,
        on_ready: Ready,
        on_failed: Callable[[str], None],
    ) -> None:
        """Called in the loop, by `open`."""
        names = Names(sql)
        events = Counter(files.last_event)
        # A fence and an attempt's number rise over every opening: the opening counts in the upper bits.
        tickets = Counter(files.epoch << _EPOCH_SHIFT)
        endings = Endings(sql, retention)
        self._acceptance = Acceptance(sql, names, events, clock)
        self._claims = Claims(sql, names, tickets, owner=files.epoch)
        self._leases = Leases(sql, names, events=events, endings=endings, owner=files.epoch)
        self._settlement = Settlement(sql, names, events=events, tickets=tickets, endings=endings, clock=clock)
        self._reports = Reports(sql, self._acceptance, events=events, clock=clock)
        self._recording = Recording(sql, names, self._acceptance, self._settlement)
        self._waiting = Waiting(sql, names)
        self._expiry = Expiry(sql, events=events, endings=endings)
        self._sweep = Sweep(sql, events=events, retention=retention)
        self._views = Views(sql)
        self._sql = sql
        self._names = names
        self._due: dict[int, Due] = {}
        self._urgent: set[int] = set()
        self._wake_at = 0  # nothing waits for an earlier time; 0: not known
        self._readers = files.readers
        self.last_id = files.last_id  # no id up to it may be used again
        self.on_ready = on_ready
        self._writer = Writer(
            files.writer,
            loop=asyncio.get_running_loop(),
            on_commit=self._committed,
            on_rollback=self._rolled_back,
            on_failed=on_failed,
        )
        self.records = StoredRecords(self._writer, files.readers, sql)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock | None = None,
        retention: Retention | None = None,
        on_ready: Ready = lambda: None,
        on_failed: Callable[[str], None] = lambda _reason: None,
    ) -> "SqliteStore":
        """Open the database, making or migrating it. Raises StoreError.

        `on_ready` is called in the loop after a commit that made something claimable, or made something wait for an
        earlier time than `promote` has told; `on_failed(reason)` in the loop, once, when the disk can no longer be
        trusted: every later call raises StoreError.
        """
        sql = db.load("common", "sqlite")
        files = await asyncio.to_thread(_open_files, path, sql)
        store = cls(
            files,
            sql=sql,
            clock=clock or Clock(),
            retention=retention or Retention(),
            on_ready=on_ready,
            on_failed=on_failed,
        )
        store._writer.start()
        try:
            await store._writer.submit(store._claims.due, None)
        except StoreError:
            await store.close()
            raise
        return store

    async def put_piece(self, message: int, index: int, data: bytes) -> None:
        await self._writer.submit(self._acceptance.put_pieces, Piece(message, index, data), len(data))

    async def enqueue(self, message: NewMessage) -> Accepted | Conflict:
        return await self._writer.submit(self._acceptance.accept, message, _size(message))

    async def enqueue_all(
        self, messages: Sequence[NewMessage], request: RequestKey | None
    ) -> Sequence[Accepted | Conflict] | Replayed | Conflict:
        size = sum(_size(message) for message in messages)
        if request is not None:
            _check_request(messages, request)
            size += len(request.answer)
        return await self._writer.submit(self._acceptance.accept_all, Batch(messages, request), size)

    async def record(self, message: NewMessage, results: Sequence[Result], attempt: Attempt) -> None:
        await self._writer.submit(self._recording.record, Passage(message, results, attempt), _MESSAGE_BYTES)

    async def due(self) -> Sequence[Due]:
        return tuple(self._due.values())

    def urgent(self) -> set[int]:
        """Destinations for which something of high priority was accepted since this was last asked."""
        told, self._urgent = self._urgent, set()
        return told

    async def claim(self, destination: int, limit: int, until: int) -> Sequence[Claimed]:
        if limit <= 0:
            return ()
        return await self._writer.submit(self._claims.claim, Wish(destination, limit, until))

    async def renew(self, recipients: Sequence[tuple[int, int]], until: int) -> None:
        await self._writer.submit(self._leases.renew, Renewal(recipients, until))

    async def settle(self, attempts: Sequence[Attempt]) -> int:
        return await self._writer.submit(self._settlement.settle, attempts)

    async def mark(self, recipients: Sequence[tuple[int, int]]) -> None:
        await self._writer.submit(self._leases.mark, recipients)

    async def reports(self, before: int, limit: int) -> Sequence[Report]:
        question = partial(reports.oldest, sql=self._sql, before=before, limit=limit)
        return await self._readers.read(question) if limit > 0 else ()

    async def report(self, report: Report, notices: Sequence[NewMessage]) -> None:
        size = sum(_size(notice) for notice in notices)
        await self._writer.submit(self._reports.report, Telling(report, notices), size)

    async def piece(self, message: int, index: int) -> bytes:
        return await self._readers.read(partial(self._views.piece, message=message, index=index))

    async def promote(self, now: int) -> int | None:
        # Whatever waits is noted at its commit: while nothing is due, the answer costs no statement.
        for _ in range(PROMOTE_STEPS):
            if self._wake_at > now:
                break
            await self._writer.submit(self._waiting.promote, now)
        return self._wake_at if self._wake_at < NEVER else None

    async def reclaim(self, now: int) -> int:
        total = 0
        while True:
            given_back = await self._writer.submit(self._leases.reclaim, now)
            total += given_back
            if given_back < RECLAIM_ROWS:
                return total

    async def expire(self, now: int) -> int:
        total = 0
        position = START
        while True:
            step = await self._writer.submit(self._expiry.step, (position, now))
            total += step.expired
            if step.position is None:
                return total
            position = step.position

    async def retry(self, which: Filter, now: int) -> int:
        # What a client asked to be sent later is not late: it goes only where it is meant.
        named = which.uuid is not None or which.state is State.SCHEDULED
        found = await self._search(which, waiting=SCHEDULE if named else BACKOFF)
        rows = [(row.recipient.next_at, row.recipient.id) for row in found if row.recipient.next_at is not None]
        return await self._writer.submit(self._waiting.release, Release(rows, now)) if rows else 0

    async def sweep(self, now: int) -> None:
        for step in self._sweep.steps:
            while await self._writer.submit(step, now):
                pass

    async def counts(self) -> Sequence[Count]:
        return await self._readers.read(self._views.counts)

    async def find(self, which: Filter) -> Sequence[QueueRow]:
        return await self._search(which, waiting=None)

    async def message(self, uuid: bytes, account: str | None) -> MessageView | None:
        return await self._readers.read(partial(self._views.message, uuid=uuid, account=account))

    async def events(self, uuid: bytes) -> Sequence[EventView]:
        return await self._readers.read(partial(self._views.events, uuid=uuid))

    async def content(self, uuid: bytes) -> bytes | None:
        return await self._readers.read(partial(self._views.content, uuid=uuid))

    async def close(self) -> None:
        # Without the mark the next opening begins a second of ids later; a full or failed disk is no reason to stay.
        with contextlib.suppress(StoreError):
            await self._writer.submit(self._close_marks, None)
        await self._readers.close()  # first: an open reader would keep the log from being emptied
        await self._writer.close()

    async def _search(self, which: Filter, *, waiting: str | None) -> list[QueueRow]:
        """Look for recipients in slices, each a short read of its own."""
        position: views.Position | None = views.START
        last = None
        if which.uuid is not None:
            last = await self._readers.read(partial(self._views.place, uuid=which.uuid))
            if last is None:
                return []
            position = (last[0], last[1] - 1)
        found: list[QueueRow] = []
        while position is not None and len(found) < which.limit:
            question = partial(self._views.find_slice, which=which, after=position, last=last, waiting=waiting)
            part = await self._readers.read(question)
            found += part.rows
            position = part.position
        return found[: which.limit]

    def _committed(self, tx: Transaction) -> None:
        ready = tx.wake_at < self._wake_at
        if ready or tx.surveyed:
            self._wake_at = tx.wake_at
        for destination, value in tx.due.items():
            if value is None:
                self._due.pop(destination, None)
            else:
                self._due[destination] = value
                ready = True
        self._urgent |= tx.urgent
        if ready:
            self.on_ready()

    def _rolled_back(self) -> None:
        self._names.forget()
        self._acceptance.forget()

    def _close_marks(self, tx: Transaction, calls: Sequence[None]) -> list[None]:
        self._acceptance.save_highest(tx)
        return [None] * len(calls)


@dataclass(frozen=True, slots=True)
class _Files:
    """An opened database: its connections, how often it was opened, and the highest numbers in use."""

    writer: Database
    readers: Readers
    epoch: int
    last_id: int
    last_event: int


def _size(message: NewMessage) -> int:
    return _MESSAGE_BYTES + sum(len(data) for _, data in message.pieces)


def _check_request(messages: Sequence[NewMessage], request: RequestKey) -> None:
    if not request.answer:
        raise ValueError("a request is stored with the answer to it")
    if any(message.idempotency is not None for message in messages):
        raise ValueError("a message of a request with a key has none of its own")


def _open_files(path: Path, sql: Statements) -> _Files:
    writer = connection.open_writer(path)
    try:
        db.migrate(writer.cursor(), db.migrations())
        tx = Transaction(writer.cursor())
        epoch = tx.one(sql["epoch_next"])
        last_id = _greatest(tx.one(sql["instance_get"], ("id_limit",)), tx.one(sql["message_last"]))
        last_event = _greatest(tx.one(sql["instance_get"], ("event_seq",)), tx.one(sql["event_last"]))
        # The file and its log exist by now; SQLite syncs the directory for the log, not for the file itself.
        connection.sync_directory(path.parent)
        readers = Readers(path)
        readers.open()
    except Exception as error:  # noqa: BLE001 - raised again, as ours
        writer.close()
        translated = connection.translate(error)
        raise translated from (None if translated is error else error)
    return _Files(writer, readers, _greatest(epoch), last_id, last_event)


def _greatest(*rows: db.Row | None) -> int:
    return max(row[0] if row is not None and row[0] is not None else 0 for row in rows)
