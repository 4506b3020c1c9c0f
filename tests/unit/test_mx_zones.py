"""Twelve shapes of a zone and more, from a real DNS server to the hosts that are tried, in their order."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gateway.config import Config, Delivery, Dns, IpFamily, Listen, MxRoute, RelayRoute, Smtp, SmtpListener
from gateway.delivery import verdict
from gateway.delivery.route import HOPS, Ways
from gateway.delivery.verdict import Word
from gateway.events import BounceClass, EventType, State
from gateway.resolver import Resolver
from tests.peers.dns import PeerDns

# A question is sent again where the answer did not come in time: a loaded machine asks twice, no cache asks for each.
ASKED_AGAIN = 10
DIRECT = MxRoute("direct", port=25, ip_family=IpFamily.IPV4)
ZONE = """
a.test        A     192.0.2.1
b.test        A     192.0.2.2
c.test        A     192.0.2.3
four.test     A     192.0.2.4
four.test     A     192.0.2.5
six.test      AAAA  2001:db8::6
dual.test     A     192.0.2.7
dual.test     AAAA  2001:db8::7
pointer.test  CNAME a.test
broken.test   SERVFAIL
gw.test       A     192.0.2.99

one.test      MX 10 a.test
sorted.test   MX 30 c.test
sorted.test   MX 10 a.test
sorted.test   MX 20 b.test
equal.test    MX 10 a.test
equal.test    MX 10 b.test
equal.test    MX 20 c.test
many.test     MX 10 four.test
many.test     MX 20 a.test
bare.test     A     192.0.2.8
null.test     MX 0 .
alias.test    CNAME sorted.test
indirect.test MX 10 pointer.test
indirect.test MX 20 b.test
dead.test     MX 10 nowhere.test
dead.test     MX 20 b.test
gone.test     MX 10 nowhere.test
half.test     MX 10 broken.test
half.test     MX 20 b.test
blind.test    MX 10 broken.test
blind.test    MX 20 nowhere.test
self.test     MX 10 a.test
self.test     MX 20 GW.test
self.test     MX 20 b.test
self.test     MX 30 c.test
best.test     MX 10 gw.test
best.test     MX 20 a.test
digits.test   MX 10 192.0.2.66
digits.test   MX 20 a.test
numbers.test  MX 10 192.0.2.66
nulled.test   MX 0 .
nulled.test   MX 10 a.test
twice.test    MX 10 a.test
twice.test    MX 20 a.test
families.test MX 10 dual.test
families.test MX 20 six.test
families.test MX 30 a.test
refused.test  REFUSED
lame.test     REFERRAL
circle.test   CNAME circle2.test
circle2.test  CNAME circle.test
xn--bcher-kva.test MX 10 a.test
""" + "\n".join(f"eighty.test MX {n} h{n}.eighty.test\nh{n}.eighty.test A 192.0.2.{n}" for n in range(1, 81))

A, B, C = "a.test 192.0.2.1", "b.test 192.0.2.2", "c.test 192.0.2.3"
SHAPES = {
    "one.test": [A],
    "sorted.test": [A, B, C],
    "many.test": ["four.test 192.0.2.4", "four.test 192.0.2.5", A],  # all addresses of a host before the next
    "bare.test": ["bare.test 192.0.2.8"],  # no MX: its own address
    "alias.test": [A, B, C],
    "indirect.test": ["pointer.test 192.0.2.1", B],  # forbidden (RFC 2181, 10.3), and in the field
    "dead.test": [B],
    "half.test": [B],
    "self.test": [A],  # we are at 20: all of 20 and worse is dropped, the other 20 too
    "digits.test": [A],  # an address is no name of a host
    "nulled.test": [A],  # RFC 7505, 3: no null MX beside others
    "bücher.test": [A],
    "XN--BCHER-KVA.test": [A],
    "[192.0.2.9]": ["192.0.2.9 192.0.2.9"],
    "[IPv6:2001:db8::9]": ["2001:db8::9 2001:db8::9"],
    "eighty.test": [f"h{n}.eighty.test 192.0.2.{n}" for n in range(1, 11)],
}
ENDS = {
    "null.test": ("5.1.10", True),
    "nowhere.test": ("5.1.2", True),
    "gone.test": ("5.4.4", True),
    "numbers.test": ("5.4.4", True),
    "best.test": ("5.4.6", True),
    "broken.test": ("4.4.3", False),
    "refused.test": ("4.4.3", False),
    "lame.test": ("4.4.3", False),
    "circle.test": ("4.4.3", False),
    "blind.test": ("4.4.3", False),  # one of its hosts may be there
}


@pytest.fixture
async def dns() -> AsyncIterator[PeerDns]:
    async with PeerDns(ZONE) as server:
        yield server


def ways(dns: PeerDns, *, seed: int = 1, ipv6: bool = True, resolver: Resolver | None = None) -> Ways:
    config = Config(
        hostname="gw.test", dns=Dns((dns.listen,)), smtp=Smtp((SmtpListener(Listen("127.0.0.1", DIRECT.port)),))
    )
    return Ways(config, resolver or Resolver([dns.listen]), random.Random(seed), ipv6=ipv6)


async def tried(of: Ways, domain: str, route: MxRoute = DIRECT) -> list[str] | Word:
    """Hosts and addresses in the order of the connections, or the word that there is none."""
    found = await of.hops(route, domain)
    return found if isinstance(found, Word) else [f"{hop.name} {hop.address}" for hop in found]


@pytest.mark.parametrize("domain", SHAPES)
async def test_d1_the_hosts_of_a_shape_in_their_order(dns: PeerDns, domain: str) -> None:
    for seed in range(5):
        found = await tried(ways(dns, seed=seed), domain)
        assert isinstance(found, list)
        if domain == "many.test":  # the addresses of one host have no order
            found[:2] = sorted(found[:2])
        assert found == SHAPES[domain]


async def test_d1_equals_share_the_load(dns: PeerDns) -> None:
    of = ways(dns)
    firsts: Counter[str] = Counter()
    for _ in range(1000):
        found = await tried(of, "equal.test")
        assert isinstance(found, list)
        assert (set(found[:2]), found[2]) == ({A, B}, C)
        firsts[found[0]] += 1
    assert 450 <= firsts[A] <= 550


async def test_d1_the_families_that_the_machine_and_the_route_have(dns: PeerDns) -> None:
    v4, v6 = ["dual.test 192.0.2.7", A], ["dual.test 2001:db8::7", "six.test 2001:db8::6"]
    assert await tried(ways(dns), "families.test", MxRoute("direct", ip_family=IpFamily.IPV4)) == v4
    assert await tried(ways(dns), "families.test", MxRoute("direct", ip_family=IpFamily.IPV6)) == v6
    assert await tried(ways(dns, ipv6=False), "families.test", MxRoute("direct")) == v4
    assert dns.asked("six.test", "AAAA") == 1


@pytest.mark.parametrize("domain", ENDS)
async def test_d2_what_ends_at_once_and_what_waits(dns: PeerDns, domain: str) -> None:
    word = await tried(ways(dns), domain)
    assert isinstance(word, Word)
    assert (word.stage, word.code, word.enhanced, word.permanent) == ("dns", 0, *ENDS[domain])


@pytest.mark.parametrize("domain", ["broken.test", "refused.test", "lame.test", "circle.test"])
async def test_trap_14_an_error_is_not_taken_for_no_mx(dns: PeerDns, domain: str) -> None:
    await tried(ways(dns), domain)
    assert {kind for _, kind, _ in dns.queries} == {"MX"}  # no address is asked for


async def test_trap_11_a_relay_that_cannot_be_found_is_no_fault_of_the_recipient(dns: PeerDns) -> None:
    of = ways(dns)
    for host in ("nowhere.test", "broken.test", "six.test", "refused.test"):
        word = await of.hops(RelayRoute(host, host=host, port=25, ip_family=IpFamily.IPV4), "one.test")
        assert isinstance(word, Word)
        assert (word.stage, word.enhanced, word.permanent) == ("route", "4.4.3", False)


async def test_d2_silence_waits_too(dns: PeerDns) -> None:
    dns.load("silent.test TIMEOUT")
    word = await tried(ways(dns, resolver=Resolver([dns.listen], lifetime_s=0.1)), "silent.test")
    assert isinstance(word, Word)
    assert (word.enhanced, word.permanent) == ("4.4.3", False)


async def test_d2_what_nobody_knows_is_tried_until_the_end_of_its_life_and_not_bounced(dns: PeerDns) -> None:
    word = await tried(ways(dns), "broken.test")
    assert isinstance(word, Word)
    now, expires_at, tries = 0, 5 * 24 * 3600 * 1000, 0
    while True:
        tries += 1
        decision = verdict.judge(
            word, tries=tries, expires_at=expires_at, now=now, retry_s=Delivery().retry_s, jitter=0.5
        )
        if decision.state is not State.DEFERRED:
            break
        assert now < decision.next_at <= expires_at
        now = decision.next_at
    assert now == expires_at
    assert tries > 10
    assert (decision.state, decision.event) == (State.FAILED, EventType.EXPIRED)
    assert decision.bounce_class is BounceClass.MESSAGE_EXPIRED


async def test_d4_a_truncated_answer_is_fetched_over_tcp_and_ten_hosts_are_enough(dns: PeerDns) -> None:
    found = await tried(ways(dns), "eighty.test")
    assert isinstance(found, list)
    assert len(found) == 10
    assert [transport for name, _, transport in dns.queries if name == "eighty.test"] == ["udp", "tcp"]
    assert sum(kind == "A" for _, kind, _ in dns.queries) == 10  # the others are not even looked up


async def test_d5_ten_thousand_lookups_of_a_domain_are_one_question(dns: PeerDns) -> None:
    of = ways(dns)
    await asyncio.gather(*[of.hops(DIRECT, "one.test") for _ in range(500)])
    for _ in range(9_500):
        await of.hops(DIRECT, "one.test")
    assert set(dns.queries) == {("a.test", "A", "udp"), ("one.test", "MX", "udp")}
    assert len(dns.queries) < ASKED_AGAIN


@pytest.mark.parametrize("domain", ["nowhere.test", "broken.test", "null.test"])
async def test_d5_of_domains_without_an_answer_too(dns: PeerDns, domain: str) -> None:
    of = ways(dns)
    await asyncio.gather(*[of.hops(DIRECT, domain) for _ in range(100)])
    for _ in range(1_000):
        await of.hops(DIRECT, domain)
    assert set(dns.queries) == {(domain, "MX", "udp")}
    assert len(dns.queries) < ASKED_AGAIN


async def test_a_host_of_very_many_addresses_is_tried_at_some_of_each_family() -> None:
    zone = "crowd.test MX 10 mx.crowd.test\n" + "\n".join(
        f"mx.crowd.test A 192.0.2.{number}\nmx.crowd.test AAAA 2001:db8::{number}" for number in range(1, 31)
    )
    async with PeerDns(zone) as dns:
        route = MxRoute("direct", port=25)
        config = Config(hostname="gw.test", dns=Dns((dns.listen,)), routes={"direct": route})
        found = await Ways(config, Resolver([dns.listen]), random.Random(1), ipv6=True).hops(route, "crowd.test")
    assert isinstance(found, list)
    assert [":" in hop.address for hop in found] == [True, False, True, False, True]


async def test_an_attempt_has_an_end_however_many_hosts_and_addresses_there_are() -> None:
    zone = "\n".join(
        f"vast.test MX {host} h{host}.vast.test\nh{host}.vast.test A 192.0.2.{host * 10 + number}"
        for host in range(1, 11)
        for number in range(5)
    )
    async with PeerDns(zone) as dns:
        config = Config(hostname="gw.test", dns=Dns((dns.listen,)), routes={"direct": DIRECT})
        found = await Ways(config, Resolver([dns.listen]), random.Random(1), ipv6=False).hops(DIRECT, "vast.test")
    assert isinstance(found, list)
    assert len(found) == HOPS
    assert found[0].name == "h1.vast.test"
