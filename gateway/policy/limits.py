"""How much a key may send: token buckets, one for each limit of a key; and the same for any other subject.

Guarantees: over any time, no more is taken than the burst and what the rate brings, exactly: buckets count in whole
numbers. A refusal takes nothing; what is refused says when to come again. Buckets live in memory: a restart fills them.
They belong to the event loop: nothing here is safe in several threads.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from gateway.errors import Reason, Refused
from gateway.keyterms import Limit, Unit
from gateway.policy.auth import Principal
from gateway.runtime import Clock

_NS: Final = 1_000_000_000
_SWEPT_FROM: Final = 1024  # keys; below that, full buckets cost less than looking for them
_PERIODS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit: `remaining` units now, all of them again in `reset_s` seconds."""

    unit: Unit
    count: int
    period_s: int
    burst: int
    remaining: int
    reset_s: int


class Bucket:
    """One limit of one subject. Times are whole nanoseconds.

    Its level is the one number `_full_at`, the time at which it is full again, times `limit.count`: so one unit is
    `_worth`, a whole number, and no rounding ever adds up.
    """

    __slots__ = ("_capacity", "_full_at", "_worth", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._worth = limit.period_s * _NS
        self._capacity = limit.burst * self._worth
        self._full_at: int | None = None  # never taken from

    def resized(self, limit: Limit, now: int) -> "Bucket":
        """Of another count or burst, with what was taken from this one still missing. The period is the same."""
        bucket = Bucket(limit)
        bucket._set(now, min(self._missing(now), bucket._capacity))
        return bucket

    def wait_ns(self, now: int, cost: int) -> int:
        """0 where so much is there; the cost is at most the burst."""
        lacking = self._missing(now) + cost * self._worth - self._capacity
        return -(-lacking // self.limit.count) if lacking > 0 else 0

    def take(self, now: int, cost: int) -> None:
        """What `wait_ns` said is there."""
        self._set(now, self._missing(now) + cost * self._worth)

    def give_back(self, now: int, cost: int) -> None:
        """It never holds more than its burst: what would be missing less than nothing is nothing."""
        self._set(now, self._missing(now) - cost * self._worth)

    def is_full(self, now: int) -> bool:
        return self._missing(now) == 0

    def allowance(self, now: int) -> Allowance:
        limit, missing = self.limit, self._missing(now)
        return Allowance(
            unit=limit.unit,
            count=limit.count,
            period_s=limit.period_s,
            burst=limit.burst,
            remaining=(self._capacity - missing) // self._worth,
            reset_s=-(-missing // (limit.count * _NS)),
        )

    def _missing(self, now: int) -> int:
        return max(0, self._full_at - now * self.limit.count) if self._full_at is not None else 0

    def _set(self, now: int, missing: int) -> None:
        self._full_at = now * self.limit.count + missing


class Limiter:
    """The limits of all keys. A key without limits costs nothing.

    A bucket that is full says no more than none: those are forgotten, so that there are never many more than keys in
    use.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_key: dict[str, tuple[Bucket, ...]] = {}
        self._swept_at = _SWEPT_FROM

    def take(self, principal: Principal, *, requests: int = 0, messages: int = 0, recipients: int = 0) -> None:
        """All of it from every limit of the key, or nothing from any.

        Refused with RATE_LIMITED and the whole seconds until there is enough; with VALIDATION_ERROR where it is more
        than a limit ever lets through at once.
        """
        if not principal.limits:
            return
        now = now_ns(self._clock)
        for bucket, cost in self._affordable(principal, now, requests, messages, recipients):
            bucket.take(now, cost)

    def check(self, principal: Principal, *, requests: int = 0, messages: int = 1, recipients: int = 1) -> None:
        """As `take`, but takes nothing: by default, whether one message to one recipient could be sent now."""
        if principal.limits:
            self._affordable(principal, now_ns(self._clock), requests, messages, recipients)

    def give_back(self, principal: Principal, *, requests: int = 0, messages: int = 0, recipients: int = 0) -> None:
        """What was taken for something that turned out to cost nothing, as a replay does."""
        if not principal.limits:
            return
        now = now_ns(self._clock)
        costs = {Unit.REQUESTS: requests, Unit.MESSAGES: messages, Unit.RECIPIENTS: recipients}
        for bucket in self._buckets(principal, now):
            bucket.give_back(now, costs[bucket.limit.unit])

    def allowances(self, principal: Principal) -> tuple[Allowance, ...]:
        """What is left, in the order of the key's limits; empty for a key without."""
        if not principal.limits:
            return ()
        now = now_ns(self._clock)
        return tuple(bucket.allowance(now) for bucket in self._buckets(principal, now))

    def _affordable(
        self, principal: Principal, now: int, requests: int, messages: int, recipients: int
    ) -> list[tuple[Bucket, int]]:
        """Each bucket with what it is to give. Raises Refused where one of them cannot."""
        costs = {Unit.REQUESTS: requests, Unit.MESSAGES: messages, Unit.RECIPIENTS: recipients}
        buckets = self._buckets(principal, now)
        due = [(bucket, cost) for bucket in buckets if (cost := costs[bucket.limit.unit]) > 0]
        for bucket, cost in due:
            if cost > bucket.limit.burst:
                raise _too_much(principal, bucket.limit, cost)
        slowest = max(due, key=lambda pair: pair[0].wait_ns(now, pair[1]), default=None)
        if slowest is not None and (wait := slowest[0].wait_ns(now, slowest[1])):
            raise _too_soon(principal, slowest[0].limit, wait)
        return due

    def _buckets(self, principal: Principal, now: int) -> tuple[Bucket, ...]:
        """Those of a key, as large as its limits are now."""
        held = self._by_key.get(principal.name)
        if held is not None and tuple(bucket.limit for bucket in held) == principal.limits:
            return held
        if held is None and len(self._by_key) >= self._swept_at:
            self._forget_full(now)
        earlier = {(bucket.limit.unit, bucket.limit.period_s): bucket for bucket in held or ()}
        buckets = tuple(
            known.resized(limit, now) if (known := earlier.get((limit.unit, limit.period_s))) else Bucket(limit)
            for limit in principal.limits
        )
        self._by_key[principal.name] = buckets
        return buckets

    def _forget_full(self, now: int) -> None:
        self._by_key = {
            name: buckets
            for name, buckets in self._by_key.items()
            if not all(bucket.is_full(now) for bucket in buckets)
        }
        # Only when there are twice as many again: so looking costs each new key the same, however many there are.
        self._swept_at = max(_SWEPT_FROM, 2 * len(self._by_key))


class Buckets:
    """One limit for many subjects that anybody can name: client addresses, user names.

    At most `subjects` are known; of more, the one not heard of for longest is forgotten, and so starts full again.
    """

    def __init__(self, limit: Limit, clock: Clock, *, subjects: int = 10_000) -> None:
        self._limit = limit
        self._clock = clock
        self._most = subjects
        # By hash (keyed, 64 bits, new in each process): a subject may be long, and is nobody's to keep.
        self._buckets: OrderedDict[int, Bucket] = OrderedDict()

    def take(self, subject: str, cost: int = 1) -> float:
        """0.0 where it was taken, else the seconds to wait; infinite for more than the burst. Then nothing is taken."""
        if cost > self._limit.burst:
            return math.inf
        now = now_ns(self._clock)
        bucket = self._bucket(subject)
        wait = bucket.wait_ns(now, cost)
        if wait == 0:
            bucket.take(now, cost)
        return wait / _NS

    def give_back(self, subject: str, cost: int = 1) -> None:
        """What was taken before, in part or whole."""
        bucket = self._buckets.get(hash(subject))
        if bucket is not None:
            bucket.give_back(now_ns(self._clock), cost)

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, subject: str) -> Bucket:
        name = hash(subject)
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[name] = Bucket(self._limit)
        self._buckets.move_to_end(name)
        return bucket


def now_ns(clock: Clock) -> int:
    """What the times of buckets are."""
    return int(clock.monotonic() * _NS)


def _too_much(principal: Principal, limit: Limit, cost: int) -> Refused:
    text = (
        f"The key {principal.name} takes at most {_units(limit.burst, limit.unit)} at once, and here are {cost}: "
        "send them in several parts."
    )
    return Refused(Reason.VALIDATION_ERROR, text)


def _too_soon(principal: Principal, limit: Limit, wait_ns: int) -> Refused:
    wait_s = -(-wait_ns // _NS)
    rate = f"{_units(limit.count, limit.unit)} per {_PERIODS.get(limit.period_s, f'{limit.period_s} s')}"
    text = f"The key {principal.name} is limited to {rate}; try again in {wait_s} s."
    return Refused(Reason.RATE_LIMITED, text, retry_after_s=wait_s)


def _units(number: int, unit: Unit) -> str:
    return f"{number} {unit.value.removesuffix('s') if number == 1 else unit.value}"
