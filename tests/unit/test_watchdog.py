"""A sign of life leaves only when all is well."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway import configfile, watchdog
from gateway.app import Gateway
from gateway.runtime import Supervisor
from gateway.store.db import Transaction
from gateway.store.queue import Claimed
from gateway.store.sqlite import SqliteStore
from gateway.watchdog import Watchdog
from tests.fakes.desk import Desk, open_desk
from tests.peers.client import message_json
from tests.peers.daemon import SECRET

PERIOD_S = 0.02
DAEMON_PERIOD_S = 0.5


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the signs arrive."""
    name = f"mail-gateway-watchdog-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        yield sock


async def _sign(manager: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 100), 60)


def _nothing_came(manager: socket.socket) -> bool:
    try:
        manager.recv(100)
    except BlockingIOError:
        return True
    return False


class Part:
    """One that is well, says that it is not, or does not answer."""

    def __init__(self) -> None:
        self.well = True
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self) -> bool:
        self.asked.set()
        await self.answers.wait()
        return self.well

    async def asked_again(self, times: int) -> None:
        for _ in range(times):
            self.asked.clear()
            await asyncio.wait_for(self.asked.wait(), 60)


@pytest.fixture
async def part() -> Part:
    return Part()


async def test_signs_of_life(manager: socket.socket, part: Part, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(on_fatal=lambda *_: None, on_error=lambda *_: None)
    supervisor.start(Watchdog(PERIOD_S, {"the store": part}).run(), name="watchdog", critical=True)
    for _ in range(3):
        assert await _sign(manager) == b"WATCHDOG=1"

    part.well = False
    await part.asked_again(2)
    while not _nothing_came(manager):
        pass
    await part.asked_again(3)
    assert _nothing_came(manager)
    assert "the store makes no progress" in caplog.text

    part.well = True
    assert await _sign(manager) == b"WATCHDOG=1"

    part.answers.clear()
    await part.asked_again(2)
    while not _nothing_came(manager):
        pass
    await part.asked_again(2)
    assert _nothing_came(manager)
    assert "the store does not answer" in caplog.text
    await supervisor.cancel_all()


async def test_a_loop_that_does_not_turn_gives_none(manager: socket.socket, part: Part) -> None:
    supervisor = Supervisor(on_fatal=lambda *_: None, on_error=lambda *_: None)
    supervisor.start(Watchdog(PERIOD_S, {"the store": part}).run(), name="watchdog", critical=True)
    await _sign(manager)
    while not _nothing_came(manager):
        pass
    time.sleep(5 * PERIOD_S)
    assert _nothing_came(manager)
    assert await _sign(manager) == b"WATCHDOG=1"
    await supervisor.cancel_all()


def test_who_wants_to_hear() -> None:
    pid = str(os.getpid())
    assert watchdog.period_s({}) is None
    assert watchdog.period_s({"WATCHDOG_USEC": "0"}) is None
    assert watchdog.period_s({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog.period_s({"WATCHDOG_USEC": "1500000"}) == 1.5
    assert watchdog.period_s({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": pid}) == 1.5
    assert watchdog.period_s({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}) is None


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as made:
        yield made


class Stuck:
    """A claim that does not end until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def __call__(self, *_: object) -> Sequence[Claimed]:
        self.begun.set()
        await self.goes_on.wait()
        return ()


async def test_a_scheduler_without_work_is_well(desk: Desk) -> None:
    await desk.scheduler.start()
    await desk.until(lambda: desk.scheduler._resting)
    for _ in range(3):
        assert await desk.scheduler.progresses()


async def test_a_scheduler_whose_hosts_are_slow_is_well(desk: Desk) -> None:
    desk.couriers.stuck["slow.example"] = asyncio.Event()
    await desk.accept(8, "slow.example")
    await desk.scheduler.start()
    await desk.until(lambda: desk.couriers.open > 0 and desk.scheduler._resting)
    for _ in range(3):
        assert await desk.scheduler.progresses()
    desk.couriers.stuck["slow.example"].set()
    await desk.until(lambda: len(desk.couriers.delivered) == 8)


async def test_a_scheduler_that_is_stuck_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck()
    monkeypatch.setattr(desk.store, "claim", stuck)
    await desk.accept(1)
    await desk.scheduler.start()
    await asyncio.wait_for(stuck.begun.wait(), 60)
    assert await desk.scheduler.progresses(), "it has done something since the start"
    assert not await desk.scheduler.progresses()
    assert not await desk.scheduler.progresses()
    monkeypatch.undo()
    stuck.goes_on.set()
    desk.scheduler.kick()
    await desk.until(lambda: len(desk.couriers.delivered) == 1)
    assert await desk.scheduler.progresses()


class Busy:
    """Keeps the thread that writes until the end of the block."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._begun, self._over = threading.Event(), threading.Event()

    async def __aenter__(self) -> None:
        self._done = self._store._writer.submit(self._keep, None)
        assert await asyncio.to_thread(self._begun.wait, 60)

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._done

    def _keep(self, _: Transaction, calls: Sequence[None]) -> list[None]:
        self._begun.set()
        self._over.wait(60)
        return [None] * len(calls)


async def test_a_store_answers_when_its_writer_does(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "q.db")
    assert await store.answers()
    async with Busy(store):
        asked = asyncio.gather(store.answers())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asked.done()
    assert (await asked)[0]
    await store.close()
    assert await store.answers(), "what cannot be written is no hanging"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Gateway]:
    """It captures, and is asked for signs of life."""
    settings = {
        "hostname": "gateway.test",
        "data_dir": str(tmp_path / "data"),
        "http": {"listeners": [{"listen": "127.0.0.1:0"}], "admin": None},
        "smtp": {"listeners": [{"listen": "127.0.0.1:0"}]},
        "keys": {"shop": {"secret": SECRET}},
        "routes": {"inbox": {"type": "capture"}},
        "default_route": "inbox",
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps(settings))
    path.chmod(0o600)
    async with Gateway(configfile.load(path), watchdog_s=DAEMON_PERIOD_S) as gateway:
        yield gateway


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_daemon_is_not_well_without_its_store(
    manager: socket.socket, daemon: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    while await _sign(manager) != b"WATCHDOG=1":
        pass
    async with Busy(daemon.store):
        await _until(lambda: "the store does not answer" in caplog.text)


async def test_the_daemon_is_not_well_without_its_scheduler(
    manager: socket.socket, daemon: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    while await _sign(manager) != b"WATCHDOG=1":
        pass
    stuck = Stuck()
    monkeypatch.setattr(daemon.store, "claim", stuck)
    await daemon.actions()["send"]({"key": "shop", "body": message_json("you@example.net")})
    await _until(lambda: "the scheduler makes no progress" in caplog.text)
    monkeypatch.undo()
    stuck.goes_on.set()
