"""Writing down what attempts decided: states, events, the next place in the queue, the attempts themselves.

Guarantees: a result whose fence is stale changes nothing; a state and its event are in one transaction; one
statement per table serves a whole group of attempts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from gateway.config import SIMULATED
from gateway.events import State
from gateway.message import notify
from gateway.runtime import Clock
from gateway.store import picking
from gateway.store.db import Row, Statements, Transaction
from gateway.store.ending import Ended, Endings
from gateway.store.names import Counter, Names
from gateway.store.queue import Attempt, Result
from gateway.store.reports import Noted
from gateway.store.suppression import Reason, Suppressing, suppresses
from gateway.store.waiting import BACKOFF

REPLY_CHARACTERS: Final = 4000  # of a remote reply that are kept


class EventData(msgspec.Struct, omit_defaults=True):
    """The JSON object of an event that an attempt (or the sweeper) caused; what is empty is left out."""

    reply: str = ""
    host: str = ""
    address: str = ""
    tls: str = ""
    bounce_class: str = ""
    scope: str = ""
    stage: str = ""
    route: str = ""
    attempt: int = 0
    attempt_id: int = 0
    next_at: int = 0
    note: str = ""
    possible_duplicate: bool = False
    source: str = ""
    ehlo: str = ""


class _Refusal(NamedTuple):
    """The event that says that a recipient cannot be reached, and why."""

    event: int
    at: int
    bounce_class: str


@dataclass(slots=True)
class _Rows:
    """What a group changes, by table."""

    settled: list[Row] = field(default_factory=list)
    uncertain: list[Row] = field(default_factory=list)
    done: list[Row] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    ready: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    noted: Noted = field(default_factory=Noted)
    delivered: list[Row] = field(default_factory=list)
    refused: dict[Row, _Refusal] = field(default_factory=dict)


class Settlement:
    """Used in the writer's thread only. Attempts are numbered by `tickets`."""

    def __init__(
        self,
        sql: Statements,
        names: Names,
        *,
        events: Counter,
        tickets: Counter,
        endings: Endings,
        clock: Clock,
        suppressing: Suppressing,
    ) -> None:
        self._sql = sql
        self._names = names
        self._events = events
        self._tickets = tickets
        self._endings = endings
        self._clock = clock
        self._suppressing = suppressing
        self._encode = msgspec.json.Encoder().encode

    def settle(self, tx: Transaction, batches: Sequence[Sequence[Attempt]]) -> list[int]:
        """Write the attempts of several callers; of each, how many recipients were changed."""
        asked = [(r.recipient, r.fence) for batch in batches for attempt in batch for r in attempt.results]
        found = tx.cursor.executemany(self._sql["leased_find"], asked).fetchall()
        leases = {(row[0], row[1]): row for row in found}
        rows = _Rows()
        counts = [sum(self._attempt(tx, rows, leases, attempt) for attempt in batch) for batch in batches]
        if rows.done:
            self._write(tx, rows)
        return counts

    def note(self, tx: Transaction, attempt: Attempt, leases: Sequence[Row]) -> None:
        """Write an attempt that was made without a claim; `leases` are rows as `leased_find` would give them."""
        rows = _Rows()
        self._attempt(tx, rows, {(row[0], row[1]): row for row in leases}, attempt)
        rows.ended.clear()  # nothing of it was open, and there is no content to erase
        # The client's own relay, and its own affair: what that says of an address is no matter of ours.
        rows.refused.clear()
        rows.delivered.clear()
        self._write(tx, rows)

    def _attempt(self, tx: Transaction, rows: _Rows, leases: dict[tuple[int, int], Row], attempt: Attempt) -> int:
        """Note the rows of one attempt; returns how many of its results are not stale."""
        number = self._tickets.next()
        taken = 0
        told: Result | None = None
        message = attempt.message
        for result in attempt.results:
            # Taken out: a recipient named twice is settled once.
            lease = leases.pop((result.recipient, result.fence), None)
            if lease is None:
                continue
            taken += 1
            message = lease[5]
            if result.event is not None:
                told = told or result
            self._result(tx, rows, attempt, result, lease=lease, number=number)
        if told is not None:
            rows.attempts.append(
                (
                    message,
                    number,
                    attempt.destination,
                    attempt.route,
                    attempt.started_at,
                    attempt.ended_at,
                    _clean(told.host),
                    told.address,
                    told.tls,
                    taken,
                )
            )
        return taken

    def _result(
        self, tx: Transaction, rows: _Rows, attempt: Attempt, result: Result, *, lease: Row, number: int
    ) -> None:
        recipient, _, destination, priority, key, message, uncertain, recipients, pieces, expires_at, tell = lease[:11]
        rows.done.append((recipient,))
        doubtful = bool(uncertain) or result.possible_duplicate
        reply = _clean(result.reply[:REPLY_CHARACTERS])
        state = result.state
        if state is State.QUEUED:
            rows.ready.append((destination, priority, key, recipient, message))
            tx.due[destination] = self._names.due(tx, destination)
            if doubtful and not uncertain:
                rows.uncertain.append((message, recipient))
        else:
            if state is State.DEFERRED:
                again = picking.retried(priority)
                rows.waiting.append((result.next_at, recipient, destination, again, key, message, BACKOFF))
                tx.wait(result.next_at)
                if tell:
                    rows.noted.defer(message, recipient, tell, attempt.ended_at)
            elif state.final:
                if result.dsn_passed:
                    tell &= ~notify.SUCCESS  # the other side tells (RFC 3461, 5.2.1)
                told = tell != 0 and rows.noted.end(message, recipient, tell, state, attempt.ended_at)
                delivered = state is State.DELIVERED
                rows.ended.append(Ended(message, recipients, pieces, expires_at, delivered=delivered, told=told))
                if delivered and self._suppressing.may_have(result.to.lower()):
                    rows.delivered.append((message, recipient))
            else:
                raise ValueError(f"an attempt cannot leave a recipient {state}")
            rows.settled.append(_settled(lease, result, reply, attempt.ended_at, doubtful=doubtful))
        if result.event is not None:
            data = self._data(attempt, result, reply, number, doubtful=doubtful)
            seq = self._events.next()
            rows.events.append((seq, message, recipient, result.event.value, attempt.ended_at, data, lease[11]))
            # The simulator plays: nobody said anything of the address.
            if state is State.BOUNCED and suppresses(result.bounce_class, result.scope) and attempt.route != SIMULATED:
                assert result.bounce_class is not None
                refusal = _Refusal(seq, attempt.ended_at, result.bounce_class.value)
                rows.refused[message, recipient] = refusal

    def _write(self, tx: Transaction, rows: _Rows) -> None:
        sql = self._sql
        many = tx.cursor.executemany
        many(sql["leased_delete"], rows.done)
        many(sql["recipient_settle"], rows.settled)
        many(sql["event_add"], rows.events)
        many(sql["attempt_add"], rows.attempts)
        for name, some in (
            ("waiting_add", rows.waiting),
            ("ready_add", rows.ready),
            ("recipient_uncertain", rows.uncertain),
        ):
            if some:
                many(sql[name], some)
        rows.noted.write(tx, sql)
        if rows.refused:
            self._suppress(tx, rows)
        if rows.delivered:
            self._relieve(tx, rows)
        if rows.ended:
            self._endings.end(tx, rows.ended, self._clock.now_ms())

    def _suppress(self, tx: Transaction, rows: _Rows) -> None:
        """Nobody is at the addresses that were refused."""
        entries = []
        found = tx.cursor.executemany(self._sql["settled_whom"], rows.refused).fetchall()
        for message, recipient, address, account, sender in found:
            if not sender:
                continue  # a notification: many a host refuses the null sender in the words of an unknown user
            event, at, why = rows.refused[message, recipient]
            entry = self._suppressing.entry(account, address, Reason.BOUNCE, at=at, cause=event, note=why)
            if entry is not None:
                entries.append(entry)
        if entries:
            self._suppressing.add(tx, entries)

    def _relieve(self, tx: Transaction, rows: _Rows) -> None:
        """Somebody is, whatever a host said before."""
        found = tx.cursor.executemany(self._sql["settled_whom"], rows.delivered).fetchall()
        self._suppressing.relieve(tx, [(account, address) for _, _, address, account, _ in found])

    def _data(self, attempt: Attempt, result: Result, reply: str, number: int, *, doubtful: bool) -> str:
        return self._encode(
            EventData(
                reply=reply,
                host=_clean(result.host),
                address=result.address,
                tls=result.tls,
                bounce_class=result.bounce_class.value if result.bounce_class else "",
                scope=result.scope.value if result.scope else "",
                stage=result.stage,
                route=attempt.route,
                attempt=result.attempts,
                attempt_id=number,
                next_at=result.next_at,
                note=_clean(result.note) if result.note else "",
                possible_duplicate=doubtful,
                source=result.source,
                ehlo=result.ehlo,
            )
        ).decode()


def _settled(lease: Row, result: Result, reply: str, at: int, *, doubtful: bool) -> Row:
    return (
        lease[5],
        lease[0],
        result.state.value,
        result.attempts,
        result.next_at,
        at,
        doubtful,
        reply,
        _clean(result.host),
        result.bounce_class.value if result.bounce_class else "",
        result.scope.value if result.scope else "",
        result.stage,
    )


def _clean(text: str) -> str:
    """Foreign bytes decoded with surrogates cannot be stored as UTF-8, and a result must be."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
