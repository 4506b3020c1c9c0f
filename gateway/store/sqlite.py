"""The queue on SQLite: one file, one writing thread, a few short readers.

Guarantees: those of `queue.Queue`. One process has the database open at a time (the lock on the data
directory sees to that), so whatever another opening left in hand belongs to a dead process. What is claimable
is known in the process: asking which destinations are due costs no statement.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway.config import Retention
from gateway.errors import StoreError
from gateway.events import State
from gateway.runtime import Clock
from gateway.store import connection, db, opened, reports
from gateway.store.acceptance import Acceptance, Batch, Piece
from gateway.store.board import Board
from gateway.store.claims import Claims, Wish
from gateway.store.connection import Damaged
from gateway.store.db import NEVER, Statements, Transaction
from gateway.store.ending import Endings
from gateway.store.expiry import Expiring, Expiry
from gateway.store.figures import StoreFigures
from gateway.store.finding import Found, Search
from gateway.store.hardship import AWAY, RETRY_S, Hardship
from gateway.store.inspection import Claiming, Inspection
from gateway.store.leases import RECLAIM_ROWS, Leases, Renewal
from gateway.store.names import Counter, Names
from gateway.store.opened import Opened
from gateway.store.operating import PLACES, Operating, Seen, Step
from gateway.store.promoting import Promoting
from gateway.store.queue import (
    Accepted,
    Attempt,
    Claimed,
    Conflict,
    Due,
    NewMessage,
    Ready,
    Reclaimed,
    Replayed,
    Report,
    RequestKey,
    Result,
)
from gateway.store.recording import Passage, Recording
from gateway.store.records import StoredRecords
from gateway.store.reports import Reports, Telling
from gateway.store.settlement import Settlement
from gateway.store.shown import Backlog, Count, EventView, Filter, MessageView, Order, QueueRow, Suspension
from gateway.store.suspensions import Change, InForce, Suspending
from gateway.store.sweep import Sweep
from gateway.store.viewed import BACKOFF, SCHEDULE
from gateway.store.views import Views
from gateway.store.waiting import Release, Waiting
from gateway.store.writer import Writer, rest

_MESSAGE_BYTES: Final = 512  # of a message's rows beside its content
_EPOCH_SHIFT: Final = 32  # tickets of one opening

log = logging.getLogger("gateway.store")


class SqliteStore:
    """`Queue` and, as `records`, `Records`. Make it with `open`."""

    def __init__(
        self,
        files: Opened,
        *,
        sql: Statements,
        clock: Clock,
        retention: Retention,
        on_ready: Ready,
        on_failed: Callable[[str], None],
        make_room: Callable[[], bool],
        figures: StoreFigures | None = None,
    ) -> None:
        """Called in the loop, by `open`."""
        names = Names(sql)
        events = Counter(files.last_event)
        # A fence and an attempt's number rise over every opening: the opening counts in the upper bits.
        tickets = Counter(files.epoch << _EPOCH_SHIFT)
        self._endings = endings = Endings(sql, retention)
        self._acceptance = Acceptance(sql, names, events, clock)
        self._in_force = InForce()
        self._claims = Claims(sql, names, tickets, owner=files.epoch, in_force=self._in_force)
        self._leases = Leases(sql, names, events=events, endings=endings, owner=files.epoch)
        self._settlement = Settlement(sql, names, events=events, tickets=tickets, endings=endings, clock=clock)
        self._reports = Reports(sql, self._acceptance, events=events, clock=clock)
        self._recording = Recording(sql, names, self._acceptance, self._settlement)
        self._waiting = Waiting(sql, names)
        self._sweep = Sweep(sql, events=events, retention=retention)
        self._operating = Operating(sql, names, events=events, endings=endings)
        self._suspending = Suspending(sql)
        self._views = Views(sql, self._in_force, clock)
        self._search = Search(files.readers, sql, self._in_force, clock)
        self._sql = sql
        self._names = names
        self._clock = clock
        self._board = Board(self._in_force, self._is_ready, self._survey)
        self._urgent: set[int] = set()
        self._readers = files.readers
        self.last_id = files.last_id  # no id up to it may be used again
        self.on_ready = on_ready
        self._writer = Writer(
            files.writer,
            files.tally,
            loop=asyncio.get_running_loop(),
            on_commit=self._committed,
            on_rollback=self._rolled_back,
            on_failed=on_failed,
            make_room=make_room,
            figures=figures,
        )
        self._hardship = Hardship(self._writer, sql, on_over=self._is_ready)
        self._promoting = Promoting(self._writer, files.readers, sql, self._waiting, self._hardship)
        self._expiring = Expiring(self._writer, Expiry(sql, events=events, endings=endings), self._hardship)
        inspection = Inspection(sql, names, events=events, endings=endings, clock=clock)
        self._claiming = Claiming(self._writer, self._claims, inspection, self._hardship, on_ready=self._is_ready)
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
        make_room: Callable[[], bool] = lambda: False,
        figures: StoreFigures | None = None,
    ) -> "SqliteStore":
        """Open the database, making or migrating it. Raises StoreError.

        `on_ready` is called in the loop after a commit that made something claimable, or made something wait for an
        earlier time than `promote` has told; `on_failed(reason)` in the loop, once, when the disk can no longer be
        trusted: every later call raises StoreError. `make_room` is called in a thread where the disk is full: whether
        there is more room now.
        """
        sql = db.load("common", "sqlite")
        files = await asyncio.to_thread(opened.open_files, path, sql, make_room)
        store = cls(
            files,
            sql=sql,
            clock=clock or Clock(),
            retention=retention or Retention(),
            on_ready=on_ready,
            on_failed=on_failed,
            make_room=make_room,
            figures=figures,
        )
        store._writer.start()
        try:
            in_force = await store._writer.submit(store._suspending.load, store._clock.now_ms())
            store._board.adopt(in_force.entries)
            await store._writer.submit(store._claims.due, None)
        except StoreError as error:
            await store.close()
            raise connection.explain(error, path) from error
        return store

    def reconfigure(self, retention: Retention) -> None:
        """For what is dropped from now on."""
        self._endings.reconfigure(retention)
        self._sweep.reconfigure(retention)

    async def answers(self) -> bool:
        """True as soon as the writer has done what was asked of it before, whatever came of that."""
        with contextlib.suppress(StoreError):
            await self._writer.submit(_nothing, None)
        return True

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
        return self._board.due()

    def urgent(self) -> set[int]:
        """Destinations for which something of high priority was accepted since this was last asked."""
        told, self._urgent = self._urgent, set()
        return told

    async def claim(self, destination: int, limit: int, until: int) -> Sequence[Claimed]:
        if limit <= 0:
            return ()
        return await self._claiming.claim(Wish(destination, limit, until))

    async def renew(self, recipients: Sequence[tuple[int, int]], until: int) -> None:
        await self._writer.submit(self._leases.renew, Renewal(recipients, until))

    async def settle(self, attempts: Sequence[Attempt]) -> int:
        return await self._hardship.insist(self._settlement.settle, attempts)

    async def mark(self, recipients: Sequence[tuple[int, int]]) -> None:
        await self._writer.submit(self._leases.mark, recipients, needed=True)

    async def reports(self, before: int, limit: int) -> Sequence[Report]:
        question = partial(reports.oldest, sql=self._sql, before=before, limit=limit)
        return await self._readers.read(question) if limit > 0 and not self._hardship.is_on else ()

    async def report(self, report: Report, notices: Sequence[NewMessage]) -> None:
        size = sum(_size(notice) for notice in notices)
        await self._hardship.heed(self._writer.submit(self._reports.report, Telling(report, notices), size))

    async def piece(self, message: int, index: int) -> bytes:
        return await self._readers.read(partial(self._views.piece, message=message, index=index))

    async def promote(self, now: int) -> int | None:
        if self._hardship.is_on:
            return now + int(RETRY_S * 1000)
        wake_at = await self._promoting.promote(now)
        if self._in_force.ends_at <= now:
            await self._hardship.heed(self._change(self._writer.submit(self._suspending.end, now)))
        wake_at = min(wake_at, self._in_force.ends_at)
        return wake_at if wake_at < NEVER else None

    async def reclaim(self, now: int) -> Reclaimed:
        done = Reclaimed(0)
        while not self._hardship.is_on:
            try:
                step = await self._hardship.heed(self._writer.submit(self._leases.reclaim, now, needed=True))
            except StoreError:
                if not done.count:
                    raise
                break  # what was done is to be told
            done = Reclaimed(done.given_back + step.given_back, done.lost + step.lost)
            if step.count < RECLAIM_ROWS:
                break
        return done

    async def expire(self, now: int) -> int:
        return await self._expiring.expire(now)

    async def retry(self, which: Filter, now: int) -> int:
        # What a client asked to be sent later is not late: it goes only where it is meant.
        named = which.uuid is not None or which.state is State.SCHEDULED
        released = 0
        async for found in self._search.steps(which, BACKOFF | SCHEDULE if named else BACKOFF):
            rows = [(one.waits_for, one.row.recipient.id) for one in found if one.waits_for is not None]
            released += await self._writer.submit(self._waiting.release, Release(rows, now))
        return released

    async def operate(self, which: Filter, order: Order, now: int) -> int:
        changed = 0
        async for found in self._search.steps(which, PLACES[order.verb]):
            seen = [Seen(one.message, one.row.recipient.id, one.row.recipient.state.value) for one in found]
            changed += await self._writer.submit(self._operating.operate, Step(seen, order, now))
        return changed

    async def suspend(self, suspension: Suspension) -> Suspension:
        added = (await self._change(self._writer.submit(self._suspending.add, suspension))).added
        assert added is not None
        return added

    async def resume(self, suspensions: Sequence[int]) -> int:
        return (await self._change(self._writer.submit(self._suspending.remove, suspensions))).gone

    async def suspensions(self) -> Sequence[Suspension]:
        now = self._clock.now_ms()
        return [one for one in self._in_force.entries if one.until is None or one.until > now]

    async def sweep(self, now: int) -> None:
        for step in self._sweep.steps:
            began = time.monotonic()
            while not self._hardship.is_on and await self._hardship.heed(self._writer.submit(step, now)):
                await rest(began)
                began = time.monotonic()

    def backlog(self) -> Backlog:
        return self._writer.backlog

    def uncopied_bytes(self) -> int:
        """By how much the file may grow without a further write."""
        return self._writer.uncopied_bytes

    @property
    def failed(self) -> bool:
        """Whether nothing can be written any more, and a new start must find out what is on the disk."""
        return self._writer.failure is not None

    @property
    def away(self) -> str:
        """Why nothing can be written at the moment, "" while all is well."""
        return self._writer.failure or (self._hardship.reason if self._hardship.is_on else "")

    async def counts(self) -> Sequence[Count]:
        return await self._readers.read(self._views.counts)

    async def find(self, which: Filter) -> Sequence[QueueRow]:
        return await self._search.find(which)

    def slices(self, which: Filter) -> AsyncIterator[list[Found]]:
        """What `find` would find without its limit, a bounded number at a time."""
        return self._search.slices(which)

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

    async def _change(self, written: "asyncio.Future[Change]") -> Change:
        """What is suspended is another; what is claimable by that is known too."""
        change = await self._board.change(written)
        if change.gone:
            await self.answers()
        return change

    def _survey(self) -> None:
        self._writer.submit(self._claims.due, None).add_done_callback(self._surveyed)

    def _surveyed(self, survey: "asyncio.Future[None]") -> None:
        """Once the disk is there again, where it was not: nobody else would find what a suspension had held back."""
        error = None if survey.cancelled() else survey.exception()
        if isinstance(error, AWAY):
            asyncio.get_running_loop().call_later(RETRY_S, self._survey)
        elif isinstance(error, Damaged):
            log.error("the database is damaged: what was suspended may not go on; see docs/baddays.md (%s)", error)

    def _is_ready(self) -> None:
        self.on_ready()

    def _committed(self, tx: Transaction) -> None:
        ready = self._promoting.note(tx)
        ready = self._board.note(tx.due) or ready
        self._urgent |= tx.urgent
        if ready:
            self.on_ready()

    def _rolled_back(self) -> None:
        self._names.forget()
        self._acceptance.forget()

    def _close_marks(self, tx: Transaction, calls: Sequence[None]) -> list[None]:
        self._acceptance.save_highest(tx)
        return [None] * len(calls)


def _nothing(_tx: Transaction, calls: Sequence[None]) -> list[None]:
    return [None] * len(calls)


def _size(message: NewMessage) -> int:
    return _MESSAGE_BYTES + sum(len(data) for _, data in message.pieces)


def _check_request(messages: Sequence[NewMessage], request: RequestKey) -> None:
    if not request.answer:
        raise ValueError("a request is stored with the answer to it")
    if any(message.idempotency is not None for message in messages):
        raise ValueError("a message of a request with a key has none of its own")
