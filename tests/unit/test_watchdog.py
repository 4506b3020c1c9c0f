"""A sign of life leaves only when all is well."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import pytest

from gateway import watchdog
from gateway.runtime import Supervisor
from gateway.watchdog import Watchdog

PERIOD_S = 0.02


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
