"""What a daemon that runs for years must not do: keep something of every commit."""

import gc
import threading
import weakref
from pathlib import Path
from queue import SimpleQueue

from gateway.store import connection
from gateway.store.connection import Database
from gateway.store.db import Transaction

COMMITS = 500


def references() -> int:
    gc.collect()
    return sum(type(one) is weakref.ReferenceType for one in gc.get_objects())


def commit(database: Database, done: "SimpleQueue[Transaction | None]") -> None:
    """As the writer does: what a transaction was is handed to the loop, and the next one begins."""
    for number in range(COMMITS):
        database.begin()
        transaction = Transaction(database.cursor())
        transaction.cursor.execute("INSERT INTO t VALUES (?)", (number,))
        database.commit()
        done.put(transaction)
        del transaction
    done.put(None)


def test_nothing_is_kept_of_a_commit(tmp_path: Path) -> None:
    """The driver keeps a reference of every cursor that ends while its connection is busy in another thread."""
    database = connection.open_writer(tmp_path / "gateway.db")
    database.cursor().execute("CREATE TABLE t (x)")
    done: SimpleQueue[Transaction | None] = SimpleQueue()
    writer = threading.Thread(target=commit, args=(database, done))
    before = references()
    writer.start()
    while done.get() is not None:
        pass
    writer.join()
    assert references() - before < COMMITS / 10
    database.close()
