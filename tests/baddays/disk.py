"""Small file systems of their own, and what makes them full. They need root; elsewhere the tests are skipped."""

import http.client
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.peers.process import missing, require

_BLOCK: Final = bytes(64 * 1024)
_LEAST: Final = 4096


@contextmanager
def tmpfs(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system in memory at `place`."""
    with _mounted(place, ["-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs"]):
        yield place


@contextmanager
def ext4(place: Path, megabytes: int, *, inodes: int) -> Iterator[Path]:
    """One with so many files at most, in a file beside `place`."""
    image = place.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    make = [require("mkfs.ext4"), "-q", "-F", "-N", str(inodes), "-m", "0", str(image)]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    with _mounted(place, ["-o", "loop,errors=remount-ro", str(image)]):
        yield place


def turn_read_only(place: Path) -> None:
    """As the kernel does with an ext4 file system in which it finds an error."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    (device,) = [device for device, mounted_at, *_ in mounts if mounted_at == str(place)]
    trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
    try:
        trigger.write_text("1")
    except OSError as error:
        missing(f"a file system cannot be made to fail here: {error}")


def mend(place: Path) -> None:
    """As an operator does: unmount, check, mount again.

    It is a copy that is checked: where another process has made a mount namespace of its own meanwhile, as any
    container does, the file system is mounted there still and its image is in use.
    """
    image, copy = place.with_suffix(".image"), place.with_suffix(".mended")
    subprocess.run([require("umount"), "-l", str(place)], check=True, capture_output=True, timeout=60)
    shutil.copyfile(image, copy)
    done = subprocess.run(
        [require("e2fsck"), "-fy", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr  # 1 is "corrected"
    command = [require("mount"), "-o", "loop,errors=remount-ro", str(copy), str(place)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with tempfile.TemporaryFile(dir=place):
        pass  # it can be written


@contextmanager
def _mounted(place: Path, how: list[str]) -> Iterator[None]:
    if os.geteuid() != 0:
        missing("only root can mount a file system")
    place.mkdir()
    done = subprocess.run([require("mount"), *how, str(place)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        missing(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([require("umount"), "-l", str(place)], check=False, capture_output=True, timeout=60)


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


class Hog:
    """Another program that writes to the same disk: `fill` leaves nothing, again and again; `go` gives it all back."""

    def __init__(self, place: Path) -> None:
        self._path = place / "hog"

    def fill(self, *, only_while: Callable[[], bool] = lambda: True) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for block in (_BLOCK, _BLOCK[:_LEAST]):
                with suppress(OSError):
                    while only_while():
                        os.write(descriptor, block)
        finally:
            os.close(descriptor)

    def go(self) -> None:
        self._path.unlink()


def is_ready(port: int) -> bool:
    """What /health/ready says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    finally:
        connection.close()
