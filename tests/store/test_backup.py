"""Copies of a live database, the file they travel in, and what is doubtful about a queue of yesterday."""

import asyncio
import io
import shutil
import stat
import tarfile
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace

from gateway.errors import StoreError, StoreFull
from gateway.events import EventType, State
from gateway.store import backup, backupfile, restored
from gateway.store.backup import Snapshots
from gateway.store.backupfile import BackupFileError, Manifest
from gateway.store.queue import Attempt
from gateway.store.shown import Filter
from gateway.store.sqlite import SqliteStore
from gateway.store.webhook import Format, NewWebhook, Progress, Standing
from tests.store.mail import HOUR_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all, destination

MANIFEST = Manifest(
    format=1,
    version="1",
    schema=5,
    made_at="2027-01-15T08:00:00.000Z",
    hostname="gateway.test",
    live=True,
    messages=1,
    recipients=2,
    database_bytes=300_000,
)
DATABASE = bytes(range(250)) * 1200
KEY = bytes(range(32))


# A copy


async def test_a_copy_has_what_was_acknowledged_before_and_nothing_torn(tmp_path: Path, now: Now, post: Post) -> None:
    store = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    before = [post.message() for _ in range(30)]
    await asyncio.gather(*map(store.enqueue, before))
    copying = asyncio.gather(Snapshots(tmp_path / "queue.db").take(tmp_path / "copy.db", spare=0))
    while not copying.done():
        await store.enqueue(post.message("meanwhile@example.net"))
    (contents,) = await copying
    await store.close()
    backup.examine(tmp_path / "copy.db")
    assert backup.contents(tmp_path / "copy.db") == contents
    assert contents.messages == contents.recipients >= 30
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    copy = await SqliteStore.open(tmp_path / "copy.db", clock=now.clock)
    uuids = {one.uuid for one in await claim_all(copy, START_MS + LEASE_MS)}
    await copy.close()
    assert {one.uuid for one in before} <= uuids
    assert len(uuids) == contents.messages


async def test_a_copy_has_nothing_of_erased_mail_and_is_a_database_as_ours(
    tmp_path: Path, now: Now, post: Post
) -> None:
    store = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    await store.enqueue(post.message(pieces=[(0, b"Subject: x\r\n\r\n" + b"a word of the erased " * 500)]))
    (claimed,) = await claim_all(store, START_MS + LEASE_MS)
    await store.settle([attempt(claimed, State.DELIVERED, at=START_MS)])
    now.ms += MINUTE_MS
    await store.sweep(now.ms)
    await Snapshots(tmp_path / "queue.db").take(tmp_path / "copy.db", spare=0)
    await store.close()
    assert b"of the erased" in (tmp_path / "queue.db").read_bytes()
    assert b"of the erased" not in (tmp_path / "copy.db").read_bytes()
    pair = [apsw.Connection(str(tmp_path / name)) for name in ("queue.db", "copy.db")]
    schemas = [one.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall() for one in pair]
    assert schemas[0] == schemas[1]
    for name in ("user_version", "auto_vacuum", "page_size"):
        assert pair[0].pragma(name) == pair[1].pragma(name)
    for one in pair:
        one.close()


async def test_a_copy_that_has_no_room_or_place_is_refused_and_leaves_nothing(tmp_path: Path, now: Now) -> None:
    store = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    snapshots = Snapshots(tmp_path / "queue.db")
    with pytest.raises(StoreFull, match="must stay free"):
        await snapshots.take(tmp_path / "copy.db", spare=1 << 60)
    with pytest.raises(StoreError):
        await snapshots.take(tmp_path / "absent" / "copy.db", spare=0)
    (tmp_path / "there.db").write_bytes(b"mine")
    with pytest.raises(StoreError, match="cannot be made"):
        await snapshots.take(tmp_path / "there.db", spare=0)
    assert (tmp_path / "there.db").read_bytes() == b"mine"
    assert not (tmp_path / "copy.db").exists()
    await store.close()


async def test_one_copy_at_a_time_and_none_after_the_end(tmp_path: Path, now: Now, post: Post) -> None:
    store = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    await store.enqueue(post.message())
    snapshots = Snapshots(tmp_path / "queue.db")
    first = asyncio.gather(snapshots.take(tmp_path / "one.db", spare=0))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="Another copy"):
        await snapshots.take(tmp_path / "two.db", spare=0)
    assert (await first)[0].messages == 1
    await snapshots.take(tmp_path / "two.db", spare=0)
    third = asyncio.gather(snapshots.take(tmp_path / "three.db", spare=0), return_exceptions=True)
    await asyncio.sleep(0)
    await snapshots.close()
    (outcome,) = await third
    # It was as good as done, or it is given up, and then nothing is left of it.
    assert isinstance(outcome, StoreError) != (tmp_path / "three.db").exists()
    with pytest.raises(StoreError, match="closed"):
        await snapshots.take(tmp_path / "four.db", spare=0)
    await store.close()


async def test_a_damaged_database_is_found(tmp_path: Path, now: Now, post: Post) -> None:
    path = tmp_path / "queue.db"
    store = await SqliteStore.open(path, clock=now.clock)
    for _ in range(20):
        await store.enqueue(post.message())
    await store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * 4096 + whole[12288:])
    with pytest.raises(StoreError):
        backup.examine(path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        backup.examine(path)


# The file


def packed() -> bytes:
    stream = io.BytesIO()
    backupfile.write(stream, MANIFEST, database=io.BytesIO(DATABASE), master_key=KEY, made_at_s=1_800_000_000)
    return stream.getvalue()


def unpacked(data: bytes) -> tuple[backupfile.Backup, bytes]:
    database = bytearray()
    read = backupfile.read(io.BytesIO(data), lambda _: database.extend)
    return read, bytes(database)


def test_what_is_put_in_comes_out() -> None:
    read, database = unpacked(packed())
    assert (read.manifest, read.master_key, database) == (MANIFEST, KEY, DATABASE)
    with tarfile.open(fileobj=io.BytesIO(packed())) as tar:
        assert tar.getnames() == ["manifest.json", "gateway.db", "master.key", "SHA256SUMS"]
        assert {entry.mode for entry in tar} == {0o600}


def test_a_backup_that_was_cut_short_anywhere_is_refused() -> None:
    data = packed()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        sums = tar.getmember("SHA256SUMS")
    for length in [0, 1, 511, 512, 700, 1024, 5000, *range(150_000, sums.offset_data + sums.size, 7919), sums.offset]:
        with pytest.raises((BackupFileError, OSError)):
            unpacked(data[:length])


def test_a_byte_that_flipped_is_found() -> None:
    data = packed()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar.getmembers():
            for place in (entry.offset_data, entry.offset_data + entry.size - 1):
                bad = bytearray(data)
                bad[place] ^= 1
                with pytest.raises(BackupFileError):
                    unpacked(bytes(bad))


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for entry, data in entries:
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def test_what_is_no_backup_is_refused() -> None:
    link = tarfile.TarInfo("manifest.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    newer = packed().replace(b'"format": 1', b'"format": 2')
    for data in (
        b"",
        b"hello" * 1000,
        tar_of((tarfile.TarInfo("../../etc/passwd"), b"x")),
        tar_of((link, b"")),
        tar_of((tarfile.TarInfo("manifest.json"), b"[]")),
        tar_of((tarfile.TarInfo("manifest.json"), b"x" * 100_000)),
        newer,
    ):
        with pytest.raises(BackupFileError):
            unpacked(data)
    with pytest.raises(BackupFileError, match="a form that this version does not know"):
        unpacked(newer)


# What is in doubt


async def test_what_may_have_been_delivered_is_marked(tmp_path: Path, now: Now, post: Post) -> None:
    path = tmp_path / "queue.db"
    store = await SqliteStore.open(path, clock=now.clock)
    names = ("queued", "deferred", "delivered", "leased")
    messages = {name: post.message(f"{name}@example.com") for name in names}
    for message in messages.values():
        await store.enqueue(message)
    messages["soon"] = post.message("soon@example.com", send_at=START_MS + MINUTE_MS)
    messages["later"] = post.message("later@example.com", send_at=START_MS + HOUR_MS)
    await store.enqueue_all([messages["soon"], messages["later"]], None)
    number = await destination(store)
    claimed = {one.recipients[0].address: one for one in await store.claim(number, 10, START_MS + LEASE_MS)}
    deferred = attempt(claimed["deferred@example.com"], State.DEFERRED, at=START_MS, next_at=START_MS + HOUR_MS)
    given_back = attempt(claimed["queued@example.com"], State.QUEUED, at=START_MS)
    await store.settle([deferred, given_back, attempt(claimed["delivered@example.com"], State.DELIVERED, at=START_MS)])
    await store.close()

    doubts = restored.mark(path, START_MS + 2 * MINUTE_MS)
    assert (doubts.marked, doubts.held) == (4, 0)
    store = await SqliteStore.open(path, clock=now.clock)
    marked = {}
    for name, message in messages.items():
        view = await store.message(message.uuid, "acme")
        assert view is not None
        marked[name] = view.recipients[0].possible_duplicate
    assert marked == {
        "queued": True,
        "deferred": True,
        "leased": True,
        "soon": True,
        "later": False,
        "delivered": False,
    }
    await store.close()


async def test_what_is_to_be_delivered_at_most_once_is_held(tmp_path: Path, now: Now, post: Post) -> None:
    path = tmp_path / "queue.db"
    store = await SqliteStore.open(path, clock=now.clock)
    once = post.message("ready@example.com", "leased@example.com", "deferred@example.com", at_most_once=True)
    later = post.message("later@example.com", at_most_once=True, send_at=START_MS + HOUR_MS)
    other = post.message("other@example.com")
    await store.enqueue(once)
    number = await destination(store)
    (claimed,) = await store.claim(number, 3, START_MS + LEASE_MS)
    ready, leased, deferred = claimed.recipients
    part = attempt(claimed, State.DEFERRED, at=START_MS, next_at=START_MS + MINUTE_MS)
    back = attempt(claimed, State.QUEUED, at=START_MS)
    await store.mark([(leased.id, leased.fence)])
    await store.settle([_only(part, deferred.id), _only(back, ready.id)])
    await store.enqueue_all([later, other], None)
    await store.close()

    assert restored.mark(path, START_MS).held == 3
    store = await SqliteStore.open(path, clock=now.clock)
    await store.reclaim(START_MS)
    await store.promote(START_MS + MINUTE_MS)
    assert [one.recipients[0].address for one in await claim_all(store, START_MS + LEASE_MS)] == ["other@example.com"]
    held = await store.find(Filter(state=State.HELD))
    assert {row.recipient.address for row in held} == {f"{one}@example.com" for one in ("ready", "leased", "deferred")}
    told = [event for event in await store.events(once.uuid) if event.type is EventType.HELD]
    assert len(told) == 3
    assert all("at most once" in event.data for event in told)
    assert len({event.seq for event in await store.events(once.uuid)}) == len(await store.events(once.uuid))
    mine = await store.event_log.read(0, 100, account="acme")
    assert [event.type for event in mine].count(EventType.HELD) == 3  # its programs are told
    await store.promote(START_MS + HOUR_MS)
    assert [one.uuid for one in await claim_all(store, START_MS + LEASE_MS)] == [later.uuid]
    await store.close()


def _only(whole: Attempt, recipient: int) -> Attempt:
    """The part of an attempt that is about one recipient."""
    return replace(whole, results=tuple(one for one in whole.results if one.recipient == recipient))


async def test_who_saw_what_came_after_the_backup_is_told_all_that_is_new(tmp_path: Path, now: Now, post: Post) -> None:
    """Events of the lost time had numbers too: those of another time begin behind them, however often it happens."""
    path, kept = tmp_path / "queue.db", tmp_path / "kept.db"
    store = await SqliteStore.open(path, clock=now.clock)
    for uuid, told in ((b"e" * 16, 1), (b"b" * 16, 0)):
        endpoint = NewWebhook(uuid, "", "https://a.test/", Format.NATIVE, b"w", (), (), (), False, START_MS)
        await store.webhooks.add(endpoint, most=9)
        record = await store.webhooks.one(uuid)
        assert record is not None
        await store.webhooks.save(Progress(record.id, record.epoch, told, None, START_MS))
    await store.enqueue(post.message())
    await store.close()
    shutil.copy(path, kept)
    places = [1]
    for round_ in range(2):
        shutil.copy(kept, path)
        restored.mark(path, START_MS + round_ * MINUTE_MS)
        store = await SqliteStore.open(path, clock=now.clock)
        new = [post.message(f"a{number}@example.com") for number in range(3 - round_)]
        await store.enqueue_all(new, None)
        events = await store.event_log.read(places[-1], 100)
        assert [event.uuid for event in events] == [message.uuid for message in new]
        places.append(events[-1].seq)
        # Who had been told everything has nothing behind it, but for what is new.
        cursors = [one.cursor for one in await store.webhooks.all()]
        assert cursors == [events[0].seq - 1, 0]
        await store.close()


@pytest.mark.parametrize("quiet", [True, False])
async def test_a_trial_tells_no_program_anything(tmp_path: Path, now: Now, *, quiet: bool) -> None:
    path = tmp_path / "queue.db"
    store = await SqliteStore.open(path, clock=now.clock)
    before = [Standing.ACTIVE, Standing.PENDING, Standing.DISABLED]
    for uuid, state in zip((b"a" * 16, b"p" * 16, b"d" * 16), before, strict=True):
        await store.webhooks.add(
            NewWebhook(uuid, "", "https://a.test/", Format.NATIVE, b"w", (), (), (), False, START_MS), most=9
        )
        await store.webhooks.put_state(uuid, state, "", None, START_MS)
    await store.close()
    assert restored.mark(path, START_MS, quiet=quiet).paused == (1 if quiet else 0)
    store = await SqliteStore.open(path, clock=now.clock)
    after = [Standing.PAUSED if quiet else Standing.ACTIVE, *before[1:]]
    assert [one.state for one in await store.webhooks.all()] == after
    await store.close()
