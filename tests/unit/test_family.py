"""Which families a route uses: the kernel's routes and the PTR records of a real DNS server."""

import socket
from collections.abc import AsyncIterator

import pytest

from gateway.config import IpFamily, MxRoute, RelayRoute
from gateway.delivery import family
from gateway.delivery.family import BOTH, IPV4, IPV6, Families, FamilyChoice
from gateway.resolver import Resolver, lookup
from tests.peers.dns import PeerDns

NAMED, UNNAMED, UNKNOWN = "2001:db8::1", "2001:db8::2", "2001:db8::3"
REVERSE = ".".join("0" * 23) + ".8.b.d.0.1.0.0.2.ip6.arpa"
ZONE = f"""
1.{REVERSE} PTR mail.example.test.
3.{REVERSE} SERVFAIL
"""
MX = MxRoute("out")
RELAY = RelayRoute("out", host="relay.test", port=25)
V4 = "192.0.2.25"


@pytest.fixture
async def dns() -> AsyncIterator[PeerDns]:
    async with PeerDns(ZONE, ttl=0) as server:
        yield server


def choice(dns: PeerDns, ipv4: str | None, ipv6: str | None) -> FamilyChoice:
    sources = {socket.AF_INET: ipv4, socket.AF_INET6: ipv6}
    return FamilyChoice(Resolver([dns.listen]), source_of=sources.__getitem__)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "mx", "relay"),
    [
        (V4, None, (IPV4,), (IPV4,)),
        (None, UNNAMED, (IPV6,), (IPV6,)),  # nothing else is there
        (None, None, (IPV4,), (IPV4,)),  # loopback
        (V4, NAMED, (BOTH,), (BOTH,)),
        (V4, UNNAMED, (IPV4, IPV6), (BOTH,)),  # a relay knows us by our password
        (V4, UNKNOWN, (IPV4, IPV6), (BOTH,)),
    ],
)
async def test_what_the_machine_has(
    dns: PeerDns, ipv4: str | None, ipv6: str | None, mx: tuple[Families, ...], relay: tuple[Families, ...]
) -> None:
    families = choice(dns, ipv4, ipv6)
    assert await families.of(MX) == mx
    assert await families.of(RELAY) == relay


@pytest.mark.parametrize(
    ("ip_family", "source", "expected"),
    [
        (IpFamily.IPV4, None, IPV4),
        (IpFamily.IPV6, None, IPV6),
        (IpFamily.AUTO, "127.0.0.2", IPV4),
        (IpFamily.AUTO, "::1", IPV6),
    ],
)
async def test_what_is_configured_is_used_whatever_the_machine_has(
    dns: PeerDns, ip_family: IpFamily, source: str | None, expected: Families
) -> None:
    assert await choice(dns, None, None).of(MxRoute("out", ip_family=ip_family, source=source)) == (expected,)
    assert dns.queries == []


async def test_the_name_of_an_address_is_asked_for_once_an_hour(dns: PeerDns, monkeypatch: pytest.MonkeyPatch) -> None:
    unnamed = choice(dns, V4, UNNAMED)
    for _ in range(100):
        assert await unnamed.of(MX) == (IPV4, IPV6)
    assert len(dns.queries) == 1
    monkeypatch.setattr(family, "ASKED_S", 0.0)
    named = choice(dns, V4, NAMED)
    assert await named.of(MX) == (BOTH,)
    dns.load("")
    assert await named.of(MX) == (IPV4, IPV6)


async def test_a_failed_lookup_is_not_believed_for_an_hour(dns: PeerDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "FAILURE_S", 0.0)
    families = choice(dns, V4, UNKNOWN)
    assert await families.of(MX) == (IPV4, IPV6)
    dns.load(ZONE.replace("SERVFAIL", "PTR mail.example.test."))
    assert await families.of(MX) == (BOTH,)


async def test_networks_come_and_go(dns: PeerDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "ROUTE_S", 0.0)
    sources: dict[socket.AddressFamily, str | None] = {socket.AF_INET: V4, socket.AF_INET6: None}
    families = FamilyChoice(Resolver([dns.listen]), source_of=sources.__getitem__)
    assert await families.of(MX) == (IPV4,)
    sources[socket.AF_INET6] = NAMED
    assert await families.of(MX) == (BOTH,)


async def test_the_addresses_that_are_remembered_are_bounded(dns: PeerDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "ROUTE_S", 0.0)
    monkeypatch.setattr(family, "_ADDRESSES", 2)
    taken = iter([f"2001:db8::{n}" for n in range(1, 9)])
    families = FamilyChoice(
        Resolver([dns.listen]), source_of=lambda kind: V4 if kind is socket.AF_INET else next(taken)
    )
    assert [await families.of(MX) == (BOTH,) for _ in range(8)] == [True] + [False] * 7
    assert len(families._named) == 2
