"""The MTA-STS policies that are known: asked for by recipient domain, kept until their max_age, renewed before it ends.

Guarantees: a policy that is known and not at its end counts, whatever DNS and the policy host say now (RFC 8461, 3.3);
it survives a restart; a fetch that failed is not tried again for a while; one domain is fetched once at a time. Keyed
by the recipient's domain and nothing else: nobody can set a policy for the hosts that serve others too.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.delivery.tls import mtasts
from gateway.delivery.tls.mtasts import Policy
from gateway.errors import StoreError
from gateway.policyhost import FetchFailed
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.records import StsRecord

POLICIES: Final = 20_000  # in memory; what was not used for longest goes, and is in the store until the next start
FAILURE_S: Final = 300.0  # RFC 8461, 3.3: a fetch that failed is not tried again for five minutes
FAILURES: Final = 10_000
RENEW_S: Final = 86_400.0  # RFC 8461, 3.3: a policy is fetched again now and then, though its id is the same

log = logging.getLogger("gateway.delivery")


class Fetcher(Protocol):
    """policyhost.PolicyHost."""

    async def fetch(self, domain: str) -> str | FetchFailed: ...


class Kept(Protocol):
    """What is needed of store/records.py: Records."""

    async def sts_policies(self, now: int) -> Sequence[StsRecord]: ...

    async def save_sts_policy(self, record: StsRecord) -> None: ...


@dataclass(frozen=True, slots=True)
class _Known:
    policy: Policy
    id: str
    fetched_at: int
    expires_at: int


class StsPolicies:
    """Finds the policy of a domain."""

    def __init__(self, records: Kept, resolver: Resolver, fetcher: Fetcher, clock: Clock) -> None:
        self._records = records
        self._resolver = resolver
        self._fetcher = fetcher
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failed: OrderedDict[tuple[str, str], float] = OrderedDict()  # domain and id, until
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._loaded = False
        self._loading = asyncio.Lock()

    async def policy(self, domain: str) -> Policy | None:
        """The policy that counts now; None: the domain has none. `domain` as A-labels in lower case."""
        if not self._loaded:
            await self._load()
        records = await self._resolver.txt(f"_mta-sts.{domain}")
        announced = mtasts.record_id(records) if isinstance(records, tuple) else None
        known = self._current(domain)
        if announced is None or not self._is_due(domain, announced, known):
            return known.policy if known is not None else None
        return await self._renew(domain, announced)

    def _current(self, domain: str) -> _Known | None:
        known = self._known.get(domain)
        if known is None:
            return None
        if known.expires_at <= self._clock.now_ms():
            del self._known[domain]
            return None
        self._known.move_to_end(domain)
        return known

    def _is_due(self, domain: str, announced: str, known: _Known | None) -> bool:
        until = self._failed.get((domain, announced))
        if until is not None and until > self._clock.monotonic():
            return False
        if known is None or known.id != announced:
            return True
        half_s = (known.expires_at - known.fetched_at) / 2000
        return self._clock.now_ms() - known.fetched_at >= min(RENEW_S, half_s) * 1000

    async def _renew(self, domain: str, announced: str) -> Policy | None:
        """Fetch it, once for all who ask meanwhile."""
        lock, users = self._locks.get(domain, (asyncio.Lock(), 0))
        self._locks[domain] = lock, users + 1
        try:
            async with lock:
                known = self._current(domain)
                if self._is_due(domain, announced, known):
                    await self._fetch(domain, announced)
        finally:
            lock, users = self._locks.pop(domain)
            if users > 1:
                self._locks[domain] = lock, users - 1
        known = self._current(domain)
        return known.policy if known is not None else None

    async def _fetch(self, domain: str, announced: str) -> None:
        text = await self._fetcher.fetch(domain)
        policy = mtasts.parse_policy(text) if isinstance(text, str) else None
        if policy is None or isinstance(text, FetchFailed):
            why = text.reason if isinstance(text, FetchFailed) else "it is not well-formed"
            log.warning("the MTA-STS policy of %s cannot be had: %s", domain, why)
            self._note_failure(domain, announced)
            return
        now = self._clock.now_ms()
        # A max_age of nothing is no leave to ask for it with each message (RFC 8461, 3.3).
        kept_s = max(policy.max_age_s, int(FAILURE_S))
        record = StsRecord(domain, announced, text, now, now + kept_s * 1000)
        self._keep(record, policy)
        try:
            await self._records.save_sts_policy(record)
        except StoreError as error:
            log.warning("the MTA-STS policy of %s cannot be written: %s", domain, error)

    def _note_failure(self, domain: str, announced: str) -> None:
        self._failed.pop((domain, announced), None)
        while len(self._failed) >= FAILURES:
            self._failed.popitem(last=False)
        self._failed[domain, announced] = self._clock.monotonic() + FAILURE_S

    def _keep(self, record: StsRecord, policy: Policy) -> None:
        self._known.pop(record.domain, None)
        while len(self._known) >= POLICIES:
            self._known.popitem(last=False)
        self._known[record.domain] = _Known(policy, record.id, record.fetched_at, record.expires_at)

    async def _load(self) -> None:
        """What earlier processes fetched. Without it a policy would not count until it is fetched again."""
        async with self._loading:
            if self._loaded:
                return
            try:
                records = await self._records.sts_policies(self._clock.now_ms())
            except StoreError as error:
                log.warning("the known MTA-STS policies cannot be read: %s", error)
                return  # the next one who asks tries again
            for record in records:
                policy = mtasts.parse_policy(record.text)
                if policy is not None:
                    self._keep(record, policy)
            self._loaded = True
