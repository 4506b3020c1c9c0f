"""How much is queued, kept beside the writer: messages with an open recipient, and the bytes in use in the database.

Guarantees: the number of messages is that of the last commit, whoever made or ended one: triggers of this connection
count in its memory, inside the transactions, so a rollback is counted back. The bytes are looked up once a second at
most.
"""

import time
from typing import Final

from gateway.store import db
from gateway.store.connection import Database
from gateway.store.shown import Backlog

LOOK_S: Final = 1.0


class Tally:
    """Used in the writer's thread only; begun once the schema is there. What is queued then is counted, by an index."""

    def __init__(self, database: Database) -> None:
        sql = db.load("tally")
        self._database = database
        self._get = sql["tally_get"]
        for name in ("tally_table", "tally_count", "tally_more", "tally_less"):
            database.cursor().execute(sql[name]).fetchall()
        self._bytes = database.used_bytes()
        self._looked_at = time.monotonic()

    def measure(self) -> Backlog:
        """As it stands in the transaction that is open."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._bytes = self._database.used_bytes()
        ((messages,),) = self._database.cursor().execute(self._get).fetchall()
        return Backlog(messages, self._bytes)
