"""The systemd unit: understood by systemd, tight by its own measure, and not too tight for the daemon."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeDaemon
from tests.peers import sandbox
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import ROOT, dkim_domain, relay_to
from tests.peers.process import require
from tests.peers.sink import Sink
from tests.peers.status import wait_for_state

pytestmark = pytest.mark.slow

UNIT = ROOT / "systemd" / "mail-gateway.service"
MOST_EXPOSED = 15  # in tenths: 1.5 of 10


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = require("systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_understands_it(tmp_path: Path) -> None:
    """Every line is known. Its program is not installed here, so another stands in for it."""
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(copy))
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr

    copy.write_text(text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert "NoNewPrivilege" in analyze("verify", "--man=no", "--recursive-errors=no", str(copy)).stderr


def test_it_is_tight() -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_its_user_can_be_made() -> None:
    user = sandbox.settings(UNIT, "User")
    lines = (ROOT / "systemd" / "mail-gateway.sysusers.conf").read_text().splitlines()
    made = [line.split()[1] for line in lines if line.startswith("u ")]
    assert made == user == sandbox.settings(UNIT, "Group")


def test_the_daemon_works_in_its_sandbox(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    """In by both doors, signed, out through a relay, asked by the CLI, and stopped."""
    require("systemd-analyze")
    domains, _ = dkim_domain(tmp_path / "gw0" / "keys")
    alone = [require("unshare"), "--mount", "--propagation", "private"]
    mounts = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0  # not in a container
    confined = [sys.executable, "-m", "tests.peers.sandbox", str(UNIT)]
    daemon = make_daemon(
        {**relay_to(sink.port), **domains},
        prefix=[*alone, *confined, str(tmp_path / "gw0")] if mounts else [*confined, "-"],
    ).start()
    ids = [
        http_send(daemon.http_port, message_json("one@example.net")).id,
        smtp_send(daemon.smtp_port, "shop@example.com", ["two@example.net"], message_bytes("two@example.net")),
    ]
    for id_ in ids:
        wait_for_state(daemon, id_, "delivered")
    assert daemon._process is not None
    pid = daemon._process.pid  # the sandbox became the daemon; what is below it is the signing process
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert re.search(r"^CapEff:\t0{13}[04]00$", status, flags=re.MULTILINE)
    assert all(b"DKIM-Signature" in transaction.content for transaction in sink.accepted)
    if mounts:
        with pytest.raises(OSError, match="Read-only file system"):
            Path(f"/proc/{pid}/root{ROOT}/written").touch()
    assert daemon.json("queue", "summary") is not None
    os.kill(pid, signal.SIGTERM)
    assert daemon.wait() == 0
