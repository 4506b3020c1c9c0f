"""The queue on SQLite: one file, one writing thread, a few short readers.

Guarantees: those of `queue.Queue`. One process has the database open at a time (the lock on the data
directory sees to that), so whatever another opening left in hand belongs to a dead process. What is claimable
is known in the process: asking which destinations are due costs no statement.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway.config import Retention, Suppression
from gateway.errors import StoreError
from gateway.events import State
from gateway.keyterms import KeyRetention
from gateway.runtime import Clock
from gateway.store import connection, db, late, opened, reports
from gateway.store.acceptance import Batch, Piece
from gateway.store.archive import Archive
from gateway.store.board import Board
from gateway.store.brakes import StoredBrakes
from gateway.store.claims import Wish
from gateway.store.commits import Commits
from gateway.store.connection import Damaged
from gateway.store.db import NEVER, Statements, Transaction
from gateway.store.earlier import Earlier
from gateway.store.erasing import Erasing
from gateway.store.eventlog import EventLog
from gateway.store.expiry import Expiring
from gateway.store.figures import StoreFigures
from gateway.store.finding import Found, Search
from gateway.store.hardship import AWAY, RETRY_S, Hardship
from gateway.store.inspection import Claiming
from gateway.store.late import Looked
from gateway.store.leases import Reclaiming, Renewal
from gateway.store.newmail import Accepted, Conflict, NewMessage, Replayed, RequestKey
from gateway.store.offers import Offers
from gateway.store.opened import Opened
from gateway.store.operating import PLACES, Seen, Step
from gateway.store.parts import assemble
from gateway.store.promoting import Promoting
from gateway.store.queue import Attempt, Claimed, Due, Heard, Ready, Reclaimed, Report, Result
from gateway.store.recording import Passage
from gateway.store.reports import Telling
from gateway.store.rescheduling import Appointment
from gateway.store.shown import Backlog, Count, EventView, Filter, MessageView, Order, QueueRow, Suspension
from gateway.store.stored import StoredRecords
from gateway.store.suppressed import Suppressed
from gateway.store.suspensions import Change
from gateway.store.viewed import BACKOFF, SCHEDULE
from gateway.store.views import Views
from gateway.store.waiting import Release
from gateway.store.webhooks import WebhookStore
from gateway.store.writer import Writer, rest

_MESSAGE_BYTES: Final = 512  # of a message's rows beside its content

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
        self._parts = parts = assemble(files, sql, clock=clock, retention=retention)
        self._clock = clock
        self._views = Views(sql, parts.in_force, clock)
        self._search = Search(files.readers, sql, parts.in_force, clock)
        self._board = Board(parts.in_force, self._is_ready, self._survey)
        self._urgent: set[int] = set()
        self._readers = readers = files.readers
        self.last_id = files.last_id  # no id up to it may be used again
        self.on_ready = on_ready
        self._writer = writer = Writer(
            files.writer,
            files.tally,
            loop=asyncio.get_running_loop(),
            on_commit=self._committed,
            on_rollback=self._rolled_back,
            on_failed=on_failed,
            make_room=make_room,
            figures=figures,
        )
        self._hardship = Hardship(writer, sql, on_over=self._is_ready)
        self._promoting = Promoting(writer, readers, sql, parts.waiting, self._hardship)
        self._expiring = Expiring(writer, parts.expiry, self._hardship)
        self._reclaiming = Reclaiming(writer, parts.leases, self._hardship)
        self._claiming = Claiming(writer, parts.claims, parts.inspection, self._hardship, on_ready=self._is_ready)
        self.records = StoredRecords(writer, readers, sql)
        self.brakes = StoredBrakes(writer, readers, parts.names, parts.events)
        self.earlier = Earlier(readers, {**sql, **db.load("brakes")}, clock)
        self.suppressed = Suppressed(writer, readers, sql, parts.suppressing, parts.sieve)
        self.commits = Commits()
        self.event_log = EventLog(readers, self.commits, last=lambda: parts.events.last)
        self.webhooks = WebhookStore(writer, readers, parts.names, events=parts.events)
        self.archive = Archive(readers, self._views)
        self.offers = Offers(readers)
        self.erasing = Erasing(writer, readers, parts.erasure_sql, parts.erasure)

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
        sql = db.load("common", "sqlite", "suppression")
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
            in_force = await store._writer.submit(store._parts.suspending.load, store._clock.now_ms())
            store._board.adopt(in_force.entries)
            await store._writer.submit(store._parts.claims.due, None)
            await store.suppressed.begin()
        except StoreError as error:
            await store.close()
            raise connection.explain(error, path) from error
        return store

    def reconfigure(self, retention: Retention, suppression: Suppression | None = None) -> None:
        """For what is dropped, and what is heard, from now on; without `suppression` that stays."""
        self._parts.keeping.reconfigure(retention)
        if suppression is not None:
            self._parts.suppressing.reconfigure(suppression)

    def keep(self, by_key: Mapping[str, KeyRetention]) -> None:
        """The same, for the mail of keys that have terms of their own: all of them, in place of those told before."""
        self._parts.keeping.keep(by_key)

    async def answers(self) -> bool:
        """True as soon as the writer has done what was asked of it before, whatever came of that."""
        with contextlib.suppress(StoreError):
            await self._writer.submit(_nothing, None)
        return True

    async def put_piece(self, message: int, index: int, data: bytes) -> None:
        await self._writer.submit(self._parts.acceptance.put_pieces, Piece(message, index, data), len(data))

    async def enqueue(self, message: NewMessage) -> Accepted | Conflict:
        return await self._writer.submit(self._parts.acceptance.accept, message, _size(message))

    async def enqueue_all(
        self, messages: Sequence[NewMessage], request: RequestKey | None
    ) -> Sequence[Accepted | Conflict] | Replayed | Conflict:
        size = sum(_size(message) for message in messages)
        if request is not None:
            _check_request(messages, request)
            size += len(request.answer)
        return await self._writer.submit(self._parts.acceptance.accept_all, Batch(messages, request), size)

    async def record(self, message: NewMessage, results: Sequence[Result], attempt: Attempt) -> None:
        await self._writer.submit(self._parts.recording.record, Passage(message, results, attempt), _MESSAGE_BYTES)

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
        await self._writer.submit(self._parts.leases.renew, Renewal(recipients, until))

    async def settle(self, attempts: Sequence[Attempt]) -> int:
        return await self._hardship.insist(self._parts.settlement.settle, attempts)

    async def mark(self, recipients: Sequence[tuple[int, int]]) -> None:
        await self._writer.submit(self._parts.leases.mark, recipients, needed=True)

    async def settle_late(self, heard: Sequence[Heard]) -> Sequence[bool]:
        return await self._hardship.heed(self._writer.submit(self._parts.late.settle, heard)) if heard else ()

    async def look(self, message: int, recipient: int) -> Looked | None:
        """What is known of a recipient (0: of any) of a message, None where it is gone."""
        return await self._readers.read(
            partial(late.look, sql=self._parts.late_sql, message=message, recipient=recipient)
        )

    async def reports(self, before: int, limit: int) -> Sequence[Report]:
        question = partial(reports.oldest, sql=self._parts.sql, before=before, limit=limit)
        return await self._readers.read(question) if limit > 0 and not self._hardship.is_on else ()

    async def report(self, report: Report, notices: Sequence[NewMessage]) -> None:
        size = sum(_size(notice) for notice in notices)
        await self._hardship.heed(self._writer.submit(self._parts.reports.report, Telling(report, notices), size))

    async def piece(self, message: int, index: int) -> bytes:
        return await self._readers.read(partial(self._views.piece, message=message, index=index))

    async def promote(self, now: int) -> int | None:
        if self._hardship.is_on:
            return now + int(RETRY_S * 1000)
        wake_at = await self._promoting.promote(now)
        if self._parts.in_force.ends_at <= now:
            await self._hardship.heed(self._change(self._writer.submit(self._parts.suspending.end, now)))
        wake_at = min(wake_at, self._parts.in_force.ends_at)
        return wake_at if wake_at < NEVER else None

    async def reclaim(self, now: int) -> Reclaimed:
        return await self._reclaiming.reclaim(now)

    async def expire(self, now: int) -> int:
        return await self._expiring.expire(now)

    async def retry(self, which: Filter, now: int) -> int:
        # What a client asked to be sent later is not late: it goes only where it is meant.
        named = which.uuid is not None or which.state is State.SCHEDULED
        released = 0
        async for found in self._search.steps(which, BACKOFF | SCHEDULE if named else BACKOFF):
            rows = [(one.waits_for, one.row.recipient.id) for one in found if one.waits_for is not None]
            released += await self._writer.submit(self._parts.waiting.release, Release(rows, now))
        return released

    async def operate(self, which: Filter, order: Order, now: int) -> int:
        changed = 0
        async for found in self._search.steps(which, PLACES[order.verb]):
            seen = [Seen(one.message, one.row.recipient.id, one.row.recipient.state.value) for one in found]
            changed += await self._writer.submit(self._parts.operating.operate, Step(seen, order, now))
        return changed

    async def reschedule(self, uuid: bytes, account: str, at: int, now: int) -> int:
        asked = Appointment(uuid, account, at, now)
        return await self._writer.submit(self._parts.rescheduling.reschedule, asked)

    async def suspend(self, suspension: Suspension) -> Suspension:
        added = (await self._change(self._writer.submit(self._parts.suspending.add, suspension))).added
        assert added is not None
        return added

    async def resume(self, suspensions: Sequence[int]) -> int:
        return (await self._change(self._writer.submit(self._parts.suspending.remove, suspensions))).gone

    async def suspensions(self) -> Sequence[Suspension]:
        now = self._clock.now_ms()
        return [one for one in self._parts.in_force.entries if one.until is None or one.until > now]

    async def sweep(self, now: int) -> None:
        for step in (*self._parts.sweep.steps, self._parts.suppressing.expired):
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
        self._writer.submit(self._parts.claims.due, None).add_done_callback(self._surveyed)

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
        self.commits.tell()
        if ready:
            self.on_ready()

    def _rolled_back(self) -> None:
        self._parts.names.forget()
        self._parts.acceptance.forget()

    def _close_marks(self, tx: Transaction, calls: Sequence[None]) -> list[None]:
        self._parts.acceptance.save_highest(tx)
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
