"""The list of who is not sent to, as people and programs see and change it: one account at a time.

Guarantees: what is wrong with an entry is said of that entry, and the others are taken; each change is in the log; who
removes an address removes it in both forms, plain and as the hash that stands for an erased person's.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.errors import Reason as Refusal
from gateway.errors import Refused
from gateway.message import address
from gateway.message.labels import MAX_TAG_CHARACTERS
from gateway.runtime import Clock, rfc3339, show_id
from gateway.store.sieve import HASHED
from gateway.store.suppressed import Suppressed, Which
from gateway.store.suppression import EVERYBODY, Entry, Kind, Reason, Removal
from gateway.tokens import Tokens

MAX_NOTE_CHARACTERS: Final = 500
STEP_ENTRIES: Final = 250  # of a transaction, and read in one go: some milliseconds
STEP_PARSED: Final = 25  # that are parsed in one turn of the loop: a domain in another script takes 0.2 ms
_HASH: Final = re.compile(HASHED + "[a-z2-7]{26}", re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")  # what no tag of a message has either
_LAST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z: no later time can be shown

log = logging.getLogger("gateway.manage")


@dataclass(frozen=True, slots=True)
class Given:
    """An entry as somebody gives it, "" for what is not said. `value` is an address, or a domain, also as `@domain`;
    times are RFC 3339, in UTC where they say no offset."""

    value: str
    reason: str = ""
    tag: str = ""
    note: str = ""
    created_at: str = ""
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the entry of this place among those that were given."""

    place: int
    error: Refused


class SuppressionList:
    """Over one store. Errors of all: StoreError; Refused where said."""

    def __init__(self, store: Suppressed, tokens: Tokens, clock: Clock) -> None:
        self._store = store
        self.tokens = tokens
        self._clock = clock

    def read(self, given: Given, account: str, usual: Reason = Reason.OPERATOR) -> Entry:
        """What is meant; `usual` where no reason is given. Raises Refused."""
        kind, value = parse_value(given.value)
        now = self._clock.now_ms()
        expires_at = _time(given.expires_at, "expires_at")
        if expires_at is not None and expires_at <= now:
            raise _wrong("expires_at", "is a time that is over")
        return Entry(
            account=account,
            tag=_text(given.tag, "tag", MAX_TAG_CHARACTERS),
            kind=kind,
            value=value,
            reason=parse_reason(given.reason) if given.reason else usual,
            note=_text(given.note, "note", MAX_NOTE_CHARACTERS),
            created_at=min(_time(given.created_at, "created_at") or now, now),
            expires_at=expires_at,
        )

    async def add(self, entry: Entry) -> Entry:
        """As it stands in the list then: an entry that lasts longer, or has a stronger reason, is not weakened."""
        await self._store.add((entry,))
        log.info("suppression %s%s added%s: %s", entry.value, _tagged(entry.tag), _for(entry.account), entry.reason)
        which = Which(entry.account, (entry.value,), tag=entry.tag)
        return next((one for one in await self._store.page(which) if one.kind is entry.kind), entry)

    async def add_all(self, given: Sequence[Given], account: str, usual: Reason) -> tuple[int, list[Fault]]:
        """How many were taken, and what is wrong with the others."""
        added, faults = 0, []
        for begin in range(0, len(given), STEP_ENTRIES):
            entries = []
            for place, one in enumerate(given[begin : begin + STEP_ENTRIES], begin):
                try:
                    entries.append(self.read(one, account, usual))
                except Refused as error:
                    faults.append(Fault(place, error))
            if entries:
                await self._store.add(entries)
                added += len(entries)
        log.info("suppressions added%s: %d, refused: %d", _for(account), added, len(faults))
        return added, faults

    async def remove(self, account: str, values: Sequence[str], tag: str | None = None) -> list[int]:
        """How many entries went, for each address or domain. Raises Refused where one is neither."""
        parsed: list[tuple[Kind, str]] = []
        for value in values:  # all, before anything is removed
            parsed.append(parse_value(value))
            if len(parsed) % STEP_PARSED == 0:
                await asyncio.sleep(0)
        counts: list[int] = []
        for begin in range(0, len(parsed), STEP_ENTRIES):  # the hashes are made between steps, not all at once
            step = parsed[begin : begin + STEP_ENTRIES]
            counts += await self._store.remove([Removal(account, self._forms(*one), tag) for one in step])
        if len(values) == 1 and counts[0]:
            log.info("suppression %s%s removed%s", values[0], _tagged(tag or ""), _for(account))
        elif any(counts):
            log.info("suppressions removed%s: %d", _for(account), sum(counts))
        return counts

    async def page(
        self, account: str | None, *, address: str, reason: str, tag: str, before: int, limit: int
    ) -> list[Entry]:
        """Newest first; "" is no condition. `before` is the id of the last entry of the page before. Raises Refused."""
        which = Which(
            account,
            values=self._forms(*parse_value(address)) if address else (),
            reason=parse_reason(reason) if reason else None,
            tag=tag or None,
            before=before,
            limit=limit,
        )
        return await self._store.page(which)

    async def after(self, account: str, last: int, limit: int) -> list[Entry]:
        """The next ones behind an id, oldest first, those too whose time is up."""
        return await self._store.after(account, last, limit)

    def view(self, entry: Entry) -> dict[str, Any]:
        """As JSON values; the event that caused it by its public id."""
        event = None if entry.cause is None else self.tokens.event_id(entry.cause, entry.created_at)
        return {
            "address": entry.value,
            "kind": entry.kind.value,
            "reason": entry.reason.value,
            "tag": entry.tag or None,
            "note": entry.note,
            "created_at": rfc3339(entry.created_at),
            "expires_at": None if entry.expires_at is None else rfc3339(entry.expires_at),
            "event_id": None if event is None else show_id("evt_", event),
        }

    def _forms(self, kind: Kind, value: str) -> tuple[str, ...]:
        """As what it may stand in the list."""
        if kind is Kind.DOMAIN or value.startswith(HASHED):
            return (value,)
        return (value, self.tokens.hashed(value))


def parse_value(text: str) -> tuple[Kind, str]:
    """An address, a domain (`example.org`, `@example.org`) or a hash, in lower case. Raises Refused."""
    given = text.strip()
    if _HASH.fullmatch(given):
        return Kind.ADDRESS, given
    try:
        if "@" in given.removeprefix("@"):
            return Kind.ADDRESS, address.parse_path(given).lower()
        domain = address.parse_domain(given.removeprefix("@"))
    except address.AddressError as error:
        raise _wrong("address", str(error)) from error
    if "." not in domain:  # the heading of a list, a name
        raise _wrong("address", f"{domain} is neither an address nor a domain")
    return Kind.DOMAIN, domain.lower()


def parse_reason(text: str) -> Reason:
    """Raises Refused."""
    try:
        return Reason(text.strip().lower())
    except ValueError as error:
        raise _wrong("reason", f"one of {', '.join(Reason)}") from error


def _wrong(param: str, text: str) -> Refused:
    return Refused(Refusal.VALIDATION_ERROR, f"{param}: {text}", param=param)


def _text(text: str, param: str, most: int) -> str:
    given = text.strip()
    if len(given) > most:
        raise _wrong(param, f"at most {most} characters")
    if _CONTROL.search(given):
        raise _wrong(param, "has a line break or another control character")
    return given


def _time(text: str, param: str) -> int | None:
    """Unix milliseconds; None where nothing is said."""
    given = text.strip()
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise _wrong(param, f"{given[:40]!r} is not a time as 2026-11-21T08:30:00Z") from error
    at = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if not 0 <= at <= _LAST_MS:
        raise _wrong(param, f"{given[:40]!r} is not a time of the years 1970 to 9999")
    return at


def _tagged(tag: str) -> str:
    return f" (tag {tag})" if tag else ""


def _for(account: str) -> str:
    return " for everybody" if account == EVERYBODY else f" for {account}"
