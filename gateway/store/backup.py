"""Copies of a database that is in use: what is in one, and how it is made beside the writer.

Guarantees: a copy is one state of the database, that of the moment at which it began, so it holds whatever was
acknowledged before; it is compact and has nothing of erased mail in it; mail goes on while it is made. It does not wait
for the disk: whoever keeps a copy syncs it.

`VACUUM INTO` on a connection of its own rather than SQLite's backup interface: that begins anew whenever the writer has
written, so it never ends while mail flows, unless it holds one read transaction too, and then it is no faster and
copies the remains of erased mail. While either runs, checkpoints cannot empty the log: it grows by what is written
meanwhile.
"""

import asyncio
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from gateway.errors import StoreError, StoreFull
from gateway.store import connection, space

_BUSY_MS: Final = 5_000
_INTERRUPT_S: Final = 0.1
_CACHE_KIB: Final = 8 * 1024
_MB: Final = 1_000_000
_PLACES: Final = ("ready", "waiting", "leased", "held")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database holds, of whatever schema: messages with an open recipient, and those recipients."""

    schema: int
    size: int  # bytes of the file
    messages: int
    recipients: int


class Snapshots:
    """Makes copies of one database, one at a time."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._source: apsw.Connection | None = None  # made and closed in the copying thread
        self._closing = threading.Lock()  # a connection must not be closed while it is interrupted
        self._copying: asyncio.Future[Contents] | None = None
        self._closed = False

    async def take(self, target: Path, *, spare: int) -> Contents:
        """Copy to a file that is not there yet, readable by its owner only; `spare` bytes stay free on its disk.

        Raises StoreFull where there is no room for it, StoreError where it cannot be made; nothing is left then.
        """
        self._check_open()
        if self._copying is not None:
            raise StoreError("Another copy is being made.")
        loop = asyncio.get_running_loop()
        self._copying = loop.run_in_executor(None, self._copy, target, spare)
        self._copying.add_done_callback(self._done)
        # Who asked may go; what was begun is finished; the file is the caller's to find.
        return await asyncio.shield(self._copying)

    async def close(self) -> None:
        """Give up a copy that is being made."""
        self._closed = True
        while (copying := self._copying) is not None:
            with self._closing:
                if self._source is not None:
                    self._source.interrupt()
            # Again, for a statement that only now begins did not feel it.
            await asyncio.wait({copying}, timeout=_INTERRUPT_S)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("The store is closed.")

    def _done(self, copying: "asyncio.Future[Contents]") -> None:
        self._copying = None
        if not copying.cancelled():
            copying.exception()  # seen, where nobody waits any more

    def _copy(self, target: Path, spare: int) -> Contents:
        try:
            self._source = apsw.Connection(str(self._database), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                return self._write(self._source, target, spare)
            finally:
                source = self._source
                with self._closing:
                    self._source = None
                source.close(True)
        except apsw.InterruptError as error:
            raise StoreError("The copy was given up: the gateway stops.") from error
        except apsw.Error as error:
            raise connection.translate(error) from error
        except OSError as error:
            raise StoreError(f"{target} cannot be made: {error.strerror}.") from error

    def _write(self, source: apsw.Connection, target: Path, spare: int) -> Contents:
        source.set_busy_timeout(_BUSY_MS)
        source.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        _check_room(source, target, spare)
        # Empty files are taken: made here, nobody else can read it at any moment.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            self._check_open()
            source.execute("VACUUM INTO ?", (str(target),)).fetchall()
            return contents(target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def contents(database: Path) -> Contents:
    """What a database file holds that nobody writes to. Raises StoreError."""
    try:
        reader = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            schema = _pragma(reader, "user_version")
            # A schema of the future may have other tables: it is copied, but not counted.
            known = {name for (name,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            places = [name for name in _PLACES if name in known]
            recipients = sum(_count(reader, name) for name in places)
            messages = _count(reader, "expiry") if "expiry" in known else 0
        finally:
            reader.close(True)
        return Contents(schema, database.stat().st_size, messages, recipients)
    except apsw.Error as error:
        raise connection.translate(error) from error


def schema(database: Path) -> int:
    """The schema of a database file; nothing is written. Raises StoreError."""
    try:
        reader = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return _pragma(reader, "user_version")
        finally:
            reader.close(True)
    except apsw.Error as error:
        raise connection.translate(error) from error


def examine(database: Path) -> None:
    """Look at every page of a database file. Raises StoreError with what is wrong first."""
    try:
        reader = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            (said,) = reader.execute("PRAGMA integrity_check(1)").fetchall()[0]
        finally:
            reader.close(True)
    except apsw.Error as error:
        raise connection.translate(error) from error
    if said != "ok":
        raise StoreError(f"The database is damaged: {said}")


def _count(reader: apsw.Connection, table: str) -> int:
    return _number(reader, f"SELECT count(*) FROM {table}")  # noqa: S608 - one of our own tables


def _pragma(reader: apsw.Connection, name: str) -> int:
    return _number(reader, f"PRAGMA {name}")


def _number(reader: apsw.Connection, sql: str) -> int:
    number: Any = reader.execute(sql).get
    return int(number)


def _check_room(source: apsw.Connection, target: Path, spare: int) -> None:
    used = _pragma(source, "page_count") - _pragma(source, "freelist_count")
    wanted = used * _pragma(source, "page_size")
    free = space.look(target.parent).free_bytes
    if free < wanted + spare:
        raise StoreFull(
            f"A copy needs {wanted // _MB} MB in {target.parent} for a while, and {spare // _MB} MB must stay free "
            f"there (limits.free_disk): there are {free // _MB} MB."
        )
