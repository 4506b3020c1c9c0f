"""Records of other types, and what of them is authentic: the word of a validating nameserver, where it counts."""

from collections.abc import AsyncIterator

import pytest

from gateway.config import Listen
from gateway.resolver import LookupFailed, Missing, Resolver
from tests.peers.dns import PeerDns

DIGEST = "ab" * 32
ZONE = f"""
safe.test            SIGNED
safe.test            MX 10 mx.safe.test
mx.safe.test         A 127.0.0.2
_25._tcp.mx.safe.test TLSA 3 1 1 {DIGEST}
_25._tcp.mx.safe.test TLSA 2 0 1 {DIGEST}
alias.safe.test      CNAME mx.safe.test
away.safe.test       CNAME mx.plain.test
lost.safe.test       CNAME nowhere.plain.test
odd.safe.test        CNAME Mx.Plain.Test
plain.test           MX 10 mx.plain.test
mx.plain.test        A 127.0.0.3
_25._tcp.mx.plain.test TLSA 3 1 1 {DIGEST}
_25._tcp.away.safe.test CNAME _25._tcp.mx.plain.test
broken.test          SIGNED
_25._tcp.mx.broken.test SERVFAIL
text.test            TXT "v=STSv1; " "id=1;"
text.test            TXT "second"
loop.test            CNAME loop2.test
loop2.test           CNAME loop.test
2.0.0.127.in-addr.arpa PTR mx.safe.test.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR Mail.Example.Test.
"""


@pytest.fixture
async def dns() -> AsyncIterator[PeerDns]:
    async with PeerDns(ZONE) as server:
        yield server


@pytest.fixture
def resolver(dns: PeerDns) -> Resolver:
    return Resolver([dns.listen])


async def test_authentic_tlsa_records_are_found(dns: PeerDns, resolver: Resolver) -> None:
    found = await resolver.tlsa("MX.safe.test.", 25)
    assert isinstance(found, tuple)
    assert sorted(found) == [(2, 0, 1, bytes.fromhex(DIGEST)), (3, 1, 1, bytes.fromhex(DIGEST))]
    assert dns.flags == [(True, True, True)]  # AD, EDNS, DO


async def test_tlsa_records_that_anybody_could_have_written_do_not_exist(resolver: Resolver) -> None:
    assert await resolver.tlsa("mx.plain.test", 25) is Missing.RECORD
    assert await resolver.tlsa("away.safe.test", 25) is Missing.RECORD  # the chain leaves what is signed


async def test_no_tlsa_record_and_nobody_knows_differ(resolver: Resolver) -> None:
    assert await resolver.tlsa("mx.safe.test", 2525) is Missing.NAME
    assert isinstance(await resolver.tlsa("mx.broken.test", 25), LookupFailed)


@pytest.mark.parametrize(
    ("name", "kind", "secure"),
    [
        ("safe.test", "MX", True),
        ("mx.safe.test", "A", True),
        ("mx.safe.test", "AAAA", True),  # that there is none is proven, too
        ("nowhere.safe.test", "A", True),
        ("alias.safe.test", "A", True),
        ("away.safe.test", "A", False),
        ("away.safe.test", "CNAME", True),  # the alias itself is
        ("plain.test", "MX", False),
        ("nowhere.test", "A", False),
        ("_25._tcp.mx.broken.test", "TLSA", False),  # nobody knows
        ("a b.test", "A", False),
    ],
)
async def test_what_is_authentic(resolver: Resolver, name: str, kind: str, secure: bool) -> None:
    assert await resolver.is_secure(name, kind) is secure
    assert await resolver.is_secure(name.upper(), kind) is secure


async def test_it_is_asked_once_with_the_answer(dns: PeerDns, resolver: Resolver) -> None:
    await resolver.mx("safe.test")
    assert await resolver.is_secure("safe.test", "MX")
    assert await resolver.is_secure("nowhere.safe.test", "MX")
    assert await resolver.mx("nowhere.safe.test") is Missing.NAME
    assert len(dns.queries) == 2


@pytest.mark.parametrize(
    ("host", "trust_ad", "secure"),
    [
        ("127.0.0.1", None, True),
        ("127.0.0.1", False, False),
        ("127.0.0.1", True, True),
    ],
)
async def test_the_word_of_a_nameserver_counts_where_it_may(
    dns: PeerDns, host: str, trust_ad: bool | None, secure: bool
) -> None:
    resolver = Resolver([Listen(host, dns.listen.port)], trust_ad=trust_ad)
    assert await resolver.is_secure("safe.test", "MX") is secure
    assert isinstance(await resolver.tlsa("mx.safe.test", 25), tuple) is secure


async def test_one_nameserver_elsewhere_is_enough_to_believe_none(dns: PeerDns) -> None:
    """The first answers, the second is on no loopback: which of them will be asked is not known."""
    servers = [dns.listen, Listen("192.0.2.53", 53)]
    assert not await Resolver(servers).is_secure("safe.test", "MX")
    assert await Resolver(servers, trust_ad=True).is_secure("safe.test", "MX")


@pytest.mark.parametrize(
    ("host", "end"),
    [
        ("mx.safe.test", "mx.safe.test"),
        ("ALIAS.safe.test.", "mx.safe.test"),
        ("odd.safe.test", "mx.plain.test"),
        ("lost.safe.test", "nowhere.plain.test"),
        ("nowhere.test", "nowhere.test"),
        ("Loop.test", "loop.test"),  # nobody knows
        ("a b.test", "a b.test"),
    ],
)
async def test_the_end_of_a_chain(resolver: Resolver, host: str, end: str) -> None:
    assert await resolver.canonical(host) == end


async def test_an_alias_without_what_it_stands_for_is_no_answer(dns: PeerDns, resolver: Resolver) -> None:
    """Forwarders that do not follow; taken for "no such record" it would bounce mail."""
    dns.bare = {"alias.safe.test", "away.safe.test", "loop.test", "loop2.test"}
    assert await resolver.addresses("alias.safe.test", ipv4=True, ipv6=False) == ("127.0.0.2",)
    assert await resolver.is_secure("alias.safe.test", "A")
    assert await resolver.canonical("away.safe.test") == "mx.plain.test"
    assert not await resolver.is_secure("away.safe.test", "A")
    assert isinstance(await resolver.mx("loop.test"), LookupFailed)
    assert len(dns.queries) < 20


async def test_the_end_of_a_chain_comes_with_the_addresses(dns: PeerDns, resolver: Resolver) -> None:
    assert await resolver.addresses("alias.safe.test", ipv4=True, ipv6=False) == ("127.0.0.2",)
    assert await resolver.canonical("alias.safe.test") == "mx.safe.test"
    assert dns.asked("alias.safe.test", "A") == len(dns.queries) == 1


async def test_the_strings_of_a_text_record_are_one(resolver: Resolver) -> None:
    found = await resolver.txt("text.test")
    assert isinstance(found, tuple)
    assert set(found) == {"v=STSv1; id=1;", "second"}
    assert await resolver.txt("mx.safe.test") is Missing.RECORD
    assert await resolver.txt("nowhere.test") is Missing.NAME


async def test_the_name_of_an_address(resolver: Resolver) -> None:
    assert await resolver.ptr("127.0.0.2") == ("mx.safe.test",)
    assert await resolver.ptr("2001:db8::1") == ("mail.example.test",)
    assert await resolver.ptr("127.0.0.9") is Missing.NAME
    assert await resolver.ptr("fe80::1%eth0") is Missing.NAME
    assert await resolver.ptr("no address") is Missing.NAME
