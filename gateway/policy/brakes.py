"""Brakes of keys: when a key's new mail is held, so that a mistake costs an afternoon and not the sender's name.

Guarantees: a key that did too much is braked before the mail that was too much is queued, and stays so over restarts,
until an operator lets it go; nothing is refused, and what was taken before goes on. A key without brakes costs nothing.
What is counted is in memory: rates are full after a restart, outcomes are counted again from the log. Whom a key has
written to is known by a keyed hash of the address, for a year.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.errors import StoreError
from gateway.keyterms import Limit
from gateway.policy.auth import KeyRing, Principal
from gateway.policy.limits import Bucket, now_ns
from gateway.runtime import Clock
from gateway.store.brakes import Stretch, Trip

LEAST_OUTCOMES: Final = 50  # fewer say nothing of a share
WINDOW_H: Final = 24
LOOK_S: Final = 1.0
KNOWN_MS: Final = 365 * 86_400_000  # so long an address is no new one after it was last written to
TOUCH_MS: Final = 30 * 86_400_000  # so exact is what is known of that
_FORGET_S: Final = 3600.0
_HOUR_MS: Final = 3_600_000
_PERIODS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}

log = logging.getLogger("gateway.policy")


class Source(Protocol):
    """The part of the store that is used. Errors: StoreError."""

    async def trips(self) -> Sequence[Trip]: ...

    async def trip(self, trip: Trip) -> bool: ...

    async def release(self, trip: Trip, note: str, at: int) -> int: ...

    async def acquainted(self, key: str, hashes: Sequence[int]) -> Mapping[int, int]: ...

    async def acquaint(self, met: Sequence[tuple[str, int, int]]) -> None: ...

    async def forget(self, before: int) -> bool: ...

    async def count(self, after: int) -> Stretch: ...


class Log(Protocol):
    """The part of the event log that is used."""

    @property
    def last(self) -> int: ...

    async def before(self, at: int) -> int: ...


@dataclass(slots=True)
class _Held:
    """What is known of a key with brakes."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    outcomes: dict[int, tuple[int, int]] = field(default_factory=dict)  # by hour: all, and those that bounced hard


class Braking:
    """Used in the event loop. `hashed` is that of the instance's tokens."""

    def __init__(
        self, source: Source, events: Log, keys: KeyRing, *, hashed: Callable[[str], str], clock: Clock
    ) -> None:
        self._source = source
        self._events = events
        self._keys = keys
        self._hashed = hashed
        self._clock = clock
        self._trips: dict[str, Trip] = {}
        self._unwritten: set[str] = set()
        self._held: dict[str, _Held] = {}
        self._met: dict[tuple[str, int], int] = {}  # not written yet
        self._released: dict[str, int] = {}  # events that let a key go, and are not counted yet
        self._counted: int | None = None  # events up to there; None: nobody's outcomes are counted

    async def load(self) -> None:
        """Which keys are braked. Raises StoreError."""
        self._trips = {trip.key: trip for trip in await self._source.trips()}

    def trip_of(self, key: str) -> Trip | None:
        """Why a key is braked; None too where it has no brakes any more, for then nothing holds its mail."""
        return self._trips.get(key) if key in self._keys.with_brakes else None

    async def judge(
        self,
        principal: Principal,
        recipients: Sequence[str],
        *,
        came_before: Callable[[], Awaitable[bool]] | None = None,
    ) -> str:
        """Why new mail of a key to these is held, "" where it is not; it is counted then. `came_before` is asked where
        it is too much: a repetition, which is given back, brakes nobody. Raises StoreError: the key may be braked, and
        that could not be written."""
        if principal.brakes is None:
            return ""
        strangers = await self._meet(principal, recipients)  # when it is braked, too: what is held may be let go
        trip = self._trips.get(principal.name)
        if trip is None:
            over = self._over_volume(principal, len(recipients)) or self._over_new(principal, strangers)
            if over is None or (came_before is not None and await came_before()):
                return ""
            trip = self._trips.get(principal.name) or self._brake(principal, *over)  # it may be braked meanwhile
        await self._write(trip)
        return f"the key is braked: {trip.detail}"

    def give_back(self, principal: Principal, count: int) -> None:
        """What was counted of mail that was not queued after all."""
        held = self._held.get(principal.name)
        if principal.brakes is not None and held is not None and (bucket := held.buckets.get("volume")) is not None:
            bucket.give_back(now_ns(self._clock), count)

    async def release(self, key: str, note: str) -> Trip | None:
        """Let new mail go, and count anew; why it was braked, None where it was not. Raises StoreError."""
        trip = self._trips.get(key)
        if trip is None:
            return None
        await self._write(trip)
        number = await self._source.release(trip, note, self._clock.now_ms())
        self._released[key] = max(number, self._released.get(key, 0))  # 0: another one let it go at the same time
        if self._trips.get(key) is trip:  # else another one let it go, and it is braked anew
            del self._trips[key]
            self._held.pop(key, None)
        log.info("the key %s is not braked any more: %s", key, note or "an operator let it go")
        return trip

    async def follow(self) -> None:
        """Count outcomes and write down who was written to, until cancelled."""
        forget_at = self._clock.monotonic()
        while True:
            await self.look()
            if self._clock.monotonic() >= forget_at:
                forget_at = self._clock.monotonic() + _FORGET_S
                await self._forget()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One round: what can be read or written now is; the rest waits for the next one."""
        try:
            for name in tuple(self._unwritten):
                if (trip := self._trips.get(name)) is not None:  # None: it was let go meanwhile
                    await self._write(trip)
            await self._flush()
            await self._count()
        except StoreError as error:
            log.warning("what keys with brakes did cannot be counted now: %s", error)

    # Rates

    def _over_volume(self, principal: Principal, count: int) -> tuple[str, str] | None:
        assert principal.brakes is not None
        limit = principal.brakes.volume
        if limit is None:
            return None
        bucket, now = self._bucket(principal.name, "volume", limit)
        is_enough = not bucket.wait_ns(now, count)
        bucket.take(now, count)  # too much as well: `give_back` does not ask, and a release forgets it
        return None if is_enough else ("volume", f"more than {limit.count} recipients per {_period(limit)}")

    def _over_new(self, principal: Principal, strangers: int) -> tuple[str, str] | None:
        assert principal.brakes is not None
        limit = principal.brakes.new_recipients
        if limit is None or not strangers:
            return None
        bucket, now = self._bucket(principal.name, "new_recipients", limit)
        if bucket.wait_ns(now, strangers):
            return "new_recipients", f"more than {limit.count} recipients per {_period(limit)} that it never wrote to"
        bucket.take(now, strangers)
        return None

    async def _meet(self, principal: Principal, recipients: Sequence[str]) -> int:
        """How many of these the key never wrote to; from now on it has."""
        assert principal.brakes is not None
        if principal.brakes.new_recipients is None:
            return 0
        key, now = principal.name, self._clock.now_ms()
        hashes = {number_of(self._hashed(address)) for address in recipients}
        asked = [one for one in hashes if (key, one) not in self._met]
        known = await self._source.acquainted(key, asked) if asked else {}
        # Other mail may have met them meanwhile.
        strangers = sum(one not in known and (key, one) not in self._met for one in asked)
        for one in asked:
            if now - known.get(one, 0) > TOUCH_MS:
                self._met[key, one] = now
        return strangers

    def _bucket(self, key: str, name: str, limit: Limit) -> tuple[Bucket, int]:
        """With the time that it counts in."""
        now = now_ns(self._clock)
        buckets = self._held.setdefault(key, _Held()).buckets
        bucket = buckets.get(name)
        if bucket is None or bucket.limit.period_s != limit.period_s:
            bucket = Bucket(limit)
        elif bucket.limit != limit:
            bucket = bucket.resized(limit, now)
        buckets[name] = bucket
        return bucket, now

    # Outcomes

    async def _count(self) -> None:
        """Read on in the log, where a key wants it."""
        wanted = [one for one in self._keys.with_brakes.values() if one.brakes is not None and one.brakes.bounces]
        if not wanted:
            self._counted = None
            self._released.clear()
            return
        if self._counted is None:
            for held in self._held.values():
                held.outcomes.clear()
            self._counted = await self._events.before(self._clock.now_ms() - WINDOW_H * _HOUR_MS)
        names = {one.name for one in wanted}
        while self._events.last > self._counted:
            stretch = await self._source.count(self._counted)
            if stretch.upto == self._counted:
                break  # the last ones are not committed yet
            self._counted = stretch.upto
            for one in stretch.outcomes:
                if one.key in names:
                    outcomes = self._held.setdefault(one.key, _Held()).outcomes
                    all_, hard = outcomes.get(one.hour, (0, 0))
                    outcomes[one.hour] = all_ + one.all, hard + one.hard
            if stretch.released in self._held:
                self._held[stretch.released].outcomes.clear()
        for principal in wanted:
            await self._check_bounces(principal)

    async def _check_bounces(self, principal: Principal) -> None:
        name, brakes = principal.name, principal.brakes
        held = self._held.get(name)
        if held is None or brakes is None or brakes.bounces is None or name in self._trips:
            return
        if self._released.get(name, 0) > (self._counted or 0):
            return  # what is counted is from before
        first = self._clock.now_ms() // _HOUR_MS - WINDOW_H
        for hour in [hour for hour in held.outcomes if hour < first]:
            del held.outcomes[hour]
        count, hard = map(sum, zip(*held.outcomes.values(), strict=True)) if held.outcomes else (0, 0)
        if count >= LEAST_OUTCOMES and hard / count > brakes.bounces:
            share = f"{100 * brakes.bounces:g} %"
            detail = f"{hard} of {count} recipients bounced in the last {WINDOW_H} hours, more than {share}"
            await self._write(self._brake(principal, "bounces", detail))

    # Writing

    def _brake(self, principal: Principal, reason: str, detail: str) -> Trip:
        """In memory first: whatever is judged from now on is held."""
        name = principal.name
        trip = self._trips[name] = Trip(name, principal.account, reason, detail, self._clock.now_ms())
        self._unwritten.add(name)
        return trip

    async def _write(self, trip: Trip) -> None:
        """Once: who comes while it is written waits for the same commit or a later one."""
        if trip.key not in self._unwritten:
            return
        if await self._source.trip(trip):
            text = "the key %s is braked, its new mail is held: %s; to let it go: mail-gateway key release %s"
            log.warning(text, trip.key, trip.detail, trip.key)
        self._unwritten.discard(trip.key)

    async def _flush(self) -> None:
        met = dict(self._met)
        if not met:
            return
        await self._source.acquaint([(key, one, at) for (key, one), at in met.items()])
        for one, at in met.items():
            if self._met.get(one) == at:
                del self._met[one]

    async def _forget(self) -> None:
        try:
            more = True
            while more:
                more = await self._source.forget(self._clock.now_ms() - KNOWN_MS)
        except StoreError as error:
            log.warning("whom nobody wrote to for a year cannot be forgotten now: %s", error)


def number_of(hashed: str) -> int:
    """64 bits of it, as SQLite has them: how it is kept whom a key wrote to."""
    return int.from_bytes(hashlib.sha256(hashed.encode()).digest()[:8], signed=True)


def _period(limit: Limit) -> str:
    return _PERIODS.get(limit.period_s, f"{limit.period_s} s")
