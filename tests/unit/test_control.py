"""The control socket over a real unix socket."""

import asyncio
import fcntl
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway import control
from gateway.control import ControlServer
from gateway.errors import Problem, Reason, Refused, StoreFull


async def echo(args: dict[str, Any]) -> Any:
    return args


async def refuse(args: dict[str, Any]) -> Any:
    raise Refused(Reason.CONFLICT, "There is one already.", problems=[Problem("name", "taken")])


@pytest.fixture(params=["short", "long"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unix socket's own path may have 107 bytes; ours may be longer."""
    directory = tmp_path / ("d" * 120 if request.param == "long" else "d")
    directory.mkdir()
    return directory


async def test_actions_are_asked_for_by_name(data_dir: Path) -> None:
    server = ControlServer(data_dir, {"echo": echo, "refuse": refuse})
    await server.start()
    try:
        assert await control.call(data_dir, "echo", {"a": ["ü", 1]}) == {
            "ok": True,
            "result": {"a": ["ü", 1]},
        }
        refused = await control.call(data_dir, "refuse", {})
        assert refused["error"] == {
            "text": "There is one already.",
            "problems": ["name: taken"],
            "code": "conflict",
        }
        assert (await control.call(data_dir, "nothing", {}))["ok"] is False
        mode = (data_dir / control.SOCKET_NAME).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    finally:
        await server.stop()
    with pytest.raises(FileNotFoundError):
        await control.call(data_dir, "echo", {})


async def test_what_the_store_says_is_known_by_its_code(data_dir: Path) -> None:
    async def full(args: dict[str, Any]) -> Any:
        raise StoreFull(f"There is no room for {args}.")

    said = json.loads(await control.answer({"full": full}, b'{"action": "full", "args": {}}'))
    assert said["error"] == {"text": "There is no room for {}.", "problems": [], "code": control.STORE}


async def test_a_daemon_that_stands_still_is_not_waited_for(data_dir: Path) -> None:
    never = asyncio.Event()

    async def hang(_args: dict[str, Any]) -> Any:
        await never.wait()

    server = ControlServer(data_dir, {"hang": hang})
    await server.start()
    with pytest.raises(TimeoutError):
        await control.call(data_dir, "hang", {}, timeout_s=0.01)
    never.set()
    assert (await control.call(data_dir, "hang", {}))["ok"]
    await server.stop()


async def test_a_socket_left_by_a_killed_daemon_is_replaced(data_dir: Path) -> None:
    first = ControlServer(data_dir, {"echo": echo})
    await first.start()
    second = ControlServer(data_dir, {"echo": echo})
    await second.start()
    try:
        assert (await control.call(data_dir, "echo", {}))["ok"]
    finally:
        await second.stop()
        await first.stop()


async def test_what_is_not_a_request_is_answered_not_fatal() -> None:
    for line in (b"{}\n", b"not json\n", b'{"action": []}\n', b"\xff\n"):
        assert json.loads(await control.answer({"echo": echo}, line))["ok"] is False


def test_who_has_the_data_directory_is_seen_without_an_answer(data_dir: Path) -> None:
    assert not control.is_taken(data_dir)
    assert list(data_dir.iterdir()) == []
    with (data_dir / control.LOCK_NAME).open("w") as lock:
        assert not control.is_taken(data_dir)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert control.is_taken(data_dir)
    assert not control.is_taken(data_dir)
