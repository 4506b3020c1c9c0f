"""The hops of a route: what each connection must be, by the route, the domain and the message."""

import hashlib
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Config, Dns, HopTls, IpFamily, MxRoute, RelayRoute, Route, Secret, Tls
from gateway.delivery.family import FamilyChoice
from gateway.delivery.route import Ways
from gateway.delivery.session import Hop
from gateway.delivery.tls.dane import Tlsa
from gateway.delivery.verdict import Word
from gateway.message.model import TLS_OPTIONAL, TLS_REQUIRED
from gateway.resolver import Resolver
from tests.peers.dns import PeerDns

DIGEST = hashlib.sha256(b"").digest()
ZONE = f"""
example.test MX 10 one.test
example.test MX 20 two.test
one.test A 127.0.0.1
one.test A 127.0.0.4
two.test A 127.0.0.2
_25._tcp.one.test TLSA 3 1 1 {DIGEST.hex()}
_25._tcp.two.test SERVFAIL
half.test MX 10 two.test
half.test MX 20 three.test
three.test A 127.0.0.3
alone.test MX 10 two.test
relay.test A 127.0.0.9
example.test SIGNED
half.test SIGNED
alone.test SIGNED
one.test SIGNED
two.test SIGNED
"""
MX = MxRoute("direct", ip_family=IpFamily.IPV4)
PAIR = Tls(Path("client.pem"), Path("client.key"))
RELAY = RelayRoute(
    "relay", host="relay.test", port=587, tls=HopTls.STARTTLS, ca=Path("ca.pem"), username="u", password=Secret("p")
)


@asynccontextmanager
async def ways(*routes: Route) -> AsyncIterator[Ways]:
    async with PeerDns(ZONE) as dns:
        config = Config(hostname="gw.test", dns=Dns((dns.listen,)), routes={route.name: route for route in routes})
        yield Ways(config, Resolver([dns.listen]), random.Random(1), ipv6=False)


async def hops(route: MxRoute | RelayRoute, domain: str = "example.test", wish: int = 0) -> list[Hop]:
    async with ways(route) as made:
        found = await made.hops(route, domain, wish)
    assert isinstance(found, list), found
    return found


async def word(route: MxRoute | RelayRoute, domain: str = "example.test", wish: int = 0) -> Word:
    async with ways(route) as made:
        found = await made.hops(route, domain, wish)
    assert isinstance(found, Word), found
    return found


async def test_a_host_with_tlsa_records_must_match_and_one_that_cannot_be_asked_is_left_out() -> None:
    found = await hops(MX)
    assert {hop.address for hop in found} == {"127.0.0.1", "127.0.0.4"}
    for hop in found:
        assert (hop.name, hop.tls, hop.verify, hop.policy) == ("one.test", HopTls.STARTTLS, False, "DANE")
        assert (hop.tlsa, hop.names) == ((Tlsa(3, 1, 1, DIGEST),), ("one.test", "example.test"))


async def test_the_next_host_where_the_first_cannot_be_asked() -> None:
    [hop] = await hops(MX, "half.test")
    assert (hop.address, hop.tls, hop.policy) == ("127.0.0.3", HopTls.OPPORTUNISTIC, "")


async def test_no_host_that_may_be_contacted() -> None:
    said = await word(MX, "alone.test")
    assert (said.stage, said.enhanced, said.permanent) == ("tls", "4.7.5", False)


async def test_without_dane_all_hosts_are_as_the_route_has_it() -> None:
    route = replace(MX, dane=False, min_tls="1.1", certificate=PAIR)
    found = await hops(route)
    assert [hop.name for hop in found] == ["one.test", "one.test", "two.test"]
    for hop in found:
        assert (hop.tls, hop.verify, hop.tlsa, hop.min_tls) == (HopTls.OPPORTUNISTIC, False, (), "1.1")
        assert hop.certificate == PAIR


async def test_connections_for_one_wish_are_not_those_for_another() -> None:
    route = replace(MX, dane=False)
    by_wish = {wish: set(await hops(route, wish=wish)) for wish in (0, TLS_REQUIRED, TLS_OPTIONAL)}
    assert not by_wish[0] & by_wish[TLS_REQUIRED]
    assert by_wish[0] == by_wish[TLS_OPTIONAL]  # the same connection: opportunistic both ways
    for hop in by_wish[TLS_REQUIRED]:
        assert (hop.tls, hop.verify, hop.policy) == (HopTls.STARTTLS, True, "REQUIRETLS")
    assert not set(await hops(MX)) & by_wish[0]


async def test_the_second_family_is_for_a_domain_without_the_first() -> None:
    zone = "both.test A 127.0.0.1\nboth.test AAAA ::1\nonly.test AAAA ::2\nboth.test MX 1 both.test\n"
    async with PeerDns(zone) as dns:
        resolver = Resolver([dns.listen])
        # This machine has an IPv6 address without a name.
        families = FamilyChoice(resolver, source_of=lambda family: "::9" if family == socket.AF_INET6 else "127.0.0.9")
        made = Ways(Config(), resolver, random.Random(1), ipv6=True, families=families)
        for domain, addresses in (("both.test", ["127.0.0.1"]), ("only.test", ["::2"])):
            found = await made.hops(MxRoute("direct"), domain)
            assert isinstance(found, list)
            assert [hop.address for hop in found] == addresses


async def test_address_literals() -> None:
    [hop] = await hops(MX, "[127.0.0.1]")
    assert (hop.name, hop.address, hop.tls, hop.verify) == ("127.0.0.1", "127.0.0.1", HopTls.OPPORTUNISTIC, False)
    [hop] = await hops(MX, "[IPv6:::1]", TLS_REQUIRED)
    assert (hop.name, hop.address, hop.tls, hop.verify) == ("::1", "::1", HopTls.STARTTLS, True)
    assert (await word(replace(MX, tls=HopTls.NONE), "[127.0.0.1]", TLS_REQUIRED)).enhanced == "4.7.10"


async def test_relays() -> None:
    [hop] = await hops(replace(RELAY, certificate=PAIR, min_tls="1.0"), "")
    assert (hop.tls, hop.verify, hop.ca, hop.min_tls, hop.certificate) == (
        HopTls.STARTTLS,
        True,
        Path("ca.pem"),
        "1.0",
        PAIR,
    )
    [hop] = await hops(replace(RELAY, tls=HopTls.OPPORTUNISTIC), "", TLS_REQUIRED)
    assert (hop.tls, hop.verify, hop.policy) == (HopTls.STARTTLS, True, "REQUIRETLS")


@pytest.mark.parametrize("route", [replace(RELAY, verify=False), replace(RELAY, tls=HopTls.NONE)])
async def test_a_relay_that_proves_nothing_gets_no_mail_that_requires_proof(route: RelayRoute) -> None:
    said = await word(route, "", TLS_REQUIRED)
    assert (said.enhanced, said.permanent) == ("4.7.10", False)
    assert "REQUIRETLS" in said.text
