"""Mail servers that cannot be installed beside each other: Debian's packages, unpacked and run where they lie.

The packages are fetched once and kept in `~/.cache/mail-gateway-tests` (or where MAIL_GATEWAY_TEST_CACHE says). A
server runs in a mount namespace of its own, in which it finds its users, directories and libraries; the machine's own
are untouched. That needs root. What cannot be had fails the test where CI=true and skips it elsewhere.
"""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from tests.peers import process
from tests.peers.process import missing, require

_ROOT: Final = Path(__file__).resolve().parents[2]
_UIDS: Final = 61_000  # of the users that a server wants; nobody else has them
_TIMEOUT_S: Final = 180
_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"


@functools.cache
def tree(*packages: str, suite: str = "bookworm") -> Path:
    """The files of some packages of one Debian release, below one directory."""
    if os.geteuid() != 0:
        missing(f"a private {packages[0]} needs root")
    cache = Path(os.environ.get("MAIL_GATEWAY_TEST_CACHE") or Path.home() / ".cache/mail-gateway-tests")
    kept = cache / f"{suite}-{packages[0]}-{zlib.crc32(' '.join(packages).encode()):08x}"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".fresh-", dir=cache))
        try:
            _fetch(fresh, packages, suite)
            (fresh / "tree").chmod(0o755)  # a server changes its user
            with contextlib.suppress(OSError):  # another run was faster
                (fresh / "tree").rename(kept)
        finally:
            shutil.rmtree(fresh)
    return kept


def _fetch(directory: Path, packages: Sequence[str], suite: str) -> None:
    """Lists and packages come from the mirror that the machine has, into `directory`; its own lists are not touched."""
    apt = require("apt-get")
    targets = _run([apt, "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"], directory)
    mirrors = [line.split()[0] for line in targets.splitlines() if re.search(r"/debian/? [a-z]+$", line)]
    if not mirrors:
        missing("this machine has no Debian mirror")
    (directory / "lists/partial").mkdir(parents=True)
    (directory / "sources.list").write_text(f"deb [signed-by={_KEYS}] {mirrors[0]} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": directory / "lists",
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
    }
    private = [apt, "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*private, "update"], directory)
    _run([*private, "download", *packages], directory)
    for archive in directory.glob("*.deb"):
        _run(["dpkg", "-x", str(archive), str(directory / "tree")], directory)


def _run(command: Sequence[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        missing(f"{' '.join(command)}: {done.stderr[-500:]}")
    return done.stdout


class Server:
    """A process in the foreground, in a mount namespace where `binds` (source to target, which exists) are mounted
    and `users` are known. A package's C library takes the place of the machine's."""

    def __init__(self, root: Path, *, users: Sequence[str], log: Path) -> None:
        self._root = root
        self._log = log
        self._file: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.uids = {user: _UIDS + number for number, user in enumerate(users)}

    def start(self, directory: Path, command: Sequence[str], binds: Mapping[Path, str]) -> None:
        """`directory` is for the lists of users and groups."""
        lines = {"passwd": "{0}:x:{1}:{1}::/nonexistent:/bin/sh\n", "group": "{0}:x:{1}:\n"}
        binds = dict(binds)
        for name, line in lines.items():
            known = Path("/etc", name).read_text()
            (directory / name).write_text(known + "".join(line.format(*user) for user in self.uids.items()))
            binds[directory / name] = f"/etc/{name}"
        binds |= _own_libraries(self._root)
        mounts = [str(part) for bind in binds.items() for part in bind]
        libraries = ":".join(str(self._root / name) for name in (_LIBRARIES, _LIBRARIES.removeprefix("usr/")))
        self._file = self._log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.peers.mounted", libraries, *mounts, "--", *command],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
        )

    def stop(self) -> None:
        """It and all its processes."""
        if self._process is not None and self._process.poll() is None:
            pids = process.descendants(self._process.pid)
            _signal(pids, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            _signal(pids, signal.SIGKILL)
            self._process.wait()
        if self._file is not None:
            self._file.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None


def _own_libraries(root: Path) -> dict[Path, str]:
    """A newer C library than the machine's must be found by everything that the server starts."""
    machine = Path("/")
    names = [_LOADER, *(str(path.relative_to(root)) for path in (root / _LIBRARIES).glob("*.so*"))]
    has_own = (root / _LOADER).exists()
    return {root / name: str((machine / name).resolve()) for name in names if has_own and (machine / name).exists()}


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
