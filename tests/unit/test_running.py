"""What `status` and `reload` print for people, and where there is nobody to ask."""

import fcntl
from pathlib import Path
from typing import Any

import pytest

from gateway import cli, control
from gateway.cli import running

STATUS: dict[str, Any] = {
    "pid": 7,
    "version": "1.2",
    "uptime_s": 3 * 86_400 + 4 * 3600 + 59,
    "config": "/etc/mail-gateway/gateway.yaml",
    "listeners": [{"door": "http", "listen": "127.0.0.1:8025"}, {"door": "smtp", "listen": "0.0.0.0:25"}],
    "ready": False,
    "why_not_ready": "there is no room for more mail",
    "detail": "12 MB are free",
    "queue": {"ready": 1, "waiting": 20, "in_hand": 3, "held": 0},
    "on_the_wire": 2,
    "last_reload": None,
}
OUTCOME: dict[str, Any] = {
    "at": "2026-11-21T19:00:00.000Z",
    "ok": True,
    "applied": ["hostname", "routes.ses.host"],
    "needs_restart": ["smtp.listeners"],
    "warnings": ["line 3: the certificate ended"],
    "problems": [],
}


def test_at_three_in_the_morning(capsys: pytest.CaptureFixture[str]) -> None:
    running._print_status(STATUS)
    said = capsys.readouterr().out
    assert "1.2, running for 3d 4h, pid 7" in said
    assert "no: there is no room for more mail (12 MB are free)" in said
    assert "1 ready, 20 waiting, 3 in hand, 0 held" in said
    assert "0.0.0.0:25" in said
    assert "none since the start" in said


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (OUTCOME, "2026-11-21T19:00:00.000Z, 2 applied; needs a restart: smtp.listeners"),
        (OUTCOME | {"needs_restart": []}, "2026-11-21T19:00:00.000Z, 2 applied"),
        (OUTCOME | {"ok": False, "problems": ["line 5: x", "y"]}, "2026-11-21T19:00:00.000Z, refused: line 5: x"),
    ],
)
def test_the_last_reload(capsys: pytest.CaptureFixture[str], outcome: dict[str, Any], expected: str) -> None:
    running._print_status(STATUS | {"last_reload": outcome})
    assert capsys.readouterr().out.splitlines()[-1].endswith(f" {expected}")


def test_a_reload(capsys: pytest.CaptureFixture[str]) -> None:
    running._print_outcome(OUTCOME)
    assert capsys.readouterr().out.splitlines() == [
        "warning: line 3: the certificate ended",
        "applied: hostname",
        "applied: routes.ses.host",
        "needs a restart: smtp.listeners",
    ]
    running._print_outcome(OUTCOME | {"applied": [], "needs_restart": [], "warnings": []})
    assert capsys.readouterr().out == "Nothing changed.\n"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90_000, "1d 1h")]
)
def test_times(seconds: int, expected: str) -> None:
    assert running._time(seconds) == expected


@pytest.mark.parametrize(("command", "code", "words"), [("status", 3, "No daemon"), ("reload", 1, "no daemon serves")])
def test_a_daemon_that_starts_or_stops_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, code: int, words: str
) -> None:
    """As while it migrates, before its control socket is there, and while it drains, when that has gone."""
    argv = ["-c", str(tmp_path / "no.yaml"), command, "--data-dir", str(tmp_path)]
    with (tmp_path / control.LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(argv) == 75
        assert f"the daemon of {tmp_path} is starting or stopping" in capsys.readouterr().err
    assert cli.main(argv) == code
    assert words in "".join(capsys.readouterr())


def test_what_cannot_be_seen_is_no_daemon_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / control.LOCK_NAME).symlink_to(control.LOCK_NAME)
    assert cli.main(["status", "--data-dir", str(tmp_path)]) == 75
    assert "whether a daemon runs cannot be seen" in capsys.readouterr().err
