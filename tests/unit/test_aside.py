"""A restore that is cut off, anywhere: what was there is whole, in its place or beside, and nothing is mixed."""

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import aside
from gateway.store import connection
from gateway.store.shown import Filter
from gateway.store.sqlite import SqliteStore
from tests.store.mail import Now, Post

OLD, NEW = {"old@example.com", "in-the-log@example.com"}, {"new@example.com"}
OLD_KEY, NEW_KEY = b"o" * 32, b"n" * 32


class CutError(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`old`: a database, and what was written last in its log, as a killed daemon leaves them. `new`: a closed one."""
    directory = tmp_path_factory.mktemp("stores")
    for name in ("old", "new", "draft"):
        (directory / name).mkdir()

    async def fill(to: set[str], *, killed: Path | None = None, closed: Path | None = None) -> None:
        post, draft = Post(Now()), directory / "draft" / "gateway.db"
        store = await SqliteStore.open(draft)
        for address in sorted(to):
            await store.enqueue(post.message(address))
        if killed is not None:
            shutil.copytree(draft.parent, killed, dirs_exist_ok=True)
        await store.close()
        if closed is not None:
            shutil.copytree(draft.parent, closed, dirs_exist_ok=True)
        draft.unlink()

    asyncio.run(fill(OLD, killed=directory / "old"))
    asyncio.run(fill(NEW, closed=directory / "new"))
    (directory / "old" / "master.key").write_bytes(OLD_KEY)
    assert (directory / "old" / "gateway.db-wal").stat().st_size > 0
    assert [path.name for path in (directory / "new").iterdir()] == ["gateway.db"]
    return directory


def queued(database: Path, to: Path) -> set[str]:
    """What a start finds, looked at in a copy."""

    async def ask() -> set[str]:
        store = await SqliteStore.open(to / database.name)
        rows = await store.find(Filter())
        await store.close()
        return {row.recipient.address for row in rows}

    to.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        shutil.copy(path, to)
    return asyncio.run(ask())


class World:
    """A data directory with an old database, and a new one that is ready for its place."""

    def __init__(self, directory: Path, stores: Path) -> None:
        shutil.copytree(stores / "old", directory)
        self.data, self.stores = directory, stores
        self.database, self.key = directory / "gateway.db", directory / "master.key"
        self.staging = directory / "restore-0123456789abcdef"
        shutil.copytree(stores / "new", self.staging)

    def again(self) -> None:
        """Another restore, which begins with what the one before left."""
        shutil.rmtree(self.staging)
        shutil.copytree(self.stores / "new", self.staging)
        self.restore()

    def restore(self) -> None:
        if aside.old(self.database, self.key):
            aside.keep(self.database, self.key, self.staging)
        aside.replace(self.database, self.key, new=self.staging / "gateway.db", new_key=NEW_KEY)

    def kept(self) -> list[Path]:
        return sorted(self.data.glob("before-restore-*"))


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Any]]:
    """Ends what runs before its n-th change of a directory."""
    left = [10**9]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise CutError
            return function(*args, **more)

        return call

    for owner, name in (
        (Path, "unlink"),
        (Path, "rename"),
        (Path, "mkdir"),
        (os, "link"),
        (aside, "_write"),
        (connection, "sync_directory"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))

    def put(number: int) -> None:
        left[0] = number

    yield put
    put(10**9)


def cut_off(world: World, cut: Callable[[int], Any], number: int) -> bool:
    """A restore that ends before its n-th change; whether it came to its end."""
    cut(number)
    try:
        world.restore()
    except CutError:
        return False
    finally:
        cut(10**9)
    return True


def test_cut_off_anywhere_nothing_is_lost_and_nothing_is_mixed(
    tmp_path: Path, stores: Path, cut: Callable[[int], Any]
) -> None:
    seen: list[str] = []
    for number in itertools.count():
        world = World(tmp_path / f"{number}", stores)
        ended = cut_off(world, cut, number)
        if world.database.exists():
            found = (queued(world.database, tmp_path / f"{number}-found"), world.key.read_bytes())
            assert found in ((OLD, OLD_KEY), (NEW, NEW_KEY)), number
            seen.append("old" if found[0] == OLD else "new")
        else:
            seen.append("none")
        if seen[-1] != "old":  # what was there is beside, whole
            (kept,) = world.kept()
            assert queued(kept / "gateway.db", tmp_path / f"{number}-kept") == OLD, number
            assert (kept / "master.key").read_bytes() == OLD_KEY
        if ended:
            break
    assert [name for name, _ in itertools.groupby(seen)] == ["old", "none", "new"]


def test_after_a_cut_the_next_restore_goes_through(tmp_path: Path, stores: Path, cut: Callable[[int], Any]) -> None:
    for number in itertools.count():
        world = World(tmp_path / f"{number}", stores)
        if cut_off(world, cut, number):
            break
        world.again()
        assert queued(world.database, tmp_path / f"{number}-found") == NEW
        assert world.key.read_bytes() == NEW_KEY
        whole = [kept for kept in world.kept() if (kept / "gateway.db-wal").exists()]
        assert queued(whole[0] / "gateway.db", tmp_path / f"{number}-kept") == OLD, number
        assert {path.name for path in world.data.iterdir() if path not in world.kept()} == {
            "gateway.db",
            "master.key",
            world.staging.name,
        }


def test_each_step_is_on_disk_before_the_next(tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "data", stores)
    done: list[str] = []

    def noting(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def call(path: Path, *args: Any, **more: Any) -> Any:
            there = path.exists()  # what is not there is no step
            if there and world.data in (path, path.parent, *(one.parent for one in args)):
                done.append(name)
            return function(path, *args, **more)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((Path, "unlink"), (Path, "rename"), (connection, "sync_directory")):
        noting(owner, name)
    world.restore()
    assert done.count("unlink") == 3  # the database, its log, its index
    assert [first for first, second in itertools.pairwise(done) if {first, second} <= {"unlink", "rename"}] == []
    assert done[-1] == "sync_directory"
