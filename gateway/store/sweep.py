"""Dropping what is past its time: orphaned pieces, content, messages, events, idempotency records, policies
of MTA-STS, free pages.

Guarantees: each step is small, so the writer is never held for long; nothing that is queued, or of which
something is to be told, is dropped, whatever its age. It does not decide when to run.

A message goes by the terms of its key, with all that is its own: at the next sweep, or, where it was open until lately,
at the next walk (walk.py). Events go by the longest term that there is, from the oldest on; those of keys with a
shorter one at the latest a day after their time, message by message.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.runtime import id_at
from gateway.store.db import Row, Statements, Transaction
from gateway.store.idempotency import IDEMPOTENCY_MS
from gateway.store.keeping import Keeping, Terms
from gateway.store.names import Counter, Names
from gateway.store.walk import Walk

ORPHAN_MS: Final = 3600 * 1000  # a piece without its message, since the last one came
TOLD_MS: Final = 60 * 1000  # content that is needed, to be told of or to be sent, is looked at again after this
STEP_MESSAGES: Final = 100
STEP_ROWS: Final = 500
FREE_PAGES: Final = 4096  # kept for reuse: 16 MB
# What is a message's own, besides its content and its row.
OF_MESSAGE: Final = ("message_events_delete", "attempts_delete", "engagement_delete", "recipients_delete")

Step = Callable[[Transaction, Sequence[int]], Sequence[bool]]


class Sweep:
    """Used in the writer's thread only. Each step answers, per call, whether there is more to do."""

    def __init__(self, sql: Statements, names: Names, *, events: Counter, keeping: Keeping) -> None:
        self._sql = sql
        self._names = names
        self._events = events
        self._keeping = keeping
        self._version = -1  # of `keeping`, by which the walks began
        self._walks: dict[tuple[str, int], Walk] = {}
        self.steps: tuple[Step, ...] = (
            self.orphans,
            self.contents,
            self.messages,
            self.old_events,
            self.events_of_keys,
            self.idempotency,
            self.sts_policies,
            self.free_pages,
        )

    def orphans(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._orphans(tx, now) for now in moments]

    def contents(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._contents(tx, now) for now in moments]

    def messages(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._messages(tx, now) for now in moments]

    def old_events(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._old_events(tx, now) for now in moments]

    def events_of_keys(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        return [self._events_of_keys(tx, now) for now in moments]

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
        self._erase(tx, [(message,) for _, message, needed in rows if not needed])
        tx.cursor.executemany(self._sql["erase_delete"], [row[:2] for row in rows])
        later = [(now + TOLD_MS, message) for _, message, needed in rows if needed]
        tx.cursor.executemany(self._sql["erase_add"], later)
        return len(rows) == STEP_MESSAGES

    def _messages(self, tx: Transaction, now: int) -> bool:
        """A step of each walk: one for each time that messages are kept."""
        return any(self._walk_messages(tx, now, kept_ms) for kept_ms in {terms.messages for terms in self._terms()})

    def _walk_messages(self, tx: Transaction, now: int, kept_ms: int) -> bool:
        walk, horizon = self._walks.setdefault(("messages", kept_ms), Walk()), now - kept_ms
        # An id is as old as its message; what changed since is asked of the recipients.
        seen = tx.all(self._sql["messages_old"], (walk.begin(now), id_at(horizon), horizon, STEP_MESSAGES))
        rows = [row[:1] for row in seen if not row[1] and self._of_key(tx, row[2]).messages == kept_ms]
        if rows:
            self._keep_event_number(tx)
        self._erase(tx, rows)
        for name in (*OF_MESSAGE, "message_delete"):
            tx.cursor.executemany(self._sql[name], rows)
        return _went(walk, seen, len(seen) - len(rows), now)

    def _old_events(self, tx: Transaction, now: int) -> bool:
        horizon = now - max(terms.events for terms in self._terms())
        row = tx.one(self._sql["events_old"], (horizon, STEP_ROWS))
        if row is None or row[0] is None:
            return False
        self._keep_event_number(tx)
        tx.cursor.execute(self._sql["events_delete"], (row[0], horizon))
        return bool(row[1] == STEP_ROWS)

    def _events_of_keys(self, tx: Transaction, now: int) -> bool:
        """A step of each walk: one for each time that events are kept, but the longest, which all go by."""
        shorter = sorted({terms.events for terms in self._terms()})[:-1]
        return any(self._walk_events(tx, now, kept_ms) for kept_ms in shorter)

    def _walk_events(self, tx: Transaction, now: int, kept_ms: int) -> bool:
        walk, horizon = self._walks.setdefault(("events", kept_ms), Walk()), now - kept_ms
        seen = tx.all(self._sql["messages_before"], (walk.begin(now), id_at(horizon), STEP_MESSAGES))
        rows = [(row[0], horizon) for row in seen if self._of_key(tx, row[1]).events == kept_ms]
        if rows:
            self._keep_event_number(tx)
        tx.cursor.executemany(self._sql["message_events_old"], rows)
        return _went(walk, seen, len(seen), now)

    def _terms(self) -> set[Terms]:
        """All that there are. With other ones than before, every walk begins anew."""
        version = self._keeping.version
        if version != self._version:
            self._version = version
            self._walks.clear()
        return self._keeping.all()

    def _of_key(self, tx: Transaction, key: int) -> Terms:
        return self._keeping.of_key(self._names.key_name(tx, key))

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


def _went(walk: Walk, seen: Sequence[Row], stayed: int, now: int) -> bool:
    """Whether there is more behind what was seen now."""
    more = len(seen) == STEP_MESSAGES
    walk.went(seen[-1][0] if seen else None, stayed=stayed, more=more, now=now)
    return more
