"""Identifiers, the Supervisor and sd_notify."""

import asyncio
import os
import socket
import uuid
from pathlib import Path

import pytest

from gateway import runtime
from gateway.runtime import Clock, IdSource, Supervisor


def test_public_ids_go_both_ways_and_keep_the_order_of_time() -> None:
    ids = [runtime.uuid7(at) for at in range(1_800_000_000_000, 1_800_000_000_500)]
    shown = [runtime.show_id("eml_", one) for one in ids]
    assert shown == sorted(shown)
    assert [runtime.read_id("eml_", text) for text in shown] == ids
    assert all(len(text) == 28 for text in shown)
    assert {uuid.UUID(bytes=one).version for one in ids} == {7}


@pytest.mark.parametrize(
    "text", ["", "eml_", "eml_" + "0" * 23, "eml_" + "A" * 24, "msg_" + "0" * 24, "eml_" + "z" * 24]
)
def test_what_is_not_an_id_is_none(text: str) -> None:
    assert runtime.read_id("eml_", text) is None


def test_row_ids_rise_whatever_the_clock_does() -> None:
    times = iter([5_000, 5_000, 4_000, 6_000])
    source = IdSource(Clock(now_ms=lambda: runtime.ID_EPOCH_MS + next(times)))
    ids = [source.next() for _ in range(4)]
    assert ids == sorted(set(ids))
    assert IdSource(Clock(now_ms=lambda: runtime.ID_EPOCH_MS), last=ids[-1]).next() > ids[-1]
    assert runtime.id_at(runtime.ID_EPOCH_MS + 6_000) <= ids[-1]


def test_times_are_utc_with_milliseconds() -> None:
    assert runtime.rfc3339(1_795_237_440_007) == "2026-11-21T05:04:00.007Z"


async def test_a_dead_long_lived_task_is_fatal_and_a_short_one_is_not() -> None:
    fatal: list[str] = []
    errors: list[str] = []
    supervisor = Supervisor(
        on_fatal=lambda name, error: fatal.append(f"{name}: {error}"),
        on_error=lambda name, error: errors.append(f"{name}: {error}"),
    )

    async def fail() -> None:
        raise ValueError("gone")

    tasks = [
        supervisor.start(fail(), name="scheduler", critical=True),
        supervisor.start(fail(), name="one batch"),
        supervisor.start(asyncio.sleep(60), name="sleeper"),
    ]
    await asyncio.wait(tasks[:2])
    await asyncio.sleep(0)
    await supervisor.cancel_all()
    assert (fatal, errors) == (["scheduler: gone"], ["one batch: gone"])
    assert tasks[2].cancelled()


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        runtime.notify_systemd("READY=1")
        assert listener.recv(100) == b"READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    runtime.notify_systemd("STOPPING=1")  # a manager that is away is no reason to stop short
    monkeypatch.delenv("NOTIFY_SOCKET")
    runtime.notify_systemd("READY=1")


def test_a_manager_that_does_not_read_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"mail-gateway-unread-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        for _ in range(100):  # more than the kernel keeps for it
            runtime.notify_systemd("STATUS=well")
