"""A disk that fails at one call (trust.md, A7): nothing is acknowledged that is not there afterwards, after a failed
fsync nothing is written, and a new start finds everything that was acknowledged."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from gateway.errors import StoreError
from gateway.events import State
from gateway.store import hardship, writer
from gateway.store.newmail import Accepted
from gateway.store.sqlite import SqliteStore
from tests.baddays.faulty import FaultyDisk
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt

MESSAGES = 14
PIECE = 3000


@dataclass(slots=True)
class Seen:
    """What callers were told."""

    accepted: set[bytes] = field(default_factory=set)
    delivered: set[bytes] = field(default_factory=set)
    maybe: set[bytes] = field(default_factory=set)  # was told that it failed
    failures: list[str] = field(default_factory=list)
    opening: str = ""  # why it could not be opened


@contextmanager
def faulty(kind: str, at: int) -> Iterator[FaultyDisk]:
    disk = FaultyDisk(kind, at)
    disk.syncs = False
    try:
        yield disk
    finally:
        disk.unregister()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints all the time, and no long pauses."""
    monkeypatch.setattr(hardship, "RETRY_S", 0.01)
    monkeypatch.setattr(writer, "CHECKPOINT_PAGES", 30)
    monkeypatch.setattr(writer, "GATHER_S", 0.0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty queue."""
    path = tmp_path_factory.mktemp("fresh") / "queue.db"

    async def make() -> None:
        await (await SqliteStore.open(path)).close()

    asyncio.run(make())
    return path


async def work(path: Path, seen: Seen) -> None:
    """Take some mail, deliver half of it."""
    now = Now()
    post = Post(now)
    store = await SqliteStore.open(path, clock=now.clock, on_failed=seen.failures.append)
    try:
        for n in range(MESSAGES):
            message = post.message(f"u{n}@example.com", pieces=[(0, b"%d" % n + b"x" * PIECE)])
            try:
                seen.maybe.add(message.uuid)
                assert await store.enqueue(message) == Accepted(message.uuid)
                seen.accepted.add(message.uuid)
            except StoreError:
                if store.failed:
                    return
            if n % 2:
                continue
            for due in await store.due():
                for claimed in await store.claim(due.destination, 1, START_MS + LEASE_MS):
                    await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
                    seen.delivered.add(claimed.uuid)
    except StoreError:
        assert store.failed
    finally:
        await store.close()


async def check(path: Path, seen: Seen) -> None:
    """As a new start finds it."""
    now = Now()
    store = await SqliteStore.open(path, clock=now.clock)
    await store.reclaim(now.ms)
    states = {}
    for uuid in seen.maybe:
        view = await store.message(uuid, None)
        if view is not None:
            states[uuid] = view.recipients[0].state
    assert seen.accepted <= set(states)
    assert {uuid for uuid in seen.delivered if states[uuid] is not State.DELIVERED} == set()
    assert store.backlog().messages == sum(state is State.QUEUED for state in states.values())
    await store.close()
    database = apsw.Connection(str(path))
    assert database.pragma("integrity_check") == "ok"
    database.close()


def run(fresh: Path, place: Path, kind: str, at: int) -> tuple[Seen, FaultyDisk]:
    place.mkdir()
    path = Path(shutil.copy(fresh, place))
    seen = Seen()
    with faulty(kind, at) as disk:
        try:
            asyncio.run(work(path, seen))
        except StoreError as error:
            seen.opening = str(error)
    assert not seen.opening or str(path) in seen.opening
    asyncio.run(check(path, seen))
    return seen, disk


@pytest.mark.parametrize("at", [1, 2, 5, 20])
@pytest.mark.parametrize("kind", ["write", "sync", "truncate"])
def test_a_failed_call(fresh: Path, tmp_path: Path, kind: str, at: int) -> None:
    seen, disk = run(fresh, tmp_path / "run", kind, at)
    if kind == "sync" and disk.failed and seen.maybe:
        assert len(seen.failures) == 1
        assert disk.calls == at  # never again, in this process


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["write", "sync"])
def test_every_call_may_be_the_one_that_fails(fresh: Path, tmp_path: Path, kind: str) -> None:
    failed = 0
    for at in range(1, 201):
        seen, disk = run(fresh, tmp_path / str(at), kind, at)
        failed += disk.failed
        if not disk.failed:
            assert seen.accepted == seen.maybe
            break
        if kind == "sync":
            assert disk.calls == at
        else:
            assert not seen.failures
            assert len(seen.accepted) >= MESSAGES - 1 or not seen.maybe  # one at most was refused
        shutil.rmtree(tmp_path / str(at))
    assert failed > 30
