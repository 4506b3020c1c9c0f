"""A file that holds room on the disk for the day when there is none.

Guarantees: what is held is allocated, not promised; given up, it is gone in one step and its room is free. It is made
where there is plenty only, and never keeps anybody from starting. A file system that copies on write may have no room
to free some: there it helps less.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

BYTES: Final = 32 * 1024 * 1024  # the log of what some thousand deliveries came to, and its copying
PART: Final = 20  # of a small file system, one part in so many
NAME: Final = "ballast"

log = logging.getLogger("gateway.store")


class Ballast:
    """The file `ballast` in `directory`. May be used from any thread."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME

    @property
    def is_held(self) -> bool:
        return self.path.exists()

    def hold(self, size: int) -> bool:
        """Allocate it; blocks for as long as that takes. False where it cannot be, and then nothing is left of it."""
        draft = self.path.with_suffix(".new")  # one that a crash cut short is not taken for the whole
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(descriptor, 0, size)
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)
        return True

    def give_up(self) -> bool:
        """Free its room; whether there was any. Raises nothing: it is called when all else fails."""
        try:
            self.path.unlink()
        except OSError:
            return False
        log.error("the disk is full: the ballast is given up, so that what is delivered can be written down")
        with contextlib.suppress(OSError):  # some file systems free what is gone when their journal is written
            handle = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return True


def size_for(file_system_bytes: int) -> int:
    """How much to hold."""
    return min(BYTES, file_system_bytes // PART)
