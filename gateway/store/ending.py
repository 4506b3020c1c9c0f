"""What happens to a message when its recipients become final: when it is done, and when its content is
erased.

Guarantees: content goes in the transaction of the last result where nothing is to be kept, else at a stated time, and
not before its submitter was told what is to be told. The usual message, with one recipient, costs no question to the
database, but where keys have terms of their own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.events import State
from gateway.store.db import Statements, Transaction
from gateway.store.keeping import Keeping
from gateway.store.reports import Noted


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A recipient that became final just now; `recipients` and `pieces` are counts of its message. `told`: that is to
    be told to its submitter."""

    message: int
    recipients: int
    pieces: int
    expires_at: int
    delivered: bool
    told: bool = False


class Undelivered(NamedTuple):
    """A recipient that became final without a delivery; `tell` is what may have to be told of it (reports.py),
    `recipients` and `pieces` are counts of its message."""

    message: int
    recipient: int
    tell: int
    recipients: int
    pieces: int
    expires_at: int


class _Done(NamedTuple):
    """A message that has no open recipient left: one of those that ended last, whether all were delivered, and whether
    something is to be told of it."""

    last: Ended
    delivered: bool
    told: bool


class Endings:
    """Used in the writer's thread only. What is in `keeping` holds for messages that end from then on."""

    def __init__(self, sql: Statements, keeping: Keeping) -> None:
        self._sql = sql
        self._keeping = keeping

    def fail(self, tx: Transaction, some: Sequence[Undelivered], state: State, now: int) -> None:
        """`end`, with what is to be told of it."""
        noted, ended = Noted(), []
        for message, recipient, tell, recipients, pieces, expires_at in some:
            told = tell != 0 and noted.end(message, recipient, tell, state, now)
            ended.append(Ended(message, recipients, pieces, expires_at, delivered=False, told=told))
        noted.write(tx, self._sql)
        self.end(tx, ended, now)

    def end(self, tx: Transaction, ended: Sequence[Ended], now: int) -> None:
        """Note recipients that became final; each is named once in its life."""
        done = [_Done(one, one.delivered, one.told) for one in ended if one.recipients == 1]
        if len(done) < len(ended):
            done += self._last_of_several(tx, [one for one in ended if one.recipients > 1])
        general = self._keeping.general
        own = self._keeping.of_messages(tx, [one.message for one, *_ in done]) if self._keeping.has_own else {}
        erase: list[tuple[int]] = []
        erase_pieces: list[tuple[int]] = []
        later: list[tuple[int, int]] = []
        for one, delivered, told in done:
            terms = own.get(one.message, general)
            keep_ms = terms.delivered if delivered else terms.failed
            if keep_ms > 0 or told:  # what is to be told quotes the header: the sweep waits for it
                later.append((now + keep_ms, one.message))
                continue
            erase.append((one.message,))
            if one.pieces > 1:
                erase_pieces.append((one.message,))
        many = tx.cursor.executemany
        many(self._sql["expiry_delete"], [(one.expires_at, one.message) for one, *_ in done])
        many(self._sql["content_delete"], erase)
        if erase_pieces:
            many(self._sql["pieces_delete"], erase_pieces)
        if later:
            many(self._sql["erase_add"], later)

    def _last_of_several(self, tx: Transaction, ended: Sequence[Ended]) -> list[_Done]:
        """Of messages with several recipients: those that have no open one left."""
        by_message: dict[int, list[Ended]] = {}
        for one in ended:
            by_message.setdefault(one.message, []).append(one)
        done: list[_Done] = []
        for message, some in by_message.items():
            undelivered = sum(not one.delivered for one in some)
            row = tx.one(self._sql["pending_end"], (message, len(some), undelivered))
            if row is not None and row[0] == 0:
                tx.cursor.execute(self._sql["pending_delete"], (message,))
                done.append(_Done(some[0], row[1] == 0, bool(row[2])))
        return done
