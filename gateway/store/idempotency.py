"""Clients' own names for what they ask: a message, or a whole request, is accepted once under a name.

Guarantees: a name belongs to an account for 24 h, and to one kind: a request that meets the name of a message, or a
message that of a request, is a conflict. It stores no message; its records are in the transaction of those that do.
"""

from typing import Final, NamedTuple

from gateway.runtime import Clock
from gateway.store.db import Row, Statements, Transaction
from gateway.store.newmail import Accepted, Conflict, IdempotencyKey, Replayed, RequestKey

IDEMPOTENCY_MS: Final = 24 * 3600 * 1000

_SINGLE: Final = ""  # the answer in the record of a single message
_NO_MESSAGE: Final = bytes(16)  # stands in the record of a request that stored none


class _Known(NamedTuple):
    """What was accepted under a name."""

    hash: bytes
    uuid: bytes
    answer: str


class Register:
    """The names that one group of the writer looks up, and those that it adds."""

    def __init__(self, tx: Transaction, sql: Statements, clock: Clock) -> None:
        self._tx = tx
        self._sql = sql
        self._clock = clock
        self._new: dict[tuple[str, str], _Known] = {}

    def message(self, key: IdempotencyKey, uuid: bytes) -> Accepted | Conflict | None:
        """What became of the first message of this name; None where this one is the first, and is now entered."""
        earlier = self._find(key.account, key.text)
        if earlier is None:
            self._new[key.account, key.text] = _Known(key.hash, uuid, _SINGLE)
            return None
        same = earlier.answer == _SINGLE and earlier.hash == key.hash
        return Accepted(earlier.uuid, replayed=True) if same else Conflict()

    def request(self, key: RequestKey, uuid: bytes | None) -> Replayed | Conflict | None:
        """The same of a request; `uuid` is that of its first message."""
        earlier = self._find(key.account, key.text)
        if earlier is None:
            self._new[key.account, key.text] = _Known(key.hash, uuid or _NO_MESSAGE, key.answer)
            return None
        same = earlier.answer != _SINGLE and earlier.hash == key.hash
        return Replayed(earlier.answer) if same else Conflict()

    def write(self) -> None:
        if self._new:
            now = self._clock.now_ms()
            rows: list[Row] = [(*name, one.hash, one.uuid, now, one.answer) for name, one in self._new.items()]
            self._tx.cursor.executemany(self._sql["idempotency_put"], rows)

    def _find(self, account: str, text: str) -> _Known | None:
        found = self._new.get((account, text))
        if found is not None:
            return found
        row = self._tx.one(self._sql["idempotency_find"], (account, text, self._clock.now_ms() - IDEMPOTENCY_MS))
        return _Known(*row) if row is not None else None
