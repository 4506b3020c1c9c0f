"""A database that was restored from a backup: its queue is that of an earlier moment, and is marked so.

Guarantees: what was queued at the backup may have been delivered after it, so it is `possible_duplicate` from here on;
mail that is to be delivered at most once is held, with an event that says why; a `quiet` one tells no webhook anything
until an operator resumes it. Clients may hold cursors of what happened after the backup: what happens from here on has
higher numbers than that had. All of it or nothing is written. It does not decide whether the rest is delivered: who
restores does. Time went on since the backup: what is past its own is counted, and left to the next start, which fails
it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from gateway.runtime import id_at
from gateway.store import connection, db
from gateway.store.connection import Database
from gateway.store.db import Transaction
from gateway.store.settlement import EventData

ONCE_NOTE: Final = (
    "restored from a backup: it may have been delivered since, and this mail is to be delivered at most once"
)
PAUSED_NOTE: Final = "restored from a backup"
Answer = TypeVar("Answer")
_MOVES: Final = ("once_leave_ready", "once_leave_waiting", "once_leave_leased", "once_hold")


@dataclass(frozen=True, slots=True)
class Doubts:
    """How many recipients are marked, and how many of them are held because they are to get it at most once; how many
    webhooks are paused."""

    marked: int
    held: int
    paused: int = 0


def mark(database: Path, now: int, *, quiet: bool = False) -> Doubts:
    """Mark what is in doubt in a database of the current schema that nobody else has open. Raises StoreError."""
    return _ask(database, partial(_mark, quiet=quiet), now)


def past(database: Path, now: int) -> int:
    """How many recipients of such a database are past their time. Raises StoreError."""
    return _ask(database, _past, now)


def _ask(database: Path, question: Callable[[Database, db.Statements, int], Answer], now: int) -> Answer:
    sql = db.load("restored")
    opened = connection.open_writer(database)
    try:
        return question(opened, sql, now)
    except Exception as error:  # noqa: BLE001 - raised again, as ours
        opened.rollback()
        translated = connection.translate(error)
        raise translated from (None if translated is error else error)
    finally:
        opened.close()


def _mark(database: Database, sql: db.Statements, now: int, *, quiet: bool) -> Doubts:
    database.begin()
    tx = Transaction(database.cursor())
    tx.all(sql["doubt"], (now,))
    marked = _number(tx, "SELECT changes()")
    tx.all(sql["once_open"], (now,))
    for statement in _MOVES:
        tx.all(sql[statement])
    tx.all(sql["once_held"], (now,))
    last = _count_on(tx, sql, now)
    said = msgspec.json.encode(EventData(note=ONCE_NOTE)).decode()
    tx.all(sql["once_told"], (now, last, said))
    held = _number(tx, sql["once_count"])
    paused = 0
    if quiet:
        tx.all(sql["webhooks_pause"], (now, PAUSED_NOTE))
        paused = _number(tx, "SELECT changes()")
    database.commit()
    return Doubts(marked, held, paused)


def _count_on(tx: Transaction, sql: db.Statements, now: int) -> int:
    """The number behind which events are counted from here on; nothing that was lost got as far by now."""
    last = max(_number(tx, sql["last_event"]), id_at(now))
    tx.all(sql["event_number"], (last,))
    tx.all(sql["webhooks_forward"], (last,))
    return last


def _past(database: Database, sql: db.Statements, now: int) -> int:
    return _number(Transaction(database.cursor()), sql["past"], now)


def _number(tx: Transaction, sql: str, *values: int) -> int:
    row = tx.one(sql, values)
    return int(row[0]) if row is not None and row[0] is not None else 0
