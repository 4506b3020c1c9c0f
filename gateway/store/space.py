"""Whether there is room for more mail: on the disk, in its table of files, in the queue's own bounds.

Guarantees: the answer costs nothing; it is looked up once a second, and after so many bytes that half of what is left
could be gone. Room that ran out must come back with some to spare before mail is taken again. The log tells when it
begins and when it ends, with figures, and when no file can be opened. The ballast is held while there is plenty. What
is queued already is not its business.
"""

import asyncio
import dataclasses
import errno
import logging
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config import Limits
from gateway.store.ballast import Ballast, size_for
from gateway.store.shown import Backlog

LOOK_S: Final = 1.0
SPARE: Final = 10  # of a bound, one part in so many more (less) ends a shortage
START_BYTES: Final = 256 * 1024  # the log of an opening, its index in shared memory, and some
INODES: Final = 16  # files that a start makes, and some
SMALL: Final = 4  # a file system of less than so many times `free_disk` is small
SMALL_PART: Final = 20  # there one part in so many is left free
# A byte of mail is written to the log first, and copied into the file later.
WRITTEN: Final = 2

log = logging.getLogger("gateway.store")


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system: bytes, and files (`inodes` is 0 where it does not count them)."""

    bytes: int
    free_bytes: int
    inodes: int
    free_inodes: int


def look(directory: Path) -> Disk:
    """What an unprivileged user finds there. Raises OSError."""
    found = os.statvfs(directory)
    return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail)


def is_full(directory: Path) -> bool:
    """Whether not even what a start writes fits there."""
    try:
        disk = look(directory)
    except OSError:
        return False
    return disk.free_bytes < START_BYTES or (disk.inodes > 0 and disk.free_inodes == 0)


def bound(free_disk: int, size: int) -> int:
    """How much stays free on a file system of that size: what is configured, but of a small one a part."""
    return free_disk if size >= SMALL * free_disk else size // SMALL_PART


class Space:
    """`shortage` says what there is no room in, "" where there is some. `owed`: bytes that are free and spoken for."""

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        backlog: Callable[[], Backlog],
        owed: Callable[[], int] = lambda: 0,
        *,
        ballast: Ballast | None = None,
        statvfs: Callable[[Path], Disk] = look,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._backlog = backlog
        self._owed = owed
        self._look = statvfs
        self._ballast = ballast or Ballast(directory)
        self._unseen = 0  # bytes that may be taken before the next look
        self._left = 0  # bytes that could be written before a shortage begins
        self._smaller_told = False
        self._exhausted = False  # no file can be opened
        self.shortage = ""

    def reconfigure(self, limits: Limits) -> None:
        """From the next look on."""
        self._limits = limits

    def take(self, count: int) -> str:
        """So many bytes of mail are about to be written: why they cannot be, "" where they can."""
        if count >= self._unseen or self._backlog().messages >= self._limits.backlog_messages:
            self.look()
            if not self.shortage and self._limits.free_disk and count * WRITTEN > self._left:
                return f"{_mb(count)} do not fit"
        self._unseen -= count
        return self.shortage

    def look(self) -> None:
        """See how things are now; tells what has changed."""
        try:
            disk = self._seen()
        except OSError as error:
            self._tell(f"the data directory cannot be looked at: {error.strerror}", "")
            self._unseen = 0
            return
        backlog = self._backlog()
        found = self._found(disk, backlog)
        self._tell(found, f"{_mb(disk.free_bytes)} and {disk.free_inodes} files free, {backlog.messages} queued")
        self._left = max(disk.free_bytes - bound(self._limits.free_disk, disk.bytes), 0)
        self._unseen = self._left // (2 * WRITTEN)

    async def follow(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            self._tell_files()
            if not self.shortage and not self._ballast.is_held:
                await asyncio.to_thread(self._hold)
            await asyncio.sleep(LOOK_S)

    def _seen(self) -> Disk:
        """The disk, less what is spoken for. Raises OSError."""
        disk = self._look(self._directory)
        return dataclasses.replace(disk, free_bytes=max(disk.free_bytes - self._owed(), 0))

    def _hold(self) -> None:
        """Where it leaves as much as would end a shortage."""
        try:
            disk = self._seen()
        except OSError:
            return
        size = size_for(disk.bytes)
        if disk.free_bytes - size > _more(bound(self._limits.free_disk, disk.bytes)):
            self._ballast.hold(size)

    def _tell_files(self) -> None:
        """Whether this process may open one more file: without it no client is let in and no host connected to."""
        exhausted = False
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            exhausted = error.errno in {errno.EMFILE, errno.ENFILE}
        if exhausted and not self._exhausted:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            log.error("no more files can be opened, the limit is %d: clients wait, deliveries fail for now", limit)
        elif self._exhausted and not exhausted:
            log.warning("files can be opened again")
        self._exhausted = exhausted

    def _found(self, disk: Disk, backlog: Backlog) -> str:
        """The shortage in words, with figures; one that is on asks for more than its bound."""
        limits = self._limits
        wanted = bound(limits.free_disk, disk.bytes)
        if wanted < limits.free_disk and not self._smaller_told:
            self._smaller_told = True
            text = "limits.free_disk is %s, and the whole file system of the data has %s: %s stay free there instead"
            log.warning(text, _mb(limits.free_disk), _mb(disk.bytes), _mb(wanted))
        ending = bool(self.shortage)
        if disk.free_bytes < (_more(wanted) if ending else wanted):
            return f"{_mb(disk.free_bytes)} are free where the data is, {_mb(wanted)} stay free (limits.free_disk)"
        if disk.inodes and disk.free_inodes < (_more(INODES) if ending else INODES):
            return f"{disk.free_inodes} more files can be made where the data is, {INODES} are left"
        if backlog.messages >= (_less(limits.backlog_messages) if ending else limits.backlog_messages):
            return f"{backlog.messages} messages are queued, {limits.backlog_messages} may be (limits.backlog.messages)"
        if backlog.bytes >= (_less(limits.backlog_bytes) if ending else limits.backlog_bytes):
            used, most = _mb(backlog.bytes), _mb(limits.backlog_bytes)
            return f"the database has {used} in use, {most} may be (limits.backlog.bytes)"
        return ""

    def _tell(self, found: str, figures: str) -> None:
        if found and not self.shortage:
            log.error("no mail is taken: %s", found)
        elif self.shortage and not found:
            log.warning("mail is taken again: %s", figures)
        self.shortage = found


def _more(count: int) -> int:
    return count + count // SPARE


def _less(count: int) -> int:
    return count - count // SPARE


def _mb(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB"
