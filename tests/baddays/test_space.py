"""When mail is taken, and what is told of it, on a disk that is a number; room that is made on a full one."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway.config import MB, Limits
from gateway.errors import Reason, Refused, StoreError, StoreFull
from gateway.events import State
from gateway.intake import Room
from gateway.runtime import Supervisor
from gateway.store import connection, hardship, space
from gateway.store.ballast import Ballast, size_for
from gateway.store.shown import Backlog
from gateway.store.space import Disk, Space, bound
from gateway.store.sqlite import SqliteStore
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all
from tests.store.test_sqlite import limit_pages

PLENTY = Disk(bytes=100_000 * MB, free_bytes=50_000 * MB, inodes=1_000_000, free_inodes=500_000)
LIMITS = Limits(backlog_messages=100, backlog_bytes=500 * MB, free_disk=1000 * MB)


class Watched:
    """A space whose disk and queue are what the test says."""

    def __init__(self, place: Path, limits: Limits = LIMITS) -> None:
        self.disk: Disk | OSError = PLENTY
        self.backlog = Backlog(0, 0)
        self.looks = 0
        self.space = Space(place, limits, lambda: self.backlog, statvfs=self._look)
        self.space.look()

    def _look(self, _place: Path) -> Disk:
        self.looks += 1
        if isinstance(self.disk, OSError):
            raise self.disk
        return self.disk

    def shortage(self) -> str:
        self.space.look()
        return self.space.shortage


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def free(megabytes: int) -> Disk:
    return replace(PLENTY, free_bytes=megabytes * MB)


def test_below_the_bound_none_is_taken_until_there_is_some_more(watched: Watched) -> None:
    watched.disk = free(1000)
    assert watched.shortage() == ""
    watched.disk = free(999)
    assert watched.shortage() == "999.0 MB are free where the data is, 1000.0 MB stay free (limits.free_disk)"
    watched.disk = free(1050)
    assert watched.shortage()
    watched.disk = free(1100)
    assert watched.shortage() == ""


def test_files_count_where_the_file_system_counts_them(watched: Watched) -> None:
    watched.disk = replace(PLENTY, free_inodes=15)
    assert "15 more files" in watched.shortage()
    watched.disk = replace(PLENTY, free_inodes=16)
    assert watched.shortage()
    watched.disk = replace(PLENTY, free_inodes=17)
    assert watched.shortage() == ""
    watched.disk = replace(PLENTY, inodes=0, free_inodes=0)
    assert watched.shortage() == ""


@pytest.mark.parametrize(
    ("full", "still", "over", "name"),
    [
        (Backlog(100, 0), Backlog(90, 0), Backlog(89, 0), "limits.backlog.messages"),
        (Backlog(0, 500 * MB), Backlog(0, 450 * MB), Backlog(0, 449 * MB), "limits.backlog.bytes"),
    ],
)
def test_the_queue_has_bounds(watched: Watched, full: Backlog, still: Backlog, over: Backlog, name: str) -> None:
    watched.backlog = full
    assert name in watched.shortage()
    watched.backlog = still
    assert watched.shortage()
    watched.backlog = over
    assert watched.shortage() == ""


def test_each_shortage_is_told_once_with_figures(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    for disk in (free(900), free(800), free(1050), PLENTY, PLENTY):
        watched.disk = disk
        watched.shortage()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "no mail is taken: 900.0 MB are free where the data is, 1000.0 MB stay free (limits.free_disk)"),
        ("WARNING", "mail is taken again: 50000.0 MB and 500000 files free, 0 queued"),
    ]


def test_of_a_small_file_system_a_part_stays_free(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert (bound(1000 * MB, 4000 * MB), bound(1000 * MB, 3999 * MB)) == (1000 * MB, 3999 * MB // 20)
    watched = Watched(tmp_path)
    watched.disk = Disk(16 * MB, 8 * MB, 0, 0)
    assert watched.shortage() == ""
    watched.disk = Disk(16 * MB, 7 * MB // 10, 0, 0)
    assert watched.shortage()
    told = [record.getMessage() for record in caplog.records if "instead" in record.getMessage()]
    whole = "the whole file system of the data has 16.0 MB: 0.8 MB stay free there instead"
    assert told == [f"limits.free_disk is 1000.0 MB, and {whole}"]


def test_without_a_bound_only_a_full_disk_stops_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, replace(LIMITS, free_disk=0))
    watched.disk = free(0)
    assert watched.shortage() == ""
    assert watched.space.take(1_000_000) == ""
    owing = Space(tmp_path, replace(LIMITS, free_disk=0), lambda: watched.backlog, lambda: 5, statvfs=lambda _: free(0))
    owing.look()
    assert owing.shortage == ""


def test_it_is_looked_at_after_so_many_bytes_not_for_each_message(watched: Watched) -> None:
    watched.disk = free(1400)
    watched.space.look()
    before = watched.looks
    for _ in range(95):
        assert watched.space.take(1 * MB) == ""
    assert watched.looks == before
    watched.disk = free(990)
    assert any(watched.space.take(1 * MB) for _ in range(10))
    assert watched.looks > before


def test_a_message_too_large_for_what_is_left_is_put_off_alone(watched: Watched) -> None:
    watched.disk = free(1050)
    watched.space.look()
    assert watched.space.take(30 * MB) == "30.0 MB do not fit"
    assert watched.space.take(5 * MB) == ""
    assert not watched.space.shortage


def test_a_disk_that_cannot_be_looked_at_is_full(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.disk = OSError(5, "Input/output error")
    assert watched.shortage()
    assert "cannot be looked at: Input/output error" in caplog.text


def test_other_bounds_count_from_the_next_look_on(watched: Watched) -> None:
    watched.backlog = Backlog(150, 0)
    assert watched.shortage()
    watched.space.reconfigure(replace(LIMITS, backlog_messages=1000))
    assert watched.shortage() == ""


def test_what_clients_are_told_names_no_figure() -> None:
    for room, reason in (
        (Room(lambda _count: "5 MB in /srv"), Reason.BACKLOG_FULL),
        (Room(away=lambda: "IOError in /srv"), Reason.STORAGE_UNAVAILABLE),
    ):
        with pytest.raises(Refused) as refusal:
            room.check(5)
        assert refusal.value.reason is reason
        assert refusal.value.retry_after_s == 30
        assert "/srv" not in refusal.value.text
    Room().check(5)


async def test_the_ballast_is_held_while_there_is_plenty(tmp_path: Path) -> None:
    size = size_for(1000 * MB)
    assert (size, size_for(100 * MB)) == (32 * 1024 * 1024, 5 * MB)
    ballast = Ballast(tmp_path)
    watched = Watched(tmp_path, replace(LIMITS, free_disk=10 * MB))
    watched.disk = Disk(100 * MB, 15 * MB, 0, 0)  # it would take what must stay free
    supervisor = Supervisor(on_fatal=lambda *_: None, on_error=lambda *_: None)
    following = supervisor.start(watched.space.follow(), name="space")
    while watched.looks < 4:  # each look at the disk, and whether to hold it
        await asyncio.sleep(0)
        watched.space.look()
    following.cancel()
    assert not ballast.is_held
    assert ballast.hold(1 * MB)
    assert ballast.path.stat().st_blocks * 512 >= 1 * MB
    assert ballast.give_up()
    assert not ballast.give_up()
    assert not ballast.is_held


class Roomy:
    """A store whose disk has no room until some is made."""

    def __init__(self) -> None:
        self.asked = 0
        self.has_some = True
        self.store: SqliteStore

    def make_room(self) -> bool:
        self.asked += 1
        if self.has_some:
            limit_pages(self.store, 1000)
        had, self.has_some = self.has_some, False
        return had


@pytest.fixture
async def roomy(tmp_path: Path, now: Now) -> AsyncIterator[Roomy]:
    made = Roomy()
    made.store = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock, make_room=made.make_room)
    yield made
    limit_pages(made.store, None)
    await made.store.close()


async def test_room_is_made_for_a_result_and_not_for_mail(roomy: Roomy, post: Post, now: Now) -> None:
    store = roomy.store
    for n in range(40):
        await store.enqueue(post.message(f"u{n}@example.com", subject="x" * 500))
    claims = await claim_all(store, START_MS + LEASE_MS)
    limit_pages(store, 0)
    with pytest.raises(StoreFull):
        await store.enqueue(post.message(pieces=[(0, b"x" * 100_000)]))
    assert roomy.asked == 0
    reply = "250 " + "ok" * 1900  # the rows grow
    results = [attempt(claimed, State.DEFERRED, at=now.ms, reply=reply) for claimed in claims]
    assert await store.settle(results) == 40
    assert roomy.asked == 1


async def test_a_result_waits_for_room_and_nothing_is_claimed(
    roomy: Roomy, post: Post, now: Now, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(hardship, "RETRY_S", 0.05)
    store, roomy.has_some = roomy.store, False
    for n in range(41):
        await store.enqueue(post.message(f"u{n}@d{n}.example", subject="x" * 500))
    *claims, _ = await claim_all(store, START_MS + LEASE_MS)
    await store.enqueue(post.message("you@another.example"))
    over = asyncio.Event()
    store.on_ready = over.set
    limit_pages(store, 0)
    reply = "250 " + "ok" * 1900
    results = [attempt(claimed, State.DEFERRED, at=now.ms, reply=reply) for claimed in claims]
    settling = asyncio.gather(store.settle(results))
    async with asyncio.timeout(60):
        while not store.away:
            await asyncio.sleep(0.01)
    (due,) = [one for one in await store.due() if one.domain == "another.example"]
    assert await store.claim(due.destination, 10, START_MS + LEASE_MS) == ()
    assert await store.promote(now.ms + 10**9) == now.ms + 10**9 + 1000
    assert not settling.done()
    over.clear()
    limit_pages(store, None)
    async with asyncio.timeout(60):
        assert list(await settling) == [40]
        await over.wait()
    assert store.away == ""
    assert len(await store.claim(due.destination, 10, START_MS + LEASE_MS)) == 1
    told = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(told) == 1


async def test_room_is_made_for_a_result_whoever_found_the_disk_full(
    roomy: Roomy, post: Post, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardship, "RETRY_S", 3600.0)
    store = roomy.store
    for n in range(40):
        await store.enqueue(post.message(f"u{n}@example.com", subject="x" * 500))
    claims = await claim_all(store, START_MS + LEASE_MS)
    limit_pages(store, 0)
    store._hardship.begin(StoreFull("There is no room left to store this."))  # as a claim does
    reply = "250 " + "ok" * 1900  # the rows grow
    async with asyncio.timeout(60):
        assert (
            await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, reply=reply) for claimed in claims]) == 40
        )
    assert roomy.asked == 1


async def test_a_lock_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.db"
    await (await SqliteStore.open(path)).close()
    monkeypatch.setattr(connection, "BUSY_MS", 0)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    asked: list[None] = []

    def make_room() -> bool:
        asked.append(None)
        other.execute("ROLLBACK")
        return True

    with pytest.raises(StoreError, match="SQLITE_BUSY"):
        await SqliteStore.open(path, make_room=make_room)
    assert not asked
    monkeypatch.setattr(space, "look", lambda _: Disk(100 * MB, 10_000, 0, 0))  # there the same may be for want of room
    await (await SqliteStore.open(path, make_room=make_room)).close()
    assert len(asked) == 1
    other.close()


async def test_the_backlog_is_known_without_asking(tmp_path: Path, post: Post, now: Now) -> None:
    store = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    assert store.backlog().messages == 0
    for n in range(3):
        await store.enqueue(post.message(f"u{n}@example.com", "v@example.com"))
    limit_pages(store, 0)
    with pytest.raises(StoreFull):
        await store.enqueue(post.message(pieces=[(0, b"x" * 100_000)]))
    limit_pages(store, None)
    assert store.backlog().messages == 3
    claims = await claim_all(store, START_MS + LEASE_MS)
    await store.settle([attempt(claims[0], State.DELIVERED, at=now.ms)])
    assert store.backlog().messages == 2
    await store.close()
    again = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    assert again.backlog().messages == 2
    assert again.backlog().bytes > 50_000
    await again.close()


def test_a_ballast_that_was_cut_short_is_none(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path)
    (tmp_path / "ballast.new").write_bytes(b"\0" * 4096)  # a process ended while it allocated
    assert not ballast.is_held
    assert ballast.hold(MB)
    assert [(entry.name, entry.stat().st_size) for entry in tmp_path.iterdir()] == [("ballast", MB)]


def test_room_is_seen_soon() -> None:
    """It goes on by itself within 10 s: so much of them is waiting for the next look and the next try."""
    assert space.LOOK_S + hardship.RETRY_S <= 5
