"""Ports and programs of this machine."""

import fcntl
import functools
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

_FIRST_PORT, _LAST_PORT = 20_000, 32_000  # below the ephemeral range: no outgoing connection can sit on them
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_given: set[int] = set()  # by free_port


def free_port() -> int:
    """A loopback TCP and UDP port nobody listens on; it is given to nobody else before this process ends, in other
    runs of the tests neither, so that it stays free until a daemon has started and while it is restarted."""
    for _ in range(1000):
        port = random.randrange(_FIRST_PORT, _LAST_PORT)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        if _takes(port):
            return port
    raise RuntimeError(f"no free port between {_FIRST_PORT} and {_LAST_PORT}")


def _takes(port: int) -> bool:
    """Whether neither this process nor another has it; from now on this one has."""
    if port in _given:
        return False
    try:
        fcntl.lockf(_register(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


@functools.cache
def _register() -> int:
    """An open file; who has port N has the lock of its octet N."""
    path = Path(tempfile.gettempdir(), f"mail-gateway-test-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def find(program: str) -> str | None:
    """The path of a program, those of the administrator included."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":" + _SYSTEM_PATH)


def require(program: str) -> str:
    """The path of a program a test needs: missing, the test fails where CI=true and is skipped elsewhere."""
    path = find(program)
    if path is None:
        missing(f"{program} is not installed")
    return path


def missing(why: str) -> NoReturn:
    """Something this machine lacks."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Poll a condition of another process; TimeoutError says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout_s:g} s: {what}")
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Whether somebody accepts on a loopback port."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> list[int]:
    """A process and all below it that are alive."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += descendants(int(child))
    return found


def cpu_s(pids: list[int], *, reaped: bool = False) -> float:
    """User and system seconds of processes with all their threads; `reaped` adds children they have
    waited for."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11 : 15 if reaped else 13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mb(pids: list[int]) -> float:
    """Resident memory of processes, in MB."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def python_for_all() -> str:
    """An interpreter of this version that others than root can use, too."""
    code = "import os, sys; os.setuid(12345); import importlib.readers; print(sys.version_info[:2])"
    for name in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run([name, "-c", code], capture_output=True, text=True, check=False, cwd="/", timeout=30)
        if done.stdout.strip() == str(sys.version_info[:2]):
            return name
    return missing("this interpreter is root's alone")
