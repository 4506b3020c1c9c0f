"""M7: DANE and MTA-STS with a real signing DNS server behind a validating resolver, and a real policy host.

NSD serves the zones, Unbound validates them, hosts and policy host have real certificates. Each story is a domain.
"""

import random
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme

from gateway.config import Dns, MxRoute
from gateway.delivery.route import Ways
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.delivery.tls.policy import TlsPolicies
from gateway.events import State
from gateway.message.model import TLS_OPTIONAL, TLS_REQUIRED
from gateway.policyhost import PolicyHost
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.queue import Result
from gateway.store.records import StsRecord
from tests.fakes.carrying import Desk, desk
from tests.fakes.mx import FakeMx
from tests.peers.policyhost import PolicyServer, answer, policy
from tests.peers.process import free_port
from tests.peers.signingdns import SigningDns
from tests.peers.tlshosts import Shown, said_in_clear, show

pytestmark = pytest.mark.slow

_ZONE = """
@ MX 10 mx
mx A 127.0.0.1
"""
_STS = """
_mta-sts TXT "v=STSv1; id=1"
mta-sts A 127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class Internet:
    """Zones, what the hosts show, and the port they have."""

    dns: SigningDns
    port: int
    shown: Shown
    authority: trustme.CA
    ca: Path


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    directory = tmp_path_factory.mktemp("internet")
    authority, port = trustme.CA(), free_port()
    ca = directory / "ca.pem"
    ca.write_bytes(authority.cert_pem.bytes())
    shown = show(directory, authority, "mx.anchor.test", "mx.sts.test", "mx.both.test", "mx.stranger.test")
    another = show(directory / "another", trustme.CA(), "mx.another.test")

    def tlsa(data: str) -> str:
        return f"{_ZONE}_{port}._tcp.mx TLSA {data}\n"

    signed = {
        "good.test": tlsa(shown.tlsa(3, 1, 1)),
        "whole.test": tlsa(shown.tlsa(3, 0, 2)),
        "anchor.test": tlsa(shown.tlsa(2, 0, 1)),
        "misnamed.test": tlsa(shown.tlsa(2, 1, 1)),
        "wrong.test": tlsa(another.tlsa(3, 1, 1)),
        "stranger.test": tlsa(another.tlsa(2, 0, 1)),
        "unusable.test": tlsa(shown.tlsa(1, 0, 1)),
        "sealed.test": _ZONE,  # signed, and without TLSA records
        "both.test": tlsa(shown.tlsa(3, 1, 1)) + _STS,
        "bogus.test": tlsa(shown.tlsa(3, 1, 1)),
        "bogusmx.test": tlsa(shown.tlsa(3, 1, 1)),
        "bogusaddress.test": tlsa(shown.tlsa(3, 1, 1)),
        "own.test": f"@ A 127.0.0.1\n_{port}._tcp TLSA {shown.tlsa(3, 1, 1)}\n",
        "hosted.test": "@ MX 10 mx.good.test.\n",
        "alias.test": "@ MX 10 mx\nmx CNAME mx.good.test.\n",
        "astray.test": "@ MX 10 mx.plain.test.\n",
    }
    unsigned = {
        "plain.test": tlsa(another.tlsa(3, 1, 1)),
        "lured.test": "@ MX 10 mx.wrong.test.\n",
        "sts.test": _ZONE + _STS,
        "mismatch.test": _ZONE + _STS,
        "untrusted.test": _ZONE + _STS,
    }
    bogus = [f"_{port}._tcp.mx.bogus.test TLSA", "bogusmx.test MX", "mx.bogusaddress.test A"]
    with SigningDns(directory / "dns", signed, unsigned, bogus=bogus) as dns:
        yield Internet(dns, port, shown, authority, ca)


class NoStore:
    async def sts_policies(self, now: int) -> Sequence[StsRecord]:
        return ()

    async def save_sts_policy(self, record: StsRecord) -> None:
        pass


@asynccontextmanager
async def opened(internet: Internet, policies: int | None = None, *, trust: bool | None = None) -> AsyncIterator[Desk]:
    """A desk that asks that DNS; `policies` is the port of the policy host."""
    async with desk([MxRoute("direct", port=internet.port)]) as made:
        couriers = made.couriers
        resolver = Resolver([internet.dns.listen], trust_ad=trust)
        host = PolicyHost(resolver, ipv6=False, ca=internet.ca, port=policies or 1, anywhere=True)
        known = TlsPolicies(resolver, StsPolicies(NoStore(), resolver, host, Clock()))
        couriers.resolver = resolver
        couriers.config = replace(couriers.config, dns=Dns((internet.dns.listen,)))
        couriers.ways = Ways(couriers.config, resolver, random.Random(1), ipv6=False, policies=known)
        yield made


def stays(result: Result, host: FakeMx) -> None:
    """Put off; nothing of the message was said to anybody."""
    assert result.state is State.DEFERRED
    assert host.transactions == []
    heard = b"".join(segment for conversation in host.conversations for segment in conversation.segments)
    assert b"how are you" not in heard
    assert not any(word in said_in_clear(host) for word in (b"MAIL", b"@", b"how are you"))


@pytest.mark.parametrize("domain", ["good", "whole", "anchor", "own", "hosted", "alias"])
async def test_dane_that_is_met(domain: str, internet: Internet) -> None:
    async with FakeMx(tls=internet.shown.server, port=internet.port) as host, opened(internet) as made:
        result = await made.one(f"{domain}.test")
        assert (result.state, result.tls, result.note) == (State.DELIVERED, "TLSv1.3", "DANE: verified")
        assert b"MAIL" not in said_in_clear(host)


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("wrong", "its certificate matches none of its TLSA records"),
        ("stranger", "its certificate is not issued by any of the authorities in its TLSA records"),
        ("misnamed", "its certificate is not for mx.misnamed.test"),
    ],
)
async def test_dane_that_is_not_met(domain: str, why: str, internet: Internet) -> None:
    async with FakeMx(tls=internet.shown.server, port=internet.port) as host, opened(internet) as made:
        result = await made.one(f"{domain}.test")
        stays(result, host)
        assert result.reply == f"TLS with mx.{domain}.test, which DANE requires, failed: {why}"
        # The sender's word for "rather in clear than not at all" (RFC 8689, 5).
        assert (await made.one(f"{domain}.test", tls_wish=TLS_OPTIONAL)).state is State.DELIVERED


@pytest.mark.parametrize("domain", ["good", "anchor", "unusable", "own", "hosted"])
async def test_dane_and_a_host_without_tls(domain: str, internet: Internet) -> None:
    async with FakeMx(port=internet.port) as host, opened(internet) as made:
        result = await made.one(f"{domain}.test")
        stays(result, host)
        assert result.reply.endswith("does not offer STARTTLS, which DANE requires")


async def test_dane_and_a_host_that_refuses_tls(internet: Internet) -> None:
    script = {"STARTTLS": "454 4.7.0 no TLS today"}
    async with FakeMx(dict(script), tls=internet.shown.server, port=internet.port) as host, opened(internet) as made:
        stays(await made.one("good.test"), host)
        assert len(host.conversations) == 1


async def test_records_that_cannot_be_used_demand_tls_without_proof(internet: Internet) -> None:
    async with FakeMx(tls=internet.shown.server, port=internet.port), opened(internet) as made:
        result = await made.one("unusable.test")
        assert (result.state, result.tls) == (State.DELIVERED, "TLSv1.3")
        assert result.note.startswith("DANE: encrypted, not verified")


@pytest.mark.parametrize("domain", ["bogus", "bogusmx", "bogusaddress"])
async def test_what_is_forged_puts_off(domain: str, internet: Internet) -> None:
    async with FakeMx(tls=internet.shown.server, port=internet.port) as host, opened(internet) as made:
        result = await made.one(f"{domain}.test")
        stays(result, host)
        assert host.conversations == []
        assert "SERVFAIL" in result.reply
        assert ("DANE" in result.reply) is (domain == "bogus")


@pytest.mark.parametrize("domain", ["plain", "lured", "astray", "sealed"])
async def test_trap_3_what_is_not_authentic_demands_nothing(domain: str, internet: Internet) -> None:
    """TLSA records of an unsigned zone; those of a signed one that an unsigned one leads to; and none at all."""
    async with FakeMx(port=internet.port) as host, opened(internet) as made:
        result = await made.one(f"{domain}.test")
        assert (result.state, result.tls, len(host.conversations)) == (State.DELIVERED, "", 1)


async def test_trap_3_a_resolver_whose_word_does_not_count(internet: Internet) -> None:
    async with FakeMx(port=internet.port), opened(internet, trust=False) as made:
        assert (await made.one("wrong.test")).state is State.DELIVERED


async def test_requiretls_is_met_by_dane(internet: Internet) -> None:
    server = internet.shown.server
    async with FakeMx(tls=server, port=internet.port, offers=("REQUIRETLS",)), opened(internet) as made:
        result = await made.one("good.test", tls_wish=TLS_REQUIRED)
        assert (result.state, result.note) == (State.DELIVERED, "DANE: verified")


# MTA-STS


@asynccontextmanager
async def policy_host(internet: Internet) -> AsyncIterator[PolicyServer]:
    domains = ["sts.test", "mismatch.test", "untrusted.test", "both.test"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    internet.authority.issue_cert(*(f"mta-sts.{domain}" for domain in domains)).configure_cert(context)
    async with PolicyServer(context) as server:
        for domain in domains:
            server.answers[domain] = answer(policy("enforce", f"mx.{domain}"))
        server.answers["mismatch.test"] = answer(policy("enforce", "*.mx.mismatch.test", "mismatch.test"))
        server.answers["both.test"] = answer(policy("enforce", "other.both.test"))
        yield server


async def test_an_enforced_policy(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(internet.ca))
    server = internet.shown.server
    async with policy_host(internet) as policies, FakeMx(tls=server, port=internet.port) as host:
        async with opened(internet, policies.port) as made:
            result = await made.one("sts.test")
            assert (result.state, result.note) == (State.DELIVERED, "MTA-STS: verified")
            assert (await made.one("sts.test")).state is State.DELIVERED
            assert len(policies.asked) == 1
            # RFC 8461, 2: DANE comes first; this policy does not name the host.
            result = await made.one("both.test")
            assert (result.state, result.note) == (State.DELIVERED, "DANE: verified")
        assert b"MAIL" not in said_in_clear(host)


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("mismatch", "451 4.7.5 the MTA-STS policy of mismatch.test does not name mx.mismatch.test"),
        ("untrusted", "TLS with mx.untrusted.test, which MTA-STS requires, failed: its certificate is not trusted"),
    ],
)
async def test_an_enforced_policy_that_is_not_met(
    domain: str, why: str, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(internet.ca))
    server = internet.shown.server
    async with (
        policy_host(internet) as policies,
        FakeMx(tls=server, port=internet.port) as host,
        opened(internet, policies.port) as made,
    ):
        result = await made.one(f"{domain}.test")
        stays(result, host)
        assert result.reply.startswith(why)


async def test_an_enforced_policy_and_a_host_without_tls(internet: Internet) -> None:
    async with (
        policy_host(internet) as policies,
        FakeMx(port=internet.port) as host,
        opened(internet, policies.port) as made,
    ):
        result = await made.one("sts.test")
        stays(result, host)
        assert result.reply == "mx.sts.test does not offer STARTTLS, which MTA-STS requires"


async def test_a_policy_host_that_cannot_be_believed_binds_nobody(internet: Internet) -> None:
    """RFC 8461, 3.3: without a policy that is known, mail goes on as without any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mta-sts.sts.test").configure_cert(context)
    async with PolicyServer(context) as policies, FakeMx(port=internet.port) as host:
        policies.answers["sts.test"] = answer(policy("enforce", "mx.other.test"))
        async with opened(internet, policies.port) as made:
            assert (await made.one("sts.test")).state is State.DELIVERED
        assert (policies.connections, policies.asked) == (1, [])
        assert len(host.transactions) == 1
