"""MTA-STS: the record, the policy, the hosts it names; what is kept of it and when it is asked for again."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.delivery.tls import mtasts, mtasts_cache
from gateway.delivery.tls.mtasts import Mode, Policy
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.errors import StoreError
from gateway.policyhost import FetchFailed
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.records import StsRecord
from tests.fakes.dns import FakeDns
from tests.fuzz.effort import examples

ENFORCE = "version: STSv1\nmode: enforce\nmx: mx.example.test\nmax_age: 86400\n"
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("records", "id_"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=STSv1 ; id=1 ; more=x ;"], "1"),
        (["v=spf1 -all", "v=STSv1; id=1"], "1"),
        (["v=STSv1; id=1; id=2"], "1"),
        ([], None),
        (["v=STSv1"], None),
        (["v=STSv1;"], None),
        (["v=STSv1; id="], None),
        (["v=STSv1; id=with-hyphen"], None),
        (["v=STSv1; id=" + "1" * 33], None),
        (["v=STSv1; id=1; ;"], None),
        (["v=STSv10; id=1"], None),
        (["V=STSV1; id=1"], None),
        (["v=STSv1; id=1", "v=STSv1; id=2"], None),
        ([" v=STSv1; id=1"], None),
    ],
)
def test_the_record(records: list[str], id_: str | None) -> None:
    assert mtasts.record_id(records) == id_


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (ENFORCE, Policy(Mode.ENFORCE, ("mx.example.test",), 86_400)),
        (ENFORCE.replace("\n", "\r\n"), Policy(Mode.ENFORCE, ("mx.example.test",), 86_400)),
        (ENFORCE.removesuffix("\n"), Policy(Mode.ENFORCE, ("mx.example.test",), 86_400)),
        (ENFORCE.replace(": ", ":\t "), Policy(Mode.ENFORCE, ("mx.example.test",), 86_400)),
        (
            "version: STSv1\nmode: testing\nmx: A.Test\nmx: *.b.TEST\nmax_age: 0\nmode: none\nextra: 1\n",
            Policy(Mode.TESTING, ("a.test", "*.b.test"), 0),
        ),
        ("version: STSv1\nmode: none\nmax_age: 1\n", Policy(Mode.NONE, (), 1)),
        (ENFORCE.replace("86400", "9999999999"), Policy(Mode.ENFORCE, ("mx.example.test",), mtasts.MAX_AGE_S)),
        (ENFORCE.replace("mx.example", "bücher"), Policy(Mode.ENFORCE, ("xn--bcher-kva.test",), 86_400)),
        ("", None),
        ("<html>", None),
        (ENFORCE.replace("STSv1", "STSv2"), None),
        (ENFORCE.replace("enforce", "Enforce"), None),
        (ENFORCE.replace("86400", "1d"), None),
        (ENFORCE.replace("86400", "-1"), None),
        (ENFORCE.replace("86400", "12345678901"), None),
        (ENFORCE.replace("86400", "١٢"), None),
        (ENFORCE.replace("mx: mx.example.test\n", ""), None),
        (ENFORCE.replace("max_age: 86400\n", ""), None),
        (ENFORCE.replace("mx.example.test", "*"), None),
        (ENFORCE.replace("mx.example.test", "*.*.test"), None),
        (ENFORCE.replace("mx.example.test", "mx*.test"), None),
        (ENFORCE.replace("mx.example.test", ".test"), None),
        (ENFORCE.replace("mx.example.test", "a b"), None),
        (ENFORCE.replace("mode", "\nmode"), None),
        (ENFORCE + "no colon\n", None),
        (ENFORCE + "mx: bücher.test\n" * 4000, None),  # one more would cost the loop its time
    ],
)
def test_the_policy(text: str, policy: Policy | None) -> None:
    assert mtasts.parse_policy(text) == policy


@pytest.mark.parametrize(
    ("pattern", "host", "named"),
    [
        ("mx.example.test", "mx.example.test", True),
        ("mx.example.test", "MX.Example.Test.", True),
        ("mx.example.test", "mx2.example.test", False),
        ("*.example.test", "mx.example.test", True),
        ("*.example.test", "a.mx.example.test", False),  # one label
        ("*.example.test", "example.test", False),
        ("*.example.test", ".example.test", False),
        ("*.example.test", "*.example.test", False),
        ("*.bücher.test", "mx.xn--bcher-kva.test", True),
        ("mx.xn--bcher-kva.test", "mx.BÜCHER.test", True),
        ("mx.example.test", "", False),
    ],
)
def test_the_hosts_it_names(pattern: str, host: str, named: bool) -> None:
    policy = mtasts.parse_policy(ENFORCE.replace("mx.example.test", pattern))
    assert policy is not None
    assert mtasts.names(policy, host) is named


@given(st.lists(st.text() | st.text("v=STS1; id\t", max_size=40), max_size=3))
@example(["v=STSv1;" + " " * 60_000 + "x"])
@examples(60)
def test_no_record_is_too_odd(records: list[str]) -> None:
    found = mtasts.record_id(records)
    assert found is None or (found.isalnum() and len(found) <= 32)


LINES = st.sampled_from(["version: STSv1", "mode: enforce", "mode: none", "max_age: 5", "mx: a.test", "mx: *.b.test"])


@given(st.text() | st.lists(LINES | st.text(max_size=20), max_size=8).map("\n".join))
@example("a:" + " " * 64_000 + "b")
@example("mx:" + "a." * 30_000)
@examples(60)
def test_no_policy_is_too_odd(text: str) -> None:
    policy = mtasts.parse_policy(text)
    if policy is not None:
        assert 0 <= policy.max_age_s <= mtasts.MAX_AGE_S
        assert policy.mx or policy.mode is Mode.NONE
        assert all(mtasts.names(policy, host.replace("*", "one")) for host in policy.mx)


# What is kept


class Host:
    """A policy host: what it says next, and how often it was asked."""

    def __init__(self, said: str | FetchFailed = ENFORCE) -> None:
        self.said = said
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, domain: str) -> str | FetchFailed:
        self.asked.append(domain)
        await self.gate.wait()
        return self.said


class Kept:
    """What the store does: the last record of each domain."""

    def __init__(self) -> None:
        self.records: dict[str, StsRecord] = {}
        self.broken = False

    async def sts_policies(self, now: int) -> Sequence[StsRecord]:
        if self.broken:
            raise StoreError("no")
        return [record for record in self.records.values() if record.expires_at > now]

    async def save_sts_policy(self, record: StsRecord) -> None:
        if self.broken:
            raise StoreError("no")
        self.records[record.domain] = record


class World:
    """A domain's zone, its policy host, our store and our clock."""

    def __init__(self, dns: FakeDns) -> None:
        self.now_ms = 1_000_000
        self.dns = dns
        self.host = Host()
        self.kept = Kept()
        self.policies = self.started()

    def started(self) -> StsPolicies:
        clock = Clock(lambda: self.now_ms, lambda: self.now_ms / 1000)
        self.policies = StsPolicies(self.kept, Resolver([self.dns.listen]), self.host, clock)
        return self.policies

    def announce(self, id_: str | None) -> None:
        """With a new resolver, which has nothing in its cache."""
        self.dns.load(f'_mta-sts.example.test TXT "v=STSv1; id={id_};"' if id_ else "other.test A 127.0.0.1")
        self.policies._resolver = Resolver([self.dns.listen])

    async def mode(self) -> Mode | None:
        policy = await self.policies.policy("example.test")
        return policy.mode if policy is not None else None


async def test_a_policy_is_fetched_once_and_kept() -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.announce(None)
        assert await world.mode() is None
        assert world.host.asked == []
        world.announce("1")
        assert [await world.mode(), await world.mode()] == [Mode.ENFORCE] * 2
        assert world.host.asked == ["example.test"]
        [record] = world.kept.records.values()
        assert (record.domain, record.id, record.text) == ("example.test", "1", ENFORCE)
        assert record.expires_at == world.now_ms + DAY_MS


async def test_who_ask_together_cause_one_fetch() -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.announce("1")
        world.host.gate.clear()
        asking = asyncio.gather(*(world.mode() for _ in range(5)))
        while not world.host.asked:
            await asyncio.sleep(0)
        world.host.gate.set()
        assert await asking == [Mode.ENFORCE] * 5
        assert len(world.host.asked) == 1
        assert not world.policies._locks


async def test_a_new_id_brings_the_new_policy_and_a_failed_fetch_keeps_the_old_one() -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.announce("1")
        await world.mode()
        world.announce("2")
        world.host.said = FetchFailed("404")
        assert await world.mode() is Mode.ENFORCE
        assert len(world.host.asked) == 2
        world.host.said = ENFORCE.replace("enforce", "none")
        assert await world.mode() is Mode.ENFORCE
        assert len(world.host.asked) == 2, "what failed is not asked for again at once"
        world.now_ms += int(mtasts_cache.FAILURE_S * 1000)
        assert await world.mode() is Mode.NONE
        assert world.kept.records["example.test"].id == "2"


async def test_a_policy_counts_until_its_end_whatever_dns_says() -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.announce("1")
        await world.mode()
        world.announce(None)
        world.now_ms += DAY_MS - 1
        assert await world.mode() is Mode.ENFORCE
        world.now_ms += 1
        assert await world.mode() is None


async def test_a_policy_is_renewed_before_its_end_under_the_same_id() -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.announce("1")
        await world.mode()
        world.now_ms += DAY_MS // 2 - 1
        await world.mode()
        assert len(world.host.asked) == 1
        world.now_ms += 1
        world.host.said = FetchFailed("down")
        assert await world.mode() is Mode.ENFORCE
        assert len(world.host.asked) == 2
        world.now_ms += int(mtasts_cache.FAILURE_S * 1000)
        world.host.said = ENFORCE
        assert await world.mode() is Mode.ENFORCE
        assert world.kept.records["example.test"].expires_at == world.now_ms + DAY_MS


@pytest.mark.parametrize("said", ["<html>nothing here</html>", FetchFailed("no certificate")])
async def test_what_is_no_policy_binds_nobody(said: str | FetchFailed) -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.host.said = said
        world.announce("1")
        assert [await world.mode(), await world.mode()] == [None, None]
        assert len(world.host.asked) == 1
        assert not world.kept.records


async def test_policies_survive_a_restart_and_a_store_that_fails() -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.announce("1")
        world.kept.broken = True
        assert await world.mode() is Mode.ENFORCE  # it counts, though it cannot be read or written
        world.kept.broken = False
        world.started()
        world.announce("1")
        assert await world.mode() is Mode.ENFORCE
        world.started()
        world.announce(None)
        assert await world.mode() is Mode.ENFORCE
        assert len(world.host.asked) == 2


async def test_a_policy_without_age_is_no_leave_to_ask_with_each_message() -> None:
    async with FakeDns("") as dns:
        world = World(dns)
        world.host.said = ENFORCE.replace("86400", "0")
        world.announce("1")
        assert [await world.mode(), await world.mode()] == [Mode.ENFORCE] * 2
        assert len(world.host.asked) == 1


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtasts_cache, "POLICIES", 2)
    monkeypatch.setattr(mtasts_cache, "FAILURES", 2)
    zone = "\n".join(f'_mta-sts.d{n}.test TXT "v=STSv1; id=1;"' for n in range(8))
    async with FakeDns(zone) as dns:
        world = World(dns)
        for n in range(8):
            world.host.said = ENFORCE if n < 4 else FetchFailed("down")
            await world.policies.policy(f"d{n}.test")
        assert len(world.policies._known) == len(world.policies._failed) == 2
