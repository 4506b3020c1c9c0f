"""Parts that are given another configuration: what is new holds from now on, what they know they keep."""

import asyncio
import io
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gateway.budget import SMALL_BYTES, Budget
from gateway.config import Config, Dns, Listen
from gateway.config import PassThrough as Relays
from gateway.delivery.pacing import Outcome, Pace, Paces
from gateway.delivery.passthrough import PassThrough
from gateway.delivery.places import Places
from gateway.errors import Refused
from gateway.keyterms import Limit, Unit
from gateway.observe import MailLog
from gateway.policy import auth
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.guard import Guard
from gateway.policy.templates import Templates
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.records import KeyRecord
from gateway.store.sqlite import SqliteStore
from tests.fakes.dns import FakeDns

PEER = "192.0.2.7"
STORED, DECLARED = "stored-secret-of-a-key-0", "declared-secret-of-a-key"


def _principal(name: str) -> Principal:
    return Principal(name, "a", None, (), frozenset({"send"}), None, None, source="config")


def _stored(name: str) -> KeyRecord:
    return KeyRecord(
        name=name,
        digest=auth.digest(STORED),
        hint="",
        account="a",
        route=None,
        senders=(),
        scopes=("send",),
        default_from=None,
        created_at=0,
        expires_at=None,
        revoked_at=None,
    )


def test_declared_keys_change_and_stored_ones_stay() -> None:
    keys = KeyRing()
    keys.load([_stored("web")], [(_principal("shop"), auth.digest(DECLARED))])
    keys.declare([])
    assert keys.judge(DECLARED, 0, peer=PEER).fault == "no key has this text"
    assert keys.judge(STORED, 0, peer=PEER).fault is None

    keys.declare([(_principal("web"), auth.digest(DECLARED))])  # which hides its namesake
    assert keys.judge(DECLARED, 0, peer=PEER).fault is None
    assert keys.judge(STORED, 0, peer=PEER).principal is None
    keys.declare([])
    assert keys.judge(STORED, 0, peer=PEER).fault is None


async def test_a_larger_budget_is_handed_out_at_once() -> None:
    budget = Budget(SMALL_BYTES)
    assert budget.try_take(SMALL_BYTES)
    waiting = asyncio.gather(budget.take(SMALL_BYTES, 60))
    await asyncio.sleep(0)
    budget.resize(2 * SMALL_BYTES)
    assert (await waiting)[0]
    budget.resize(SMALL_BYTES)
    budget.release(SMALL_BYTES)
    assert not budget.try_take(1), "what is out counts"
    budget.release(SMALL_BYTES)
    assert budget.try_take(SMALL_BYTES)


async def test_places() -> None:
    places = Places(1)
    assert places.ask(high=True, stranger=False) is None
    waits = places.ask(high=False, stranger=False)
    assert waits is not None
    places.resize(2)
    assert waits.done()
    places.resize(1)
    assert places.ask(high=True, stranger=False) is not None
    places.leave(stranger=False)
    assert places.taken == 1, "nobody else comes until there is room"


def test_the_connections_of_a_destination() -> None:
    pace = Pace(5, 20)
    pace.bound(3)
    assert pace.width == 3
    pace.see(Outcome.SENT, pace.era)
    assert (pace.width, pace.full) == (3, True)
    pace.bound(4)
    assert not pace.full
    pace.see(Outcome.SENT, pace.era)
    assert pace.width == 4


def test_destinations_that_rest() -> None:
    paces = Paces(5, 20)
    slowed = paces.take(1, 0)
    slowed.see(Outcome.SLOWED, slowed.era)
    paces.rest(1, slowed, 0)
    paces.rest(2, paces.take(2, 0), 0)
    paces.bound(1, 2)
    assert (paces.take(1, 0).width, paces.take(2, 0).width, paces.take(3, 0).width) == (2, 1, 1)


def _is_heard(guard: Guard, text: str) -> bool:
    try:
        guard.check(PEER, "", text)
    except Refused:
        return False
    return True


def test_a_limit_of_failures() -> None:
    limit = Limit(Unit.REQUESTS, 2, 60, 2)
    guard = Guard(limit, Clock(monotonic=lambda: 1000.0))
    guard.failed(PEER, "", "wrong-text-of-some-length")
    assert not _is_heard(guard, "other-text-of-some-length")
    guard.reconfigure(limit)
    assert not _is_heard(guard, "other-text-of-some-length"), "the same limit forgets nothing"
    guard.reconfigure(replace(limit, count=100, burst=100))
    assert _is_heard(guard, "other-text-of-some-length")


async def test_a_directory_of_templates(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "hello").mkdir(parents=True)
        (tmp_path / name / "hello" / "body.txt").write_text(f"This is {name}.")
    store = await SqliteStore.open(tmp_path / "gateway.db")
    templates = Templates(store.records, tmp_path / "one")
    seen = []
    for directory in (tmp_path / "one", tmp_path / "two", None):
        templates.reconfigure(directory)
        record = await templates.record("a", "hello")
        seen.append(record.text if record is not None else None)
    await store.close()
    assert seen == ["This is one.", "This is two.", None]


async def test_nameservers() -> None:
    async with FakeDns("relay.test A 192.0.2.1") as one, FakeDns("relay.test A 192.0.2.2") as two:
        resolver = Resolver([one.listen])
        assert await resolver.addresses("relay.test", ipv4=True, ipv6=False) == ("192.0.2.1",)
        resolver.reconfigure([two.listen])
        assert await resolver.addresses("relay.test", ipv4=True, ipv6=False) == ("192.0.2.2",)


async def test_relays_that_requests_may_name(tmp_path: Path) -> None:
    relay, other = Listen("relay.test", 587), Listen("other.test", 587)
    limit = Limit(Unit.MESSAGES, 30, 60, 30)
    networks = (ip_network("192.0.2.0/24"),)
    config = Config(hostname="gw.test", dns=Dns(), pass_through=Relays((relay,), networks, limit))
    store = await SqliteStore.open(tmp_path / "gateway.db")
    passes = PassThrough(config, store, Resolver(()), clock=Clock(), log=MailLog(io.StringIO()))
    assert passes.allowed("relay.test", 587, PEER)
    passes.reconfigure(replace(config, pass_through=Relays((other,), networks, limit)))
    assert not passes.allowed("relay.test", 587, PEER)
    assert passes.allowed("other.test", 587, PEER)
    await store.close()


def test_the_form_of_the_log() -> None:
    stream = io.StringIO()
    log = MailLog(stream)
    told: dict[str, Any] = {"door": "http", "key": "a", "client": PEER, "text": ""}
    log.refused(**told, reason="one")
    log.reconfigure(as_json=True, enabled=True)
    log.refused(**told, reason="two")
    log.reconfigure(as_json=True, enabled=False)
    log.refused(**told, reason="three")
    lines = stream.getvalue().splitlines()
    assert [line[0] for line in lines] == ["2", "{"]
