"""Fetching a policy: only from who it must be, only from the internet, never more than there can be."""

import gzip
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from gateway.netguard import is_public
from gateway.policyhost import MAX_BYTES, FetchFailed, PolicyHost
from gateway.resolver import Resolver
from tests.fakes.dns import FakeDns
from tests.peers.policyhost import PolicyServer, answer, policy

DOMAIN = "example.test"
TEXT = policy("enforce", "mx.example.test")


@dataclass(frozen=True, slots=True)
class World:
    server: PolicyServer
    dns: FakeDns
    ca: Path

    def client(self, *, anywhere: bool = True, ca: Path | None = None, within_s: float = 5.0) -> PolicyHost:
        resolver = Resolver([self.dns.listen])
        return PolicyHost(
            resolver, ca=ca or self.ca, port=self.server.port, anywhere=anywhere, ipv6=True, within_s=within_s
        )


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def world(authority: trustme.CA, tmp_path: Path) -> AsyncIterator[World]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(f"mta-sts.{DOMAIN}").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    zone = f"mta-sts.{DOMAIN} A 127.0.0.1\nmta-sts.other.test A 127.0.0.1\nmta-sts.failing.test SERVFAIL"
    async with PolicyServer(context) as server, FakeDns(zone) as dns:
        yield World(server, dns, tmp_path / "ca.pem")


async def failed(client: PolicyHost, domain: str = DOMAIN) -> str:
    said = await client.fetch(domain)
    assert isinstance(said, FetchFailed), said
    return said.reason


async def test_a_policy_is_fetched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nobody's business
    world.server.answers[DOMAIN] = answer(TEXT, "text/plain; charset=utf-8")
    assert await world.client().fetch(DOMAIN) == TEXT
    [asked] = world.server.asked
    assert (asked.host, asked.path) == (f"mta-sts.{DOMAIN}", "/.well-known/mta-sts.txt")
    assert "cookie" not in asked.head.lower()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "answered 301"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "answered 500"),
        (answer(TEXT, "text/html"), "of type text/html"),
        (answer("x" * (MAX_BYTES + 1)), "larger than"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * (MAX_BYTES + 1), "larger than"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n\xff\xff", "utf-8"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nx", ""),
        (b"hello\r\n\r\n", ""),
        (b"", ""),
    ],
    ids=range(11),
)
async def test_what_is_not_taken(said: bytes, why: str, world: World) -> None:
    world.server.answers[DOMAIN] = said
    assert why in await failed(world.client())
    assert {asked.path for asked in world.server.asked} == {"/.well-known/mta-sts.txt"}


async def test_nothing_is_unpacked(world: World) -> None:
    for content in (bytes(10_000_000), TEXT.encode()):
        packed = gzip.compress(content)
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n"
        world.server.answers[DOMAIN] = f"{head}Content-Length: {len(packed)}\r\n\r\n".encode() + packed
        assert "utf-8" in await failed(world.client())


async def test_silence_ends(world: World) -> None:
    world.server.answers[DOMAIN] = None
    assert await failed(world.client(within_s=0.1)) == "no answer within 0.1 s"


async def test_the_certificate_is_verified(world: World, tmp_path: Path) -> None:
    world.server.answers["other.test"] = answer(TEXT)
    assert "certificate" in await failed(world.client(), "other.test")  # for another name
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "another.pem"))
    assert "certificate" in await failed(world.client(ca=tmp_path / "another.pem"))
    assert world.server.asked == []
    assert world.server.connections == 2


async def test_names_that_lead_nowhere(world: World) -> None:
    assert await failed(world.client(), "missing.test") != ""
    assert "SERVFAIL" in await failed(world.client(), "failing.test")
    for odd in ("", "a b", "127.0.0.1", "x/../y", "user@example.test", "a" * 300, "exa\r\nmple.test", "[::1]"):
        await failed(world.client(), odd)
    assert world.server.connections == 0


GUARDED = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::",
    "2001:0:808:808::80ff:fffe",
    "::7f00:1",
]


@pytest.mark.parametrize("address", GUARDED)
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2600::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


async def test_s8_no_connection_to_what_is_guarded(world: World) -> None:
    world.server.answers[DOMAIN] = answer(TEXT)
    client = world.client(anywhere=False)
    for number, address in enumerate(GUARDED):
        kind = "AAAA" if ":" in address else "A"
        written = ipaddress.ip_address(address).exploded  # dnslib reads no mixed notation
        world.dns.load(f"mta-sts.d{number}.test {kind} {written}")
        assert "none of its addresses is on the internet" in await failed(client, f"d{number}.test")
    world.dns.load(f"mta-sts.{DOMAIN} CNAME localhost.test\nlocalhost.test A 127.0.0.1")
    assert "none of its addresses is on the internet" in await failed(world.client(anywhere=False))
    assert world.server.connections == 0


async def test_s8_only_what_was_judged_is_connected_to(world: World) -> None:
    """Of mixed addresses the good ones; and there is no second lookup in which they could change."""
    world.dns.load("mta-sts.mixed.test A 127.0.0.1\nmta-sts.mixed.test A 8.8.8.8\nmta-sts.mixed.test A 10.0.0.1")
    judged = world.client(anywhere=False)._lookup
    found = await judged.resolve("mta-sts.mixed.test", 443)
    assert [(one["host"], one["port"]) for one in found] == [("8.8.8.8", 443)]
