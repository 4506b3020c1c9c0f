"""What is SQLite's own: groups of jobs, a full disk, a failing disk, a damaged file, the file itself."""

import asyncio
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from gateway.errors import StoreError, StoreFull
from gateway.events import State
from gateway.message.notify import FAILURE
from gateway.store import writer
from gateway.store.db import Transaction
from gateway.store.newmail import Accepted, NewMessage
from gateway.store.sqlite import SqliteStore
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all, destination

UNTIL = START_MS + LEASE_MS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def store(path: Path, now: Now) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(path, clock=now.clock)
    yield opened
    await opened.close()


class Gate:
    """Holds the writer, so that what is asked meanwhile becomes one group."""

    def __init__(self, store: SqliteStore) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()
        self._held = store._writer.submit(self._hold, None)

    def _hold(self, _tx: Transaction, calls: Sequence[None]) -> list[None]:
        self._entered.set()
        assert self._open.wait(10)
        return [None] * len(calls)

    async def closed(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 10)

    async def release(self) -> None:
        self._open.set()
        await self._held


async def together(store: SqliteStore, messages: Sequence[NewMessage]) -> list[Any]:
    """Enqueue in one group."""
    gate = Gate(store)
    await gate.closed()
    writes = asyncio.gather(*[store.enqueue(message) for message in messages], return_exceptions=True)
    await asyncio.sleep(0)
    await gate.release()
    return list(await writes)


async def test_a_group_is_one_transaction(store: SqliteStore, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[None] = []
    commit = store._writer._database.commit

    def counted() -> None:
        commits.append(None)
        commit()

    monkeypatch.setattr(store._writer._database, "commit", counted)
    await together(store, [post.message() for _ in range(50)])
    assert len(commits) == 2  # the gate's and the group's


async def test_a_poisoned_job_fails_alone(store: SqliteStore, post: Post, path: Path, now: Now) -> None:
    first = post.message()
    await store.enqueue(first)
    good = [post.message(f"u{n}@new{n}.example", key=f"k{n}") for n in range(10)]
    same_id = post.message(id_=first.id)
    no_text = post.message(subject="\udcff")
    no_recipient = replace(post.message(), recipients=())
    poison = [same_id, no_text, no_recipient]
    outcomes = await together(store, [*good[:5], *poison, *good[5:]])
    assert outcomes[:5] + outcomes[8:] == [Accepted(message.uuid) for message in good]
    assert isinstance(outcomes[5], StoreError)
    assert isinstance(outcomes[6], UnicodeEncodeError)
    assert isinstance(outcomes[7], StoreError)
    await store.close()

    # Numbers that were taken back with the group are not in use afterwards.
    again = await SqliteStore.open(path, clock=now.clock)
    claims = {claimed.uuid: claimed for claimed in await claim_all(again, UNTIL)}
    assert set(claims) == {first.uuid, *(message.uuid for message in good)}
    domains = {(count.domain, count.leased) for count in await again.counts()}
    assert domains == {("example.com", 1), *((f"new{n}.example", 1) for n in range(10))}
    assert [claims[message.uuid].key for message in good] == [f"k{n}" for n in range(10)]
    await again.close()


async def test_mail_that_comes_with_the_claim_that_empties_its_destination_is_due(
    store: SqliteStore, post: Post
) -> None:
    await store.enqueue(post.message())
    number = await destination(store)
    gate = Gate(store)
    await gate.closed()
    writes = asyncio.gather(store.claim(number, 10, UNTIL), store.enqueue(post.message()))
    await asyncio.sleep(0)
    await gate.release()
    claimed, _ = await writes
    assert len(claimed) == 1
    assert [due.destination for due in await store.due()] == [number]
    assert len(await store.claim(number, 10, UNTIL)) == 1


async def test_a_poisoned_result_fails_alone(store: SqliteStore, post: Post, now: Now) -> None:
    for n in range(3):
        await store.enqueue(post.message(f"u@d{n}.example"))
    claims = await claim_all(store, UNTIL)
    good = [attempt(one, State.DELIVERED, at=now.ms) for one in claims]
    bad = attempt(claims[1], State.HELD, at=now.ms)
    gate = Gate(store)
    await gate.closed()
    writes = asyncio.gather(store.settle(good[:1]), store.settle([bad]), store.settle(good[2:]), return_exceptions=True)
    await asyncio.sleep(0)
    await gate.release()
    one, two, three = await writes
    assert (one, three) == (1, 1)
    assert isinstance(two, ValueError)
    assert await store.settle([good[1]]) == 1


def limit_pages(store: SqliteStore, extra: int | None) -> None:
    """Let the database grow by so many pages, None: without bound."""
    connection = store._writer._database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone() or (0,)
    limit = 0xFFFFFFFE if extra is None else pages + extra
    connection.execute(f"PRAGMA max_page_count = {limit}").fetchall()


async def test_a_full_disk_refuses_and_recovers(store: SqliteStore, post: Post, now: Now) -> None:
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    limit_pages(store, 5)
    big = [(0, b"x" * 100_000)]
    with pytest.raises(StoreFull):
        await store.enqueue(post.message(pieces=big))
    with pytest.raises(StoreFull):
        await store.put_piece(post.ids.next(), 1, big[0][1])
    outcomes = await together(store, [post.message(), post.message(pieces=big), post.message()])
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], StoreFull)
    assert await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)]) == 1
    limit_pages(store, None)
    accepted = await store.enqueue(post.message(pieces=big))
    assert isinstance(accepted, Accepted)
    assert len(await claim_all(store, UNTIL)) == 3


async def test_a_full_disk_does_not_keep_it_open(path: Path, post: Post, now: Now) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    message = post.message()
    await store.enqueue(message)
    limit_pages(store, 0)
    await store.close()
    again = await SqliteStore.open(path, clock=now.clock)
    assert again.last_id >= message.recipients[0].id
    await again.close()


class FailingFile(apsw.VFSFile):
    def __init__(self, disk: "FailingDisk", filename: Any, flags: list[int]) -> None:
        super().__init__("unix", filename, flags)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.broken == "sync":
            self._disk.syncs += 1
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk.broken == "write":
            raise apsw.exception_for(apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)


class FailingDisk(apsw.VFS):
    """The system's files, but for what `broken` names."""

    def __init__(self) -> None:
        super().__init__("failing", "unix", makedefault=True)
        self.broken = ""
        self.syncs = 0

    def xOpen(self, name: Any, flags: list[int]) -> FailingFile:  # noqa: N802
        return FailingFile(self, name, flags)


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    failing = FailingDisk()
    yield failing
    failing.unregister()


async def test_after_a_failed_fsync_nothing_is_written(disk: FailingDisk, path: Path, post: Post, now: Now) -> None:
    reasons: list[str] = []
    failed = asyncio.Event()

    def on_failed(reason: str) -> None:
        reasons.append(reason)
        failed.set()

    store = await SqliteStore.open(path, clock=now.clock, on_failed=on_failed)
    await store.enqueue(post.message())
    disk.broken = "sync"
    outcomes = await together(store, [post.message() for _ in range(3)])
    assert all(type(outcome) is StoreError for outcome in outcomes)
    async with asyncio.timeout(5):
        await failed.wait()
    assert disk.syncs == 1
    disk.broken = ""  # the next fsync would say that all is well
    with pytest.raises(StoreError, match="must be restarted"):
        await store.enqueue(post.message())
    await store.close()
    assert len(reasons) == 1


async def test_trap_22_what_was_not_written_is_not_acknowledged(
    disk: FailingDisk, path: Path, post: Post, now: Now
) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    held, failed, lost = (post.message(notify=FAILURE, at_most_once=True) for _ in range(3))
    for message in (held, failed):
        await store.enqueue(message)
    first, second = await claim_all(store, UNTIL)
    await store.settle([attempt(second, State.BOUNCED, at=now.ms)])
    (report,) = await store.reports(now.ms + 1, 1)
    disk.broken = "write"
    lease = [(one.id, one.fence) for one in first.recipients]
    calls: list[Awaitable[object]] = [
        store.enqueue(lost),
        store.mark(lease),
        store.report(report, [post.message(sender="")]),
    ]
    for call in calls:
        with pytest.raises(StoreError):
            await call
    with pytest.raises(TimeoutError):  # a result waits for the disk, as long as its caller does
        await asyncio.wait_for(store.settle([attempt(first, State.DELIVERED, at=now.ms)]), 0.2)
    over = asyncio.Event()
    store.on_ready = over.set
    disk.broken = ""
    async with asyncio.timeout(60):
        await over.wait()  # it goes on by itself
    assert await store.message(lost.uuid, None) is None
    assert await store.reports(now.ms + 1, 1) == [report]
    view = await store.message(held.uuid, None)
    assert view is not None
    assert (view.recipients[0].state, view.recipients[0].blocked_by) == (State.QUEUED, "lease")
    await store.close()
    again = await SqliteStore.open(path, clock=now.clock)
    assert (await again.reclaim(now.ms)).count == 1
    assert [one.uuid for one in await claim_all(again, UNTIL)] == [held.uuid]  # the mark was not written
    await again.close()


async def test_a_write_error_fails_the_job_only(disk: FailingDisk, path: Path, post: Post, now: Now) -> None:
    store = await SqliteStore.open(path, clock=now.clock)
    disk.broken = "write"
    with pytest.raises(StoreError):
        await store.enqueue(post.message())
    disk.broken = ""
    message = post.message()
    assert await store.enqueue(message) == Accepted(message.uuid)
    await store.close()
    again = await SqliteStore.open(path, clock=now.clock)
    assert [one.uuid for one in await claim_all(again, UNTIL)] == [message.uuid]
    await again.close()


async def test_altered_content_is_not_handed_out(store: SqliteStore, post: Post, path: Path) -> None:
    good, bad = post.message(), post.message()
    id_ = post.ids.next()
    await store.put_piece(id_, 1, b"second")
    large = post.message(id_=id_, piece_count=2)
    for message in (good, bad, large):
        await store.enqueue(message)
    other = apsw.Connection(str(path))
    other.set_busy_timeout(5000)
    other.execute("UPDATE content SET bytes = x'00' WHERE message = ?", (bad.id,))
    other.execute("UPDATE piece SET bytes = x'00' WHERE message = ?", (id_,))
    other.close()
    claims = await claim_all(store, UNTIL)
    assert [(one.message, one.content is None) for one in claims] == [
        (good.id, False),
        (bad.id, True),
        (id_, True),
    ]
    for damaged, index in ((bad.id, 0), (id_, 1)):
        with pytest.raises(StoreError, match="damaged"):
            await store.piece(damaged, index)
    with pytest.raises(StoreError, match="damaged"):
        await store.content(bad.uuid)
    assert await store.piece(id_, 0) == large.pieces[0][1]


def watch_checkpoints(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set after each checkpoint."""
    done = threading.Event()
    checkpoint = store._writer._database.checkpoint

    def watched(*, truncate: bool = False) -> bool:
        complete = checkpoint(truncate=truncate)
        done.set()
        return complete

    monkeypatch.setattr(store._writer._database, "checkpoint", watched)
    return done


async def test_the_log_is_copied_in_a_pause(
    store: SqliteStore, post: Post, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = path.stat().st_size
    done = watch_checkpoints(store, monkeypatch)
    await store.enqueue(post.message(pieces=[(0, bytes(100_000))]))
    assert await asyncio.to_thread(done.wait, 5)
    assert path.stat().st_size > size + 100_000


async def test_the_log_is_copied_when_it_has_grown(
    store: SqliteStore, post: Post, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "IDLE_S", 3600.0)
    await store.enqueue(post.message())  # from here on without a pause
    done = watch_checkpoints(store, monkeypatch)
    piece = bytes(256 * 1024)
    for _ in range(5):
        await asyncio.gather(*[store.put_piece(post.ids.next(), 1, piece) for _ in range(20)])
    assert await asyncio.to_thread(done.wait, 5)
    bound = writer.CHECKPOINT_PAGES * 4096 + 2 * writer.GROUP_BYTES
    assert path.with_name("queue.db-wal").stat().st_size < bound


async def test_the_settings_that_durability_stands_on(store: SqliteStore, path: Path) -> None:
    connection = store._writer._database._connection

    def setting(name: str) -> Any:
        return connection.pragma(name)

    assert setting("journal_mode") == "wal"
    assert setting("synchronous") == 2
    assert setting("wal_autocheckpoint") == 0
    assert setting("auto_vacuum") == 2
    assert setting("mmap_size") == 0
    for name in ("queue.db", "queue.db-wal", "queue.db-shm"):
        assert stat.S_IMODE(path.with_name(name).stat().st_mode) == 0o600


async def test_a_file_that_others_can_read_is_closed_to_them(path: Path, now: Now) -> None:
    path.touch(0o644)
    path.chmod(0o644)
    await (await SqliteStore.open(path, clock=now.clock)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_readers_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(StoreError):
        await store._readers.read(lambda cursor: cursor.execute("DELETE FROM message").fetchall())


async def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        await SqliteStore.open(tmp_path / "missing" / "queue.db")
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="not a database"):
        await SqliteStore.open(garbage)
