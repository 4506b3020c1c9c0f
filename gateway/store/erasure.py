"""Removing a person from what is stored, message by message.

Guarantees: what is queued for the person is cancelled, never half sent; what an attempt has in hand is left to it, and
told; what a dead process had in hand is in nobody's. A message of which nothing is left without the person (the only
recipient, or the sender) goes whole; of any other only the person's own: the recipient, its events, what quotes the
address, and the content as soon as nobody is waiting for it, for its header names the person. What remains is sealed as
before. It does not look for addresses (erasing.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from gateway.store.db import Cursor, Row, Statements, Transaction
from gateway.store.idempotency import IDEMPOTENCY_MS
from gateway.store.leases import Leases
from gateway.store.names import Counter
from gateway.store.operating import Operating, Seen, Step
from gateway.store.person import Letter, Person, letter
from gateway.store.shown import Order, Verb
from gateway.store.suppression import Suppressing
from gateway.store.sweep import OF_MESSAGE

_BY_OWNER: Final = 0  # a time before the end of every lease: only those of dead processes are taken back
_CANCEL: Final = Order(Verb.CANCEL, text="the recipient was erased")


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed, or would be. `recipients` are those of messages that stay, `changed` rows in which a word
    stands in place of the address now, `later` contents that go once nobody is waiting for them."""

    messages: int = 0
    recipients: int = 0
    events: int = 0
    changed: int = 0
    contents: int = 0
    later: int = 0
    idempotency: int = 0
    webhooks: int = 0
    suppressions: int = 0
    acquaintances: int = 0

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: `busy` are the messages that are left, for an attempt has a recipient of theirs in hand, `gone`
    those that went whole and may be asked for again, by a client's own name for the request."""

    removed: Removed = Removed()
    busy: tuple[int, ...] = ()
    gone: tuple[bytes, ...] = ()

    def __add__(self, other: "Done") -> "Done":
        return Done(self.removed + other.removed, self.busy + other.busy, self.gone + other.gone)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of a step: numbers of messages or of events, at most some dozens; `account` None: of any."""

    person: Person
    account: str | None
    numbers: Sequence[int]
    now: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What else is kept of a person: suppressions, which keep `hashed`; whom keys know, by `number`; idempotency
    records by (account, text)."""

    person: Person
    hashed: str = ""
    number: int | None = None
    requests: Sequence[tuple[str, str]] = ()


class Erasure:
    """Used in the writer's thread only."""

    def __init__(
        self, sql: Statements, *, leases: Leases, events: Counter, operating: Operating, suppressing: Suppressing
    ) -> None:
        self._sql = sql
        self._leases = leases
        self._events = events
        self._operating = operating
        self._suppressing = suppressing

    def messages(self, tx: Transaction, steps: Sequence[Wanted]) -> list[Done]:
        self._leases.reclaim(tx, (_BY_OWNER,))  # where no daemon runs, nobody else does
        return [sum((self._message(tx, step, number) for number in step.numbers), Done()) for step in steps]

    def events(self, tx: Transaction, steps: Sequence[Wanted]) -> list[Removed]:
        """A word in place of the address in events of whatever message."""
        return [sum((self._event(tx, step, seq) for seq in step.numbers), Removed()) for step in steps]

    def traces(self, tx: Transaction, steps: Sequence[Trace]) -> list[Removed]:
        return [self._trace(tx, step) for step in steps]

    def give_back(self, tx: Transaction, asked: Sequence[None]) -> list[bool]:
        """Give some free pages back to the file system; whether there are more."""
        return [self._give_back(tx) for _ in asked]

    def _give_back(self, tx: Transaction) -> bool:
        (free,) = tx.one(self._sql["freelist"]) or (0,)
        if free:
            tx.all(self._sql["vacuum_step"])
        return bool(free)

    def _message(self, tx: Transaction, step: Wanted, number: int) -> Done:
        found = meant(tx.cursor, self._sql, number, step)
        if found is None:
            return Done()
        theirs = found.theirs(step.person)
        seen = [Seen(number, one.id, one.state.value) for one in theirs if one.is_open and not one.in_hand]
        if seen:
            self._operating.operate(tx, [Step(seen, _CANCEL, step.now)])
        if any(one.in_hand for one in theirs):
            return Done(busy=(number,))
        # With the newest event gone, a restart would number from an older one.
        tx.cursor.execute(self._sql["instance_raise"], ("event_seq", self._events.last))
        if len(theirs) == len(found.recipients):
            is_fresh = found.created_at > step.now - IDEMPOTENCY_MS
            return Done(self._whole(tx, found), gone=(found.uuid,) if is_fresh else ())
        return Done(self._part(tx, found, step))

    def _whole(self, tx: Transaction, found: Letter) -> Removed:
        seqs = [row[0] for row in tx.all(self._sql["erasure_message_events"], (found.id,))]
        webhooks = self._webhooks(tx, seqs)
        for name in (*OF_MESSAGE, "erasure_reports_delete", "content_delete", "pieces_delete", "message_delete"):
            tx.cursor.execute(self._sql[name], (found.id,))
        return Removed(messages=1, events=len(seqs), webhooks=webhooks)

    def _part(self, tx: Transaction, found: Letter, step: Wanted) -> Removed:
        person, number = step.person, found.id
        theirs = {one.id for one in found.theirs(person)}
        events, webhooks, changed = self._events_of(tx, number, theirs, person)
        for recipient in theirs:
            for name in ("erasure_recipient_delete", "erasure_engagement_delete", "erasure_report_delete"):
                tx.cursor.execute(self._sql[name], (number, recipient))
        for one in found.recipients:
            if one.id not in theirs and (person.is_in(one.orcpt) or person.is_in(one.reply)):
                orcpt = "" if person.is_in(one.orcpt) else one.orcpt
                values = (number, one.id, orcpt, person.without(one.reply))
                tx.cursor.execute(self._sql["erasure_recipient_change"], values)
                changed += 1
        texts = tuple(person.without(text) for text in found.texts)
        if texts != found.texts:
            tx.cursor.execute(self._sql["erasure_message_change"], (number, *texts))
            changed += 1
        content = self._content(tx, found, step) if found.is_addressed(person) else Removed()
        return content + Removed(recipients=len(theirs), events=events, webhooks=webhooks, changed=changed)

    def _events_of(self, tx: Transaction, number: int, theirs: set[int], person: Person) -> tuple[int, int, int]:
        """(events removed, webhooks' rows removed, events changed)"""
        rows = tx.all(self._sql["erasure_message_events"], (number,))
        own = [seq for seq, recipient, _ in rows if recipient in theirs]
        tx.cursor.executemany(self._sql["erasure_event_delete"], [(seq,) for seq in own])
        changed = [
            (seq, person.without(data))
            for seq, recipient, data in rows
            if recipient not in theirs and person.is_in(data)
        ]
        tx.cursor.executemany(self._sql["erasure_event_change"], changed)
        return len(own), self._webhooks(tx, own), len(changed)

    def _content(self, tx: Transaction, found: Letter, step: Wanted) -> Removed:
        """Now, or by the sweep once it is neither to be sent nor to be told of."""
        if found.is_awaited(step.person) or tx.one(self._sql["erasure_told"], (found.id,)) is not None:
            tx.cursor.execute(self._sql["erase_add"], (step.now, found.id))
            return Removed(later=1)
        (stored,) = tx.one(self._sql["pieces_stored"], (found.id,)) or (0,)
        for name in ("content_delete", "pieces_delete"):
            tx.cursor.execute(self._sql[name], (found.id,))
        return Removed(contents=int(stored > 0))

    def _event(self, tx: Transaction, step: Wanted, seq: int) -> Removed:
        row = tx.one(self._sql["erasure_event"], (seq,))
        if row is None or not step.person.is_in(row[2]) or (step.account is not None and row[3] != step.account):
            return Removed()
        tx.cursor.execute(self._sql["erasure_event_change"], (seq, step.person.without(row[2])))
        return Removed(changed=1)

    def _webhooks(self, tx: Transaction, seqs: Sequence[int]) -> int:
        """What endpoints were still to be told of events that are gone."""
        rows: list[Row] = [(id_, seq) for (id_,) in tx.all(self._sql["erasure_webhooks"]) for seq in seqs]
        gone = 0
        for name in ("erasure_parked_delete", "erasure_dead_delete"):
            gone += len(tx.cursor.executemany(self._sql[name], rows).fetchall())
        return gone

    def _trace(self, tx: Transaction, trace: Trace) -> Removed:
        tx.cursor.executemany(self._sql["idempotency_delete"], trace.requests)
        removed = Removed(idempotency=len(trace.requests))
        if trace.hashed:
            removed += Removed(suppressions=self._suppressing.forget(tx, trace.person.address, trace.hashed))
        if trace.number is not None:
            rows = [(key, trace.number) for (key,) in tx.all(self._sql["erasure_keys"])]
            gone = tx.cursor.executemany(self._sql["erasure_acquaintance_delete"], rows).fetchall()
            removed += Removed(acquaintances=len(gone))
        return removed


def meant(cursor: Cursor, sql: Statements, number: int, wanted: Wanted) -> Letter | None:
    """A message by its number; None where it is gone, another account's, or does not name the person."""
    rows = cursor.execute(sql["erasure_message"], (number,)).fetchall()
    if not rows:
        return None
    found = letter(rows[0], cursor.execute(sql["erasure_recipients"], (number,)).fetchall())
    ours = wanted.account is None or found.account == wanted.account
    return found if ours and found.names(wanted.person) else None


def would_be(found: Letter, person: Person) -> Removed:
    """What would be removed of a message, as far as that is known without its events."""
    theirs = found.theirs(person)
    if len(theirs) == len(found.recipients):
        return Removed(messages=1)
    goes, awaited = found.is_addressed(person), found.is_awaited(person)
    return Removed(
        recipients=len(theirs), contents=int(goes and not awaited), later=int(goes and awaited), changed=int(not theirs)
    )
