"""What was accepted before under a client's own name for a message: to answer it again as it was answered then.

Guarantees: a short read. Whether a message is the same is said by the writer alone (idempotency.py).
"""

from functools import partial

from gateway.config import CAPTURED
from gateway.runtime import Clock
from gateway.store.db import Cursor, Statements
from gateway.store.idempotency import IDEMPOTENCY_MS
from gateway.store.newmail import IdempotencyKey
from gateway.store.readers import Readers


class Earlier:
    """Raises StoreError."""

    def __init__(self, readers: Readers, sql: Statements, clock: Clock) -> None:
        self._readers = readers
        self._sql = sql
        self._clock = clock

    async def is_named(self, key: IdempotencyKey) -> bool:
        """Whether a message or a request was accepted under this name."""
        values = (key.account, key.text, self._clock.now_ms() - IDEMPOTENCY_MS)
        rows = await self._readers.read(lambda cursor: cursor.execute(self._sql["idempotency_find"], values).fetchall())
        return bool(rows)

    async def beginning(self, uuid: bytes) -> str:
        """`held` or `captured` where a message was so from the start because of its key; else ""."""
        return await self._readers.read(partial(self._beginning, uuid=uuid))

    def _beginning(self, cursor: Cursor, uuid: bytes) -> str:
        held = cursor.execute(self._sql["message_began_held"], (uuid,)).fetchall()
        if held:
            return "held"
        captured = cursor.execute(self._sql["message_captured"], (uuid, CAPTURED)).fetchall()
        return "captured" if captured and captured[0][0] else ""
