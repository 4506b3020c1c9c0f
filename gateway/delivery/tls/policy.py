"""What a connection to a next hop must prove: by its route, by the recipient's domain (DANE, MTA-STS), by the message.

Guarantees: where one of them demands TLS there is no way in clear; DANE comes before MTA-STS (RFC 8461, 2), and counts
only where every answer on the way to it was authentic; what cannot be known now puts the host off, it does not lower
the demand. Deciding is pure (`decide`, `of_relay`); TlsPolicies asks DNS and the policy host. It does not connect.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.config import HopTls, MxRoute, RelayRoute
from gateway.delivery.tls import dane, mtasts
from gateway.delivery.tls.dane import Tlsa
from gateway.delivery.tls.mtasts import Mode, Policy
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.delivery.verdict import Word
from gateway.message import model
from gateway.resolver import LookupFailed, Missing, Resolver

DANE: Final = "DANE"
MTA_STS: Final = "MTA-STS"
REQUIRE_TLS: Final = "REQUIRETLS"
_LOWEST: Final = "1.2"  # RFC 8461, 4.2, and RFC 9325, 3.1.1: of a connection that a policy vouches for


@dataclass(frozen=True, slots=True)
class Demand:
    """What a connection must be. `tlsa`: one of them must match, in place of `verify`; `names` are then those that the
    certificate may be for, the first the one that is asked for. `policy`: whose demand it is, "" for the route's."""

    tls: HopTls
    min_tls: str
    verify: bool = False
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()
    policy: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Anchors:
    """The TLSA records of a host: those that can be used (none: TLS without proof, RFC 7672, 2.2), and its names."""

    tlsa: tuple[Tlsa, ...]
    names: tuple[str, ...]


def of_relay(route: RelayRoute, wish: int) -> Demand | Word:
    """Relays are chosen by the operator: no policy of a domain is asked, and a message may only raise the demand."""
    # Opportunistic TLS is better than none whoever answers (RFC 7435).
    plain = Demand(route.tls, route.min_tls, verify=route.verify and route.tls is not HopTls.OPPORTUNISTIC)
    if wish != model.TLS_REQUIRED:
        return plain
    if route.tls is HopTls.NONE or not route.verify:
        return _no_way(f"the message requires verified TLS (REQUIRETLS), which the route {route.name} does not have")
    tls = HopTls.STARTTLS if route.tls is HopTls.OPPORTUNISTIC else route.tls
    return Demand(tls, max(route.min_tls, _LOWEST), verify=True, policy=REQUIRE_TLS)


def decide(
    route: MxRoute, domain: str, host: str, wish: int, *, sts: Policy | None, anchors: Anchors | None
) -> Demand | Word:
    """What an MX host of the domain must prove; a word where it may not be contacted."""
    if route.tls is HopTls.NONE:
        if wish == model.TLS_REQUIRED:
            return _no_way(f"the message requires TLS (REQUIRETLS), which the route {route.name} does not have")
        return Demand(HopTls.NONE, route.min_tls)
    if wish == model.TLS_OPTIONAL:
        return Demand(route.tls, route.min_tls)  # RFC 8689, 5: the recipient's policies do not count, our own do
    strict = max(route.min_tls, _LOWEST)
    if anchors is not None and anchors.tlsa:
        return Demand(HopTls.STARTTLS, strict, tlsa=anchors.tlsa, names=anchors.names, policy=DANE)
    if sts is not None and sts.mode is Mode.ENFORCE:
        if not mtasts.names(sts, host):
            return Word("tls", 0, "4.7.5", f"451 4.7.5 the MTA-STS policy of {domain} does not name {host}")
        return Demand(HopTls.STARTTLS, strict, verify=True, policy=MTA_STS)
    if wish == model.TLS_REQUIRED:
        return Demand(HopTls.STARTTLS, strict, verify=True, policy=REQUIRE_TLS)
    note = _tested(domain, host, sts)
    if anchors is not None:
        return Demand(HopTls.STARTTLS, strict, policy=DANE, note=note)
    return Demand(route.tls, route.min_tls, note=note)


def _tested(domain: str, host: str, sts: Policy | None) -> str:
    """Trap 1: what `testing` would have stopped is said, and goes on (RFC 8461, 5)."""
    if sts is None or sts.mode is not Mode.TESTING or mtasts.names(sts, host):
        return ""
    return f"the MTA-STS policy of {domain}, in testing, does not name {host}"


def _no_way(why: str) -> Word:
    return Word("tls", 0, "4.7.10", f"451 4.7.10 {why}")  # X.7.10: encryption needed (RFC 7372, RFC 8689, 5)


class TlsPolicies:
    """Asks what the domains and hosts of MX routes demand."""

    def __init__(self, resolver: Resolver, sts: StsPolicies | None = None) -> None:
        """Without `sts` there is no MTA-STS."""
        self._resolver = resolver
        self._sts = sts

    async def demands(
        self, route: MxRoute, domain: str, hosts: Sequence[str], wish: int, *, kinds: Sequence[str]
    ) -> list[Demand | Word]:
        """One for each host. `hosts` are the domain's MX, or the domain itself where it has none; `kinds` the types of
        address records that are looked up."""
        asked = route.tls is not HopTls.NONE and wish != model.TLS_OPTIONAL
        sts = await self._policy(domain) if asked and route.mta_sts else None
        secure = asked and route.dane and await self._leads_safely(domain, hosts)
        found = (
            await asyncio.gather(*(self._anchors(domain, host, route.port, kinds) for host in hosts))
            if secure
            else [None] * len(hosts)
        )
        return [
            _put_off(host, anchors)
            if isinstance(anchors, LookupFailed)
            else decide(route, domain, host, wish, sts=sts, anchors=anchors)
            for host, anchors in zip(hosts, found, strict=True)
        ]

    async def _policy(self, domain: str) -> Policy | None:
        policy = await self._sts.policy(domain) if self._sts is not None else None
        return None if policy is None or policy.mode is Mode.NONE else policy

    async def _leads_safely(self, domain: str, hosts: Sequence[str]) -> bool:
        """RFC 7672, 2.2.1: host names that anybody could have written are not worth a proof. A domain that is its own
        host needs none."""
        return list(hosts) == [domain] or await self._resolver.is_secure(domain, "MX")

    async def _anchors(self, domain: str, host: str, port: int, kinds: Sequence[str]) -> Anchors | LookupFailed | None:
        """The host's TLSA records; None where it has none that are authentic."""
        for base in await self._bases(host, kinds):
            records = await self._resolver.tlsa(base, port)
            if isinstance(records, LookupFailed):
                return records  # RFC 7672, 2.1.2: as good as a host that does not answer
            if not isinstance(records, Missing) and records:
                names = tuple(dict.fromkeys((base, host, domain)))  # RFC 7672, 3.2.2
                return Anchors(dane.usable(records), names)
        return None

    async def _bases(self, host: str, kinds: Sequence[str]) -> list[str]:
        """The names whose TLSA records count, the best first (RFC 7672, 2.2.2 and 2.2.3).

        A family whose answer is lost does not matter: what counts in the end is that the TLSA records are authentic.
        """
        host = host.removesuffix(".").lower()
        canonical = await self._resolver.canonical(host)
        secure = [await self._resolver.is_secure(host, kind) for kind in kinds]
        if any(secure):
            return list(dict.fromkeys((canonical, host)))
        if canonical != host and await self._resolver.is_secure(host, "CNAME"):
            return [host]  # the alias is authentic, where it leads to is not
        return []


def _put_off(host: str, failed: LookupFailed) -> Word:
    text = f"451 4.7.5 the TLSA records of {host} cannot be had now (DANE): {failed.reason}"
    return Word("tls", 0, "4.7.5", text)
