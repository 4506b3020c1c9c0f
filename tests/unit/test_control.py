"""The control socket over a real unix socket."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway import control
from gateway.control import ControlServer
from gateway.errors import Problem, Reason, Refused
from gateway.runtime import Supervisor


async def echo(args: dict[str, Any]) -> Any:
    return args


async def refuse(args: dict[str, Any]) -> Any:
    raise Refused(Reason.CONFLICT, "There is one already.", problems=[Problem("name", "taken")])


def supervisor() -> Supervisor:
    return Supervisor(on_fatal=lambda *_: None, on_error=lambda *_: None)


@pytest.fixture(params=["short", "long"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unix socket's own path may have 107 bytes; ours may be longer."""
    directory = tmp_path / ("d" * 120 if request.param == "long" else "d")
    directory.mkdir()
    return directory


async def test_actions_are_asked_for_by_name(data_dir: Path) -> None:
    server = ControlServer(data_dir, {"echo": echo, "refuse": refuse}, supervisor())
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


async def test_a_socket_left_by_a_killed_daemon_is_replaced(data_dir: Path) -> None:
    first = ControlServer(data_dir, {"echo": echo}, supervisor())
    await first.start()
    second = ControlServer(data_dir, {"echo": echo}, supervisor())
    await second.start()
    try:
        assert (await control.call(data_dir, "echo", {}))["ok"]
    finally:
        await second.stop()
        await first.stop()


async def test_what_is_not_a_request_is_answered_not_fatal() -> None:
    for line in (b"{}\n", b"not json\n", b'{"action": []}\n', b"\xff\n"):
        assert json.loads(await control.answer({"echo": echo}, line))["ok"] is False
