"""DNS: the only dnspython user. Names in, values out.

Guarantees: a name that does not exist, a name without such a record and a lookup that failed are three different
things; failures are values; answers are kept for their TTL, within bounds; a question that is being asked is not asked
again; what cannot be a host name is never asked; no search list. It does not choose among hosts (delivery/mx.py).
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.resolver
import idna

from gateway.config import Listen

CACHE_ENTRIES: Final = 10_000
LIFETIME_S: Final = 10.0  # of one question, all servers and retries together
FAILURE_S: Final = 5.0  # so long a failed lookup is not tried again (RFC 2308, 7: at most 5 minutes)
FAILURES: Final = 1000  # that are remembered
_TRY_S: Final = 2.0  # for one answer of one server
_PROBES: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737, 3849: documentation
# Letters, digits, hyphens inside (RFC 5321, 4.1.2), and underscores, which some hosts have.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)


class Missing(Enum):
    """Why there is no record, for certain."""

    NAME = "no such name"  # NXDOMAIN
    RECORD = "no such record"


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """Nobody knows now: SERVFAIL, REFUSED, a CNAME loop, no answer."""

    reason: str


Answer = dns.resolver.Answer | Missing | LookupFailed


class Resolver:
    """Asks the given nameservers, or the system's."""

    def __init__(self, nameservers: Sequence[Listen] = (), *, lifetime_s: float = LIFETIME_S) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if nameservers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(server.host, server.port) for server in nameservers
            ]
        else:
            try:
                self._resolver.read_resolv_conf("/etc/resolv.conf")
            except dns.resolver.NoResolverConfiguration:
                self._resolver.nameservers = ["127.0.0.1"]  # what resolv.conf(5) says for a machine without one
        self._resolver.cache = dns.resolver.LRUCache(CACHE_ENTRIES)
        self._resolver.lifetime = lifetime_s
        self._resolver.timeout = min(_TRY_S, lifetime_s)
        self._asking: dict[tuple[dns.name.Name, str], asyncio.Future[Answer | None]] = {}
        self._failed: dict[tuple[dns.name.Name, str], tuple[LookupFailed, float]] = {}

    async def mx(self, domain: str) -> tuple[tuple[int, str], ...] | Missing | LookupFailed:
        """(preference, host) of each MX record; the host "" is the null MX's."""
        answer = await self._ask(domain, "MX")
        if not isinstance(answer, dns.resolver.Answer):
            return answer
        return tuple(
            (record.preference, record.exchange.to_text(omit_final_dot=True).lower().removesuffix("."))
            for record in answer
            if isinstance(record, dns.rdtypes.ANY.MX.MX)
        )

    async def addresses(self, host: str, *, ipv4: bool, ipv6: bool) -> tuple[str, ...] | Missing | LookupFailed:
        """The host's addresses, IPv6 first and then by turns. With one family failing, the other is enough."""
        kinds = [kind for kind, wanted in (("AAAA", ipv6), ("A", ipv4)) if wanted]
        answers = await asyncio.gather(*[self._ask(host, kind) for kind in kinds])
        found = [[str(record.address) for record in a] for a in answers if isinstance(a, dns.resolver.Answer)]
        if found:
            longest = max(map(len, found))
            return tuple(family[i] for i in range(longest) for family in found if i < len(family))
        for answer in answers:
            if isinstance(answer, LookupFailed):
                return answer
        return Missing.NAME if Missing.NAME in answers else Missing.RECORD

    async def _ask(self, name: str, kind: str) -> Answer:
        absolute = _absolute(name)
        if absolute is None:
            return Missing.NAME
        question = (absolute, kind)
        while (asking := self._asking.get(question)) is not None:
            answer = await asyncio.shield(asking)
            if answer is not None:
                return answer
            # Who asked was cancelled: the next in line asks.
        loop = asyncio.get_running_loop()
        if (failed := self._failed.get(question)) is not None and failed[1] > loop.time():
            return failed[0]
        future: asyncio.Future[Answer | None] = loop.create_future()
        self._asking[question] = future
        answer = None
        try:
            answer = await self._lookup(absolute, kind)
        finally:
            del self._asking[question]
            future.set_result(answer)
        if isinstance(answer, LookupFailed):
            self._remember(question, answer, loop.time() + FAILURE_S)
        return answer

    def _remember(self, question: tuple[dns.name.Name, str], failed: LookupFailed, until: float) -> None:
        self._failed.pop(question, None)
        while len(self._failed) >= FAILURES:
            del self._failed[next(iter(self._failed))]
        self._failed[question] = (failed, until)

    async def _lookup(self, name: dns.name.Name, kind: str) -> Answer:
        try:
            return await self._resolver.resolve(name, kind, search=False)
        except dns.resolver.NXDOMAIN:
            return Missing.NAME
        except dns.resolver.NoAnswer as error:
            if _is_referral(error.kwargs.get("response")):
                return LookupFailed("the nameserver does not resolve names of others")
            return Missing.RECORD
        except dns.resolver.LifetimeTimeout:
            return LookupFailed("no answer in time")
        except dns.resolver.NoNameservers as error:
            reasons = {str(e[3]) or type(e[3]).__name__ for e in error.kwargs.get("errors", ())}
            return LookupFailed("; ".join(sorted(reasons)) or "no nameserver could answer")
        except (dns.exception.DNSException, OSError) as error:
            return LookupFailed(str(error) or type(error).__name__)


def _absolute(name: str) -> dns.name.Name | None:
    """The name as DNS has it; None for what cannot be a host name, which is never asked."""
    text = name.removesuffix(".")
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError:
            return None
    labels = text.split(".")
    if len(text) > 253 or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        return None
    return dns.name.Name([label.encode() for label in labels] + [b""])


def _is_referral(response: object) -> bool:
    """NOERROR with the names of other servers and without a SOA is no word about records (RFC 2308, 2.2)."""
    if not isinstance(response, dns.message.Message):
        return False
    kinds = {rrset.rdtype for rrset in response.authority}
    return dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds and not response.answer


def has_route(family: socket.AddressFamily) -> bool:
    """Whether this machine can reach the internet by that family (AF_INET, AF_INET6): asks the kernel's routing table,
    sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_PROBES[family], 9))
    except OSError:
        return False
    return True


def has_ipv6_route() -> bool:
    """Whether this machine can reach the IPv6 internet at all."""
    return has_route(socket.AF_INET6)
