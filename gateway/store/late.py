"""What is heard of mail after its attempts: bounces that come later, complaints, unsubscriptions, opens and clicks.

Guarantees: state, event, suppression, counts and what submitters are told of one report are in one transaction. A
report that comes again changes nothing: a bounce turns only what was delivered, a complaint or an unsubscription is
written again only where what followed from the first is gone. Of what anybody can repeat at will (a pixel, a link) a
bounded number of events is written for a recipient; they are counted on. Nothing here trusts what a report says of
whom it is about: who asks has proven that by a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import msgspec

from gateway.config import SIMULATED
from gateway.events import EventType, State
from gateway.store import reports, suppression
from gateway.store.db import Cursor, Row, Statements, Transaction
from gateway.store.names import Counter, Names
from gateway.store.queue import Heard
from gateway.store.reports import Noted
from gateway.store.suppression import ALL_MAIL, Entry, Reason, Suppressing

REPLY_CHARACTERS: Final = 4000  # of what a report quotes that are kept
MOST_EVENTS: Final = 100  # of a recipient and kind: opens, clicks, fetches by machines
MOST_RECIPIENTS: Final = 10_000  # of a message, among whom an address is looked for
STAGE: Final = "late"

_MS: Final = 1000


class _LateData(msgspec.Struct, omit_defaults=True):
    """The JSON object of the event; what is empty is left out. The names are those of settlement.py where it has it."""

    reply: str = ""
    host: str = ""
    bounce_class: str = ""
    scope: str = ""
    stage: str = ""
    route: str = ""
    attempt: int = 0
    note: str = ""
    late: bool = False
    status: str = ""
    url: str = ""
    client: str = ""
    user_agent: str = ""
    machine: str = ""
    tag: str = ""


class _Found(NamedTuple):
    """The columns of `late_find`."""

    address: str
    state: str
    attempts: int
    destination: int
    notify: int
    account: str
    account_ref: int
    sender: str


class _Known(NamedTuple):
    """The recipients of a message: the only one it went to, 0 where these were several, also where all but one are
    erased since; and each by what it may be named."""

    only: int
    by_address: dict[str, int]


class Late:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names, *, events: Counter, suppressing: Suppressing) -> None:
        """`sql` holds late.sql and sqlite.sql."""
        self._sql = sql
        self._names = names
        self._events = events
        self._suppressing = suppressing
        self._encode = msgspec.json.Encoder().encode

    def settle(self, tx: Transaction, calls: Sequence[Sequence[Heard]]) -> list[list[bool]]:
        """Write what several callers heard; of each report, whether it changed anything."""
        known: dict[int, _Known] = {}  # of a message: a notification may be about a thousand of its recipients
        return [[self._one(tx, heard, known) for heard in call] for call in calls]

    def _one(self, tx: Transaction, heard: Heard, known: dict[int, _Known]) -> bool:
        recipient = heard.recipient or self._recipient(tx, heard, known)
        row = tx.one(self._sql["late_find"], (heard.message, recipient)) if recipient else None
        if row is None:
            return False
        found = _Found._make(row)
        match heard.type:
            case EventType.BOUNCED:
                return self._bounced(tx, heard, recipient, found)
            case EventType.COMPLAINED:
                return self._wished(tx, heard, recipient, found, Reason.COMPLAINT)
            case EventType.UNSUBSCRIBED:
                return self._wished(tx, heard, recipient, found, Reason.UNSUBSCRIBE)
            case EventType.OPENED | EventType.CLICKED:
                return self._fetched(tx, heard, recipient, found)
        raise ValueError(f"{heard.type} is not heard of later")

    def _recipient(self, tx: Transaction, heard: Heard, known: dict[int, _Known]) -> int:
        """The row it is about: of a message that has several, the one with an address that is named; 0 where nothing
        says which."""
        recipients = known.get(heard.message)
        if recipients is None:
            rows = tx.all(self._sql["late_recipients"], (heard.message, MOST_RECIPIENTS))
            recipients = known[heard.message] = _known(rows)
        if recipients.only:
            return recipients.only
        by_address = recipients.by_address
        return next((by_address[one.lower()] for one in heard.addresses if one and one.lower() in by_address), 0)

    def _bounced(self, tx: Transaction, heard: Heard, recipient: int, found: _Found) -> bool:
        if found.state != State.DELIVERED:
            return False
        reply, host = _clean(heard.reply[:REPLY_CHARACTERS]), _clean(heard.host)
        class_ = heard.bounce_class.value if heard.bounce_class else ""
        scope = heard.scope.value if heard.scope else ""
        tx.cursor.execute(
            self._sql["late_bounce"], (heard.message, recipient, heard.at, reply, host, class_, scope)
        ).fetchall()
        seq = self._event(tx, heard, recipient, found)
        tell = reports.to_tell(found.notify, found.sender)
        if tell:
            noted = Noted()
            noted.end(heard.message, recipient, tell, State.BOUNCED, heard.at)
            noted.write(tx, self._sql)
        if suppression.suppresses(heard.bounce_class, heard.scope):
            self._suppress(tx, self._entry(tx, heard, found, Reason.BOUNCE, note=class_), seq)
        return True

    def _wished(self, tx: Transaction, heard: Heard, recipient: int, found: _Found, reason: Reason) -> bool:
        """What a recipient says of this mail: it is not sent to any more."""
        tag = _tag(heard)
        entry = self._entry(tx, heard, found, reason, note=_clean(heard.note), tag=tag)
        scope = (found.address.lower(), found.account, tag, heard.at)
        if entry is None or tx.one(self._sql["late_suppressed"], scope) is not None:
            # Last: it looks through all events of the message.
            known = (heard.message, recipient, heard.type.value, tag)
            if tx.one(self._sql["late_known"], known) is not None:
                return False
        self._suppress(tx, entry, self._event(tx, heard, recipient, found))
        return True

    def _fetched(self, tx: Transaction, heard: Heard, recipient: int, found: _Found) -> bool:
        machine = bool(heard.machine)
        index = 2 if machine else int(heard.type is EventType.CLICKED)
        counts = [0, 0, 0]
        counts[index] = 1
        row = tx.one(self._sql["late_count"], (heard.message, recipient, *counts))
        assert row is not None
        if row[index] > MOST_EVENTS:
            return not machine  # a count is a change
        self._event(tx, heard, recipient, found)
        return True

    def _entry(
        self, tx: Transaction, heard: Heard, found: _Found, reason: Reason, *, note: str, tag: str = ALL_MAIL
    ) -> Entry | None:
        """None where the configuration wants none, or the simulator plays: nobody said anything of the address."""
        if self._names.due(tx, found.destination).route == SIMULATED:
            return None
        return self._suppressing.entry(found.account, found.address, reason, at=heard.at, cause=0, tag=tag, note=note)

    def _suppress(self, tx: Transaction, entry: Entry | None, cause: int) -> None:
        if entry is not None:
            self._suppressing.add(tx, [replace(entry, cause=cause)])

    def _event(self, tx: Transaction, heard: Heard, recipient: int, found: _Found) -> int:
        """Its number."""
        seq = self._events.next()
        data = self._encode(self._data(tx, heard, found)).decode()
        values = (seq, heard.message, recipient, heard.type.value, heard.at, data, found.account_ref)
        tx.cursor.execute(self._sql["event_add"], values)
        return seq

    def _data(self, tx: Transaction, heard: Heard, found: _Found) -> _LateData:
        bounced = heard.type is EventType.BOUNCED
        return _LateData(
            reply=_clean(heard.reply[:REPLY_CHARACTERS]),
            host=_clean(heard.host),
            bounce_class=heard.bounce_class.value if heard.bounce_class else "",
            scope=heard.scope.value if heard.scope else "",
            stage=STAGE if bounced else "",
            route=self._names.due(tx, found.destination).route if bounced else "",
            attempt=found.attempts if bounced else 0,
            note=_clean(heard.note),
            late=bounced,
            status=heard.status,
            url=_clean(heard.url),
            client=heard.client,
            user_agent=_clean(heard.user_agent),
            machine=heard.machine,
            tag=_tag(heard),
        )


@dataclass(frozen=True, slots=True)
class Looked:
    """What a report is about. `unsubscribe` is the message's; `address` "" without a recipient; `in_hand`: an attempt
    has it, so what became of it is not written yet."""

    uuid: bytes
    unsubscribe: str
    address: str
    in_hand: bool


def look(cursor: Cursor, sql: Statements, *, message: int, recipient: int) -> Looked | None:
    """A recipient (0: any) of a message; None where there is no such message any more."""
    rows = cursor.execute(sql["late_look"], (message, recipient)).fetchall()
    if not rows:
        return None
    uuid, unsubscribe, address, in_hand = rows[0]
    return Looked(uuid, unsubscribe, address, bool(in_hand))


def _known(rows: Sequence[Row]) -> _Known:
    """Of (id, address, orcpt, recipients of the message)."""
    by_address: dict[str, int] = {}
    for id_, address, original, _ in rows:
        by_address.setdefault(address.lower(), id_)
        by_address.setdefault(original.partition(";")[2].lower(), id_)
    return _Known(rows[0][0] if rows and rows[0][3] == 1 else 0, by_address)


def _tag(heard: Heard) -> str:
    """The scope of an unsubscription; a complaint is about all mail."""
    return heard.tag if heard.type is EventType.UNSUBSCRIBED else ""


def _clean(text: str) -> str:
    """Foreign bytes decoded with surrogates cannot be stored as UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
