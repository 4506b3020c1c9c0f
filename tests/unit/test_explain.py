"""Why a message waits, and what its next attempt would do: over a real store and real zones."""

import hashlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gateway.config import CaptureRoute, Config, Dns, HopTls, IpFamily, MxRoute, RelayRoute, Secret, Signing
from gateway.delivery import advice, explain
from gateway.delivery.explain import Explainer, Live
from gateway.delivery.lane import Lane
from gateway.delivery.pacing import Outcome, Pace
from gateway.delivery.route import Ways
from gateway.delivery.unreachable import Unreachable
from gateway.delivery.verdict import Word
from gateway.errors import Refused
from gateway.events import BounceClass, State
from gateway.message import dkim
from gateway.policy.domains import Domains, SendingDomain, SigningKey
from gateway.resolver import Resolver
from gateway.runtime import show_id
from gateway.store.newmail import NewMessage
from gateway.store.queue import Due
from gateway.store.shown import Filter, Order, Suspension, Verb
from gateway.store.sqlite import SqliteStore
from tests.peers.dns import PeerDns
from tests.store.mail import LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all

DIGEST = hashlib.sha256(b"").digest()
ZONE = f"""
example.com MX 10 mx.example.com
mx.example.com A 127.0.0.2
example.net MX 10 safe.example.net
safe.example.net A 127.0.0.3
_25._tcp.safe.example.net TLSA 3 1 1 {DIGEST.hex()}
example.net SIGNED
safe.example.net SIGNED
broken.test SERVFAIL
"""
ROUTES = {
    route.name: route
    for route in (
        MxRoute("direct", ip_family=IpFamily.IPV4),
        RelayRoute("relay", "127.0.0.9", 587, username="u", password=Secret("hidden-password"), dkim=Signing.NONE),
        RelayRoute("clear", "127.0.0.9", 25, tls=HopTls.NONE),
        CaptureRoute("inbox"),
    )
}


class Desk:
    """A store with a clock that stands still, and who explains it."""

    def __init__(self, store: SqliteStore, now: Now, explainer: Explainer) -> None:
        self.store = store
        self.now = now
        self.post = Post(now)
        self.explainer = explainer

    async def accept(self, *to: str, route: str = "direct") -> NewMessage:
        message = self.post.message(*to, route=route)
        await self.store.enqueue(message)
        return message

    async def explained(self, message: NewMessage) -> Any:
        return await self.explainer.explain({"id": show_id("eml_", message.uuid)})

    async def one(self, message: NewMessage) -> tuple[Any, Any]:
        """The only recipient, and its way."""
        said = await self.explained(message)
        (recipient,), (way,) = said["recipients"], said["ways"]
        return recipient, way


@asynccontextmanager
async def desk(path: Path, live: Live | None = None, domains: Domains | None = None) -> AsyncIterator[Desk]:
    now = Now()
    store = await SqliteStore.open(path / "q.db", clock=now.clock)
    async with PeerDns(ZONE) as dns:
        config = Config(hostname="gw.test", dns=Dns((dns.listen,)), routes=dict(ROUTES))
        ways = Ways(config, Resolver([dns.listen]), random.Random(1), ipv6=False)
        yield Desk(store, now, Explainer(lambda: config, store, ways, domains or Domains(), live=live))
    await store.close()


async def test_what_waits_says_why_until_when_and_what_to_do(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        message = await office.accept("ann@example.com")
        (claimed,) = await claim_all(office.store, START_MS + LEASE_MS)
        reply = "450 4.2.0 <ann@example.com> Greylisted,\tsee http://example.com"
        await office.store.settle(
            [attempt(claimed, State.DEFERRED, at=START_MS, next_at=START_MS + MINUTE_MS, reply=reply)]
        )
        recipient, way = await office.one(message)
    assert (recipient["to"], recipient["state"], recipient["blocked_by"]) == ("ann@example.com", "deferred", "backoff")
    assert recipient["next_attempt_at"] == "2027-01-15T08:01:00.000Z"
    assert (recipient["attempts"], recipient["last_reply"], recipient["host"]) == (1, reply, "mx.example.com")
    assert recipient["why"] == "The last try failed; it is tried again then."
    assert (way["route"], way["type"], way["domain"], way["problem"]) == ("direct", "mx", "example.com", None)
    (host,) = way["hosts"]
    assert (host["host"], host["address"], host["port"], host["policy"]) == ("mx.example.com", "127.0.0.2", 25, None)
    assert host["tls"] == "if the host offers it, else in clear"


async def test_what_was_put_off_says_that_nobody_was_reached(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        message = await office.accept("ann@example.com")
        (claimed,) = await claim_all(office.store, START_MS + LEASE_MS)
        put_off = attempt(claimed, State.DEFERRED, at=START_MS, next_at=START_MS + MINUTE_MS, reply="cannot connect")
        untried = structs.replace(put_off.results[0], attempts=0, event=None)
        await office.store.settle([structs.replace(put_off, results=(untried,), tried=False)])
        recipient, _ = await office.one(message)
    assert (recipient["attempts"], recipient["last_reply"]) == (0, "cannot connect")
    assert recipient["why"] == "Nobody was reached for its destination a moment ago: it was not tried, and is then."


async def test_a_policy_of_the_domain_is_named(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        _, way = await office.one(await office.accept("ann@example.net"))
    (host,) = way["hosts"]
    assert (host["policy"], host["tls"]) == ("DANE", "required (STARTTLS)")
    assert host["proof"] == "one that its TLSA records name"


async def test_recipients_of_one_domain_have_one_way(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        said = await office.explained(await office.accept("a@example.com", "b@example.net", "c@example.com"))
    assert [recipient["way"] for recipient in said["recipients"]] == [0, 1, 0]
    assert [way["domain"] for way in said["ways"]] == ["example.com", "example.net"]


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        ("a@broken.test", "451 4.4.3 the DNS lookup of broken.test failed"),
        ("a@gone.test", "550 5.1.2 the domain gone.test does not exist"),
    ],
)
async def test_a_domain_without_hosts_says_what_the_attempt_would(tmp_path: Path, to: str, problem: str) -> None:
    async with desk(tmp_path) as office:
        _, way = await office.one(await office.accept(to))
    assert way["problem"].startswith(problem)
    assert way["hosts"] == []


async def test_a_route_that_is_gone(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        _, way = await office.one(await office.accept("a@example.com", route="old"))
    assert (way["type"], way["hosts"], way["signature"]) == (None, [], None)
    assert way["problem"].startswith("The route old is not configured (any more)")


async def test_a_relay_shows_no_secret(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        said = await office.explained(await office.accept("a@example.com", route="relay"))
    (way,) = said["ways"]
    (host,) = way["hosts"]
    assert (host["address"], host["port"], host["login"]) == ("127.0.0.9", 587, True)
    assert host["proof"] == "one for 127.0.0.9, of an authority that this machine trusts"
    assert way["signature"]["why_not"] == "the route relay has dkim: none"
    assert "hidden-password" not in str(said)


async def test_nothing_leaves_by_a_capture_route(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        _, way = await office.one(await office.accept("a@example.com", route="inbox"))
    assert (way["hosts"], way["problem"]) == ([], None)
    assert way["signature"]["why_not"] == "nothing leaves this machine"


async def test_the_signature(tmp_path: Path) -> None:
    key = SigningKey("example.org", "s1", dkim.load_private_key(dkim.generate_ed25519()))
    domains = Domains()
    async with desk(tmp_path, domains=domains) as office:
        message = await office.accept("a@example.com", route="clear")  # From: from@example.org
        (host,) = (await office.one(message))[1]["hosts"]
        assert (host["tls"], host["proof"], host["min_tls"]) == ("none", None, None)
        unknown = (await office.one(message))[1]["signature"]
        domains.load([SendingDomain("example.org", require_dkim=False, key=None)])
        keyless = (await office.one(message))[1]["signature"]
        domains.load([SendingDomain("example.org", require_dkim=False, key=key)])
        signed = (await office.one(message))[1]["signature"]
    assert unknown["why_not"] == "example.org is no sending domain (mail-gateway domain add example.org)"
    assert keyless["why_not"] == "example.org has no signing key"
    assert signed == {"domain": "example.org", "selectors": ["s1"], "why_not": None}


async def test_what_an_operator_did(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        message = await office.accept("a@example.com", "b@example.net")
        await office.store.operate(Filter(domain="example.net"), Order(Verb.HOLD), START_MS)
        made = await office.store.suspend(Suspension(0, "direct", None, "shop", "too many", START_MS, None))
        said = await office.explained(message)
    by_address = {recipient["to"]: recipient for recipient in said["recipients"]}
    assert by_address["a@example.com"]["blocked_by"] == "suspended"
    assert by_address["a@example.com"]["why"].startswith(f"An operator suspended it: number {made.id} (too many).")
    assert "queue release" in by_address["b@example.net"]["why"]
    assert [recipient["next_attempt_at"] for recipient in said["recipients"]] == [None, None]


async def test_what_only_the_daemon_knows(tmp_path: Path) -> None:
    unreachable, now = Unreachable(), time.monotonic()
    unreachable.remember(("direct", "example.com", 0), Word("connect", 0, "4.4.1", "connection refused"), now, [3600])
    unreachable.remember(("clear", "", 0), Word("connect", 0, "4.4.1", "long ago"), now - 31, [3600])
    lane = Lane(Due(1, "direct", "example.com"), Pace(2, 5))
    lane.recipients, lane.workers = 7, 2
    for said in (Outcome.SLOWED, Outcome.SILENT):
        lane.pace.see(said, lane.pace.era)
    live = Live(lambda: unreachable, lambda: 12, [Lane(Due(2, "direct", "example.net"), Pace(2, 5)), lane])
    async with desk(tmp_path, live) as office:
        known = await office.explained(await office.accept("a@example.com"))
        _, other = await office.one(await office.accept("a@example.com", route="clear"))
    assert (known["daemon"], known["connections"]) == (True, {"open": 12, "most": 500})
    (way,) = known["ways"]
    assert way["unreachable"]["reply"] == "connection refused"
    assert 0 < way["unreachable"]["next_try_in_s"] <= 30
    assert way["lane"] == {
        "in_hand": 7,
        "pending": 0,
        "connections": 2,
        "width": 1,
        "slowed": True,
        "answers": False,
    }
    assert (other["unreachable"], other["lane"]) == (None, None)


async def test_a_route_that_was_another_kind_when_the_mail_came(tmp_path: Path) -> None:
    """What was cut by domain stays so in the queue, and what was not is cut at the attempt."""
    unreachable, now = Unreachable(), time.monotonic()
    for place in (("relay", "example.com", 0), ("direct", "example.com", 0)):
        unreachable.remember(place, Word("connect", 0, "4.4.1", "connection refused"), now, [3600])
    lanes = [Lane(Due(1, "relay", "example.com"), Pace(2, 5)), Lane(Due(2, "direct", ""), Pace(2, 5))]
    async with desk(tmp_path, Live(lambda: unreachable, lambda: 2, lanes)) as office:
        for route, cut in (("relay", "example.com"), ("direct", "")):
            message = office.post.message("a@example.com", route=route)
            recipients = tuple(structs.replace(one, domain=cut) for one in message.recipients)
            message = structs.replace(message, recipients=recipients)
            await office.store.enqueue(message)
            _, way = await office.one(message)
            assert way["unreachable"] is not None, route
            assert way["lane"] is not None, route


async def test_final_recipients_are_counted_and_a_question_changes_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        message = await office.accept("a@example.com", "b@example.net")
        await office.store.operate(Filter(domain="example.net"), Order(Verb.CANCEL), START_MS)
        before = await office.store.events(message.uuid), await office.store.find(Filter())
        said = await office.explained(message)
        assert (await office.store.events(message.uuid), await office.store.find(Filter())) == before
    assert (said["final"], len(said["recipients"]), said["daemon"]) == (1, 1, False)


async def test_very_many_destinations_are_not_all_looked_up(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        to = [f"a@d{n}.test" for n in range(explain.LOOKED_UP + 5)]
        said = await office.explained(await office.accept(*to))
    assert len(said["ways"]) == explain.LOOKED_UP
    assert [one["way"] for one in said["recipients"]] == [*range(explain.LOOKED_UP), *[None] * 5]


async def test_an_unknown_message(tmp_path: Path) -> None:
    async with desk(tmp_path) as office:
        for unknown in ("eml_" + "0" * 24, "nonsense"):
            with pytest.raises(Refused, match="There is no message"):
                await office.explainer.explain({"id": unknown})


@pytest.mark.parametrize("bounce_class", list(BounceClass))
def test_there_is_advice_for_every_class(bounce_class: BounceClass) -> None:
    assert advice.for_class(bounce_class.value).endswith((".", ")"))
    assert not advice.for_class("")
