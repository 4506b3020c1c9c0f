"""Clients that cannot be installed beside the others, or must be built: made once a run, in a private directory.

Nothing else of the machine changes. What cannot be had fails the test where CI=true and skips it elsewhere.
"""

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.peers.process import missing, require

_TIMEOUT_S: Final = 180
# Where the machine has no lists of packages they are read too, into the same directory.
_UNPACK: Final = """
apt-get download -qq -o APT::Sandbox::User=root "$1" || {
  private="-qq -o Dir::State::Lists=$0 -o Dir::Cache=$0 -o APT::Sandbox::User=root"
  apt-get $private update && apt-get $private download "$1" || exit
}
dpkg -x ./*.deb .
"""


@functools.cache
def debian(package: str) -> Path:
    """The files of a Debian package that conflicts with the machine's mail server, below a directory."""
    require("apt-get")
    directory = _private()
    _run(["sh", "-c", _UNPACK, str(directory), package], directory, package)
    return directory


@functools.cache
def go(source: Path) -> Path:
    """The program that a Go file makes."""
    directory = _private()
    # Without cgo the pure Go resolver is used, and no C compiler is needed.
    _run(["env", "CGO_ENABLED=0", require("go"), "build", "-o", str(directory), str(source)], directory, source.name)
    return directory / source.stem


def _private() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="mail-gateway-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _run(command: list[str], directory: Path, what: str) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        missing(f"{what} cannot be had: {done.stderr[-500:]}")
