"""Changing the DKIM keys of a domain: the next key is made, published, seen, and only then used.

Guarantees: nothing is signed with a key whose record the resolver does not show, but where the operator says so; a key
that signed stays published for `KEPT_S` after its last signature, for verifiers of mail on its way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from gateway import views
from gateway.errors import GatewayError, Reason, Refused
from gateway.manage import dkimkeys, refusals
from gateway.manage.dkimkeys import DkimKeys
from gateway.manage.domains import DomainActions, domain_name
from gateway.message import dkim
from gateway.message.dkim import Algorithm
from gateway.policy.domains import SigningKey
from gateway.resolver import LookupFailed, Missing
from gateway.runtime import Clock
from gateway.store.records import DkimKeyRecord, DomainRecord, Duplicate, Records

LOOK_S: Final = 600.0  # so often a key that waits is looked for
KEPT_S: Final = 7 * 86_400  # longer than any mail is tried

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]
Txt = tuple[str, ...] | Missing | LookupFailed
Lookup = Callable[[str], Awaitable[Txt]]  # the TXT records of a name


class Rotation:
    """Actions over one store; `lookup` asks the resolver."""

    def __init__(self, records: Records, keys: DkimKeys, domains: DomainActions, lookup: Lookup, clock: Clock) -> None:
        self._records = records
        self._keys = keys
        self._domains = domains
        self._lookup = lookup
        self._clock = clock

    async def rotate(self, args: Args) -> Any:
        """Args: name, selector, now. Makes the next keys where there are none yet, and signs with those that are
        published (with `now`: with all). The answer is `check`'s."""
        domain = await self._domain(args["name"])
        if not any(_is_next(key) for key in domain.keys):
            await self._make_next(domain, args.get("selector"))
        elif args.get("selector"):
            text = "the next key is made already and has its selector"
            raise refusals.invalid("selector", text)
        await self._advance(domain.name, unseen=bool(args.get("now")))
        return await self.check({"name": domain.name})

    async def check(self, args: Args) -> Any:
        """Args: name. The keys of a domain, what each is for, and whether the resolver shows its record."""
        domain = await self._domain(args["name"])
        keys = await asyncio.gather(*[self._view(domain.name, key) for key in domain.keys])
        return {"name": domain.name, "keys": list(keys)}

    async def follow(self) -> None:
        """Look after waiting and old keys, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except GatewayError as error:  # a store that is away, a key that cannot be read: mail goes on all the same
                log.error("DKIM keys cannot be looked after: %s", error)  # noqa: TRY400 - the cause is in the text

    async def look(self) -> None:
        """Use the keys that are published by now, forget those that are old enough."""
        for domain in await self._records.domains():
            if any(_is_next(key) for key in domain.keys):
                await self._advance(domain.name, unseen=False)
        old = self._clock.now_ms() - KEPT_S * 1000
        for name, selector in await self._records.forget_dkim_keys(old):
            log.info("domain %s: the record of %s._domainkey can be removed", name, selector)

    async def _domain(self, text: str) -> DomainRecord:
        name = domain_name(text)
        for record in await self._records.domains():
            if record.name == name:
                return record
        if self._domains.is_declared(name):
            raise refusals.declared("domain", name, remedy="; its keys are looked after there")
        raise refusals.unknown("domain", name)

    async def _make_next(self, domain: DomainRecord, selector: str | None) -> None:
        for key in [key for key in domain.keys if key.active]:
            algorithm = Algorithm.ED25519 if key.algorithm == Algorithm.ED25519.key_type else Algorithm.RSA
            name = _free(dkimkeys.next_selector(key.selector), domain.keys)
            if selector:
                name = selector if algorithm is Algorithm.RSA else dkimkeys.ed25519_selector(selector)
            following = await self._keys.make(domain.name, name, algorithm, active=False)
            try:
                known = await self._records.add_dkim_key(domain.name, following)
            except Duplicate as error:
                raise Refused(Reason.CONFLICT, str(error), param="selector") from error
            if not known:
                raise refusals.unknown("domain", domain.name)  # removed meanwhile
            log.info("domain %s: the next key is made: selector=%s", domain.name, name)

    async def _advance(self, name: str, *, unseen: bool) -> None:
        """Sign with the next keys that are published, or `unseen` with all."""
        domain = await self._domain(name)
        changed = False
        waiting = [key for key in domain.keys if _is_next(key)]
        seen = await asyncio.gather(*[self._published(await self._read(name, key)) for key in waiting])
        for key, shown in zip(waiting, seen, strict=True):
            if not unseen and shown != "yes":
                continue
            if await self._records.activate_dkim_key(name, key.selector, self._clock.now_ms()):
                log.info("domain %s is signed with the selector %s from now on", name, key.selector)
                changed = True
        if changed:
            await self._domains.load()

    async def _view(self, domain: str, record: DkimKeyRecord) -> dict[str, Any]:
        key = await self._read(domain, record)
        kept_until = record.retired_at + KEPT_S * 1000 if record.retired_at is not None else None
        return {
            "algorithm": record.algorithm,
            "state": _state(record),
            "published": await self._published(key),
            "kept_until": views.time_view(kept_until),
            **views.record_view(key),
        }

    async def _read(self, domain: str, record: DkimKeyRecord) -> SigningKey:
        return await asyncio.to_thread(self._keys.read, domain, record)

    async def _published(self, key: SigningKey) -> str:
        """`yes`, or what the resolver shows in its place."""
        match await self._lookup(f"{key.selector}._domainkey.{key.domain}"):
            case LookupFailed(reason):
                return f"unknown: {reason}"
            case Missing():
                return "no"
            case texts:
                return "yes" if _shows(texts, key.private) else "another record"


def _shows(texts: Sequence[str], private: dkim.PrivateKey) -> bool:
    """Of several records verifiers take any (RFC 6376, 3.6.2.2): all must be right."""
    return bool(texts) and all(dkim.publishes(text, private) for text in texts)


def _is_next(key: DkimKeyRecord) -> bool:
    return not key.active and key.retired_at is None


def _state(key: DkimKeyRecord) -> str:
    if key.active:
        return "signs"
    return "next" if _is_next(key) else "retired"


def _free(selector: str, keys: Sequence[DkimKeyRecord]) -> str:
    """A selector is never used twice: its record would be cached with the key before."""
    used = {key.selector for key in keys}
    while selector in used:
        selector = dkimkeys.next_selector(selector)
    return selector
