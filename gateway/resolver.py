"""DNS: the only dnspython user. Names in, values out.

Guarantees: a name that does not exist, a name without such a record and a lookup that failed are three different
things; failures are values; answers are kept for their TTL, within bounds; a question that is being asked is not asked
again. It does not choose among hosts (delivery/mx.py).
"""

import asyncio
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.resolver

from gateway.config import Listen

CACHE_ENTRIES: Final = 10_000
LIFETIME_S: Final = 10.0  # of one question, all servers and retries together


class Missing(Enum):
    """Why there is no record, for certain."""

    NAME = "no such name"  # NXDOMAIN
    RECORD = "no such record"


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """Nobody knows now: SERVFAIL, REFUSED, a CNAME loop, no answer."""

    reason: str


class Resolver:
    """Asks the given nameservers, or the system's."""

    def __init__(self, nameservers: Sequence[Listen] = (), *, lifetime_s: float = LIFETIME_S) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(server.host, server.port) for server in nameservers
            ]
        self._resolver.cache = dns.resolver.LRUCache(CACHE_ENTRIES)
        self._resolver.lifetime = lifetime_s
        self._resolver.timeout = min(2.0, lifetime_s)
        self._asking: dict[tuple[str, str], asyncio.Future[dns.resolver.Answer | Missing | LookupFailed]] = {}

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
        answers = [await self._ask(host, kind) for kind in kinds]
        found = [[str(record.address) for record in a] for a in answers if isinstance(a, dns.resolver.Answer)]
        if found:
            longest = max(map(len, found))
            return tuple(family[i] for i in range(longest) for family in found if i < len(family))
        for answer in answers:
            if isinstance(answer, LookupFailed):
                return answer
        return Missing.NAME if Missing.NAME in answers else Missing.RECORD

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer | Missing | LookupFailed:
        question = (name, kind)
        asking = self._asking.get(question)
        if asking is not None:
            return await asyncio.shield(asking)
        future = asyncio.get_running_loop().create_future()
        self._asking[question] = future
        answer: dns.resolver.Answer | Missing | LookupFailed = LookupFailed("the lookup was cancelled")
        try:
            answer = await self._lookup(name, kind)
        finally:
            del self._asking[question]
            future.set_result(answer)
        return answer

    async def _lookup(self, name: str, kind: str) -> dns.resolver.Answer | Missing | LookupFailed:
        try:
            absolute = dns.name.from_text(name)
            return await self._resolver.resolve(absolute, kind, search=False)
        except dns.resolver.NXDOMAIN:
            return Missing.NAME
        except dns.resolver.NoAnswer:
            return Missing.RECORD
        except (dns.name.EmptyLabel, dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.BadEscape):
            return Missing.NAME  # no such name can exist
        except dns.resolver.LifetimeTimeout:
            return LookupFailed("no answer in time")
        except dns.resolver.NoNameservers as error:
            codes = {str(e[3]) for e in error.kwargs.get("errors", ()) if isinstance(e[3], (str, Exception))}
            return LookupFailed("; ".join(sorted(codes)) or "no nameserver could answer")
        except (dns.exception.DNSException, OSError) as error:
            return LookupFailed(str(error) or type(error).__name__)


def has_ipv6_route() -> bool:
    """Whether this machine can reach the IPv6 internet at all; asks the kernel's routing table, sends nothing."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:db8::1", 9))  # RFC 3849: a documentation address
    except OSError as error:
        if error.errno in {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EHOSTUNREACH}:
            return False
        raise
    return True
