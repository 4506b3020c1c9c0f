"""Brakes of keys over a real store: what trips them, what is written, what lets a key go."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import structs

from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, Scope, State
from gateway.keyterms import Brakes, Limit, Unit
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.brakes import KNOWN_MS, LEAST_OUTCOMES, Braking
from gateway.runtime import Clock
from gateway.store.brakes import StoredBrakes, Trip
from gateway.store.eventlog import LoggedEvent
from gateway.store.sqlite import SqliteStore
from gateway.tokens import Tokens
from tests.store.mail import DAY_MS, HOUR_MS, LEASE_MS, Now, Post, attempt, claim_all
from tests.unit.conftest import SHOP

DAILY = Limit(Unit.RECIPIENTS, 4, 86_400, 4)
TOKENS = Tokens(b"k" * 32)


@dataclass(slots=True)
class Bench:
    """A store with braking over it, and a clock for both."""

    path: Path
    now: Now
    store: SqliteStore
    monotonic_s: float = 1000.0
    keys: KeyRing = field(default_factory=KeyRing)
    braking: Braking = field(init=False)
    post: Post = field(init=False)

    def __post_init__(self) -> None:
        self.post = Post(self.now)
        self.braking = self.made()

    def made(self, source: Any = None) -> Braking:
        clock = Clock(now_ms=lambda: self.now.ms, monotonic=lambda: self.monotonic_s)
        return Braking(source or self.store.brakes, self.store.event_log, self.keys, hashed=TOKENS.hashed, clock=clock)

    def key(self, name: str = "shop", **brakes: Any) -> Principal:
        principal = replace(SHOP, name=name, brakes=Brakes(**brakes))
        self.keys.declare([(principal, name.encode().ljust(32))])
        return principal

    async def restart(self) -> None:
        """The same database, in a new process."""
        await self.store.close()
        self.store = await SqliteStore.open(self.path, clock=self.now.clock)
        self.braking = self.made()
        await self.braking.load()

    async def outcomes(
        self, *, delivered: int = 0, bounced: int = 0, scope: Scope = Scope.RECIPIENT, door: str = "http"
    ) -> None:
        """Mail of the key, and what became of it."""
        addresses = [f"a{number}@example.com" for number in range(delivered + bounced)]
        await self.store.enqueue(structs.replace(self.post.message(*addresses), door=door))
        (claimed,) = await claim_all(self.store, self.now.ms + LEASE_MS)
        tried = attempt(claimed, State.DELIVERED, at=self.now.ms)
        refused = {"state": State.BOUNCED, "event": EventType.BOUNCED, "scope": scope}
        results = [
            structs.replace(one, bounce_class=BounceClass.INVALID_RECIPIENT, **refused) if number < bounced else one
            for number, one in enumerate(tried.results)
        ]
        await self.store.settle([structs.replace(tried, results=tuple(results))])

    async def told(self) -> list[LoggedEvent]:
        """Events about brakes."""
        logged = await self.store.event_log.read(0, 1000)
        return [one for one in logged if one.type in {EventType.BRAKED, EventType.BRAKE_RELEASED}]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    now = Now()
    store = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    made = Bench(tmp_path / "queue.db", now, store)
    yield made
    await made.store.close()


async def test_a_key_without_brakes_is_never_held(bench: Bench) -> None:
    assert await bench.braking.judge(SHOP, ["a@example.com"] * 1000) == ""


async def test_a_volume(bench: Bench) -> None:
    key = bench.key(volume=DAILY)
    assert await bench.braking.judge(key, ["a@example.com"] * 4) == ""
    why = await bench.braking.judge(key, ["b@example.com"])
    assert why == "the key is braked: more than 4 recipients per day"
    assert bench.braking.trip_of("shop") == Trip("shop", "acme", "volume", why.partition(": ")[2], bench.now.ms)
    (event,) = await bench.told()
    assert (event.type, event.account, event.message, event.uuid) == (EventType.BRAKED, "acme", 0, None)
    assert json.loads(event.data) == {"key": "shop", "reason": "volume", "note": "more than 4 recipients per day"}
    await bench.braking.judge(key, ["b@example.com"])
    assert len(await bench.told()) == 1, "it is told once"


async def test_time_brings_more(bench: Bench) -> None:
    key = bench.key(volume=DAILY)
    await bench.braking.judge(key, ["a@example.com"] * 4)
    bench.monotonic_s += 86_400 / 4
    assert await bench.braking.judge(key, ["a@example.com"]) == ""


async def test_one_message_to_too_many(bench: Bench) -> None:
    assert await bench.braking.judge(bench.key(volume=DAILY), ["a@example.com"] * 5)


async def test_what_was_not_queued_is_given_back(bench: Bench) -> None:
    key = bench.key(volume=DAILY)
    for _ in range(10):
        assert await bench.braking.judge(key, ["a@example.com"] * 3) == ""
        bench.braking.give_back(key, 3)


async def test_a_key_stays_braked_until_it_is_released(bench: Bench) -> None:
    key = bench.key(volume=DAILY)
    await bench.braking.judge(key, ["a@example.com"] * 5)
    await bench.restart()
    assert await bench.braking.judge(key, ["a@example.com"])
    assert await bench.braking.release("other", "") is None
    trip = await bench.braking.release("shop", "it was meant")
    assert trip is not None
    assert trip.reason == "volume"
    assert await bench.braking.release("shop", "") is None
    released = (await bench.told())[-1]
    assert json.loads(released.data) == {"key": "shop", "reason": "volume", "note": "it was meant"}
    assert (released.type, released.account) == (EventType.BRAKE_RELEASED, "acme")
    assert await bench.braking.judge(key, ["a@example.com"] * 4) == "", "its counters begin anew"
    await bench.restart()
    assert bench.braking.trip_of("shop") is None


async def test_without_its_brakes_a_key_is_not_braked(bench: Bench) -> None:
    """Nothing holds its mail then, and no list says so."""
    await bench.braking.judge(bench.key(volume=DAILY), ["a@example.com"] * 5)
    bench.keys.declare([(SHOP, b"shop".ljust(32))])
    assert await bench.braking.judge(SHOP, ["a@example.com"]) == ""
    assert bench.braking.trip_of("shop") is None
    assert await bench.braking.release("shop", "") is not None


async def test_a_repetition_brakes_nobody_and_brings_nothing(bench: Bench) -> None:
    key = bench.key(volume=DAILY)

    async def came_before() -> bool:
        return True

    assert await bench.braking.judge(key, ["a@example.com"] * 3) == ""
    for _ in range(3):
        assert await bench.braking.judge(key, ["a@example.com"] * 3, came_before=came_before) == ""
        bench.braking.give_back(key, 3)
    assert await bench.braking.judge(key, ["b@example.com"]) == "", "there is one more"
    assert await bench.braking.judge(key, ["c@example.com"]), "and no other"


async def test_other_brakes_of_the_same_key(bench: Bench) -> None:
    """A changed rate keeps what was counted."""
    await bench.braking.judge(bench.key(volume=DAILY), ["a@example.com"] * 3)
    more = bench.key(volume=replace(DAILY, count=6, burst=6))
    assert await bench.braking.judge(more, ["a@example.com"] * 3) == ""
    assert await bench.braking.judge(more, ["a@example.com"])


# Strangers


async def test_new_recipients(bench: Bench) -> None:
    key = bench.key(new_recipients=DAILY)
    known = [f"a{number}@example.com" for number in range(4)]
    assert await asyncio.gather(*(bench.braking.judge(key, known) for _ in range(3))) == [""] * 3
    for _ in range(3):
        assert await bench.braking.judge(key, [address.upper() for address in known]) == ""
    await bench.braking.look()
    await bench.restart()
    assert await bench.braking.judge(key, known * 3) == "", "they are known after a restart"
    why = await bench.braking.judge(key, [f"b{number}@example.com" for number in range(5)])
    assert why == "the key is braked: more than 4 recipients per day that it never wrote to"


async def test_whom_held_mail_was_for_is_no_stranger_the_next_time(bench: Bench) -> None:
    """It was let go: the same letters a week later are nothing new."""
    key = bench.key(new_recipients=DAILY)
    addresses = [f"a{number}@example.com" for number in range(20)]
    for address in addresses:
        await bench.braking.judge(key, [address])
    await bench.braking.look()
    assert await bench.braking.release("shop", "") is not None
    assert await bench.braking.judge(key, addresses) == ""


async def test_no_address_is_kept(bench: Bench) -> None:
    await bench.braking.judge(bench.key(new_recipients=DAILY), ["ann.secret@example.com"])
    await bench.braking.look()
    await bench.store.close()
    assert b"ann.secret" not in b"".join(file.read_bytes() for file in bench.path.parent.glob("queue.db*"))


async def test_who_was_not_written_to_for_a_year_is_forgotten(bench: Bench) -> None:
    store: StoredBrakes = bench.store.brakes
    await store.acquaint([("shop", 1, bench.now.ms), ("shop", 2, bench.now.ms + DAY_MS)])
    assert not await store.forget(bench.now.ms + 1)
    assert await store.acquainted("shop", [1, 2]) == {2: bench.now.ms + DAY_MS}
    assert await store.acquainted("other", [1, 2]) == {}
    assert KNOWN_MS == 365 * DAY_MS


# Bounces


async def test_too_many_bounces(bench: Bench) -> None:
    key = bench.key(bounces=0.1)
    await bench.outcomes(delivered=LEAST_OUTCOMES - 6, bounced=5)
    await bench.braking.look()
    assert await bench.braking.judge(key, ["a@example.com"]) == "", "too few to say anything"
    await bench.outcomes(bounced=1)
    await bench.braking.look()
    why = await bench.braking.judge(key, ["a@example.com"])
    assert why == "the key is braked: 6 of 50 recipients bounced in the last 24 hours, more than 10 %"


async def test_bounces_that_are_nobodys_fault(bench: Bench) -> None:
    key = bench.key(bounces=0.1)
    await bench.outcomes(delivered=20, bounced=40, scope=Scope.INFRASTRUCTURE)
    await bench.braking.look()
    assert await bench.braking.judge(key, ["a@example.com"]) == ""


async def test_bounces_of_yesterday(bench: Bench) -> None:
    key = bench.key(bounces=0.1)
    await bench.outcomes(delivered=40, bounced=4)
    bench.now.ms += 26 * HOUR_MS
    await bench.outcomes(delivered=40, bounced=4)
    await bench.braking.look()
    assert await bench.braking.judge(key, ["a@example.com"]) == ""
    await bench.restart()
    await bench.outcomes(delivered=20, bounced=3)
    await bench.braking.look()
    assert "7 of 67" in await bench.braking.judge(key, ["a@example.com"]), "read again from the log"


async def test_bounces_before_a_release_are_forgiven(bench: Bench) -> None:
    key = bench.key(bounces=0.1)
    await bench.outcomes(delivered=20, bounced=40)
    await bench.braking.look()
    assert await bench.braking.release("shop", "") is not None
    for _ in range(2):
        await bench.outcomes(delivered=50, bounced=2)
        await bench.braking.look()
        assert await bench.braking.judge(key, ["a@example.com"]) == ""
        await bench.restart()  # the second time all of it is read again from the log
    await bench.outcomes(delivered=1, bounced=20)
    await bench.braking.look()
    assert "24 of 125" in await bench.braking.judge(key, ["a@example.com"])


async def test_a_release_that_comes_twice_at_once(bench: Bench) -> None:
    """The second one changes nothing, and does not keep the brake open."""
    key = bench.key(bounces=0.1)
    await bench.outcomes(bounced=60)
    await bench.braking.look()
    both = await asyncio.gather(bench.braking.release("shop", ""), bench.braking.release("shop", ""))
    assert all(both)
    await bench.braking.look()
    await asyncio.gather(bench.braking.release("shop", ""), bench.braking.look())
    assert await bench.braking.judge(key, ["a@example.com"]) == ""
    await bench.outcomes(bounced=60)
    await bench.braking.look()
    assert "60 of 60" in await bench.braking.judge(key, ["a@example.com"])


async def test_a_brake_that_another_one_has_let_go(bench: Bench) -> None:
    key = bench.key(bounces=0.1)
    await bench.outcomes(bounced=60)
    await bench.braking.look()
    trip = bench.braking.trip_of("shop")
    assert trip is not None
    await bench.store.brakes.release(trip, "", bench.now.ms)
    await bench.braking.look()
    assert await bench.braking.release("shop", "") == trip
    await bench.outcomes(bounced=60)
    await bench.braking.look()
    assert "60 of 60" in await bench.braking.judge(key, ["a@example.com"])


async def test_notifications_that_bounce_are_not_the_keys(bench: Bench) -> None:
    key = bench.key(bounces=0.1)
    await bench.outcomes(delivered=60, bounced=4)
    await bench.outcomes(bounced=30, door="dsn")
    await bench.braking.look()
    assert await bench.braking.judge(key, ["a@example.com"]) == ""


@pytest.mark.parametrize("text", ["", "{", '{"scope": 1}', "[]"])
async def test_a_damaged_event_does_not_end_the_count(bench: Bench, text: str) -> None:
    key = bench.key(bounces=0.1)
    await bench.outcomes(bounced=70)
    trip = Trip("other", "acme", "volume", "", bench.now.ms)
    await bench.store.brakes.trip(trip)
    await bench.store.brakes.release(trip, "", bench.now.ms)
    with closing(apsw.Connection(str(bench.path))) as foreign:
        foreign.execute("UPDATE event SET data = ? WHERE type IN ('accepted', 'brake_released')", (text,))
        foreign.execute("UPDATE event SET data = ? WHERE seq % 70 = 0 AND type = 'bounced'", (text,))
    await bench.braking.look()
    assert "of 70" in await bench.braking.judge(key, ["a@example.com"])


async def test_a_gap_in_the_log_is_no_long_way(bench: Bench) -> None:
    """Events from before a restart with much higher numbers, or long after what was removed."""
    key = bench.key(bounces=0.1)
    await bench.outcomes(bounced=60)
    with closing(apsw.Connection(str(bench.path))) as foreign:
        foreign.execute("UPDATE event SET seq = seq + (1 << 50)")
    await bench.restart()
    await bench.braking.look()
    assert "60 of 60" in await bench.braking.judge(key, ["a@example.com"])


async def test_bounces_of_other_keys(bench: Bench) -> None:
    other = bench.key("other", bounces=0.1)
    await bench.outcomes(delivered=20, bounced=40)
    await bench.braking.look()
    assert await bench.braking.judge(other, ["a@example.com"]) == ""


# A store that is away


class Away:
    """A store that cannot be written."""

    def __init__(self, store: StoredBrakes) -> None:
        self._store = store
        self.away = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def trip(self, trip: Trip) -> bool:
        if self.away:
            raise StoreError("away")
        return await self._store.trip(trip)


async def test_a_brake_that_cannot_be_written_is_written_later(bench: Bench) -> None:
    source = Away(bench.store.brakes)
    braking, key = bench.made(source), bench.key(volume=DAILY)
    for _ in range(2):
        with pytest.raises(StoreError):
            await braking.judge(key, ["a@example.com"] * 5)
    await braking.look()
    assert await bench.told() == []
    source.away = False
    await braking.look()
    assert len(await bench.told()) == 1
    assert await braking.judge(key, ["a@example.com"])


async def test_a_brake_between_two_releases_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    key, written = bench.key(volume=DAILY), bench.store.brakes.release
    await bench.braking.judge(key, ["a@example.com"] * 5)

    async def slow(trip: Trip, note: str, at: int) -> int:
        number = await written(trip, note, at)
        if note == "second":
            await bench.braking.judge(key, ["a@example.com"] * 5)
        return number

    monkeypatch.setattr(bench.store.brakes, "release", slow)
    await asyncio.gather(bench.braking.release("shop", "first"), bench.braking.release("shop", "second"))
    assert bench.braking.trip_of("shop") is not None
    await bench.restart()
    assert bench.braking.trip_of("shop") is not None


class Slow(Away):
    """It comes back, and the first that is written lets the other key go meanwhile."""

    braking: Braking
    names = frozenset(("one", "two"))

    async def trip(self, trip: Trip) -> bool:
        if not self.away and len(self.names) == 2:
            self.names -= {trip.key}
            (other,) = self.names
            await self.braking.release(other, "")
        return await super().trip(trip)


async def test_a_release_while_other_brakes_are_written(bench: Bench) -> None:
    source = Slow(bench.store.brakes)
    source.braking = braking = bench.made(source)
    for name in ("one", "two"):
        with pytest.raises(StoreError):
            await braking.judge(bench.key(name, volume=DAILY), ["a@example.com"] * 5)
    source.away = False
    await braking.look()
    assert len(await bench.told()) == 3
