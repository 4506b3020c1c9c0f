"""Dropping what is past its time: orphaned pieces, content, messages, events, idempotency records, policies
of MTA-STS, free pages.

Guarantees: each step is small, so the writer is never held for long; nothing that is queued, or of which
something is to be told, is dropped, whatever its age. It does not decide when to run.
"""

from collections.abc import Sequence
from typing import Final

from gateway.config import Retention
from gateway.runtime import id_at
from gateway.store.db import Statements, Transaction
from gateway.store.idempotency import IDEMPOTENCY_MS
from gateway.store.names import Counter

ORPHAN_MS: Final = 3600 * 1000  # a piece without its message, since the last one came
TOLD_MS: Final = 60 * 1000  # content of which something is to be told is looked at again after this
STEP_MESSAGES: Final = 100
STEP_ROWS: Final = 500
FREE_PAGES: Final = 4096  # kept for reuse: 16 MB

_MS: Final = 1000


class Sweep:
    """Used in the writer's thread only. Each step answers, per call, whether there is more to do."""

    def __init__(self, sql: Statements, *, events: Counter, retention: Retention) -> None:
        self._sql = sql
        self._events = events
        self._retention = retention
        self._after = 0  # messages up to this id were looked at in this round
        self.steps = (
            self.orphans,
            self.contents,
            self.messages,
            self.old_events,
            self.idempotency,
            self.sts_policies,
            self.free_pages,
        )

    def reconfigure(self, retention: Retention) -> None:
        """For the rounds to come. May be called from another thread."""
        self._retention = retention

    def orphans(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._orphans(tx, now) for now in moments]

    def contents(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._contents(tx, now) for now in moments]

    def messages(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._messages(tx, now) for now in moments]

    def old_events(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._old_events(tx, now) for now in moments]

    def idempotency(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._idempotency(tx, now) for now in moments]

    def sts_policies(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._sts_policies(tx, now) for now in moments]

    def free_pages(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._free_pages(tx) for _ in moments]

    def _orphans(self, tx: Transaction, now: int) -> bool:
        rows = tx.all(self._sql["staging_old"], (now - ORPHAN_MS, STEP_MESSAGES))
        tx.cursor.executemany(self._sql["staging_delete"], [row[:1] for row in rows])
        # A message that was accepted all the same keeps its content.
        self._erase(tx, [row[:1] for row in rows if row[1] is None])
        return len(rows) == STEP_MESSAGES

    def _contents(self, tx: Transaction, now: int) -> bool:
        rows = tx.all(self._sql["erase_due"], (now, STEP_MESSAGES))
        self._erase(tx, [(message,) for _, message, told in rows if not told])
        tx.cursor.executemany(self._sql["erase_delete"], [row[:2] for row in rows])
        tx.cursor.executemany(self._sql["erase_add"], [(now + TOLD_MS, message) for _, message, told in rows if told])
        return len(rows) == STEP_MESSAGES

    def _messages(self, tx: Transaction, now: int) -> bool:
        horizon = now - int(self._retention.messages_s * _MS)
        # An id is as old as its message; what changed since is asked of the recipients.
        seen = tx.all(self._sql["messages_old"], (self._after, id_at(horizon), horizon, STEP_MESSAGES))
        rows = [(id_,) for id_, in_use in seen if not in_use]
        if rows:
            self._keep_event_number(tx)
        self._erase(tx, rows)
        for name in ("message_events_delete", "attempts_delete", "recipients_delete", "message_delete"):
            tx.cursor.executemany(self._sql[name], rows)
        more = len(seen) == STEP_MESSAGES
        self._after = seen[-1][0] if more else 0
        return more

    def _old_events(self, tx: Transaction, now: int) -> bool:
        horizon = now - int(self._retention.events_s * _MS)
        row = tx.one(self._sql["events_old"], (horizon, STEP_ROWS))
        if row is None or row[0] is None:
            return False
        self._keep_event_number(tx)
        tx.cursor.execute(self._sql["events_delete"], row[:1])
        return bool(row[1] == STEP_ROWS)

    def _idempotency(self, tx: Transaction, now: int) -> bool:
        rows = tx.all(self._sql["idempotency_old"], (now - IDEMPOTENCY_MS, STEP_ROWS))
        tx.cursor.executemany(self._sql["idempotency_delete"], rows)
        return len(rows) == STEP_ROWS

    def _sts_policies(self, tx: Transaction, now: int) -> bool:
        rows = tx.all(self._sql["sts_policies_old"], (now, STEP_MESSAGES))
        tx.cursor.executemany(self._sql["sts_policy_delete"], rows)
        return len(rows) == STEP_MESSAGES

    def _free_pages(self, tx: Transaction) -> bool:
        """Give a bounded number of free pages back to the file system."""
        row = tx.one(self._sql["freelist"])
        if row is None or row[0] <= FREE_PAGES:
            return False
        tx.all(self._sql["vacuum_step"])
        return True

    def _erase(self, tx: Transaction, messages: Sequence[Sequence[int]]) -> None:
        tx.cursor.executemany(self._sql["content_delete"], messages)
        tx.cursor.executemany(self._sql["pieces_delete"], messages)

    def _keep_event_number(self, tx: Transaction) -> None:
        # With the newest event gone, a restart would number from an older one: a reader's cursor would miss
        # events.
        tx.cursor.execute(self._sql["instance_raise"], ("event_seq", self._events.last))
