"""Files with secrets are their owner's alone (S18): those that are given, and those that the daemon makes.

What each kind of secret says to each mode is in tests/unit/test_config.py, how root becomes the owner of the data
directory in tests/unit/test_cli.py. Here are the commands as their operator runs them.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.peers.client import http_send, message_json
from tests.peers.daemon import ROOT, SECRET, Daemon, broken_twin

pytestmark = pytest.mark.slow

INBOX = {"routes": {"here": {"type": "capture"}}, "default_route": "here"}
CARELESS = ("sh", "-c", 'umask 0; exec "$@"', "sh")
REFUSED = 78  # EX_CONFIG
GUARDED = 'Path("/run/secrets")'


# What is given

PLACES = {
    # where it is: the modes in which it is taken, and those in which it is not
    "beside the configuration": ((0o600, 0o640, 0o400), (0o644, 0o604, 0o602, 0o601)),
    "in /run/secrets": ((0o644, 0o444, 0o600), ()),
    "in the credentials directory": ((0o644, 0o444, 0o440), ()),
    "by a link out of /run/secrets": ((0o600,), (0o644,)),
    "by a link out of the credentials directory": ((0o600,), (0o644,)),
}


class Checked:
    """A configuration with one secret, and what `check` says to it; /run/secrets is in `tmp_path`."""

    def __init__(self, tmp_path: Path) -> None:
        self.guarded, self.credentials = tmp_path / "run" / "secrets", tmp_path / "credentials"
        for directory in (self.guarded, self.credentials):
            directory.mkdir(parents=True)
        self.elsewhere = tmp_path / "elsewhere.key"
        self.config = tmp_path / "gateway.yaml"
        self._data = tmp_path / "data"
        self._source = broken_twin(
            tmp_path / "twin", "configfile/sources.py", GUARDED, f"Path({os.fspath(self.guarded)!r})"
        )

    def place(self, where: str, mode: int) -> None:
        """The secret there, in this mode, and the configuration that names it."""
        self.elsewhere.unlink(missing_ok=True)
        directory = self.guarded if "/run/secrets" in where else self.credentials
        path = self.elsewhere if where.startswith("beside") else directory / "shop"
        path.unlink(missing_ok=True)
        file = path
        if where.startswith("by a link"):
            file = self.elsewhere
            path.symlink_to(file)
        file.write_text(SECRET)
        file.chmod(mode)
        source = "{credential: shop}" if "credentials" in where else f"{{file: {path}}}"
        self.config.touch(0o600)
        self.config.write_text(
            f"hostname: gateway.test\ndata_dir: {self._data}\nkeys: {{shop: {{secret: {source}}}}}\n"
        )

    def said(self) -> tuple[int, str]:
        """(exit code, words) of `check`."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "-c", str(self.config), "check"],
            env={**os.environ, "PYTHONPATH": str(self._source), "CREDENTIALS_DIRECTORY": str(self.credentials)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("where", PLACES)
def test_who_may_read_a_secret_that_is_given(tmp_path: Path, where: str) -> None:
    checked = Checked(tmp_path)
    taken, refused = PLACES[where]
    for mode in (*taken, *refused):
        checked.place(where, mode)
        code, words = checked.said()
        assert (code == 0) is (mode in taken), f"{mode:o}: {words}"
        assert ("others can read it: chmod 640" in words) is (mode in refused), f"{mode:o}: {words}"
        assert SECRET not in words


def test_the_place_for_secrets_is_the_one_of_containers() -> None:
    assert GUARDED in (ROOT / "gateway" / "configfile" / "sources.py").read_text()


def test_a_daemon_does_not_start_with_secrets_in_the_open(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "gw", INBOX | {"keys": {"shop": {"secret": SECRET}}})
    daemon.config.chmod(0o644)
    with pytest.raises(RuntimeError, match=f"exit code {REFUSED}") as failure:
        daemon.start()
    assert f"{daemon.config} holds a secret and others can read it: chmod 640 {daemon.config}" in str(failure.value)
    assert not daemon.data.exists(), "nothing is made by a start that is refused"
    daemon.config.chmod(0o640)
    with daemon:
        assert http_send(daemon.http_port, message_json("you@example.net")).status == 201


def test_a_daemon_that_does_not_look_is_seen(tmp_path: Path) -> None:
    twin = broken_twin(tmp_path / "twin", "configfile/sources.py", "& 0o007", "& 0o000")
    daemon = Daemon(tmp_path / "gw", INBOX | {"keys": {"shop": {"secret": SECRET}}}, source=twin)
    daemon.config.chmod(0o644)
    with daemon:
        assert http_send(daemon.http_port, message_json("you@example.net")).status == 201


def test_a_daemon_does_not_start_with_a_master_key_in_the_open(tmp_path: Path) -> None:
    with Daemon(tmp_path / "gw", INBOX) as daemon:
        assert daemon.stop() == 0
        master = daemon.data / "master.key"
        master.chmod(0o640)
        with pytest.raises(RuntimeError, match="chmod 600 it"):
            daemon.start()
        master.chmod(0o600)
        daemon.start()


# What is made


def modes(directory: Path) -> Iterator[tuple[str, int]]:
    """The mode of a directory and of all in it, but for what a running daemon takes away meanwhile."""
    for path in (directory, *directory.rglob("*")):
        with suppress(FileNotFoundError):
            yield path.name, stat.S_IMODE(path.lstat().st_mode)


def work(daemon: Daemon) -> dict[str, int]:
    """What is open to others after what makes files: a key, a domain, mail, commands while it runs and after."""
    daemon.cli("key", "create", "more")
    daemon.cli("domain", "add", "example.com")
    assert http_send(daemon.http_port, message_json("you@example.net")).status == 201
    made = dict(modes(daemon.data))
    assert {"gateway.db", "gateway.db-wal", "gateway.db-shm", "master.key", "lock", "control.sock"} <= made.keys()
    assert daemon.stop() == 0
    _careless_cli(daemon, "key", "create", "other")
    found = [*made.items(), *modes(daemon.data)]
    return {name: mode for name, mode in found if mode & 0o077}


def _careless_cli(daemon: Daemon, *arguments: str) -> None:
    command = [*CARELESS, sys.executable, "-m", "gateway", "-c", str(daemon.config), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_no_file_of_the_daemon_is_open_to_others(tmp_path: Path) -> None:
    with Daemon(tmp_path / "gw", INBOX, prefix=CARELESS) as daemon:
        assert work(daemon) == {}


def test_nor_where_the_data_directory_was_made_in_the_open(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "gw", INBOX, prefix=CARELESS)
    daemon.data.mkdir()
    daemon.data.chmod(0o755)
    with daemon:
        assert work(daemon) == {"data": 0o755}


def test_a_first_command_without_a_daemon_makes_nothing_in_the_open(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "gw", INBOX)
    _careless_cli(daemon, "key", "create", "first")
    found = dict(modes(daemon.data))
    assert {"data", "gateway.db", "master.key", "lock"} <= found.keys()
    assert [name for name, mode in found.items() if mode & 0o077] == []


def test_the_key_of_a_trial_is_not_made_in_the_open(tmp_path: Path) -> None:
    data = tmp_path / "trial"
    command = [*CARELESS, sys.executable, "-m", "gateway", "dev", "--data-dir", str(data)]
    command += ["--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as trial:
        assert trial.stdout is not None
        try:
            assert any("Bearer" in line for line in trial.stdout)
            found = dict(modes(data))
        finally:
            trial.terminate()
    assert {"trial", "dev.key", "gateway.db", "control.sock"} <= found.keys()
    assert [name for name, mode in found.items() if mode & 0o077] == []


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("control.py", "os.umask(0o177)", "os.umask(0o111)", "control.sock"),
        ("app/datadir.py", "os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600", "os.O_RDWR | os.O_CREAT, 0o666", "lock"),
    ],
)
def test_a_file_in_the_open_is_seen(tmp_path: Path, file: str, old: str, new: str, what: str) -> None:
    twin = broken_twin(tmp_path / "twin", file, old, new)
    with Daemon(tmp_path / "gw", INBOX, prefix=CARELESS, source=twin) as daemon:
        assert what in work(daemon)
