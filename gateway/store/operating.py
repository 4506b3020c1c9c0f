"""What operators do with queued recipients: hold, release, cancel, bounce, redirect.

Guarantees: state, event, place in the queue and what submitters are told are written in one transaction; a recipient
in hand, or one that moved since it was found, is left as it is. A scheduled one that was held waits for its time again
once it is released. Which recipients are meant is found by finding.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, assert_never

import msgspec

from gateway.events import BounceClass, EventType, Scope, State
from gateway.message import address
from gateway.message.priority import HIGH
from gateway.store import picking, reports
from gateway.store.db import Row, Statements, Transaction
from gateway.store.ending import Endings, Undelivered
from gateway.store.names import Counter, Names
from gateway.store.shown import Order, Verb
from gateway.store.viewed import BACKOFF, HELD, READY, SCHEDULE
from gateway.store.waiting import SCHEDULE as WHY_SCHEDULE

_NOT_HELD: Final = READY | BACKOFF | SCHEDULE
PLACES: Final = {
    Verb.HOLD: _NOT_HELD,
    Verb.RELEASE: HELD,
    Verb.CANCEL: _NOT_HELD | HELD,
    Verb.BOUNCE: _NOT_HELD | HELD,
    Verb.REDIRECT: _NOT_HELD | HELD,
}  # where a recipient stands that the verb changes


class Seen(NamedTuple):
    """A recipient as it was found."""

    message: int
    recipient: int
    state: str


@dataclass(frozen=True, slots=True)
class Step:
    """The arguments of a step: the recipients of one transaction."""

    seen: Sequence[Seen]
    order: Order
    now: int


class _Row(NamedTuple):
    """The columns of `operate_row`."""

    message: int
    id: int
    state: str
    destination: int
    next_at: int
    attempts: int
    address: str
    notify: int
    priority: int
    key: int
    recipients: int
    pieces: int
    expires_at: int
    sender: str

    @property
    def rank(self) -> int:
        """Where it is in its lane: what was tried comes after what was not."""
        return picking.retried(self.priority) if self.attempts else self.priority


class _Taken(NamedTuple):
    """A recipient that stands nowhere now, and where it stood; `why` it waited."""

    row: _Row
    place: int
    why: str = ""


class _OrderData(msgspec.Struct, omit_defaults=True):
    """The JSON object of an operator's event."""

    reply: str = ""
    bounce_class: str = ""
    scope: str = ""
    note: str = ""
    route: str = ""
    old_route: str = ""
    old_address: str = ""
    address: str = ""


class Operating:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names, *, events: Counter, endings: Endings) -> None:
        self._sql = sql
        self._names = names
        self._events = events
        self._endings = endings
        self._encode = msgspec.json.Encoder().encode

    def operate(self, tx: Transaction, steps: Sequence[Step]) -> list[int]:
        """Do what is said with some recipients; of each step, how many were changed."""
        return [self._step(tx, step) for step in steps]

    def _step(self, tx: Transaction, step: Step) -> int:
        order, now = step.order, step.now
        states = {one.recipient: one.state for one in step.seen}
        found = tx.cursor.executemany(self._sql["operate_row"], [one[:2] for one in step.seen]).fetchall()
        rows = [row for row in map(_Row._make, found) if row.state == states[row.id]]
        taken = self._take(tx, rows, PLACES[order.verb])
        match order.verb:
            case Verb.HOLD:
                self._hold(tx, taken, order, now)
            case Verb.RELEASE:
                self._release(tx, taken, order, now)
            case Verb.CANCEL | Verb.BOUNCE:
                self._end(tx, taken, order, now)
            case Verb.REDIRECT:
                self._redirect(tx, taken, order, now)
            case _:
                assert_never(order.verb)
        return len(taken)

    def _take(self, tx: Transaction, rows: Sequence[_Row], places: int) -> list[_Taken]:
        """Those that stand in one of the places, taken out of it; the others are in hand."""
        many = tx.cursor.executemany
        by_id = {row.id: row for row in rows}
        taken: list[_Taken] = []
        if places & READY:
            values: list[Row] = [(row.destination, row.priority, row.key, row.id) for row in rows]
            taken += [_Taken(by_id[id_], READY) for (id_,) in many(self._sql["ready_remove"], values).fetchall()]
        if places & (BACKOFF | SCHEDULE):
            waited = many(self._sql["waiting_delete"], [(row.next_at, row.id) for row in rows]).fetchall()
            taken += [_Taken(by_id[row[3]], SCHEDULE if row[5] == WHY_SCHEDULE else BACKOFF, row[5]) for row in waited]
            if waited:
                tx.wait(0)  # the first of what waits may be gone
        if places & HELD:
            held = many(self._sql["held_remove"], [(row.destination, row.id) for row in rows]).fetchall()
            taken += [_Taken(by_id[id_], HELD) for (id_,) in held]
        return taken

    def _hold(self, tx: Transaction, taken: Sequence[_Taken], order: Order, now: int) -> None:
        many = tx.cursor.executemany
        many(self._sql["held_add"], [(r.destination, r.id, r.rank, r.key, r.message) for r, *_ in taken])
        states = [
            (row.message, row.id, State.HELD.value, row.next_at if place == SCHEDULE else 0, now)
            for row, place, _ in taken
        ]
        many(self._sql["recipient_place"], states)
        self._tell(tx, EventType.HELD, [(row, _OrderData(note=order.text)) for row, *_ in taken], now)

    def _release(self, tx: Transaction, taken: Sequence[_Taken], order: Order, now: int) -> None:
        states: list[Row] = []
        for row, *_ in taken:
            if row.next_at > now:
                self._wait(tx, row, row.destination, WHY_SCHEDULE)
                states.append((row.message, row.id, State.SCHEDULED.value, row.next_at, now))
            else:
                self._queue(tx, row, row.destination)
                state = State.DEFERRED if row.attempts else State.QUEUED
                states.append((row.message, row.id, state.value, 0, now))
        tx.cursor.executemany(self._sql["recipient_place"], states)
        self._tell(tx, EventType.RELEASED, [(row, _OrderData(note=order.text)) for row, *_ in taken], now)

    def _end(self, tx: Transaction, taken: Sequence[_Taken], order: Order, now: int) -> None:
        """They are final; a bounce is told to the sender, a cancellation is not."""
        rows = [one.row for one in taken]
        if order.verb is Verb.CANCEL:
            state, type_, data = State.CANCELLED, EventType.CANCELLED, _OrderData(note=order.text)
            changed = [(row.message, row.id, state.value, 0, now) for row in rows]
            tx.cursor.executemany(self._sql["recipient_place"], changed)
        else:
            # Not the recipient's fault, whatever the operator's reason is: nothing may be suppressed for it.
            why = (order.text, BounceClass.UNCATEGORIZED.value, Scope.INFRASTRUCTURE.value)
            state, type_, data = State.BOUNCED, EventType.BOUNCED, _OrderData(*why, note="by an operator")
            tx.cursor.executemany(self._sql["recipient_bounce"], [(row.message, row.id, now, *why) for row in rows])
        self._tell(tx, type_, [(row, data) for row in rows], now)
        ended = [
            Undelivered(
                row.message, row.id, reports.to_tell(row.notify, row.sender), row.recipients, row.pieces, row.expires_at
            )
            for row in rows
        ]
        self._endings.fail(tx, ended, state, now)

    def _redirect(self, tx: Transaction, taken: Sequence[_Taken], order: Order, now: int) -> None:
        """Back to where they stood, under another destination."""
        moved: list[Row] = []
        told: list[tuple[_Row, _OrderData]] = []
        for row, place, why in taken:
            old = self._names.due(tx, row.destination)
            to = order.address or row.address
            route = old.route if order.route is None else order.route
            by_domain = bool(old.domain) if order.route is None else order.by_domain
            destination = self._names.destination(tx, route, address.domain_of(to) if by_domain else "")
            if place == READY:
                self._queue(tx, row, destination)
            elif place == HELD:
                values = (destination, row.id, row.rank, row.key, row.message)
                tx.cursor.execute(self._sql["held_add"], values)
            else:
                self._wait(tx, row, destination, why)
            moved.append((row.message, row.id, destination, to, now))
            told.append((row, _redirection(row.address, to, old.route, route, order.text)))
        tx.cursor.executemany(self._sql["recipient_redirect"], moved)
        self._tell(tx, EventType.REDIRECTED, told, now)

    def _queue(self, tx: Transaction, row: _Row, destination: int) -> None:
        tx.cursor.execute(self._sql["ready_add"], (destination, row.rank, row.key, row.id, row.message))
        tx.due[destination] = self._names.due(tx, destination)
        if row.priority == HIGH:
            tx.urgent.add(destination)

    def _wait(self, tx: Transaction, row: _Row, destination: int, why: str) -> None:
        values = (row.next_at, row.id, destination, row.rank, row.key, row.message, why)
        tx.cursor.execute(self._sql["waiting_add"], values)
        tx.wait(row.next_at)

    def _tell(self, tx: Transaction, type_: EventType, told: Sequence[tuple[_Row, _OrderData]], now: int) -> None:
        encoded = [(row, self._encode(data).decode()) for row, data in told]
        rows = [(self._events.next(), row.message, row.id, type_.value, now, data) for row, data in encoded]
        tx.cursor.executemany(self._sql["event_of_message"], rows)


def _redirection(old: str, new: str, old_route: str, route: str, text: str) -> _OrderData:
    changes = []
    if new != old:
        changes.append(f"from {old} to {new}")
    if route != old_route:
        changes.append(f"from the route {old_route} to {route}")
    words = ", ".join(changes) or "as it was"
    return _OrderData(
        note=f"{words}: {text}" if text else words,
        route=route,
        old_route=old_route,
        old_address=old,
        address=new,
    )
