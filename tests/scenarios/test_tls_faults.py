"""D13: whatever is wrong with a host's TLS, mail that may go in clear arrives, and mail that may not stays.

Real sockets, real handshakes, the whole of an attempt; what the host heard in clear is looked through for the message.
"""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from gateway.config import HopTls, MxRoute, RelayRoute
from gateway.delivery.route import Ways
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.delivery.tls.policy import TlsPolicies
from gateway.events import State
from gateway.message.model import TLS_OPTIONAL, TLS_REQUIRED
from gateway.policyhost import FetchFailed
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.queue import Result
from gateway.store.records import StsRecord
from tests.fakes.carrying import Desk, desk
from tests.fakes.mx import OFFERS, Do, FakeMx
from tests.peers.policyhost import policy
from tests.peers.tlshosts import Fault, faults, said_in_clear, show

HOST = "one.test"
FAULTS = [
    "not offered",
    "refused for now",
    "refused",
    "dropped",
    "no handshake",
    "old",
    "ended",
    "by nobody known",
    "another name",
]
ZONE = """
example.test MX 10 one.test
one.test A 127.0.0.1
enforced.test MX 10 one.test
_mta-sts.enforced.test TXT "v=STSv1; id=1"
unnamed.test MX 10 one.test
_mta-sts.unnamed.test TXT "v=STSv1; id=1"
tested.test MX 10 one.test
_mta-sts.tested.test TXT "v=STSv1; id=1"
"""
POLICIES = {
    "enforced.test": policy("enforce", HOST),
    "unnamed.test": policy("enforce", "mx.unnamed.test"),
    "tested.test": policy("testing", "mx.tested.test"),
}


class Known:
    """Policies that need no host, and a store that keeps none."""

    async def fetch(self, domain: str) -> str | FetchFailed:
        return POLICIES[domain]

    async def sts_policies(self, now: int) -> Sequence[StsRecord]:
        return ()

    async def save_sts_policy(self, record: StsRecord) -> None:
        pass


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def broken(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fault]:
    made = faults(tmp_path_factory.mktemp("faults"), authority, HOST)
    assert list(made) == FAULTS
    return made


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The authority is the system's, for this test."""
    ca = tmp_path / "system.pem"
    ca.write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    return ca


@asynccontextmanager
async def opened(host: FakeMx, tls: HopTls = HopTls.OPPORTUNISTIC, **changes: object) -> AsyncIterator[Desk]:
    """A desk with an MX route to the host."""
    route = replace(MxRoute("direct"), port=host.port, tls=tls, **changes)  # type: ignore[arg-type]
    relay = RelayRoute("relay", host=HOST, port=host.port, tls=HopTls.STARTTLS, username="shop", password=None)
    async with desk([route, relay], zone=ZONE) as made:
        couriers = made.couriers
        resolver = Resolver([made.dns.listen])
        known = Known()
        policies = TlsPolicies(resolver, StsPolicies(known, resolver, known, Clock()))
        couriers.ways = Ways(couriers.config, resolver, random.Random(1), ipv6=False, policies=policies)
        yield made


def stays(result: Result, host: FakeMx) -> None:
    """Put off for what TLS lacks, and nothing of the message, its addresses included, was said."""
    assert result.state is State.DEFERRED
    assert result.stage in {"tls", "starttls"}
    heard = b"".join(segment for conversation in host.conversations for segment in conversation.segments)
    assert not any(word in said_in_clear(host) for word in (b"MAIL", b"RCPT", b"DATA", b"@", b"hello"))
    assert b"how are you" not in heard
    assert host.transactions == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_opportunistic_mail_arrives(fault: str, broken: dict[str, Fault]) -> None:
    kind = broken[fault]
    async with kind.host() as host, opened(host) as made:
        result = await made.one("example.test")
        assert result.state is State.DELIVERED
        assert len(host.transactions) == 1
        assert bool(result.tls) is kind.encrypts
        again = kind.server is not None and not kind.encrypts
        assert len(host.conversations) == 1 + again
        assert result.note.startswith("TLS failed, sent in clear: ") is again
        if kind.encrypts:
            assert b"MAIL" not in said_in_clear(host)


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault not in {"ended", "by nobody known", "another name"}]
)
async def test_required_tls_that_there_is_not_keeps_the_mail(fault: str, broken: dict[str, Fault]) -> None:
    async with broken[fault].host() as host, opened(host, HopTls.STARTTLS) as made:
        result = await made.one("example.test")
        stays(result, host)
        assert len(host.conversations) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("domain", ["enforced.test", "example.test"])
async def test_verified_tls_that_there_is_not_keeps_the_mail(
    domain: str, fault: str, broken: dict[str, Fault], trusted: Path
) -> None:
    """By an enforced MTA-STS policy, and by REQUIRETLS."""
    wish = TLS_REQUIRED if domain == "example.test" else 0
    async with broken[fault].host() as host, opened(host) as made:
        result = await made.one(domain, tls_wish=wish)
        stays(result, host)
        assert len(host.conversations) == 1
        assert ("REQUIRETLS" if wish else "MTA-STS") in result.reply or result.reply[:3] in {"454", "501"}


@pytest.mark.parametrize("fault", FAULTS)
async def test_tls_that_the_sender_does_not_require_stops_nothing(
    fault: str, broken: dict[str, Fault], trusted: Path
) -> None:
    """RFC 8689, 5: neither a policy nor a certificate."""
    for domain in ("enforced.test", "unnamed.test"):
        async with broken[fault].host() as host, opened(host) as made:
            result = await made.one(domain, tls_wish=TLS_OPTIONAL)
            assert (result.state, len(host.transactions)) == (State.DELIVERED, 1)


async def test_a_policy_that_is_met(authority: trustme.CA, trusted: Path, tmp_path: Path) -> None:
    server = show(tmp_path, authority, HOST).server
    async with FakeMx(tls=server, offers=(*OFFERS, "REQUIRETLS")) as host, opened(host) as made:
        result = await made.one("enforced.test")
        assert (result.state, result.note) == (State.DELIVERED, "MTA-STS: verified")
        result = await made.one("example.test", tls_wish=TLS_REQUIRED)
        assert (result.state, result.note) == (State.DELIVERED, "REQUIRETLS: verified")
        assert len(host.conversations) == 2, "what one demanded is not what the other did"
        assert b"MAIL" not in said_in_clear(host)
        result = await made.one("tested.test")  # trap 1
        assert result.state is State.DELIVERED
        assert result.note == "the MTA-STS policy of tested.test, in testing, does not name one.test"


async def test_a_host_that_is_not_named_hears_nothing(authority: trustme.CA, trusted: Path, tmp_path: Path) -> None:
    async with FakeMx(tls=show(tmp_path, authority, HOST).server) as host, opened(host) as made:
        result = await made.one("unnamed.test")
        stays(result, host)
        assert result.reply == "451 4.7.5 the MTA-STS policy of unnamed.test does not name one.test"
        assert host.conversations == []
        assert (await made.one("example.test")).state is State.DELIVERED  # trap 2: the host serves others, too


async def test_what_is_injected_is_not_believed(authority: trustme.CA, trusted: Path, tmp_path: Path) -> None:
    injected = Do("220 go", raw=b"250-one.test\r\n250 SIZE 1\r\n")
    async with FakeMx({"STARTTLS": injected}, tls=show(tmp_path, authority, HOST).server) as host, opened(host) as made:
        for domain in ("example.test", "enforced.test"):
            result = await made.one(domain)
            assert (result.state, bool(result.tls)) == (State.DELIVERED, True), domain
            assert b"MAIL" not in said_in_clear(host)
        assert len(host.transactions) == len(host.conversations) == 2
