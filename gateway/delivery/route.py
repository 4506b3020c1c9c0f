"""The way of a route: which hosts to connect to, and how. Looked up at each attempt, so a changed configuration or zone
reaches queued mail. It asks the resolver; which MX host comes first is decided in mx.py."""

import asyncio
import ipaddress
import random
import socket
from typing import Final

from gateway.config import Config, HopTls, IpFamily, MxRoute, RelayRoute
from gateway.delivery import mx
from gateway.delivery.session import Hop
from gateway.delivery.verdict import Word
from gateway.resolver import LookupFailed, Missing, Resolver

RELAY_ADDRESSES_S: Final = 30.0  # so long the addresses of a relay are kept


class Ways:
    """Finds the hops of MX and relay routes."""

    def __init__(self, config: Config, resolver: Resolver, rng: random.Random, *, ipv6: bool) -> None:
        """`ipv6`: whether this machine has a route to the IPv6 internet."""
        self._config = config
        self._resolver = resolver
        self._rng = rng
        self._ipv6 = ipv6
        self._relays: dict[str, tuple[tuple[str, ...], float]] = {}  # route -> addresses, until; one for each relay

    async def hops(self, route: MxRoute | RelayRoute, domain: str) -> list[Hop] | Word:
        """Connections to try, in order, or the word that says why there is none. `domain` is an MX route's."""
        match route:
            case RelayRoute():
                return await self._relay_hops(route)
            case MxRoute():
                return await self._mx_hops(route, domain)

    async def _relay_hops(self, route: RelayRoute) -> list[Hop] | Word:
        addresses = await self._relay_addresses(route)
        if isinstance(addresses, Word):
            return addresses
        return [
            Hop(
                name=route.host,
                address=ip,
                port=route.port,
                tls=route.tls,
                # Opportunistic TLS is better than none whoever answers (RFC 7435).
                verify=route.verify and route.tls is not HopTls.OPPORTUNISTIC,
                ca=route.ca,
                ehlo=route.ehlo or self._config.hostname,
                source=route.source,
                username=route.username,
                password=route.password,
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
            addresses = await self._addresses(route, route.host)
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

    async def _mx_hops(self, route: MxRoute, domain: str) -> list[Hop] | Word:
        if domain.startswith("["):  # RFC 5321, 4.1.3: an address literal names its host itself
            return [self._mx_hop(route, domain, domain[1:-1].removeprefix("IPv6:").removeprefix("ipv6:"))]
        records = await self._resolver.mx(domain)
        match records:
            case LookupFailed(reason):
                return mx.lookup_failed(domain, reason)
            case Missing.NAME:
                return mx.no_such_domain(domain)
            case Missing.RECORD:
                hosts: list[str] | Word = [domain]  # RFC 5321, 5.1: the domain's own address
            case _:
                hosts = mx.order(records, self._own_names(route), self._rng)
        if isinstance(hosts, Word):
            return hosts
        hops: list[Hop] = []
        failed: Word | None = None
        for host in hosts:
            addresses = await self._addresses(route, host)
            if isinstance(addresses, LookupFailed):
                failed = mx.lookup_failed(host, addresses.reason)
            elif not isinstance(addresses, Missing):
                hops += [self._mx_hop(route, host, ip) for ip in addresses]
        return hops or failed or mx.no_address(domain)

    def _own_names(self, route: MxRoute) -> frozenset[str]:
        """Our name among MX hosts is a loop only where we would answer; beside another MTA it is that one's name."""
        config = self._config
        answers = any(listener.listen.port == route.port for listener in config.smtp.listeners)
        return frozenset({config.hostname.lower()} if answers else ())

    def _mx_hop(self, route: MxRoute, host: str, ip: str) -> Hop:
        return Hop(
            name=host,
            address=ip,
            port=route.port,
            tls=route.tls,
            verify=False,  # an MX certificate proves nothing without MTA-STS or DANE
            ca=None,
            ehlo=route.ehlo or self._config.hostname,
            source=route.source,
        )

    async def _addresses(self, route: MxRoute | RelayRoute, host: str) -> tuple[str, ...] | Missing | LookupFailed:
        family = route.ip_family
        ipv6 = family is IpFamily.IPV6 or (family is IpFamily.AUTO and self._ipv6)
        return await self._resolver.addresses(host, ipv4=family is not IpFamily.IPV6, ipv6=ipv6)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
