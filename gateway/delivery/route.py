"""The way of a route: which hosts to connect to, and how. Looked up at each attempt, so a changed configuration or zone
reaches queued mail. It asks the resolver; which MX host comes first is decided in mx.py."""

import asyncio
import ipaddress
import random
import socket
from typing import Final

from gateway.config import Config, IpFamily, MxRoute, RelayRoute
from gateway.delivery import mx
from gateway.delivery.family import BOTH, IPV4, IPV6, Families, FamilyChoice
from gateway.delivery.session import Hop
from gateway.delivery.tls import policy as tls_policy
from gateway.delivery.tls.policy import Demand, TlsPolicies
from gateway.delivery.verdict import Word
from gateway.message import model
from gateway.resolver import LookupFailed, Missing, Resolver

RELAY_ADDRESSES_S: Final = 30.0  # so long the addresses of a relay are kept
HOST_ADDRESSES: Final = 5  # of an MX host that are tried; of those that take mail for millions, all are one
HOPS: Final = 20  # in one attempt


class Ways:
    """Finds the hops of MX and relay routes."""

    def __init__(
        self,
        config: Config,
        resolver: Resolver,
        rng: random.Random,
        *,
        ipv6: bool,
        families: FamilyChoice | None = None,
        policies: TlsPolicies | None = None,
    ) -> None:
        """`ipv6`: whether this machine has a route to the IPv6 internet, where `families` are not there to find out.
        Without `policies` DANE alone is asked for, not MTA-STS."""
        self._config = config
        self._resolver = resolver
        self._rng = rng
        self._ipv6 = ipv6
        self._families = families
        self._policies = policies or TlsPolicies(resolver)
        self._relays: dict[str, tuple[tuple[str, ...], float]] = {}  # route -> addresses, until; one for each relay

    def reconfigure(self, config: Config) -> None:
        """For the ways to come."""
        self._config = config
        self._relays.clear()

    async def hops(self, route: MxRoute | RelayRoute, domain: str, wish: int = model.BY_POLICY) -> list[Hop] | Word:
        """Connections to try, in order, at most HOPS, or the word that says why there is none. `domain` is an MX
        route's; `wish` is the message's about TLS."""
        match route:
            case RelayRoute():
                hops = await self._relay_hops(route, wish)
            case MxRoute():
                hops = await self._mx_hops(route, domain, wish)
        return hops if isinstance(hops, Word) else hops[:HOPS]

    async def _relay_hops(self, route: RelayRoute, wish: int) -> list[Hop] | Word:
        demand = tls_policy.of_relay(route, wish)
        if isinstance(demand, Word):
            return demand
        addresses = await self._relay_addresses(route)
        if isinstance(addresses, Word):
            return addresses
        return [
            Hop(
                name=route.host,
                address=ip,
                port=route.port,
                tls=demand.tls,
                verify=demand.verify,
                ca=route.ca,
                ehlo=route.ehlo or self._config.hostname,
                source=route.source,
                username=route.username,
                password=route.password,
                min_tls=demand.min_tls,
                certificate=route.certificate,
                policy=demand.policy,
            )
            for ip in addresses
        ]

    async def _relay_addresses(self, route: RelayRoute) -> tuple[str, ...] | Word:
        """A relay's name may be in /etc/hosts; configured nameservers are asked where there are some."""
        loop = asyncio.get_running_loop()
        if _is_ip(route.host):
            return (route.host,)
        known = self._relays.get(route.name)
        if known is not None and known[1] > loop.time():
            return known[0]
        if self._config.dns.nameservers:
            addresses = await self._found(route)
        else:
            family = {IpFamily.IPV4: socket.AF_INET, IpFamily.IPV6: socket.AF_INET6}.get(
                route.ip_family, socket.AF_UNSPEC
            )
            try:
                found = await loop.getaddrinfo(route.host, route.port, family=family, type=socket.SOCK_STREAM)
                addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
            except socket.gaierror as error:
                addresses = LookupFailed(error.strerror or str(error))
        if not isinstance(addresses, tuple):
            # Trap 11: a relay that cannot be found is our trouble, never the recipient's.
            reason = addresses.reason if isinstance(addresses, LookupFailed) else addresses.value
            return Word("route", 0, "4.4.3", f"451 4.4.3 the relay {route.host} cannot be found: {reason}")
        self._relays[route.name] = (addresses, loop.time() + RELAY_ADDRESSES_S)
        return addresses

    async def _found(self, route: RelayRoute) -> tuple[str, ...] | Missing | LookupFailed:
        found: tuple[str, ...] | Missing | LookupFailed = Missing.RECORD
        for families in await self._choices(route):
            found = await self._resolver.addresses(route.host, ipv4=families.ipv4, ipv6=families.ipv6)
            if isinstance(found, tuple):
                break
        return found

    async def _mx_hops(self, route: MxRoute, domain: str, wish: int) -> list[Hop] | Word:
        if domain.startswith("["):  # RFC 5321, 4.1.3: an address literal names its host itself
            address = domain[1:-1].removeprefix("IPv6:").removeprefix("ipv6:")
            demand = tls_policy.decide(route, domain, address, wish, sts=None, anchors=None)
            return demand if isinstance(demand, Word) else [self._mx_hop(route, address, address, demand)]
        hosts = await self._hosts(route, domain)
        if isinstance(hosts, Word):
            return hosts
        choices = await self._choices(route)
        wanted = {"A": any(one.ipv4 for one in choices), "AAAA": any(one.ipv6 for one in choices)}
        kinds = [kind for kind, is_wanted in wanted.items() if is_wanted]
        demands = await self._policies.demands(route, domain, hosts, wish, kinds=kinds)
        failed = next((demand for demand in demands if isinstance(demand, Word)), None)
        may = [(host, demand) for host, demand in zip(hosts, demands, strict=True) if isinstance(demand, Demand)]
        hops: list[Hop] = []
        for families in choices:
            for host, demand in may:
                addresses = await self._resolver.addresses(host, ipv4=families.ipv4, ipv6=families.ipv6)
                if isinstance(addresses, LookupFailed):
                    failed = failed or mx.lookup_failed(host, addresses.reason)
                elif not isinstance(addresses, Missing):
                    # By turns of both families, so each has its share of them.
                    hops += [self._mx_hop(route, host, ip, demand) for ip in addresses[:HOST_ADDRESSES]]
            if hops or failed:
                break
        return hops or failed or mx.no_address(domain)

    async def _hosts(self, route: MxRoute, domain: str) -> list[str] | Word:
        records = await self._resolver.mx(domain)
        match records:
            case LookupFailed(reason):
                return mx.lookup_failed(domain, reason)
            case Missing.NAME:
                return mx.no_such_domain(domain)
            case Missing.RECORD:
                return [domain]  # RFC 5321, 5.1: the domain's own address
            case _:
                return mx.order(records, self._own_names(route), self._rng)

    def _own_names(self, route: MxRoute) -> frozenset[str]:
        """Our name among MX hosts is a loop only where we would answer; beside another MTA it is that one's name."""
        config = self._config
        answers = any(listener.listen.port == route.port for listener in config.smtp.listeners)
        return frozenset({config.hostname.lower()} if answers else ())

    def _mx_hop(self, route: MxRoute, host: str, ip: str, demand: Demand) -> Hop:
        return Hop(
            name=host,
            address=ip,
            port=route.port,
            tls=demand.tls,
            verify=demand.verify,  # else an MX certificate proves nothing
            ca=None,
            ehlo=route.ehlo or self._config.hostname,
            source=route.source,
            min_tls=demand.min_tls,
            certificate=route.certificate,
            tlsa=demand.tlsa,
            names=demand.names,
            policy=demand.policy,
            note=demand.note,
        )

    async def _choices(self, route: MxRoute | RelayRoute) -> tuple[Families, ...]:
        """The families to look up; the next only where there is no address of those before it."""
        if self._families is not None:
            return await self._families.of(route)
        match route.ip_family:
            case IpFamily.IPV4:
                return (IPV4,)
            case IpFamily.IPV6:
                return (IPV6,)
            case _:
                return (BOTH if self._ipv6 else IPV4,)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
