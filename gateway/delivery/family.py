"""Which address families a route uses.

Guarantees: with `ip_family: auto` no family is tried that the machine has no route for, or that the route's source
address is not of; IPv6 is left alone by an MX route whose IPv6 address has no name (PTR), since large receivers refuse
such mail for good, but where a domain has nothing else. What was found out is believed for an hour. A family that is
configured is used whatever the machine has.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.config import IpFamily, MxRoute, RelayRoute
from gateway.resolver import LookupFailed, Resolver, source_address

ASKED_S: Final = 3600.0  # so long the answer about an address holds
ROUTE_S: Final = 60.0  # so long the kernel's; networks come and go, and asking costs a socket
_ADDRESSES: Final = 1000  # that are remembered; a machine may take a new one each day (RFC 8981)


class Families(msgspec.Struct, frozen=True, gc=False):
    """The families whose addresses are looked up."""

    ipv4: bool
    ipv6: bool


IPV4: Final = Families(ipv4=True, ipv6=False)
IPV6: Final = Families(ipv4=False, ipv6=True)
BOTH: Final = Families(ipv4=True, ipv6=True)


class FamilyChoice:
    """Asks the kernel and the resolver; one for all routes."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        source_of: Callable[[socket.AddressFamily], str | None] = source_address,
    ) -> None:
        """`source_of`: the address that the kernel sends from by a family; None: it has no route."""
        self._resolver = resolver
        self._source_of = source_of
        self._sources: tuple[str | None, str | None] = (None, None)  # of IPv4, of IPv6
        self._sources_until = float("-inf")
        self._named: dict[str, tuple[bool, float]] = {}  # address -> has a PTR, until

    async def of(self, route: MxRoute | RelayRoute) -> tuple[Families, ...]:
        """What to look up, in order: the next is for a destination that has no address in those before it."""
        if route.ip_family is not IpFamily.AUTO:
            return (IPV6,) if route.ip_family is IpFamily.IPV6 else (IPV4,)
        if route.source is not None:  # no connection to the other family leaves from it
            return (IPV6,) if ":" in route.source else (IPV4,)
        ipv4, ipv6 = self._kernel()
        if ipv6 is None:
            return (IPV4,)  # without any route, too: there is loopback
        if ipv4 is None:
            return (IPV6,)
        if isinstance(route, MxRoute) and not await self._has_name(ipv6):
            return (IPV4, IPV6)
        return (BOTH,)

    def _kernel(self) -> tuple[str | None, str | None]:
        now = asyncio.get_running_loop().time()
        if self._sources_until <= now:
            self._sources = (self._source_of(socket.AF_INET), self._source_of(socket.AF_INET6))
            self._sources_until = now + ROUTE_S
        return self._sources

    async def _has_name(self, address: str) -> bool:
        loop = asyncio.get_running_loop()
        known = self._named.get(address)
        if known is not None and known[1] > loop.time():
            return known[0]
        names = await self._resolver.ptr(address)
        if isinstance(names, LookupFailed):
            return False  # for now: IPv4 is as good
        while len(self._named) >= _ADDRESSES:
            del self._named[next(iter(self._named))]
        self._named.pop(address, None)
        self._named[address] = (isinstance(names, tuple), loop.time() + ASKED_S)
        return isinstance(names, tuple)
