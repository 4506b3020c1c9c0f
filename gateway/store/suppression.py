"""Who is not sent to, and why.

Guarantees: an entry is written in the transaction of what caused it; of two in the same scope the stronger reason
stays (operator, complaint, unsubscribe, bounce) and the later end; a delivery takes back what a bounce had said.
Addresses and domains are kept and compared in lower case, a domain means just itself. Reading is suppressed.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from gateway.config import Suppression
from gateway.events import BounceClass, Scope
from gateway.store.db import Row, Statements, Transaction
from gateway.store.sieve import Sieve

EVERYBODY = ""  # as an account
ALL_MAIL = ""  # as a tag
STEP_ROWS: Final = 500  # of what has ended, in one transaction

# What a host says of the mailbox, and of nothing else. Not QuotaIssues: a full mailbox is emptied; not what is by its
# nature about us (reputation, policy, authentication) or about the message.
_DEAD: Final = frozenset({BounceClass.INVALID_RECIPIENT, BounceClass.INACTIVE_MAILBOX, BounceClass.BAD_DOMAIN})
_MS: Final = 1000


class Kind(StrEnum):
    ADDRESS = "address"
    DOMAIN = "domain"


class Reason(StrEnum):
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    OPERATOR = "operator"

    @property
    def strength(self) -> int:
        return _STRENGTH.index(self)


_STRENGTH: Final = (Reason.BOUNCE, Reason.UNSUBSCRIBE, Reason.COMPLAINT, Reason.OPERATOR)


@dataclass(frozen=True, slots=True)
class Entry:
    """`value` is an address or a domain. `expires_at` None: until an operator removes it; `cause`: the number of the
    event, None without one."""

    account: str
    tag: str
    kind: Kind
    value: str
    reason: Reason
    note: str
    created_at: int
    expires_at: int | None
    cause: int | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Removal:
    """The entries with one of these values in an account; `tag` None: whatever their tag."""

    account: str
    values: tuple[str, ...]
    tag: str | None = None


def suppresses(bounce_class: BounceClass | None, scope: Scope | None) -> bool:
    """Whether a final refusal says that nobody can be reached at this address."""
    return scope is Scope.RECIPIENT and bounce_class in _DEAD


def entry_of(row: Row) -> Entry:
    """An entry as suppression.sql selects it."""
    id_, account, tag, kind, value, reason, note, created_at, expires_at, cause = row
    return Entry(account, tag, Kind(kind), value, Reason(reason), note, created_at, expires_at, cause, id_)


class Suppressing:
    """Used in the writer's thread only, but for `reconfigure`. What it adds is in `sieve` before it is committed."""

    def __init__(self, sql: Statements, sieve: Sieve, terms: Suppression | None = None) -> None:
        self._sql = sql
        self._sieve = sieve
        self._terms = terms or Suppression()

    def reconfigure(self, terms: Suppression) -> None:
        """For entries to come. May be called from another thread."""
        self._terms = terms

    def entry(
        self, account: str, address: str, reason: Reason, *, at: int, cause: int, tag: str = ALL_MAIL, note: str = ""
    ) -> Entry | None:
        """What an event makes of an address, lasting as configured; None where that is for no time."""
        lasts_s = {
            Reason.BOUNCE: self._terms.bounce_s,
            Reason.COMPLAINT: self._terms.complaint_s,
            Reason.UNSUBSCRIBE: self._terms.unsubscribe_s,
            Reason.OPERATOR: None,
        }[reason]
        if lasts_s == 0:
            return None
        expires_at = at + int(lasts_s * _MS) if lasts_s is not None else None
        return Entry(account, tag, Kind.ADDRESS, address.lower(), reason, note, at, expires_at, cause)

    def add(self, tx: Transaction, entries: Sequence[Entry]) -> None:
        """In the transaction of what caused them."""
        for one in entries:
            self._sieve.add(one.value)
        tx.cursor.executemany(self._sql["suppression_add"], [_values(one) for one in entries])
        weaker = [(one.value, one.kind.value, one.account, one.tag, one.expires_at) for one in entries]
        tx.cursor.executemany(self._sql["suppression_lengthen"], weaker)

    def remove(self, tx: Transaction, removals: Sequence[Removal]) -> list[int]:
        """How many entries went, for each."""
        return [sum(self._remove(tx, one, value) for value in one.values) for one in removals]

    def may_have(self, value: str) -> bool:
        """Whether there may be an entry for an address or a domain in lower case."""
        return self._sieve.may_have(value)

    def relieve(self, tx: Transaction, delivered: Sequence[tuple[str, str]]) -> None:
        """(account, address) got mail: what a bounce had said of them is wrong now."""
        asked = [(address.lower(), account) for account, address in delivered]
        tx.cursor.executemany(self._sql["suppression_relieve"], asked)

    def forget(self, tx: Transaction, address: str, hashed: str) -> int:
        """Keep a hash in place of an address, in every account, without the notes; how many entries there were."""
        found = [entry_of(row) for row in tx.all(self._sql["suppression_erased"], (address.lower(),))]
        tx.cursor.executemany(self._sql["suppression_delete"], [(one.id,) for one in found])
        self.add(tx, [replace(one, value=hashed, note="", cause=None) for one in found])
        return len(found)

    def expired(self, tx: Transaction, moments: Sequence[int]) -> list[bool]:
        """Drop some of what has ended; whether there is more. A step of the sweep."""
        return [self._expired(tx, now) for now in moments]

    def _remove(self, tx: Transaction, removal: Removal, value: str) -> int:
        if removal.tag is None:
            return len(tx.all(self._sql["suppression_remove"], (value, removal.account)))
        return len(tx.all(self._sql["suppression_remove_tag"], (value, removal.account, removal.tag)))

    def _expired(self, tx: Transaction, now: int) -> bool:
        rows = tx.all(self._sql["suppression_old"], (now, STEP_ROWS))
        tx.cursor.executemany(self._sql["suppression_delete"], rows)
        return len(rows) == STEP_ROWS


def _values(one: Entry) -> Row:
    return (
        one.account,
        one.tag,
        one.kind.value,
        one.value,
        one.reason.value,
        one.note,
        one.created_at,
        one.expires_at,
        one.cause,
    )
