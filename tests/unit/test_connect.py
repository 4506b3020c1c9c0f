"""How commands hear from the daemon, or do not."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from gateway import control
from gateway.cli import connect, datadir, output
from gateway.errors import StoreError


def replies(monkeypatch: pytest.MonkeyPatch, reply: Any) -> list[float | None]:
    """What the daemon says, or fails with; the times that were given to it."""
    given: list[float | None] = []

    async def call(_dir: Path, _action: str, _args: Any, *, timeout_s: float | None = None) -> Any:
        given.append(timeout_s)
        if isinstance(reply, Exception):
            raise reply
        return reply

    monkeypatch.setattr(control, "call", call)
    return given


@pytest.mark.parametrize("action", ["status", "log.show", "log.level"])
def test_a_look_at_a_daemon_that_stands_still_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: str
) -> None:
    replies(monkeypatch, TimeoutError())
    with pytest.raises(StoreError, match=r"runs but does not answer"):
        connect.ask(tmp_path, action, {})
    given = replies(monkeypatch, {"ok": True, "result": 1})
    assert connect.ask(tmp_path, action, {}) == 1
    assert given == [connect.QUICK_S]


@pytest.mark.parametrize(("action", "told"), [("queue.list", True), ("backup.snapshot", False)])
def test_who_waits_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: str, told: bool) -> None:
    said: list[str] = []

    async def call(_dir: Path, _action: str, _args: Any, *, timeout_s: float | None = None) -> Any:
        assert timeout_s is None
        for _ in range(3):  # the loop comes round: whatever is due now is done
            await asyncio.sleep(0)
        return {"ok": True, "result": 1}

    monkeypatch.setattr(connect, "SLOW_S", 0.0)
    monkeypatch.setattr(control, "call", call)
    monkeypatch.setattr(output, "complain", said.append)
    assert connect.ask(tmp_path, action, {}) == 1
    assert bool(said) is told


def test_who_made_the_error_does_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replies(monkeypatch, {"ok": False, "error": {"text": "There is no room.", "problems": [], "code": control.STORE}})
    with pytest.raises(StoreError, match="no room"):
        connect.ask(tmp_path, "queue.list", {})
    replies(monkeypatch, {"ok": False, "error": {"text": "There is none.", "problems": [], "code": "not_found"}})
    with pytest.raises(connect.ActionError, match="none"):
        connect.ask(tmp_path, "queue.list", {})


def test_where_root_may_not_become_somebody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    somebody = os.stat_result((0o40700, 1, 1, 1, 12345, 12345, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda _: somebody)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("initgroups", "setgroups", "setgid", "setuid", "setegid", "seteuid"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(StoreError, match=r"uid 12345\): run this as that user"):
        datadir.become_owner(tmp_path)
    with pytest.raises(StoreError, match=r"uid 12345\): run this as that user"), datadir.as_owner(tmp_path):
        pytest.fail("nobody is")
