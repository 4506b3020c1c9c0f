"""Who is not sent to: asked before mail is taken, and again before it is sent.

Guarantees: for an address that was never suppressed the answer costs about a microsecond, no thread and no statement,
however many others are; only what may be an entry is looked up. An entry whose time is up does not count.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from gateway.errors import Reason as Refusal
from gateway.errors import Refused
from gateway.message import address as addresses_of
from gateway.runtime import Clock
from gateway.store.sieve import Sieve
from gateway.store.suppression import Entry, Kind, Reason
from gateway.tokens import Tokens

# Addresses of which the hash is kept for a while: each is asked for at RCPT, at intake and at the attempt.
REMEMBERED: Final = 4096
_NOT: Final[Sequence[tuple[str, Kind]]] = ()
NOBODY: Final[Mapping[str, Entry]] = MappingProxyType({})

# What a client is told: what we know of the recipient, and nothing of whose mail taught us.
WORDS: Final = {
    Reason.BOUNCE: "mail to it has bounced",
    Reason.COMPLAINT: "its owner complained about mail",
    Reason.UNSUBSCRIBE: "its owner unsubscribed",
    Reason.OPERATOR: "an operator has suppressed it",
}


class Source(Protocol):
    """The part of the store that is used."""

    @property
    def sieve(self) -> Sieve: ...

    async def find(self, account: str, asked: Sequence[tuple[str, Kind]]) -> list[Entry]: ...


class Suppressions:
    """`tokens` hashes addresses as those of erased persons are kept."""

    def __init__(self, source: Source, tokens: Tokens, clock: Clock) -> None:
        self._source = source
        self._sieve = source.sieve
        self._hashed = functools.lru_cache(maxsize=REMEMBERED)(tokens.hashed)
        self._clock = clock

    def may_have(self, address: str) -> bool:
        """Whether an address has to be looked up; False: it is not suppressed for anybody."""
        return not self._sieve.is_empty and bool(self._suspects(address))

    async def find(self, account: str, tags: Collection[str], addresses: Collection[str]) -> Mapping[str, Entry]:
        """Those of the addresses that an account does not send to in mail with these tags, each with the strongest
        reason. Addresses are in normal form. Raises StoreError."""
        if self._sieve.is_empty:
            return NOBODY
        asked = {}
        for address in addresses:
            if suspects := self._suspects(address):
                asked[address] = suspects
        if not asked:
            return NOBODY
        wanted = list({suspect: None for suspects in asked.values() for suspect in suspects})
        now = self._clock.now_ms()
        by_value: dict[tuple[str, Kind], Entry] = {}
        for entry in await self._source.find(account, wanted):
            if _counts(entry, tags, now):
                key = (entry.value, entry.kind)
                by_value[key] = _stronger(entry, by_value.get(key))
        found: dict[str, Entry] = {}
        for address, suspects in asked.items():
            for suspect in suspects:
                if suspect in by_value:
                    found[address] = _stronger(by_value[suspect], found.get(address))
        return found

    def _suspects(self, address: str) -> Sequence[tuple[str, Kind]]:
        """As what it may be in the list."""
        sieve = self._sieve
        may_have = sieve.may_have
        value = address.lower()
        domain = addresses_of.domain_of(value)
        if not (sieve.may_have_hashes or may_have(value) or may_have(domain)):
            return _NOT
        found = []
        if may_have(value):
            found.append((value, Kind.ADDRESS))
        if may_have(domain):
            found.append((domain, Kind.DOMAIN))
        if sieve.may_have_hashes:
            hashed = self._hashed(value)
            if may_have(hashed):
                found.append((hashed, Kind.ADDRESS))
        return found


def refused(entry: Entry) -> str:
    """Why nothing is sent there, in public words."""
    what = "The domain" if entry.kind is Kind.DOMAIN else "The recipient"
    return f"{what} is suppressed: {WORDS[entry.reason]}."


def refusal(entry: Entry, *, param: str | None = None) -> Refused:
    """Of a message whose every recipient is suppressed, or of one recipient by SMTP."""
    return Refused(Refusal.RECIPIENT_SUPPRESSED, refused(entry), param=param)


def _counts(entry: Entry, tags: Collection[str], now: int) -> bool:
    in_time = entry.expires_at is None or entry.expires_at > now
    return in_time and (not entry.tag or entry.tag in tags)


def _stronger(one: Entry, other: Entry | None) -> Entry:
    return one if other is None or one.reason.strength > other.reason.strength else other
