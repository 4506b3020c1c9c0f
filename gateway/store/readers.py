"""Reading beside the writer: a few connections, each for one short transaction at a time.

Guarantees: what a call reads is one state of the database, and no transaction stays open between calls (an
open reader keeps every checkpoint from finishing).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from gateway.errors import StoreError
from gateway.store import connection
from gateway.store.connection import Database
from gateway.store.db import Cursor

READERS: Final = 2

Result = TypeVar("Result")


class Readers:
    """Owns the reading connections and their threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: SimpleQueue[Database] = SimpleQueue()
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    def open(self) -> None:
        """Open the connections; blocks. Raises StoreError."""
        for _ in range(READERS):
            self._idle.put(connection.open_reader(self._path))

    async def read(self, question: Callable[[Cursor], Result]) -> Result:
        """The answer of a function that reads, called in a thread. Raises StoreError, or what the function
        raised."""
        if self._pool is None:
            raise StoreError("The store is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, question)

    async def close(self) -> None:
        """Wait for the answers on their way, then close."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
            while not self._idle.empty():
                self._idle.get().close()

    def _ask(self, question: Callable[[Cursor], Result]) -> Result:
        database = self._idle.get()  # there are as many connections as threads
        try:
            cursor = database.cursor()
            cursor.execute("BEGIN").fetchall()
            answer = question(cursor)
        except Exception as error:  # noqa: BLE001 - raised again, as ours
            translated = connection.translate(error)
            raise translated from (None if translated is error else error)
        else:
            return answer
        finally:
            try:
                database.rollback()
            finally:
                self._idle.put(database)
