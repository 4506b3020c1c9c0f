"""One message to one destination, with real DNS, real hosts, a real pool and a real signer: the way it takes."""

import asyncio
import re
from dataclasses import replace
from typing import Any, cast

import dkim as dkimpy
import pytest
from msgspec import structs

from gateway.config import (
    CaptureRoute,
    HopTls,
    IpFamily,
    Secret,
    Signing,
)
from gateway.delivery import attempt as attempts
from gateway.delivery import pool as pools
from gateway.delivery.attempt import Carrier
from gateway.delivery.session import open_session
from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.message import dkim
from gateway.message.model import Facts
from gateway.policy.domains import SendingDomain, SigningKey
from gateway.resolver import Resolver
from gateway.store.queue import Attempt, Leased
from tests.fakes.carrying import (
    CONTENT,
    HEADER,
    NOW,
    ZONE,
    Desk,
    Pieces,
    attempt,
    claimed,
    desk,
    direct,
    hosts,
    relay,
)
from tests.fakes.mx import Do, FakeMx, Reaction
from tests.fakes.outbound import IMPATIENT

# MX hosts


async def test_the_best_host_gets_it() -> None:
    async with hosts({}, {}, {}) as (one, two, three), desk([direct(one)]) as at:
        result = await at.one("example.test")
    assert (result.state, result.event, result.attempts) == (State.DELIVERED, EventType.DELIVERED, 1)
    assert (result.host, result.address, result.to) == ("one.test", "127.0.0.1", "b@example.test")
    assert result.reply.startswith("250 2.0.0 queued")
    assert one.transactions[0].content == CONTENT
    assert two.conversations == three.conversations == []


@pytest.mark.parametrize(
    "script",
    [
        None,
        {"connect": "421 4.3.2 busy"},
        {"connect": "554 5.7.1 no service"},
        {"connect": Do(drop=True)},
        {"EHLO": "451 4.3.0 later"},
        {"MAIL": "451 4.3.0 later"},
        {"MAIL": "421 4.3.2 busy"},
        {"MAIL": Do(drop=True)},
        {"RCPT": "450 4.2.0 greylisted"},
        {"DATA": "451 4.3.0 later"},
        {"dot": "451 4.3.0 later"},
    ],
    ids=str,
)
async def test_the_next_host_is_tried(script: dict[str, Reaction] | None) -> None:
    async with hosts(script, {}, {}) as (one, two, three), desk([direct(one)]) as at:
        result = await at.one("example.test")
    assert (result.state, result.host, result.attempts) == (State.DELIVERED, "two.test", 1)
    assert len(two.transactions) == 1
    assert three.conversations == []


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "dot"])
async def test_a_permanent_word_is_final(stage: str) -> None:
    async with hosts({stage: "550 5.1.1 no such user"}, {}) as (one, two), desk([direct(one)]) as at:
        result = await at.one("example.test")
    assert (result.state, result.stage, result.host) == (State.BOUNCED, stage.lower(), "one.test")
    assert result.reply == "550 5.1.1 no such user"
    assert two.conversations == []


async def test_what_may_have_been_delivered_is_not_tried_elsewhere() -> None:
    async with hosts({"dot": Do(drop=True)}, {}) as (one, two), desk([direct(one)]) as at:
        result = await at.one("example.test")
    assert (result.state, result.stage, result.possible_duplicate) == (State.DEFERRED, "dot", True)
    assert two.conversations == []


async def test_silence_after_the_dot_is_not_tried_elsewhere() -> None:
    script: dict[str, Reaction] = {"dot": Do(gate=asyncio.Event())}
    async with hosts(script, {}) as (one, two), desk([direct(one)], timeouts=IMPATIENT) as at:
        result = await at.one("example.test")
    assert (result.state, result.possible_duplicate) == (State.DEFERRED, True)
    assert two.conversations == []


async def test_every_recipient_ends_in_a_state_of_its_own() -> None:
    def rcpt(line: str) -> str | None:
        return {"b": "450 4.2.0 later", "c": "550 5.1.1 who?"}.get(line.removeprefix("RCPT TO:<")[0])

    addresses = [f"{kind}{n}@example.test" for n in range(10) for kind in "abc"]
    async with hosts({"RCPT": rcpt}, {"RCPT": "451 4.7.1 later"}) as (one, two), desk([direct(one)]) as at:
        results = await at.deliver(*addresses)
    wanted = {"a": State.DELIVERED, "b": State.DEFERRED, "c": State.BOUNCED}
    assert [result.state for result in results] == [wanted[address[0]] for address in addresses]
    assert [result.to for result in results] == addresses
    assert {result.host for result in results if result.state is State.DEFERRED} == {"two.test"}
    assert len(one.transactions) == 1
    asked = [command for command in two.commands if command.startswith("RCPT")]
    assert asked == [f"RCPT TO:<{address}>" for address in addresses if address[0] == "b"]


async def test_a_backup_that_is_down_does_not_hide_what_the_host_said() -> None:
    async with hosts({"RCPT": "450 4.2.0 greylisted"}, None, None) as (one, *_), desk([direct(one)]) as at:
        result = await at.one("example.test")
    assert (result.state, result.stage, result.reply) == (State.DEFERRED, "rcpt", "450 4.2.0 greylisted")
    assert result.host == "one.test"


async def test_all_hosts_failing_is_temporary() -> None:
    script: dict[str, Reaction] = {"connect": "554 5.7.1 no service"}
    async with hosts(script, script, script) as (one, two, three), desk([direct(one)]) as at:
        result = await at.one("example.test")
    assert (result.state, result.stage, result.host) == (State.DEFERRED, "greeting", "three.test")
    assert NOW < result.next_at <= NOW + 72_000
    assert [len(host.conversations) for host in (one, two, three)] == [1, 1, 1]


async def test_equal_hosts_share_the_load() -> None:
    zone = ZONE + "even.test MX 10 one.test\neven.test MX 10 two.test"
    async with hosts({}, {}) as (one, two), desk([direct(one)], zone=zone) as at:
        for _ in range(24):
            assert (await at.one("even.test")).state is State.DELIVERED
    assert one.transactions
    assert two.transactions


async def test_a_host_with_several_addresses() -> None:
    zone = "many.test MX 10 mx.many.test\nmx.many.test A 127.0.0.1\nmx.many.test A 127.0.0.2"
    async with hosts(None, {}) as (one, two), desk([direct(one)], zone=zone) as at:
        result = await at.one("many.test")
    assert (result.state, result.address) == (State.DELIVERED, "127.0.0.2")
    assert len(two.transactions) == 1


async def test_no_mx_is_the_domains_own_address() -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        assert (await at.one("bare.test")).host == "bare.test"


async def test_an_address_literal_is_its_own_host() -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        assert (await at.one("[127.0.0.1]")).state is State.DELIVERED
        assert (await at.one("[IPv6:::zz]")).state is State.DEFERRED
        assert at.dns.queries == []
    assert one.transactions[0].recipients == ["b@[127.0.0.1]"]


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        ("null.test", "5.1.10"),
        ("nowhere.test", "5.1.2"),
        ("homeless.test", "5.4.4"),
        ("loop.test", "5.4.6"),
    ],
)
async def test_a_domain_that_takes_no_mail_bounces(domain: str, text: str) -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        result = await at.one(domain)
    assert (result.state, result.event, result.stage) == (State.BOUNCED, EventType.BOUNCED, "dns")
    assert text in result.reply
    assert one.conversations == []


@pytest.mark.parametrize("domain", ["servfail.test", "refused.test"])
async def test_a_failed_lookup_is_temporary_and_never_falls_back_to_an_address(domain: str) -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        result = await at.one(domain)
        assert at.dns.asked(domain, "A") == 0
    assert (result.state, result.stage) == (State.DEFERRED, "dns")
    assert "4.4.3" in result.reply
    assert one.conversations == []


async def test_a_host_whose_lookup_fails_is_passed_over() -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        assert (await at.one("half.test")).host == "one.test"


async def test_only_hosts_with_failed_lookups_is_temporary() -> None:
    zone = ZONE + "blind.test MX 10 servfail.test\nblind.test MX 20 nowhere.test"
    async with hosts({}) as (one,), desk([direct(one)], zone=zone) as at:
        result = await at.one("blind.test")
    assert (result.state, result.stage) == (State.DEFERRED, "dns")


async def test_hosts_behind_ourselves_are_never_tried() -> None:
    async with hosts({"RCPT": "451 4.3.0 later"}, {}) as (one, two), desk([direct(one)]) as at:
        result = await at.one("behind.test")
    assert (result.state, result.host) == (State.DEFERRED, "one.test")
    assert two.conversations == []


async def test_the_family_of_the_route_is_kept_to() -> None:
    async with hosts({}) as (one,), desk([direct(one, ip_family=IpFamily.IPV6)]) as at:
        result = await at.one("example.test")
        assert at.dns.asked("one.test", "AAAA") == 1
        assert at.dns.asked("one.test", "A") == 0
    assert "5.4.4" in result.reply
    assert one.conversations == []


async def test_no_ipv6_without_a_route_for_it() -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        await at.one("example.test")
        assert at.dns.asked("one.test", "AAAA") == 0


async def test_the_address_and_name_that_the_route_has_of_its_own_are_told() -> None:
    """Of who spoke, and of who was not reached."""
    for host, state in (({}, State.DELIVERED), (None, State.DEFERRED)):
        async with hosts(host) as (one,):
            for own in (("127.0.0.1", "out.example.org"), ("", "")):
                async with desk([direct(one, source=own[0] or None, ehlo=own[1] or None)]) as at:
                    result = await at.one("example.test")
                assert (result.state, result.source, result.ehlo) == (state, *own)


# Places nobody answers for


async def test_an_unreachable_destination_is_not_tried_again_at_once() -> None:
    async with hosts(None, None, None) as (one, *_), desk([direct(one)]) as at:
        first = await at.one("example.test")
        assert (first.state, first.stage, first.note) == (State.DEFERRED, "connect", "")
        asked = len(at.dns.queries)
        second = await at.one("example.test")
        assert (second.state, second.stage) == (State.DEFERRED, "connect")
        assert second.note.startswith("not tried")
        assert len(at.dns.queries) == asked
        async with FakeMx(port=one.port) as back:
            assert (await at.one("bare.test")).state is State.DELIVERED  # another destination, another memory
            at.now_s += 31
            assert (await at.one("example.test")).state is State.DELIVERED
        assert len(back.transactions) == 2


async def test_who_was_not_tried_has_not_tried(key: dkim.PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = SendingDomain("sender.test", require_dkim=True, key=SigningKey("sender.test", "s1", key))
    async with hosts(None) as (one,), desk([direct(one)], keys=[domain]) as at:
        assert (await at.one("bare.test")).attempts == 1
        monkeypatch.setattr(at.couriers, "signer", None)  # nothing is signed that nobody sees
        carrier = at.carrier(domain="bare.test")
        twice = (Leased(0, "b@bare.test", attempts=2, fence=3, possible_duplicate=False),)
        (made,) = await carrier.deliver(claimed(recipients=twice))
        carrier.close()
        (result,) = made.results
        assert not made.tried
        assert (result.state, result.event, result.attempts) == (State.DEFERRED, None, 2)
        assert NOW + 30_000 < result.next_at <= NOW + 36_001
        soon = await at.one("bare.test", expires_at=NOW + 5)
        assert (soon.state, soon.next_at) == (State.DEFERRED, NOW + 5)
        late = await at.one("bare.test", expires_at=NOW)
        assert (late.state, late.event, late.attempts) == (State.FAILED, EventType.EXPIRED, 0)


async def test_a_dead_destination_is_asked_once_whatever_there_is_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    real = open_session

    async def counting(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return await real(*args)

    monkeypatch.setattr(pools, "open_session", counting)
    async with hosts(None) as (one,), desk([direct(one)]) as at:

        async def some() -> list[int]:
            carrier = at.carrier(domain="bare.test")
            return [(await attempt(carrier, "b@bare.test"))[0].attempts for _ in range(40)]

        for turn in (1, 2):
            counted = sum([sum(tries) for tries in await asyncio.gather(*[some() for _ in range(5)])])
            assert asked <= 5 * turn  # one for each worker, where none waited for another
            assert 1 <= counted <= 5
            at.now_s += 31


@pytest.mark.parametrize("refusal", ["421 4.7.0 too many connections", "554 5.7.1 too many connections", ""])
async def test_who_refuses_a_further_connection_is_not_unreachable(refusal: str) -> None:
    script: dict[str, Reaction] = {"connect": [None, Do(refusal, drop=True), Do(refusal, drop=True), None]}
    async with hosts(script) as (one,), desk([direct(one)]) as at:
        first, second = at.carrier(domain="bare.test"), at.carrier(domain="bare.test")
        assert (await attempt(first, "b@bare.test"))[0].state is State.DELIVERED
        for _ in range(2):
            assert await second.deliver(claimed("b@bare.test")) == ()  # the first one is there for it
        assert (await attempt(first, "b@bare.test"))[0].state is State.DELIVERED
        first.close()
        assert (await at.one("bare.test")).state is State.DELIVERED
        second.close()


async def test_a_refusal_behind_the_last_connection_is_no_sign() -> None:
    """The host may not have heard of its end. The second in a row is one."""
    busy = Do("421 4.3.2 busy", drop=True)
    async with hosts({"connect": [None, busy, busy]}) as (one,), desk([direct(one)]) as at:
        carrier = at.carrier(domain="bare.test")
        assert (await attempt(carrier, "b@bare.test"))[0].state is State.DELIVERED
        one.conversations[0].drop()
        await one.conversations[0].over()
        refused, again, put_off = [(await attempt(carrier, "b@bare.test"))[0] for _ in range(3)]
        carrier.close()
    assert [(one.attempts, one.stage) for one in (refused, again)] == [(1, "greeting")] * 2
    assert (put_off.attempts, put_off.event) == (0, None)


async def test_no_further_host_is_begun_with_after_the_life_of_the_message() -> None:
    async with hosts({"connect": Do(drop=True)}, {}) as (one, two), desk([direct(one)]) as at:
        result = await at.one("example.test", expires_at=NOW)
    assert (result.state, result.event, result.host) == (State.FAILED, EventType.EXPIRED, "one.test")
    assert two.conversations == []


async def test_no_further_host_is_begun_with_after_some_minutes() -> None:
    def slow(_line: str) -> Do:
        at.now_s += attempts.HOPS_S
        return Do(drop=True)

    async with hosts({"connect": slow}, {}) as (one, two), desk([direct(one)]) as at:
        result = await at.one("example.test")
    assert (result.state, result.host) == (State.DEFERRED, "one.test")
    assert two.conversations == []


async def test_a_host_that_answers_is_not_unreachable() -> None:
    async with hosts({"RCPT": ["451 4.3.0 later", None]}) as (one,), desk([direct(one)]) as at:
        assert (await at.one("bare.test")).state is State.DEFERRED
        assert (await at.one("bare.test")).state is State.DELIVERED


# Connections


async def test_a_carrier_keeps_its_connection() -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        carrier = at.carrier()
        for _ in range(5):
            assert (await attempt(carrier))[0].state is State.DELIVERED
        carrier.close()
        other = at.carrier()
        assert (await attempt(other))[0].state is State.DELIVERED
        other.close()
        assert at.dns.asked("example.test", "MX") == 1
    assert len(one.conversations) == 1
    assert len(one.transactions) == 6


async def test_messages_per_connection() -> None:
    async with hosts({}) as (one,), desk([direct(one)], messages_per_connection=2) as at:
        carrier = at.carrier()
        for _ in range(6):
            assert (await attempt(carrier))[0].state is State.DELIVERED
        carrier.close()
    assert [len(conversation.transactions) for conversation in one.conversations] == [2, 2, 2]


@pytest.mark.parametrize("end", [Do(drop=True), Do("421 4.4.2 idle too long", drop=True)], ids=["drop", "421"])
async def test_a_dead_kept_connection_is_replaced_at_no_cost(end: Do) -> None:
    async with hosts({"MAIL": [None, end]}, {}) as (one, two), desk([direct(one)]) as at:
        carrier = at.carrier()
        for _ in range(2):
            (result,) = await attempt(carrier)
            assert (result.state, result.attempts, result.host) == (State.DELIVERED, 1, "one.test")
            assert not result.possible_duplicate
        carrier.close()
    assert len(one.conversations) == 2
    assert two.conversations == []


async def test_d10_a_421_on_an_idle_connection_costs_no_attempt() -> None:
    async with hosts({}, {}) as (one, two), desk([direct(one)]) as at:
        carrier = at.carrier()
        assert (await attempt(carrier))[0].state is State.DELIVERED
        one.conversations[0].say("421 4.4.2 idle for too long")
        one.conversations[0].drop()
        (result,) = await attempt(carrier)
        assert (result.state, result.attempts, result.host) == (State.DELIVERED, 1, "one.test")
        assert not result.possible_duplicate
        carrier.close()
    assert [len(conversation.transactions) for conversation in one.conversations] == [1, 1]
    assert two.conversations == []


async def test_d10_connections_are_worth_their_share_of_messages() -> None:
    async with hosts({}) as (one,), desk([direct(one)], messages_per_connection=25) as at:

        async def work(carrier: Carrier) -> None:
            for _ in range(30):
                assert (await attempt(carrier))[0].state is State.DELIVERED
            carrier.close()

        await asyncio.gather(*[work(at.carrier()) for _ in range(5)])
    assert len(one.transactions) == 150
    assert len(one.conversations) <= -(-150 // 25) + 5


async def test_a_503_to_rset_bounces_nothing() -> None:
    """Trap 13."""
    script: dict[str, Reaction] = {"RCPT": ["550 5.1.1 who?"], "RSET": "503 5.5.1 not now"}
    async with hosts(script) as (one,), desk([direct(one)]) as at:
        carrier = at.carrier()
        assert (await attempt(carrier))[0].state is State.BOUNCED
        (result,) = await attempt(carrier)
        carrier.close()
    assert (result.state, result.attempts) == (State.DELIVERED, 1)
    assert len(one.conversations) == 2


async def test_a_host_that_refused_for_now_on_a_kept_connection_is_not_asked_twice() -> None:
    """Asking a greylisting host again within the same attempt is rude and gives the same word."""
    async with hosts({"RCPT": [None, "450 4.2.0 greylisted"]}, {}) as (one, _), desk([direct(one)]) as at:
        carrier = at.carrier()
        assert (await attempt(carrier))[0].host == "one.test"
        (result,) = await attempt(carrier)
        carrier.close()
    assert (result.state, result.host) == (State.DELIVERED, "two.test")
    assert sum(command.startswith("RCPT") for command in one.commands) == 2


async def test_the_word_of_a_kept_connection_outlives_a_failed_lookup() -> None:
    async with hosts({"RCPT": [None, "450 4.2.0 greylisted"]}) as (one,), desk([direct(one)]) as at:
        carrier = at.carrier(domain="bare.test")
        assert (await attempt(carrier, "b@bare.test"))[0].state is State.DELIVERED
        at.dns.load("bare.test SERVFAIL")
        at.couriers.resolver = Resolver([at.dns.listen])  # nothing is remembered
        (result,) = await attempt(carrier, "b@bare.test")
        carrier.close()
    assert (result.state, result.stage, result.reply) == (State.DEFERRED, "rcpt", "450 4.2.0 greylisted")


async def test_tls_that_fails_is_noted() -> None:
    zone = "tls.test MX 10 one.test\none.test A 127.0.0.1"
    script: dict[str, Reaction] = {"STARTTLS": "454 4.7.0 not now"}
    async with hosts(script, offers=("PIPELINING", "STARTTLS")) as (one,):
        route = direct(one, tls=HopTls.OPPORTUNISTIC)
        async with desk([route], zone=zone) as at:
            result = await at.one("tls.test")
    assert (result.state, result.tls) == (State.DELIVERED, "")
    assert result.note == "TLS failed, sent in clear: 454 4.7.0 not now"


async def test_required_tls_that_is_missing_sends_nothing() -> None:
    async with hosts({}) as (one,), desk([direct(one, tls=HopTls.STARTTLS)]) as at:
        result = await at.one("bare.test")
    assert (result.state, result.stage) == (State.DEFERRED, "starttls")
    assert all(not command.startswith("MAIL") for command in one.commands)


# Routes


async def test_a_relay_gets_all_domains_in_one_transaction() -> None:
    async with hosts({}) as (one,), desk([relay(one)]) as at:
        results = await at.deliver("b@example.test", "c@null.test", route="relay", domain="")
    assert {result.state for result in results} == {State.DELIVERED}
    assert one.transactions[0].recipients == ["b@example.test", "c@null.test"]


@pytest.mark.parametrize("host", ["nowhere.test", "servfail.test"])
async def test_a_relay_that_cannot_be_found_is_temporary(host: str) -> None:
    """Trap 11."""
    async with hosts({}) as (one,), desk([relay(one, host=host)]) as at:
        result = await at.one("example.test", route="relay")
    assert (result.state, result.stage) == (State.DEFERRED, "route")
    assert host in result.reply


async def test_a_relay_is_looked_up_once_in_a_while() -> None:
    async with hosts({}) as (one,), desk([relay(one)]) as at:
        for _ in range(3):
            carrier = at.carrier("relay", "")
            await attempt(carrier)
            carrier.close()
        assert at.dns.asked("relay.test", "A") == 1


async def test_a_relay_named_by_its_address_is_not_looked_up() -> None:
    async with hosts({}) as (one,), desk([relay(one, host="127.0.0.1")]) as at:
        assert (await at.one("example.test", route="relay")).state is State.DELIVERED
        assert at.dns.queries == []


async def test_a_refused_relay_login_is_temporary() -> None:
    login = {"username": "shop", "password": Secret("canary")}
    async with hosts({"AUTH": "535 5.7.8 no"}, offers=("AUTH PLAIN",)) as (one,), desk([relay(one, **login)]) as at:
        result = await at.one("example.test", route="relay")
    assert (result.state, result.stage, result.reply) == (State.DEFERRED, "auth", "535 5.7.8 no")


async def test_a_route_that_was_removed_waits() -> None:
    async with desk([]) as at:
        result = await at.one("example.test", route="gone")
    assert (result.state, result.stage) == (State.DEFERRED, "route")
    assert "gone" in result.reply


async def test_a_changed_route_reaches_queued_mail() -> None:
    async with hosts({}, {}) as (one, two), desk([relay(one)]) as at:
        carrier = at.carrier("relay", "")
        assert (await attempt(carrier))[0].address == "127.0.0.1"
        at.couriers.config = replace(at.couriers.config, routes={"relay": relay(one, host="127.0.0.2")})
        assert (await attempt(carrier))[0].address == "127.0.0.2"
        carrier.close()
    assert len(two.transactions) == 1


async def test_capture_lets_nothing_out() -> None:
    async with desk([CaptureRoute("box")]) as at:
        results = await at.deliver("b@example.test", "c@null.test", route="box")
        assert at.dns.queries == []
    assert [(r.state, r.event) for r in results] == [(State.CAPTURED, EventType.CAPTURED)] * 2


async def test_mail_queued_for_a_relay_that_became_direct_is_sorted_by_domain() -> None:
    async with hosts({}, {}) as (one, two), desk([direct(one)]) as at:
        results = await at.deliver("b@example.test", "c@other.test", "d@example.test", "e@null.test", domain="")
    assert [result.state for result in results] == [State.DELIVERED] * 3 + [State.BOUNCED]
    assert [t.recipients for t in one.transactions] == [["b@example.test", "d@example.test"]]
    assert [t.recipients for t in two.transactions] == [["c@other.test"]]


# Content and verdicts


async def test_large_content_comes_from_the_store_in_pieces() -> None:
    pieces = [HEADER, *[b".line\r\n" * 10_000] * 4]
    large = b"".join(pieces)
    async with hosts({}) as (one,), desk([direct(one)], queue=Pieces(*pieces)) as at:
        (result,) = await at.deliver(content=large)
        assert result.state is State.DELIVERED
        carrier = at.carrier()
        message = structs.replace(claimed(content=large), content=None, piece_count=5)
        (made,) = await carrier.deliver(message)
        carrier.close()
    assert made.results[0].state is State.DELIVERED
    assert [t.content for t in one.transactions] == [large, large]


# What it took


def after(delay_s: float, reply: str) -> Reaction:
    """Say it so long after it was asked."""

    def react(_line: str) -> Do:
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(delay_s, gate.set)
        return Do(reply, gate=gate)

    return react


async def tried(at: Desk, *recipients: str, **changes: Any) -> Attempt:
    carrier = at.carrier()
    try:
        (made,) = await carrier.deliver(claimed(*recipients, **changes))
    finally:
        carrier.close()
    return made


@pytest.mark.parametrize("offers", [("PIPELINING",), ()], ids=["pipelining", "one by one"])
async def test_the_times_of_envelope_and_content(offers: tuple[str, ...]) -> None:
    script = {"RCPT": after(0.06, "250 2.1.5 ok"), "dot": after(0.15, "250 2.0.0 ok")}
    async with hosts(script, offers=offers) as (one,), desk([direct(one)]) as at:
        made = await tried(at)
    assert 55 <= made.envelope_ms < 145 <= made.content_ms < 1000


@pytest.mark.parametrize("stored", [1, 3])
async def test_the_octets_on_the_wire(stored: int) -> None:
    content = HEADER + b".one\r\n..two\r\nthree\r\n"
    message = claimed(content=content)
    if stored > 1:
        message = structs.replace(message, content=None, piece_count=stored)
    pieces = Pieces(content[:70], content[70:73], content[73:])
    async with hosts({}) as (one,), desk([direct(one)], queue=pieces) as at:
        carrier = at.carrier()
        (made,) = await carrier.deliver(message)
        carrier.close()
    [transaction] = one.transactions
    assert transaction.content == content
    assert made.wire_bytes == len(transaction.raw + b".\r\n") == len(content) + 2 + 3


async def test_what_did_not_come_so_far_took_nothing() -> None:
    async with hosts({"RCPT": "550 5.1.1 no such user"}) as (one,), desk([direct(one)]) as at:
        made = await tried(at)
    assert (made.content_ms, made.wire_bytes) == (0, 0)
    async with hosts({"connect": after(0.02, "554 5.7.1 no")}) as (one,), desk([direct(one)]) as at:
        made = await tried(at)
    assert (made.envelope_ms, made.content_ms, made.wire_bytes) == (0, 0, 0)


async def test_a_second_host_takes_its_time_too_but_the_content_is_one() -> None:
    first = {"dot": after(0.05, "451 4.3.0 later")}
    async with hosts(first, {"dot": after(0.05, "250 2.0.0 ok")}) as (one, two), desk([direct(one)]) as at:
        made = await tried(at)
    assert made.results[0].host == "two.test"
    assert made.content_ms >= 95
    assert made.wire_bytes == len(two.transactions[0].raw) + 3


async def test_the_next_message_of_a_connection_begins_at_nothing() -> None:
    async with hosts({"RCPT": ["250 2.1.5 ok", "550 5.1.1 no such user"]}) as (one,), desk([direct(one)]) as at:
        carrier = at.carrier()
        (first,) = await carrier.deliver(claimed())
        (second,) = await carrier.deliver(claimed())
        carrier.close()
    assert first.wire_bytes > 0
    assert (second.content_ms, second.wire_bytes) == (0, 0)
    assert len(one.conversations) == 1


async def test_content_that_cannot_be_read_waits() -> None:
    async with hosts({}) as (one,), desk([direct(one)], queue=Pieces(HEADER)) as at:
        carrier = at.carrier()
        (made,) = await carrier.deliver(structs.replace(claimed(), content=None, piece_count=2))
        carrier.close()
        assert (made.results[0].state, made.results[0].stage) == (State.DEFERRED, "store")
        assert (await at.one("example.test")).state is State.DELIVERED  # the connection was not used again
    assert [t.content for t in one.transactions] == [CONTENT]


async def test_an_error_of_ours_costs_this_attempt_only(caplog: pytest.LogCaptureFixture) -> None:
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        carrier = at.carrier()
        (made,) = await carrier.deliver(structs.replace(claimed(), facts=cast(Facts, None)))
        assert (made.results[0].state, made.results[0].stage) == (State.DEFERRED, "internal")
        assert (await attempt(carrier))[0].state is State.DELIVERED
        carrier.close()
    assert "the delivery of eml_" in caplog.text
    assert "NoneType" not in made.results[0].reply


async def test_what_is_too_old_expires() -> None:
    async with hosts({"RCPT": "450 4.2.0 later"}) as (one,), desk([direct(one)]) as at:
        result = await at.one("bare.test", expires_at=NOW)
        assert (result.state, result.event) == (State.FAILED, EventType.EXPIRED)
        assert result.reply == "450 4.2.0 later"
        soon = await at.one("bare.test", expires_at=NOW + 5)
        assert (soon.state, soon.next_at) == (State.DEFERRED, NOW + 5)


async def test_a_doubt_from_before_is_kept() -> None:
    doubtful = (Leased(0, "b@example.test", attempts=4, fence=9, possible_duplicate=True),)
    async with hosts({}) as (one,), desk([direct(one)]) as at:
        result = await at.one("example.test", recipients=doubtful)
    assert (result.possible_duplicate, result.attempts, result.fence) == (True, 5, 9)


@pytest.fixture(scope="module")
def key() -> dkim.PrivateKey:
    return dkim.load_private_key(dkim.generate_rsa())


async def test_the_route_signs(key: dkim.PrivateKey) -> None:
    domain = SendingDomain("sender.test", require_dkim=True, key=SigningKey("sender.test", "s1", key))
    async with hosts({}) as (one,), desk([direct(one), relay(one, dkim=Signing.NONE)], keys=[domain]) as at:
        assert (await at.one("example.test")).state is State.DELIVERED
        assert (await at.one("example.test", route="relay")).state is State.DELIVERED
    signed, unsigned = (t.content for t in one.transactions)
    assert signed.startswith(b"DKIM-Signature: ")
    assert signed.endswith(CONTENT)
    record = dkim.public_record(key).encode()
    assert dkimpy.verify(signed, dnsfunc=lambda name, timeout=5: record)
    assert unsigned == CONTENT
    assert f"SIZE={len(signed)}" in one.transactions[0].mail


async def test_a_route_signs_with_both_keys_where_it_says_so(key: dkim.PrivateKey) -> None:
    second = dkim.load_private_key(dkim.generate_ed25519())
    domain = SendingDomain(
        "sender.test", True, SigningKey("sender.test", "s1", key), SigningKey("sender.test", "s2", second)
    )
    rsa_only = SendingDomain("old.test", True, SigningKey("old.test", "s1", key))
    both = Signing.RSA_AND_ED25519
    async with (
        hosts({}) as (one,),
        desk([direct(one, dkim=both), relay(one)], keys=[domain, rsa_only]) as at,
    ):
        assert (await at.one("example.test")).state is State.DELIVERED
        assert (await at.one("example.test", header_from="a@mail.sender.test")).state is State.DELIVERED
        assert (await at.one("example.test", header_from="a@old.test")).state is State.DELIVERED
        assert (await at.one("example.test", header_from="a@unknown.test")).state is State.DELIVERED
        assert (await at.one("example.test", route="relay")).state is State.DELIVERED
    double, of_a_subdomain, old, unsigned, of_the_relay = (t.content for t in one.transactions)
    record = dkim.public_record(key).encode()
    for content, algorithms in [
        (double, [b"rsa-sha256", b"ed25519-sha256"]),
        (of_a_subdomain, [b"rsa-sha256", b"ed25519-sha256"]),
        (old, [b"rsa-sha256"]),
        (of_the_relay, [b"rsa-sha256"]),
    ]:
        assert content.endswith(b"\r\n" + CONTENT)
        fields = re.findall(rb"^DKIM-Signature: v=1; a=([a-z0-9-]+);", content, flags=re.MULTILINE)
        assert fields == algorithms
        assert dkimpy.verify(content, dnsfunc=lambda name, timeout=5: record)
    # Each covers the message as it was, without the other.
    assert double == of_a_subdomain == field(key, "s1") + field(second, "s2") + CONTENT
    assert unsigned == CONTENT
    assert f"SIZE={len(double)}" in one.transactions[0].mail


def field(key: dkim.PrivateKey, selector: str) -> bytes:
    """The DKIM-Signature of CONTENT: both kinds give the same signature for the same text."""
    facts = claimed().facts
    unsigned = dkim.prepare(
        HEADER,
        facts.body_hash,
        domain="sender.test",
        selector=selector,
        now_s=NOW // 1000,
        algorithm=key.algorithm,
    )
    return dkim.finish(unsigned, key.sign(unsigned.digest))


async def test_what_one_domain_took_is_not_sent_again_when_another_cannot_be_read() -> None:
    """The route was a relay when this was queued: two domains in one attempt."""
    queue = Pieces()
    mail = structs.replace(claimed("b@example.test", "c@other.test"), at_most_once=True)
    async with hosts({}, {}) as (one, two), desk([direct(one)], queue=queue) as at:
        carrier = at.carrier(domain="")

        async def mark(recipients: object) -> None:
            if one.transactions:
                raise StoreError("the disk is gone")

        queue.mark = mark  # type: ignore[method-assign]  # it fails at the second call
        (made,) = await carrier.deliver(mail)
        carrier.close()
    assert [result.state for result in made.results] == [State.DELIVERED, State.DEFERRED]
    assert made.results[1].stage == "store"
    assert (len(one.transactions), len(two.transactions)) == (1, 0)


@pytest.mark.parametrize("stage", ["connect", "AUTH"])
async def test_a_positive_answer_before_there_is_a_message_is_no_delivery(stage: str) -> None:
    script: dict[str, Reaction] = {stage: "250 2.0.0 hello"}
    credentials = {"username": "me", "password": Secret("secret")} if stage == "AUTH" else {}
    async with hosts(script, offers=("AUTH PLAIN",)) as (one,), desk([relay(one, **credentials)]) as at:
        result = await at.one("example.test", route="relay")
    assert result.state is State.DEFERRED
    assert one.transactions == []
