"""A SQLite database file: how it is opened, and what its errors mean.

The only user of apsw, which brings its own current SQLite. Guarantees: the file is readable by its owner
only; a commit returns after fsync. It does not keep a second process away: the lock on the data directory
does.
"""

import os
from enum import Enum
from pathlib import Path
from typing import Any, Final, cast

import apsw

from gateway.errors import StoreError, StoreFull
from gateway.store import seal
from gateway.store.db import Cursor

PAGE_BYTES: Final = 4096  # 8192 and 16384 were no faster for mails of 5 KB, and write more to the log
BUSY_MS: Final = 5_000  # a foreign process (a shell, a backup) may hold the lock for a moment
WRITER_CACHE_KIB: Final = 32 * 1024
READER_CACHE_KIB: Final = 2 * 1024

WRITER_PRAGMAS: Final = (
    f"page_size = {PAGE_BYTES}",
    "auto_vacuum = INCREMENTAL",  # before the first table, or never
    "journal_mode = WAL",
    "synchronous = FULL",  # NORMAL does not fsync at commit: a power cut loses acknowledged mail
    "wal_autocheckpoint = 0",  # the writer checkpoints in a pause, not in the middle of a commit
    "mmap_size = 0",  # an I/O error on a mapping is SIGBUS
    "foreign_keys = OFF",  # rows that belong together live and die in one transaction
    # What is removed from a page is zeroed in it. Pages that are freed whole keep their bytes until they are used
    # again or given back (by the sweep, or by an erasure): zeroing them too would be another write of the whole
    # content of every delivered message; the file is its owner's alone.
    "secure_delete = FAST",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    f"cache_size = -{WRITER_CACHE_KIB}",
)
READER_PRAGMAS: Final = (
    "query_only = ON",
    "mmap_size = 0",
    "trusted_schema = OFF",
    f"cache_size = -{READER_CACHE_KIB}",
)

_FSYNC_ERRORS: Final = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})
_READ_ERRORS: Final = frozenset(
    {apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA}
)
# The disk, or another process, is in the way of whatever is written now.
_AWAY: Final = (apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.BusyError)
_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)


class Unwritable(StoreError):
    """Nothing can be written at the moment, whatever it is: not acknowledged, and tried again."""


class Damaged(StoreError):
    """What is to be read is not what was written."""


class Trouble(Enum):
    """What a failed statement means for the writer."""

    JOB = "job"  # this transaction failed; the next one may succeed
    LOST = "lost"  # what is on disk is unknown from here on


class Database:
    """A connection. `wal_pages` is the length of the write-ahead log at the last commit that changed
    something."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self.wal_pages = 0
        connection.set_wal_hook(self._note_commit)  # after the pragmas: wal_autocheckpoint would replace it

    def cursor(self) -> Cursor:
        """The one that there is. One for each transaction would leave some bytes behind for ever: it would come to
        its end in the loop's thread while the connection is used in another."""
        return self._cursor

    def begin(self) -> None:
        # IMMEDIATE: a deferred transaction that turns into a writing one fails at once where a reader was
        # busy.
        self._cursor.execute("BEGIN IMMEDIATE")

    def used_bytes(self) -> int:
        """What is in use of the file."""
        pages, free = (self._connection.pragma(name) for name in ("page_count", "freelist_count"))
        return (int(pages) - int(free)) * PAGE_BYTES

    def commit(self) -> None:
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        self._cursor.close(True)  # it may have stopped in the middle
        self._cursor = self._connection.cursor()
        # After SQLITE_FULL and some I/O errors SQLite has rolled back by itself.
        if self._connection.in_transaction:
            self._cursor.execute("ROLLBACK")

    def checkpoint(self, *, truncate: bool = False) -> bool:
        """Copy the log into the file; True when all of it went. A reader that is busy may keep a part of it
        back."""
        if not truncate:
            frames, done = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return frames == done
        self._connection.set_busy_timeout(0)  # TRUNCATE would wait for readers, and every write with it
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return False
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
        return True

    def rewrite(self) -> None:
        """Write the whole file anew. Outside of a transaction; all of it is in memory for that time."""
        self._cursor.execute("VACUUM")

    def close(self, *, abandon: bool = False) -> None:
        """Close. `abandon` leaves the log as it is: after a failed fsync a checkpoint could not be
        believed."""
        if abandon:
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close(True)

    def _note_commit(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK


def open_writer(path: Path) -> Database:
    """Open for writing, making the file where there is none. Raises StoreError."""
    try:
        _make_private(path)
        connection = apsw.Connection(str(path))
        _prepare(connection, WRITER_PRAGMAS)
        if connection.pragma("journal_mode") != "wal":
            connection.close()
            raise StoreError("The database needs a local file system: this one has no shared memory.")
        database = Database(connection)
    except OSError as error:
        raise StoreError(f"The database {path} cannot be opened: {error.strerror}.") from error
    except apsw.Error as error:
        raise explain(error, path) from error
    return database


def open_reader(path: Path) -> Database:
    """Open a file that a writer has open, for reading only. Raises StoreError."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        _prepare(connection, READER_PRAGMAS)
    except apsw.Error as error:
        raise explain(error, path) from error
    return Database(connection)


def _prepare(connection: apsw.Connection, pragmas: tuple[str, ...]) -> None:
    connection.set_busy_timeout(BUSY_MS)
    # One plan for every value. Without it a SQLite with STAT4 plans a statement again whenever the value
    # that bounds a range changes: 15 µs for each row claimed.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.create_scalar_function(seal.FUNCTION, cast("Any", seal.of), -1, deterministic=True)
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def judge(error: BaseException) -> Trouble:
    """A failed fsync is never tried again: the kernel forgets the pages it could not write, and the next
    fsync says all is well."""
    lost = isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in _FSYNC_ERRORS
    return Trouble.LOST if lost else Trouble.JOB


def translate(error: Exception) -> Exception:
    """A driver's error as ours; any other is returned as it is."""
    if isinstance(error, apsw.FullError):
        return StoreFull("There is no room left to store this.")
    if isinstance(error, UnicodeDecodeError):
        return Damaged("The store failed: a text in it is none.")
    if not isinstance(error, apsw.Error):
        return error
    text = f"The store failed: {_named(error)}."
    if isinstance(error, _DAMAGED) or getattr(error, "extendedresult", 0) in _READ_ERRORS:
        return Damaged(text)
    return Unwritable(text) if isinstance(error, _AWAY) and judge(error) is not Trouble.LOST else StoreError(text)


def blames_rows(error: Exception) -> bool:
    """Whether what was asked for failed by what stands in those rows: no code of ours wrote it."""
    odd = (LookupError, TypeError, ValueError, apsw.ConstraintError)
    return isinstance(error, odd) or isinstance(translate(error), Damaged)


def explain(error: Exception, path: Path) -> Exception:
    """The same for whoever started us: which file it is, and what can be done. `error` may be ours already, with its
    cause."""
    if isinstance(error, StoreError) and isinstance(error.__cause__, apsw.Error | UnicodeDecodeError):
        error = error.__cause__
    translated = translate(error)
    match translated:
        case Damaged():
            text = f"The database {path} is damaged: {_named(error)}."
            return Damaged(f"{text} Move it aside and restore a backup (mail-gateway restore).")
        case StoreFull():
            return StoreFull(f"There is no room left where the database {path} is: free some, and start again.")
        case Unwritable():
            return Unwritable(f"The database {path} cannot be used: {_named(error)}.")
    return StoreError(f"The database {path} failed: {_named(error)}.") if isinstance(error, apsw.Error) else translated


def _named(error: Exception) -> str:
    """With SQLite's own name for it, which says most: SQLITE_IOERR_FSYNC."""
    if isinstance(error, UnicodeDecodeError):
        return "a text in it is none"
    code = getattr(error, "extendedresult", 0)
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code) or type(error).__name__
    return f"{name}: {error}" if str(error) else str(name)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_private(path: Path) -> None:
    # SQLite gives the log and the shared memory the mode of the file.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_mode & 0o077:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
