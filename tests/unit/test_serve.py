"""A start, as the service manager sees it."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.cli import serve
from gateway.errors import ConfigError
from gateway.runtime import Supervisor


class Opening:
    """A gateway that opens when it is told to, or fails."""

    def __init__(self, fault: Exception | None = None) -> None:
        errors: list[Any] = []
        self.errors = errors
        self.supervisor = Supervisor(
            on_fatal=lambda *told: errors.append(told), on_error=lambda *told: errors.append(told)
        )
        self.opening = False
        self.may_open = asyncio.Event()
        self._fault = fault

    async def open(self) -> None:
        if self._fault is not None:
            raise self._fault
        await self.may_open.wait()

    async def start(self) -> None:
        never = self.supervisor.start(asyncio.Event().wait(), name="a signal")
        try:
            await serve._open(self, never)  # type: ignore[arg-type]  # as much of a gateway as it takes
        finally:
            await self.supervisor.cancel_all()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = f"mail-gateway-serve-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        yield sock


async def test_a_start_that_takes_its_time_asks_for_more(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a migration does."""
    monkeypatch.setattr(serve, "EXTEND_S", 0.02)
    gateway = Opening()

    async def watch() -> None:
        for _ in range(3):
            said = await asyncio.get_running_loop().sock_recv(manager, 1000)
            assert said.startswith(b"EXTEND_TIMEOUT_USEC=20000")
            assert b"\nSTATUS=starting" in said
        gateway.may_open.set()

    async with asyncio.timeout(60):
        await asyncio.gather(gateway.start(), watch())
    assert not gateway.errors


async def test_what_a_start_fails_with_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for fault, expected in (
        (OSError(errno.EADDRINUSE, "address already in use"), serve.ListenError),
        (ConfigError([]), ConfigError),
    ):
        gateway = Opening(fault)
        with pytest.raises(expected):
            await gateway.start()
        assert not gateway.errors
    assert caplog.text == ""


def test_why_it_cannot_listen_names_the_place() -> None:
    """A unix socket's is its path."""
    busy = OSError(errno.EADDRINUSE, "another daemon listens on this socket", "/run/mail-gateway/submit.sock")
    assert serve._explain(busy) == "/run/mail-gateway/submit.sock: another daemon listens on this socket"
    assert "http.listeners" in serve._explain(OSError(errno.EADDRINUSE, "address already in use"))
    assert "CAP_NET_BIND_SERVICE" in serve._explain(OSError(errno.EACCES, "permission denied"))
