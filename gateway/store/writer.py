"""The one thread that writes: it commits everything that waits in one transaction, and does every checkpoint.

Guarantees: a job's future is resolved only after commit and fsync, all futures of a group by one wake-up of
the loop; a job that fails takes nobody with it; a caller that stops waiting does not stop its write; after a
failed fsync nothing is written any more. On a full disk what must be written has room made for it: the log is emptied
into the file, then the ballast is given up. It does not order concurrent jobs: a caller that needs an order awaits.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from gateway.errors import StoreError, StoreFull
from gateway.metrics import Metrics
from gateway.store import connection
from gateway.store.backlog import Tally
from gateway.store.connection import Database, Trouble
from gateway.store.db import Transaction
from gateway.store.figures import StoreFigures

GROUP_JOBS: Final = 256
GROUP_BYTES: Final = 4 * 1024 * 1024  # 1 MB of content is about 2 ms of a commit
ALONE: Final = 2  # a group of so few does not wait for company
GATHER_S: Final = 0.001  # waited for company, only where the last group had some
IDLE_S: Final = 0.2
CHECKPOINT_PAGES: Final = 16 * 1024 * 1024 // connection.PAGE_BYTES
TRUNCATE_PAGES: Final = 4 * CHECKPOINT_PAGES

REST_S: Final = 0.1  # at most, between steps of what has time

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Verb = Callable[[Transaction, Sequence[Argument]], Sequence[Result]]
Committed = Callable[[Transaction], None]


@dataclass(slots=True, eq=False)
class _Job:
    """A call of a verb: jobs of one verb in one group are done by one call of it."""

    verb: Verb[Any, Any]
    argument: Any
    size: int
    needed: bool
    future: "asyncio.Future[Any]"


@dataclass(slots=True, eq=False)
class _Errand:
    """What is done between two transactions."""

    task: Callable[[], Any]
    future: "asyncio.Future[Any]"


_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]
_Written = tuple[list[_Outcome], list[Transaction]]


class Writer:
    """Owns the writing connection and its thread.

    `on_commit` is called in the loop, before the futures are resolved, with each transaction that was committed;
    `on_rollback` in the thread, to forget what a transaction that failed had put into caches; `on_failed` in the loop,
    once; `make_room` in the thread, when the disk is full: whether there is more room now.
    """

    def __init__(
        self,
        database: Database,
        tally: Tally,
        *,
        loop: asyncio.AbstractEventLoop,
        on_commit: Committed,
        on_rollback: Callable[[], None],
        on_failed: Callable[[str], None],
        make_room: Callable[[], bool] = lambda: False,
        figures: StoreFigures | None = None,
    ) -> None:
        self._database = database
        self._tally = tally
        self.backlog = tally.measure()  # as of the last commit; written in the thread
        self._loop = loop
        self._on_commit = on_commit
        self._on_rollback = on_rollback
        self._on_failed = on_failed
        self._figures = figures or StoreFigures(Metrics())
        self._figures.wal_pages.read = lambda: {(): database.wal_pages}
        self._make_room = make_room
        self._queue: SimpleQueue[_Job | _Errand | None] = SimpleQueue()
        self._errands: list[_Errand] = []  # taken out of the queue
        self.closing = False
        self._failure: str | None = None  # written in the thread, read in the loop
        self._unsaved = True  # something may stand in the log only
        self._checkpointed = 0  # length of the log, in pages, at the last checkpoint
        self._last_jobs = 0
        self._full = False  # a write found no room since the last checkpoint
        self._stopped = loop.create_future()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(
        self, verb: Verb[Argument, Result], argument: Argument, size: int = 0, *, needed: bool = False
    ) -> "asyncio.Future[Result]":
        """Queue a call of a verb; `size` in bytes bounds the transaction; what is `needed` has room made for it. The
        future fails with StoreError or StoreFull, or with what the verb raised."""
        future: asyncio.Future[Result] = self._loop.create_future()
        if self.closing or self._failure is not None:
            future.set_exception(StoreError(self._failure or "The store is closed."))
        else:
            self._queue.put(_Job(verb, argument, size, needed, future))
        return future

    def empty_log(self) -> "asyncio.Future[bool]":
        """Copy the log into the file, and cut it to nothing; False where a reader keeps it back."""
        return self._between(lambda: self._checkpoint(truncate=True))

    def rewrite(self) -> "asyncio.Future[None]":
        """Write the whole file anew, without what was removed from it. Nothing else is written meanwhile, and all of it
        is in memory for that time."""
        return self._between(self._database.rewrite)

    def _between(self, task: Callable[[], Any]) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.closing or self._failure is not None:
            future.set_exception(StoreError(self._failure or "The store is closed."))
        else:
            self._queue.put(_Errand(task, future))
        return future

    @property
    def failure(self) -> str | None:
        """Why nothing can be stored any more, None while all is well."""
        return self._failure

    @property
    def uncopied_bytes(self) -> int:
        """What stands in the log only: the file may have to grow by so much."""
        return max(self._database.wal_pages - self._checkpointed, 0) * connection.PAGE_BYTES

    async def close(self) -> None:
        """Finish what is queued, then close the connection."""
        if not self.closing:
            self.closing = True
            self._queue.put(None)
        await asyncio.shield(self._stopped)

    def _resolve(self, outcomes: list[_Outcome], committed: list[Transaction]) -> None:
        for transaction in committed:
            self._on_commit(transaction)
        for future, result, error in outcomes:
            if future.done():  # its caller was cancelled; the write stands
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    # From here on: in the thread.

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence leaves its callers waiting
            self._lose(error)
        self._finish()

    def _serve(self) -> None:
        more = True
        while more and (first := self._next()) is not None:
            if isinstance(first, _Errand):
                self._errands.append(first)
            else:
                group, more = self._gather(first)
                self._last_jobs = len(group)
                self._unsaved = True
                self._call(self._resolve, *self._write(group))
                self._bound_log()
            while self._errands:
                self._call(self._resolve, [self._done(self._errands.pop())], [])

    def _done(self, errand: _Errand) -> _Outcome:
        """Do it."""
        if self._failure is not None:
            return errand.future, None, StoreError(self._failure)
        try:
            return errand.future, errand.task(), None
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            if connection.judge(error) is Trouble.LOST:
                self._lose(error)
            return errand.future, None, connection.translate(error)

    def _next(self) -> _Job | _Errand | None:
        """The next job, None to stop. A quiet moment is used for a checkpoint."""
        if self._unsaved:
            try:
                return self._queue.get(timeout=IDLE_S)
            except Empty:
                self._checkpoint(truncate=self._database.wal_pages >= TRUNCATE_PAGES)
                self._unsaved = False
        return self._queue.get()

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """What waits, within bounds; False where the store is to be closed after it."""
        group = [first]
        size = first.size
        waited = self._last_jobs <= ALONE
        while len(group) < GROUP_JOBS and size < GROUP_BYTES:
            try:
                job = self._queue.get_nowait()
            except Empty:
                if waited:
                    break
                waited = True
                time.sleep(GATHER_S)
                continue
            if job is None:
                return group, False
            if isinstance(job, _Errand):
                self._errands.append(job)
                break
            group.append(job)
            size += job.size
        return group, True

    def _write(self, group: list[_Job]) -> _Written:
        """Commit a group; where that fails, each of its jobs alone, so that only the guilty one fails."""
        if self._failure is not None:
            return _failed(group, StoreError(self._failure))
        try:
            self._database.begin()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
            self._undo(error)
            return _failed(group, error)
        try:
            return self._transact(group)
        except Exception as error:  # noqa: BLE001 - the same
            self._undo(error)
            full = isinstance(connection.translate(error), StoreFull)
            self._full = self._full or full
            if len(group) == 1 and full and group[0].needed and self._has_made_room():
                return self._write(group)
            if len(group) == 1 or self._failure is not None:
                return _failed(group, error)
        outcomes: list[_Outcome] = []
        committed: list[Transaction] = []
        for job in group:
            resolved, written = self._write([job])
            outcomes += resolved
            committed += written
        return outcomes, committed

    def _transact(self, group: list[_Job]) -> _Written:
        by_verb: dict[Verb[Any, Any], list[_Job]] = {}
        for job in group:
            by_verb.setdefault(job.verb, []).append(job)
        transaction = Transaction(self._database.cursor())
        outcomes: list[_Outcome] = []
        for verb, jobs in by_verb.items():
            results = verb(transaction, [job.argument for job in jobs])
            outcomes += [(job.future, result, None) for job, result in zip(jobs, results, strict=True)]
        backlog = self._tally.measure()
        began = time.monotonic()
        self._database.commit()
        self._figures.commit_s.observe(time.monotonic() - began)
        self._figures.jobs.observe(len(group))
        self.backlog = backlog
        return outcomes, [transaction]

    def _undo(self, error: Exception) -> None:
        self._figures.failed.value += 1
        self._on_rollback()
        try:
            self._database.rollback()
        except Exception as second:  # noqa: BLE001 - a connection that cannot roll back is in no known state
            self._lose(second)
        if connection.judge(error) is Trouble.LOST:
            self._lose(error)

    def _has_made_room(self) -> bool:
        """Whether a write that found none may find some now: each way to make it helps once, at most."""
        if self._database.wal_pages and self._checkpoint(truncate=True):
            self._database.wal_pages = 0
            return True
        return self._make_room()

    def _lose(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = f"The store has failed and must be restarted. {connection.translate(error)}"
            self._call(self._on_failed, self._failure)

    def _bound_log(self) -> None:
        """Checkpoint where the log has grown too long to wait for a pause, or where there is no room for more of it."""
        pages = self._database.wal_pages
        if self._full:
            self._full = False
            self._checkpoint(truncate=True)
            return
        if pages < self._checkpointed:  # it began anew
            self._checkpointed = 0
        if pages - self._checkpointed >= CHECKPOINT_PAGES:
            self._checkpoint()

    def _checkpoint(self, *, truncate: bool = False) -> bool:
        """Whether all of the log was copied. What a reader or a full disk keeps back is tried again when the log has
        grown, or in the next pause."""
        if self._failure is not None:
            return False
        done = False
        began = time.monotonic()
        try:
            done = self._database.checkpoint(truncate=truncate)
        except Exception as error:  # noqa: BLE001 - the log still holds everything, unless a fsync failed
            if connection.judge(error) is Trouble.LOST:
                self._lose(error)
        self._figures.checkpoint_s.observe(time.monotonic() - began)
        self._checkpointed = self._database.wal_pages
        return done

    def _finish(self) -> None:
        self._checkpoint(truncate=True)
        try:
            self._database.close(abandon=self._failure is not None)
        except Exception as error:  # noqa: BLE001 - everything is committed; it is only told
            self._lose(error)
        while not self._queue.empty():  # only where the thread broke down
            if (job := self._queue.get()) is not None:
                self._call(self._resolve, [(job.future, None, StoreError(self._failure))], [])
        self._call(self._stopped.set_result, None)

    def _call(self, function: Callable[..., object], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *values)
        except RuntimeError:
            # The loop is closed and nobody waits; what was queued is still written.
            return


async def rest(began: float) -> None:
    """As long as a step took that began then: what has time holds the writer for half of it at most."""
    await asyncio.sleep(min(time.monotonic() - began, REST_S))


def _failed(group: Sequence[_Job], error: Exception) -> _Written:
    translated = connection.translate(error)
    if translated is not error:
        translated.__cause__ = error
    return [(job.future, None, translated) for job in group], []
