"""DNS against a real server on loopback: what exists, what does not, and what nobody knows are three things."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import Listen
from gateway.resolver import LookupFailed, Missing, Resolver, has_ipv6_route, has_route, lookup
from gateway.resolver.nameserver import Nameserver
from tests.fakes.dns import FakeDns

ZONE = """
example.test      MX     20 b.example.test
example.test      MX     10 A.Example.Test
a.example.test    A      127.0.0.2
a.example.test    A      127.0.0.3
a.example.test    AAAA   ::1
b.example.test    A      127.0.0.4
alias.test        CNAME  example.test
null.test         MX     0 .
bare.test         A      127.0.0.5
fail.test         SERVFAIL
refuse.test       REFUSED
silent.test       TIMEOUT
lame.test         REFERRAL
loop.test         CNAME  loop2.test
loop2.test        CNAME  loop.test
cut.test          TRUNCATED
cut.test          MX     10 a.example.test
"""


@pytest.fixture
async def dns() -> AsyncIterator[FakeDns]:
    async with FakeDns(ZONE) as server:
        yield server


@pytest.fixture
def resolver(dns: FakeDns) -> Resolver:
    return Resolver([dns.listen])


async def test_mx_records_with_their_preferences(resolver: Resolver) -> None:
    found = await resolver.mx("example.test")
    assert isinstance(found, tuple)
    assert sorted(found) == [(10, "a.example.test"), (20, "b.example.test")]
    assert await resolver.mx("EXAMPLE.test.") == found


async def test_a_cname_is_followed_and_a_null_mx_has_no_name(resolver: Resolver) -> None:
    aliased = await resolver.mx("alias.test")
    assert isinstance(aliased, tuple)
    assert len(aliased) == 2
    assert await resolver.mx("null.test") == ((0, ""),)


async def test_addresses_of_both_families_by_turns(resolver: Resolver) -> None:
    found = await resolver.addresses("a.example.test", ipv4=True, ipv6=True)
    assert isinstance(found, tuple)
    assert found[0] == "::1"
    assert set(found[1:]) == {"127.0.0.2", "127.0.0.3"}
    assert await resolver.addresses("a.example.test", ipv4=False, ipv6=True) == ("::1",)
    assert await resolver.addresses("b.example.test", ipv4=False, ipv6=True) is Missing.RECORD


async def test_no_name_and_no_record_differ(resolver: Resolver) -> None:
    assert await resolver.mx("nowhere.test") is Missing.NAME
    assert await resolver.mx("bare.test") is Missing.RECORD
    assert await resolver.addresses("nowhere.test", ipv4=True, ipv6=True) is Missing.NAME


@pytest.mark.parametrize("name", ["fail.test", "refuse.test", "loop.test", "lame.test"])
async def test_a_failed_lookup_is_never_a_missing_name(resolver: Resolver, name: str) -> None:
    for answer in (await resolver.mx(name), await resolver.addresses(name, ipv4=True, ipv6=False)):
        assert isinstance(answer, LookupFailed)
        assert answer.reason


async def test_an_answer_that_does_not_come_is_a_failed_lookup(dns: FakeDns) -> None:
    assert isinstance(await Resolver([dns.listen], lifetime_s=0.2).mx("silent.test"), LookupFailed)


async def test_the_next_nameserver_is_asked(dns: FakeDns) -> None:
    async with FakeDns("example.test TIMEOUT") as silent:
        resolver = Resolver([silent.listen, dns.listen], try_s=0.1)
        assert isinstance(await resolver.mx("example.test"), tuple)


async def test_a_nameserver_that_is_not_there_is_a_failed_lookup() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    resolver = Resolver([Listen("127.0.0.1", port)], lifetime_s=0.3)
    assert isinstance(await resolver.mx("example.test"), LookupFailed)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "-", "a..test", ".test", "*.test", "a b.test", "1.2.3.4", "127.1", "[127.0.0.1]", "a\\046b.test"),
        *(
            "x" * 64 + ".test",
            ".".join(["x" * 60] * 5),
            "-a.test",
            "a\r\nb.test",
            "a\0.test",
            "ü" * 60 + ".test",
            "::1",
        ),
    ],
)
async def test_what_cannot_be_a_host_name_is_not_asked(dns: FakeDns, resolver: Resolver, name: str) -> None:
    assert await resolver.mx(name) is Missing.NAME
    assert dns.queries == []


async def test_an_international_name_is_asked_as_a_labels(dns: FakeDns, resolver: Resolver) -> None:
    await resolver.mx("bücher.test")
    assert dns.asked("xn--bcher-kva.test", "MX") == 1


async def test_a_truncated_answer_is_fetched_over_tcp(dns: FakeDns, resolver: Resolver) -> None:
    assert await resolver.mx("cut.test") == ((10, "a.example.test"),)
    assert ("cut.test", "MX", "tcp") in dns.queries


async def test_eighty_mx_hosts_come_whole() -> None:
    zone = "\n".join(f"many.test MX {n} mx{n}.many.test" for n in range(80))
    async with FakeDns(zone) as dns:
        found = await Resolver([dns.listen]).mx("many.test")
    assert isinstance(found, tuple)
    assert len(found) == 80


async def test_answers_are_kept_good_and_bad(dns: FakeDns, resolver: Resolver) -> None:
    for _ in range(100):
        await resolver.mx("example.test")
        await resolver.mx("nowhere.test")
        await resolver.mx("fail.test")
        await resolver.addresses("b.example.test", ipv4=True, ipv6=False)
    assert dns.asked("example.test", "MX") == 1
    assert dns.asked("nowhere.test", "MX") == 1
    assert dns.asked("fail.test", "MX") == 1
    assert dns.asked("b.example.test", "A") == 1


async def test_a_failure_is_forgotten_soon(dns: FakeDns, resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "FAILURE_S", 0.0)
    assert isinstance(await resolver.mx("fail.test"), LookupFailed)
    dns.load("fail.test MX 10 a.example.test")
    assert await resolver.mx("fail.test") == ((10, "a.example.test"),)


async def test_an_answer_lives_no_longer_than_its_ttl() -> None:
    async with FakeDns("short.test MX 10 a.test", ttl=0) as dns:
        resolver = Resolver([dns.listen])
        await resolver.mx("short.test")
        await resolver.mx("short.test")
        assert dns.asked("short.test", "MX") == 2


async def test_a_question_that_is_being_asked_is_not_asked_again(dns: FakeDns, resolver: Resolver) -> None:
    answers = await asyncio.gather(*[resolver.mx("example.test") for _ in range(50)])
    assert len(set(answers)) == 1
    assert dns.asked("example.test", "MX") == 1


async def test_who_waits_for_a_cancelled_question_asks_itself(dns: FakeDns, resolver: Resolver) -> None:
    first = asyncio.get_running_loop().create_task(resolver.mx("example.test"))
    await asyncio.sleep(0)  # it has asked
    second = asyncio.get_running_loop().create_task(resolver.mx("example.test"))
    await asyncio.sleep(0)  # it waits for the first
    first.cancel()
    assert isinstance(await second, tuple)
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize(
    ("text", "asked", "warned"),
    [
        ("search lan\nnameserver 192.0.2.1\nnameserver 2001:db8::1 # ours\n", ["192.0.2.1", "2001:db8::1"], False),
        ("nameserver 192.168.1\nnameserver 192.0.2.1\n", ["192.0.2.1"], True),
        ("nameserver https://dns.example/\n", ["127.0.0.1"], True),
        ("# nothing\nnameserver\noptions ndots:x\nsearch a..b\n\xff\n", ["127.0.0.1"], False),
        (None, ["127.0.0.1"], False),
    ],
)
def test_the_nameservers_of_the_system_whatever_its_file_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    text: str | None,
    asked: list[str],
    warned: bool,
) -> None:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(lookup, "RESOLV_CONF", path)
    if text is not None:
        path.write_text(text, encoding="latin-1")
    resolver = Resolver()
    resolver.reconfigure(())
    assert [server.address for server in resolver._resolver.nameservers if isinstance(server, Nameserver)] == asked
    assert ("is not the address of a nameserver" in caplog.text) is warned


def test_a_file_of_nameservers_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookup, "RESOLV_CONF", tmp_path)
    Resolver()
    assert f"{tmp_path} cannot be read: Is a directory; the nameserver on 127.0.0.1 is asked" in caplog.text


def test_a_route_is_asked_from_the_kernel() -> None:
    assert has_ipv6_route() is has_route(socket.AF_INET6)
