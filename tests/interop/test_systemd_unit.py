"""The systemd unit: understood by systemd, tight by its own measure, and not too tight for the daemon."""

import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import configfile
from gateway.config import DATA_DIR
from tests.peers import sandbox
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import ROOT, Daemon, dkim_domain, relay_to
from tests.peers.process import missing, require
from tests.peers.sink import Sink
from tests.peers.status import wait_for_state

pytestmark = pytest.mark.slow

UNITS = ROOT / "systemd"
UNIT = UNITS / "mail-gateway.service"
SOCKET = UNITS / "mail-gateway.socket"
MOST_EXPOSED = 15  # in tenths: 1.5 of 10
NOBODY = 65_534  # any user but root
# As systemd does it: everything but one directory is read-only, for this process and its children.
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && cd "$1" && shift && exec "$@"'


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = require("systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_understands_them(tmp_path: Path) -> None:
    """Every line is known. Its program is not installed here, so another stands in for it."""
    text = re.sub(r"^(Exec\w+)=\S+", r"\1=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    service, listening = tmp_path / UNIT.name, tmp_path / SOCKET.name
    service.write_text(text)
    listening.write_text(SOCKET.read_text())
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(service), str(listening))
    assert done.returncode == 0, done.stderr
    assert "mail-gateway" not in done.stderr

    every = re.sub(r"^#(ListenStream|SocketMode)=", r"\1=", SOCKET.read_text(), flags=re.MULTILINE)
    listening.write_text(every)
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(service), str(listening))
    assert (done.returncode, "mail-gateway" in done.stderr) == (0, False), done.stderr

    service.write_text(text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert "NoNewPrivilege" in analyze("verify", "--man=no", "--recursive-errors=no", str(service)).stderr


def test_a_reload_asks_the_daemon() -> None:
    """With the program that it was started with, by the directory that it has where the file says nothing else."""
    start, again = sandbox.settings(UNIT, "ExecStart")[0], sandbox.settings(UNIT, "ExecReload")[0]
    assert again == f"{start.split()[0]} reload --data-dir {DATA_DIR}"
    assert sandbox.settings(UNIT, "StateDirectory") == [DATA_DIR.name]


def test_its_sockets_are_the_listeners_of_the_configuration() -> None:
    """Those of the file that ships."""
    shipped = configfile.read_config(ROOT / "etc" / "gateway.yaml")[0]
    smtp, http = ([str(one.listen) for one in door] for door in (shipped.smtp.listeners, shipped.http.listeners))
    assert sandbox.settings(SOCKET, "ListenStream") == smtp + http


def test_it_is_tight() -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_its_user_can_be_made(tmp_path: Path) -> None:
    user = sandbox.settings(UNIT, "User")
    sysusers = UNITS / "mail-gateway.sysusers.conf"
    made = [line.split()[1] for line in sysusers.read_text().splitlines() if line.startswith("u ")]
    assert made == user == sandbox.settings(UNIT, "Group")
    for program, root, file in _made_by(tmp_path):
        done = subprocess.run(
            [require(program), f"--root={root}", *file], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "mail-gateway:" in (tmp_path / "etc" / "passwd").read_text()
    directory, file_ = tmp_path / "etc" / "mail-gateway", tmp_path / "etc" / "mail-gateway" / "gateway.yaml"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750
    assert stat.S_IMODE(file_.stat().st_mode) == 0o640
    groups = dict(line.split(":")[:3:2] for line in (tmp_path / "etc" / "group").read_text().splitlines())
    assert {directory.stat().st_gid, file_.stat().st_gid} == {int(groups["mail-gateway"])}


def _made_by(root: Path) -> list[tuple[str, Path, list[str]]]:
    """systemd's own programs for users and files, in a directory that stands for a machine."""
    place = root / "etc" / "mail-gateway"
    place.mkdir(parents=True)
    (place / "gateway.yaml").write_text("hostname: mail.example.com\n")
    return [
        ("systemd-sysusers", root, [str(UNITS / "mail-gateway.sysusers.conf")]),
        ("systemd-tmpfiles", root, ["--create", str(UNITS / "mail-gateway.tmpfiles.conf")]),
    ]


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """One that every user can get to."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def test_the_daemon_works_in_its_sandbox(sink: Sink, public_directory: Path) -> None:
    """As a user of its own, on a port below 1024: in by both doors, signed, out through a relay, asked by the CLI, read
    anew, and stopped."""
    require("systemd-analyze")
    as_nobody = _as_nobody()
    daemon = _Public(public_directory / "gw", as_nobody)
    port = daemon.smtp_port = _low_port()
    domains, _ = dkim_domain(daemon.directory / "keys")
    smtp = {"listeners": [{"listen": f"127.0.0.1:{port}"}]}
    daemon.write_config({**relay_to(sink.port), **domains, "smtp": smtp, "log": {"level": "info"}})
    for path in (daemon.directory, *daemon.directory.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    alone = [require("unshare"), "--mount", "--propagation", "private"]
    mounts = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0  # not in a container
    prefix = [*alone, "sh", "-c", READ_ONLY, "sh", str(daemon.directory)] if mounts else []
    daemon.prefix = [*prefix, *as_nobody, daemon.python, "-m", "tests.peers.sandbox", str(UNIT), "-"]
    with daemon:
        ids = [
            http_send(daemon.http_port, message_json("one@example.net")).id,
            smtp_send(port, "shop@example.com", ["two@example.net"], message_bytes("two@example.net")),
        ]
        for id_ in ids:
            wait_for_state(daemon, id_, "delivered")
        assert daemon._process is not None
        pid = daemon._process.pid  # the sandbox became the daemon; what is below it is the signing process
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}" in status
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert "CapEff:\t0000000000000400" in status  # CAP_NET_BIND_SERVICE
        assert all(b"DKIM-Signature" in transaction.content for transaction in sink.accepted)
        if mounts:
            with pytest.raises(OSError, match="Read-only file system"):
                Path(f"/proc/{pid}/root{ROOT}/written").touch()
        assert daemon.json("queue", "summary") is not None
        daemon.config.write_text(daemon.config.read_text().replace("level: info", "level: debug"))
        assert daemon.json("reload")["applied"] == ["log.level"]
        os.kill(pid, signal.SIGTERM)
        assert daemon.wait() == 0


def _as_nobody() -> list[str]:
    """What makes a program run as the unit's user would: no root, and the one capability that the unit leaves."""
    only = "-all,+net_bind_service"
    command = [
        require("setpriv"),
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        f"--bounding-set={only}",
        f"--inh-caps={only}",
        f"--ambient-caps={only}",
        "--",
    ]
    if os.geteuid() != 0:
        missing("only root can become another user")
    return command


class _Public(Daemon):
    """One that every user can run: by the first Python of this version that is not in somebody's home."""

    def __init__(self, directory: Path, as_nobody: list[str]) -> None:
        paths = ":".join([str(ROOT), sysconfig.get_path("purelib")])
        super().__init__(directory, {}, environment={"PYTHONPATH": paths})
        own = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        again = [*as_nobody, "sh", "-c", 'exec "$@"', "sh"]  # setpriv itself may still open everything
        able = [python for python in (sys.executable, own) if self._works([*again, python])]
        if not able:
            missing("no Python with the gateway's libraries is within the reach of other users")
        self.python = able[0]

    def _works(self, command: list[str]) -> bool:
        done = subprocess.run(
            [*command, "-c", "import apsw, uvloop, gateway.app"],
            capture_output=True,
            env=self._environment,
            cwd="/",
            check=False,
        )
        return done.returncode == 0

    def _command(self, *arguments: str) -> list[str]:
        return [self.python, *super()._command(*arguments)[1:]]


def _low_port() -> int:
    """A port that needs the capability."""
    while True:
        port = random.randrange(600, 1024)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
