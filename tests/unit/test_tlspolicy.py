"""Who demands what of a connection to a next hop: the route, the recipient's domain, the message."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from gateway.config import HopTls, MxRoute, RelayRoute
from gateway.delivery.tls import policy as tls_policy
from gateway.delivery.tls.dane import Tlsa
from gateway.delivery.tls.mtasts import Mode, Policy
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.delivery.tls.policy import Anchors, Demand, TlsPolicies
from gateway.delivery.verdict import Word
from gateway.message.model import BY_POLICY, TLS_OPTIONAL, TLS_REQUIRED
from gateway.policyhost import FetchFailed
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.records import StsRecord
from tests.peers.dns import PeerDns

DIGEST: Final = hashlib.sha256(b"").digest()
EE = Tlsa(3, 1, 1, DIGEST)
HOST = "mx.example.test"
MX = MxRoute("direct")
RELAY = RelayRoute("relay", host="relay.test", port=587, tls=HopTls.STARTTLS)
NAMED = Policy(Mode.ENFORCE, (HOST,), 1)
OTHER = Policy(Mode.ENFORCE, ("other.test",), 1)
DANE = Anchors((EE,), (HOST,))
UNUSABLE = Anchors((), (HOST,))


def decide(
    route: MxRoute = MX, wish: int = BY_POLICY, sts: Policy | None = None, anchors: Anchors | None = None
) -> Demand | Word:
    return tls_policy.decide(route, "example.test", HOST, wish, sts=sts, anchors=anchors)


PLAIN = Demand(HopTls.OPPORTUNISTIC, "1.2")
BY_DANE = Demand(HopTls.STARTTLS, "1.2", tlsa=(EE,), names=(HOST,), policy="DANE")
BY_STS = Demand(HopTls.STARTTLS, "1.2", verify=True, policy="MTA-STS")
BY_WISH = Demand(HopTls.STARTTLS, "1.2", verify=True, policy="REQUIRETLS")
ENCRYPTED = Demand(HopTls.STARTTLS, "1.2", policy="DANE")


@pytest.mark.parametrize(
    ("wish", "sts", "anchors", "demand"),
    [
        (BY_POLICY, None, None, PLAIN),
        (BY_POLICY, NAMED, None, BY_STS),
        (BY_POLICY, None, DANE, BY_DANE),
        (BY_POLICY, NAMED, DANE, BY_DANE),
        (BY_POLICY, OTHER, DANE, BY_DANE),  # RFC 8461, 2
        (BY_POLICY, None, UNUSABLE, ENCRYPTED),
        (BY_POLICY, NAMED, UNUSABLE, BY_STS),
        (BY_POLICY, replace(NAMED, mode=Mode.TESTING), None, PLAIN),
        (BY_POLICY, replace(NAMED, mode=Mode.NONE), None, PLAIN),
        (BY_POLICY, replace(OTHER, mode=Mode.NONE), None, PLAIN),
        (TLS_REQUIRED, None, None, BY_WISH),
        (TLS_REQUIRED, NAMED, None, BY_STS),
        (TLS_REQUIRED, NAMED, DANE, BY_DANE),
        (TLS_REQUIRED, None, UNUSABLE, BY_WISH),
        (TLS_REQUIRED, replace(NAMED, mode=Mode.TESTING), None, BY_WISH),
        (TLS_OPTIONAL, None, None, PLAIN),
        (TLS_OPTIONAL, NAMED, None, PLAIN),
        (TLS_OPTIONAL, OTHER, DANE, PLAIN),
    ],
)
def test_the_demand(wish: int, sts: Policy | None, anchors: Anchors | None, demand: Demand) -> None:
    assert decide(MX, wish, sts, anchors) == demand


@pytest.mark.parametrize("anchors", [None, UNUSABLE])
@pytest.mark.parametrize("wish", [BY_POLICY, TLS_REQUIRED])
def test_a_host_that_an_enforced_policy_does_not_name_is_not_contacted(wish: int, anchors: Anchors | None) -> None:
    word = decide(wish=wish, sts=OTHER, anchors=anchors)
    assert isinstance(word, Word)
    assert (word.stage, word.enhanced, word.permanent) == ("tls", "4.7.5", False)
    assert word.text == f"451 4.7.5 the MTA-STS policy of example.test does not name {HOST}"


def test_trap_1_testing_is_said_and_stops_nothing() -> None:
    demand = decide(sts=replace(OTHER, mode=Mode.TESTING))
    note = f"the MTA-STS policy of example.test, in testing, does not name {HOST}"
    assert demand == replace(PLAIN, note=note)


def test_what_the_operator_demands_stays() -> None:
    required = replace(MX, tls=HopTls.STARTTLS)
    for wish in (BY_POLICY, TLS_OPTIONAL):
        assert decide(required, wish) == Demand(HopTls.STARTTLS, "1.2")
    none = replace(MX, tls=HopTls.NONE)
    for wish in (BY_POLICY, TLS_OPTIONAL):
        assert decide(none, wish, NAMED, DANE) == Demand(HopTls.NONE, "1.2")
    word = decide(none, TLS_REQUIRED)
    assert isinstance(word, Word)
    assert (word.enhanced, word.permanent) == ("4.7.10", False)


@pytest.mark.parametrize(("lowest", "strict"), [("1.0", "1.2"), ("1.1", "1.2"), ("1.2", "1.2"), ("1.3", "1.3")])
def test_a_policy_vouches_for_no_old_version(lowest: str, strict: str) -> None:
    route = replace(MX, min_tls=lowest)
    assert decide(route) == replace(PLAIN, min_tls=lowest)
    assert decide(route, TLS_OPTIONAL, NAMED) == replace(PLAIN, min_tls=lowest)
    assert decide(route, sts=NAMED) == replace(BY_STS, min_tls=strict)
    assert decide(route, anchors=DANE) == replace(BY_DANE, min_tls=strict)
    assert decide(route, TLS_REQUIRED) == replace(BY_WISH, min_tls=strict)


@pytest.mark.parametrize("tls", list(HopTls))
@pytest.mark.parametrize("verify", [True, False])
def test_relays(tls: HopTls, verify: bool) -> None:
    route = replace(RELAY, tls=tls, verify=verify, min_tls="1.0")
    for wish in (BY_POLICY, TLS_OPTIONAL):
        assert tls_policy.of_relay(route, wish) == Demand(tls, "1.0", verify=verify and tls is not HopTls.OPPORTUNISTIC)
    required = tls_policy.of_relay(route, TLS_REQUIRED)
    if tls is HopTls.NONE or not verify:
        assert isinstance(required, Word)
        assert (required.enhanced, required.permanent) == ("4.7.10", False)
    else:
        expected = HopTls.STARTTLS if tls is HopTls.OPPORTUNISTIC else tls
        assert required == Demand(expected, "1.2", verify=True, policy="REQUIRETLS")


# What DNS has to say


class NoStore:
    async def sts_policies(self, now: int) -> Sequence[StsRecord]:
        return ()

    async def save_sts_policy(self, record: StsRecord) -> None:
        pass


class Host:
    """A policy host that has one policy for all who ask."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[str] = []

    async def fetch(self, domain: str) -> str | FetchFailed:
        self.asked.append(domain)
        return self.text


RECORD = f"TLSA 3 1 1 {DIGEST.hex()}"
SIGNED = f"""
example.test MX 10 mx.example.test
mx.example.test A 127.0.0.1
_25._tcp.mx.example.test {RECORD}
example.test SIGNED
"""


async def ask(
    zone: str, *, route: MxRoute = MX, hosts: Sequence[str] = (HOST,), trust: bool = True, wish: int = 0
) -> list[Demand | Word]:
    async with PeerDns(zone) as dns:
        policies = TlsPolicies(Resolver([dns.listen], trust_ad=trust, lifetime_s=1.0 if "TIMEOUT" in zone else 10.0))
        return await policies.demands(route, "example.test", hosts, wish, kinds=["A"])


def dane(*names: str) -> Demand:
    return replace(BY_DANE, names=names)


async def test_dane_where_all_of_it_is_authentic() -> None:
    assert await ask(SIGNED) == [dane(HOST, "example.test")]
    assert await ask(SIGNED, route=replace(MX, dane=False)) == [PLAIN]
    assert await ask(SIGNED, wish=TLS_OPTIONAL) == [PLAIN]
    assert await ask(SIGNED, route=replace(MX, port=26)) == [PLAIN]


async def test_trap_3_without_the_word_of_a_resolver_that_counts_there_is_no_dane() -> None:
    assert await ask(SIGNED, trust=False) == [PLAIN]
    assert await ask(SIGNED.replace("example.test SIGNED", "")) == [PLAIN]
    # The host's zone is signed, the one that names the host is not.
    assert await ask(SIGNED.replace("example.test SIGNED", "mx.example.test SIGNED")) == [PLAIN]
    # The other way round.
    elsewhere = f"""
    example.test MX 10 mx.other.test
    mx.other.test A 127.0.0.1
    _25._tcp.mx.other.test {RECORD}
    example.test SIGNED
    """
    assert await ask(elsewhere, hosts=["mx.other.test"]) == [PLAIN]
    assert await ask(elsewhere + "other.test SIGNED", hosts=["mx.other.test"]) == [
        dane("mx.other.test", "example.test")
    ]


async def test_a_domain_that_is_its_own_host() -> None:
    zone = f"example.test A 127.0.0.1\n_25._tcp.example.test {RECORD}\nexample.test SIGNED"
    assert await ask(zone, hosts=["example.test"]) == [dane("example.test")]


async def test_records_that_cannot_be_used_still_demand_tls() -> None:
    assert await ask(SIGNED.replace("TLSA 3", "TLSA 1")) == [ENCRYPTED]


@pytest.mark.parametrize("fate", ["SERVFAIL", "TIMEOUT", "REFUSED"])
async def test_a_lookup_that_fails_puts_the_host_off_and_lowers_nothing(fate: str) -> None:
    zone = SIGNED.replace(f"_25._tcp.mx.example.test {RECORD}", f"_25._tcp.mx.example.test {fate}")
    [word] = await ask(zone)
    assert isinstance(word, Word)
    assert (word.stage, word.enhanced, word.permanent) == ("tls", "4.7.5", False)
    assert word.text.startswith(f"451 4.7.5 the TLSA records of {HOST} cannot be had now (DANE): ")


async def test_a_lookup_that_fails_in_a_zone_that_is_not_signed_means_nothing() -> None:
    """RFC 7672, 2.2.2: nameservers that drop what they do not know are found there only; so it is not even asked."""
    zone = """
    example.test MX 10 mx.other.test
    example.test SIGNED
    mx.other.test A 127.0.0.1
    _25._tcp.mx.other.test SERVFAIL
    """
    assert await ask(zone, hosts=["mx.other.test"]) == [PLAIN]


async def test_one_host_put_off_does_not_put_off_the_others() -> None:
    zone = SIGNED.replace(f"_25._tcp.mx.example.test {RECORD}", "_25._tcp.mx.example.test SERVFAIL")
    zone += f"two.example.test A 127.0.0.2\n_25._tcp.two.example.test {RECORD}\nthree.example.test A 127.0.0.3\n"
    first, second, third = await ask(zone, hosts=[HOST, "two.example.test", "three.example.test"])
    assert isinstance(first, Word)
    assert (second, third) == (dane("two.example.test", "example.test"), PLAIN)


ALIAS = """
example.test MX 10 mx.example.test
example.test SIGNED
mx.example.test CNAME mail.other.test
mail.other.test A 127.0.0.1
"""


async def test_aliases() -> None:
    """RFC 7672, 2.2.2: the name at the end counts first, where the whole way to it is authentic."""
    at_end = f"_25._tcp.mail.other.test {RECORD}\n"
    at_start = f"_25._tcp.mx.example.test {RECORD}\n"
    other = "other.test SIGNED\n"
    assert await ask(ALIAS + other + at_end) == [dane("mail.other.test", HOST, "example.test")]
    assert await ask(ALIAS + other + at_end + at_start) == [dane("mail.other.test", HOST, "example.test")]
    assert await ask(ALIAS + other + at_start) == [dane(HOST, "example.test")]
    assert await ask(ALIAS + at_start) == [dane(HOST, "example.test")]
    assert await ask(ALIAS + at_end) == [PLAIN]
    assert await ask(ALIAS + other) == [PLAIN]


async def test_mta_sts_of_the_recipients_domain() -> None:
    """Trap 2: what a stranger's domain says of shared hosts is the stranger's alone."""
    zone = """
    _mta-sts.example.test TXT "v=STSv1; id=1"
    mx.example.test A 127.0.0.1
    """
    async with PeerDns(zone) as dns:
        resolver = Resolver([dns.listen])
        host = Host("version: STSv1\nmode: enforce\nmx: other.test\nmax_age: 86400\n")
        policies = TlsPolicies(resolver, StsPolicies(NoStore(), resolver, host, Clock()))

        async def demand(domain: str, route: MxRoute = MX, wish: int = BY_POLICY) -> Demand | Word:
            [found] = await policies.demands(route, domain, [HOST], wish, kinds=["A"])
            return found

        assert isinstance(await demand("example.test"), Word)
        assert await demand("another.test") == PLAIN
        assert await demand("example.test", replace(MX, mta_sts=False)) == PLAIN
        assert await demand("example.test", replace(MX, tls=HopTls.NONE)) == Demand(HopTls.NONE, "1.2")
        assert await demand("example.test", wish=TLS_OPTIONAL) == PLAIN
        assert host.asked == ["example.test"]
