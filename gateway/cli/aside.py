"""A database and its key in place of those that were there, which are kept beside.

Guarantees: nothing is deleted, and at every moment, a cut of the power included, the old database is in its place with
its log and its key, or the new one with its own, or none at all; all that was there has a second name beside before the
first of it goes. Whoever calls holds the data directory for itself.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.store import connection

_WITH_IT: Final = ("", "-wal", "-shm", "-journal")  # a database of SQLite, and what belongs to it


def old(database: Path, key: Path) -> list[Path]:
    """What is there, the database first."""
    return [path for path in (*_files(database), key) if path.exists()]


def keep(database: Path, key: Path, staging: Path) -> Path:
    """Give what is there a second name, in a directory beside the database; it gets its name when it has all of it.
    `staging` is where that is made, on the same disk. Raises OSError."""
    draft = staging / "aside"
    draft.mkdir(mode=0o700)
    for path in _files(database):
        if path.exists():
            os.link(path, draft / path.name, follow_symlinks=False)
    if key.exists():
        _write(draft / key.name, key.read_bytes())  # which may be of another disk
    connection.sync_directory(draft)
    aside = database.with_name(f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    draft.rename(aside)
    connection.sync_directory(aside.parent)
    return aside


def replace(database: Path, key: Path, *, new: Path, new_key: bytes) -> None:
    """Put a database (a file on the same disk, synced) and its key in place. Raises OSError."""
    for path in _files(database):
        # A database without its log lacks what was last acknowledged, and with another's log it is damaged.
        path.unlink(missing_ok=True)
        connection.sync_directory(path.parent)
    draft = key.with_name(f".{key.name}.part")
    draft.unlink(missing_ok=True)  # of a restore that was killed
    _write(draft, new_key)
    draft.rename(key)
    connection.sync_directory(key.parent)
    new.rename(database)
    connection.sync_directory(database.parent)


def _files(database: Path) -> list[Path]:
    """The database first: it is the first to go."""
    return [database.with_name(f"{database.name}{end}") for end in _WITH_IT]


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
