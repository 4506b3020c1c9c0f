"""Opening the database: its connections, and the numbers from which the new opening counts on.

Guarantees: the schema is up to date, and the file is durable in its directory, before anything is written; what fails
leaves nothing open and is told with the file's name; on a full disk it is tried again where room could be made. It
blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import StoreError, StoreFull
from gateway.store import connection, db, space
from gateway.store.backlog import Tally
from gateway.store.connection import Database, Unwritable
from gateway.store.db import Statements, Transaction
from gateway.store.readers import Readers


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened database: its connections, how often it was opened, and the highest numbers in use."""

    writer: Database
    tally: Tally
    readers: Readers
    epoch: int
    last_id: int
    last_event: int


def open_files(path: Path, sql: Statements, make_room: Callable[[], bool]) -> Opened:
    """Make or migrate it. Raises StoreError."""
    try:
        return _open(path, sql)
    except StoreError as error:
        # A full disk has many names where a file is made or mapped; a lock and a read-only disk have the same ones.
        full = isinstance(error, StoreFull) or (isinstance(error, Unwritable) and space.is_full(path.parent))
        if not full or not make_room():
            raise
    return _open(path, sql)


def _open(path: Path, sql: Statements) -> Opened:
    writer = connection.open_writer(path)
    try:
        db.migrate(writer.cursor(), db.migrations())
        tx = Transaction(writer.cursor())
        epoch = tx.one(sql["epoch_next"])
        last_id = _greatest(tx.one(sql["instance_get"], ("id_limit",)), tx.one(sql["message_last"]))
        last_event = _greatest(tx.one(sql["instance_get"], ("event_seq",)), tx.one(sql["event_last"]))
        # The file and its log exist by now; SQLite syncs the directory for the log, not for the file itself.
        connection.sync_directory(path.parent)
        tally = Tally(writer)
        readers = Readers(path)
        readers.open()
    except Exception as error:  # noqa: BLE001 - raised again, as ours
        writer.close(abandon=True)  # a checkpoint may fail for the same reason
        translated = connection.explain(error, path)
        raise translated from (None if translated is error else error)
    return Opened(writer, tally, readers, _greatest(epoch), last_id, last_event)


def _greatest(*rows: db.Row | None) -> int:
    return max(row[0] if row is not None and row[0] is not None else 0 for row in rows)
