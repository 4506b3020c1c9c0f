"""Token buckets: never more than burst and rate allow, a refusal takes nothing, and who waits as told gets in."""

import math
import sys
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Reason, Refused
from gateway.keyterms import Limit, Unit
from gateway.policy.auth import Principal
from gateway.policy.limits import Allowance, Buckets, Limiter
from gateway.runtime import Clock

TICK = 2**-9  # seconds: a whole number of nanoseconds, and exact as a float


@dataclass
class Bench:
    """A limiter and the time it sees."""

    now: float = 1000.0

    def __post_init__(self) -> None:
        self.clock = Clock(monotonic=lambda: self.now)
        self.limiter = Limiter(self.clock)

    def takes(self, principal: Principal, **costs: int) -> int | None:
        """None where it was taken, else the seconds to wait."""
        try:
            self.limiter.take(principal, **costs)
        except Refused as refusal:
            if refusal.reason is not Reason.RATE_LIMITED:
                raise
            return refusal.retry_after_s or -1
        return None

    def remaining(self, principal: Principal) -> list[int]:
        return [allowance.remaining for allowance in self.limiter.allowances(principal)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def key(*limits: Limit, name: str = "shop") -> Principal:
    return Principal(name, "acme", None, (), frozenset({"send"}), None, None, limits=limits)


def recipients(count: int, period_s: int = 60, burst: int | None = None) -> Limit:
    return Limit(Unit.RECIPIENTS, count, period_s, count if burst is None else burst)


def test_a_key_without_limits_is_not_counted(bench: Bench) -> None:
    free = key()
    bench.limiter.take(free, requests=10**9, messages=10**9, recipients=10**9)
    bench.limiter.check(free)
    bench.limiter.give_back(free, recipients=1)
    assert bench.limiter.allowances(free) == ()
    assert not bench.limiter._by_key


def test_the_burst_then_the_rate(bench: Bench) -> None:
    shop = key(recipients(60, burst=100))
    assert bench.takes(shop, recipients=100) is None
    assert bench.takes(shop, recipients=1) == 1
    bench.now += 1
    assert bench.takes(shop, recipients=1) is None
    assert bench.takes(shop, recipients=50) == 50
    bench.now += 3600  # no more than the burst
    assert bench.remaining(shop) == [100]


def test_a_unit_is_there_when_it_is_whole(bench: Bench) -> None:
    bench.now = 0.0
    shop = key(recipients(3, 1, burst=1))
    bench.limiter.take(shop, recipients=1)
    bench.now = 0.3333333335  # a third of a second is 333333333.3 ns
    assert bench.remaining(shop) == [0]
    assert bench.takes(shop, recipients=1) == 1
    bench.now = 0.3333333345
    assert bench.remaining(shop) == [1]
    assert bench.takes(shop, recipients=1) is None


def test_a_refusal_says_what_the_limit_is_and_when_to_come_again(bench: Bench) -> None:
    shop = key(Limit(Unit.REQUESTS, 1, 3600, 1))
    bench.limiter.take(shop, requests=1)
    bench.now += 0.5
    with pytest.raises(Refused) as refusal:
        bench.limiter.take(shop, requests=1)
    assert refusal.value.text == "The key shop is limited to 1 request per hour; try again in 3600 s."
    assert refusal.value.retry_after_s == 3600  # 3599.5, rounded up
    assert refusal.value.reason is Reason.RATE_LIMITED


def test_all_limits_or_none(bench: Bench) -> None:
    shop = key(Limit(Unit.MESSAGES, 10, 1, 10), recipients(100), recipients(150, 86_400))
    bench.limiter.take(shop, messages=4, recipients=90)
    assert bench.takes(shop, messages=1, recipients=20) == 6
    assert bench.remaining(shop) == [6, 10, 60]
    bench.now += 60
    assert bench.takes(shop, messages=1, recipients=61) == 516  # the slowest says when: 150 a day is one in 576 s
    assert bench.remaining(shop) == [10, 100, 60]


def test_what_costs_nothing_is_never_refused(bench: Bench) -> None:
    shop = key(Limit(Unit.REQUESTS, 1, 86_400, 1), recipients(5))
    bench.limiter.take(shop, requests=1)
    bench.limiter.take(shop, messages=7, recipients=5)
    bench.limiter.take(shop)


def test_what_can_never_fit_is_said_so_and_takes_nothing(bench: Bench) -> None:
    shop = key(Limit(Unit.MESSAGES, 1, 60, 1), recipients(10, burst=20))
    bench.limiter.take(shop, messages=1)  # the other limit is empty: that is not why
    with pytest.raises(Refused) as refusal:
        bench.limiter.take(shop, messages=1, recipients=21)
    assert refusal.value.reason is Reason.VALIDATION_ERROR
    assert refusal.value.retry_after_s is None
    assert "at most 20 recipients at once, and here are 21" in refusal.value.text
    assert bench.remaining(shop) == [0, 20]


def test_a_check_takes_nothing_and_asks_for_one_message_to_one_recipient(bench: Bench) -> None:
    shop = key(Limit(Unit.REQUESTS, 1, 60, 1), Limit(Unit.MESSAGES, 5, 60, 5), recipients(2))
    for _ in range(10):
        bench.limiter.check(shop)
    bench.limiter.take(shop, requests=1)
    bench.limiter.check(shop)  # requests are HTTP's
    bench.limiter.take(shop, messages=1, recipients=2)
    with pytest.raises(Refused) as refusal:
        bench.limiter.check(shop)
    assert refusal.value.reason is Reason.RATE_LIMITED
    assert refusal.value.retry_after_s == 30
    assert refusal.value.smtp_reply.startswith("450 4.7.1 The key shop is limited to 2 recipients per minute")


def test_a_replay_gives_back(bench: Bench) -> None:
    shop = key(Limit(Unit.MESSAGES, 10, 60, 10), recipients(10))
    bench.limiter.take(shop, messages=1, recipients=10)
    bench.limiter.give_back(shop, messages=1, recipients=10)
    assert bench.remaining(shop) == [10, 10]
    bench.limiter.give_back(shop, messages=5, recipients=5)  # and never more than the burst
    assert bench.remaining(shop) == [10, 10]


def test_allowances(bench: Bench) -> None:
    shop = key(recipients(100, burst=200), Limit(Unit.REQUESTS, 3, 1, 3))
    bench.limiter.take(shop, recipients=150)
    bench.now += 0.25
    assert bench.limiter.allowances(shop) == (
        Allowance(Unit.RECIPIENTS, 100, 60, 200, remaining=50, reset_s=90),
        Allowance(Unit.REQUESTS, 3, 1, 3, remaining=3, reset_s=0),
    )


def test_keys_do_not_share(bench: Bench) -> None:
    limit = recipients(1)
    assert bench.takes(key(limit), recipients=1) is None
    assert bench.takes(key(limit, name="crm"), recipients=1) is None
    assert bench.takes(key(limit), recipients=1) == 60


def test_a_changed_limit_keeps_what_was_taken(bench: Bench) -> None:
    bench.limiter.take(key(recipients(100)), recipients=70)
    assert bench.remaining(key(recipients(200))) == [130]
    assert bench.remaining(key(recipients(50))) == [0]  # and no more is missing than the bucket holds
    bench.now += 60
    assert bench.remaining(key(recipients(50), Limit(Unit.MESSAGES, 5, 1, 5))) == [50, 5]
    assert bench.remaining(key(recipients(50, 86_400))) == [50]


def test_a_limit_that_comes_and_goes(bench: Bench) -> None:
    bench.limiter.take(key(recipients(10)), recipients=10)
    assert bench.takes(key(), recipients=10**6) is None
    assert bench.takes(key(recipients(10)), recipients=1) == 6


def test_memory_follows_the_keys_in_use(bench: Bench) -> None:
    """A full bucket is no more than none."""
    for number in range(20_000):
        bench.limiter.take(key(recipients(10, 1), name=f"key-{number}"), recipients=1)
        bench.now += TICK
    assert len(bench.limiter._by_key) <= 1100
    busy = key(recipients(1, 86_400), name="busy")
    bench.limiter.take(busy, recipients=1)
    for number in range(5000):
        bench.limiter.take(key(recipients(10, 1), name=f"more-{number}"), recipients=1)
        bench.now += TICK
    assert bench.remaining(busy) == [0]


LIMITS = st.builds(
    Limit,
    st.just(Unit.RECIPIENTS),
    st.integers(1, 50),
    st.sampled_from([1, 60, 3600]),
    st.integers(1, 60),
)
STEPS = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(1, 30), st.booleans()),  # ticks to wait, cost, and is it given back?
    max_size=40,
)


@given(LIMITS, STEPS)
def test_no_window_lets_through_more_than_burst_and_rate(limit: Limit, steps: list[tuple[int, int, bool]]) -> None:
    bench, shop = Bench(), key(limit)
    rate = Fraction(limit.count, limit.period_s)
    taken: list[tuple[Fraction, int]] = []
    for ticks, cost, _ in steps:
        bench.now += ticks * TICK
        before = bench.limiter.allowances(shop)
        try:
            bench.limiter.take(shop, recipients=cost)
        except Refused:
            assert bench.limiter.allowances(shop) == before
            assert before[0].remaining < cost
        else:
            assert before[0].remaining >= cost
            taken.append((Fraction(bench.now), cost))
        assert 0 <= bench.remaining(shop)[0] <= limit.burst
    for first, (start, _) in enumerate(taken):
        total = 0
        for at, cost in taken[first:]:
            total += cost
            assert total <= limit.burst + rate * (at - start)


@given(LIMITS, STEPS)
def test_giving_back_never_makes_more(limit: Limit, steps: list[tuple[int, int, bool]]) -> None:
    """What is kept of it, over all the time, is within burst and rate."""
    bench, shop = Bench(), key(limit)
    kept = 0
    for ticks, cost, given_back in steps:
        bench.now += ticks * TICK
        if cost > limit.burst or bench.takes(shop, recipients=cost) is not None:
            continue
        if given_back:
            bench.limiter.give_back(shop, recipients=cost)
        else:
            kept += cost
        assert 0 <= bench.remaining(shop)[0] <= limit.burst
    assert kept <= limit.burst + Fraction(limit.count, limit.period_s) * Fraction(bench.now - 1000)


@given(LIMITS, STEPS, st.integers(1, 60))
def test_who_waits_as_told_gets_in_and_not_a_second_earlier(
    limit: Limit, steps: list[tuple[int, int, bool]], cost: int
) -> None:
    bench, shop = Bench(), key(limit)
    for ticks, some, _ in steps:
        bench.now += ticks * TICK
        bench.takes(shop, recipients=min(some, limit.burst))
    wait_s = bench.takes(shop, recipients=min(cost, limit.burst))
    if wait_s is None:
        return
    assert wait_s >= 1
    bench.now += wait_s - 1
    assert wait_s == 1 or bench.takes(shop, recipients=min(cost, limit.burst)) == 1
    bench.now += 1
    assert bench.takes(shop, recipients=min(cost, limit.burst)) is None


@given(LIMITS, STEPS)
def test_after_the_reset_all_of_it_is_there(limit: Limit, steps: list[tuple[int, int, bool]]) -> None:
    bench, shop = Bench(), key(limit)
    for ticks, cost, _ in steps:
        bench.now += ticks * TICK
        bench.takes(shop, recipients=min(cost, limit.burst))
    bench.now += bench.limiter.allowances(shop)[0].reset_s
    assert bench.remaining(shop) == [limit.burst]


@given(LIMITS, LIMITS, st.integers(1, 60))
def test_a_resized_bucket_is_within_its_new_size(old: Limit, new: Limit, cost: int) -> None:
    bench = Bench()
    bench.limiter.take(key(old), recipients=min(cost, old.burst))
    (left,) = bench.remaining(key(replace(new, period_s=old.period_s)))
    assert left == max(0, new.burst - min(cost, old.burst))


# Subjects that anybody can name


@pytest.fixture
def guests(bench: Bench) -> Buckets:
    return Buckets(Limit(Unit.MESSAGES, 60, 60, 10), bench.clock, subjects=100)


def test_each_subject_has_its_own(bench: Bench, guests: Buckets) -> None:
    assert [guests.take("192.0.2.1") for _ in range(10)] == [0.0] * 10
    assert guests.take("192.0.2.1") == 1.0
    assert guests.take("192.0.2.2", 10) == 0.0
    bench.now += 0.75
    assert guests.take("192.0.2.1") == 0.25
    bench.now += 0.25
    assert guests.take("192.0.2.1") == 0.0


def test_a_refusal_takes_nothing_of_a_subject(bench: Bench, guests: Buckets) -> None:
    assert guests.take("a", 8) == 0.0
    assert [guests.take("a", 4) for _ in range(5)] == [2.0] * 5
    assert guests.take("a", 11) == math.inf
    assert guests.take("a", 2) == 0.0


def test_a_subject_gets_back(guests: Buckets) -> None:
    assert guests.take("a", 10) == 0.0
    guests.give_back("a", 4)
    assert guests.take("a", 4) == 0.0
    guests.give_back("a", 1000)
    assert guests.take("a", 10) == 0.0
    assert guests.take("a", 1) > 0
    guests.give_back("nobody", 5)
    assert len(guests) == 1


def test_no_more_subjects_than_said_and_the_oldest_is_forgotten(guests: Buckets) -> None:
    assert guests.take("busy", 10) == 0.0
    for number in range(1000):
        guests.take(f"198.51.100.{number}")
        assert guests.take("busy") > 0  # heard of all the time, so it is not
        assert len(guests) <= 100
    assert guests.take("198.51.100.0", 10) == 0.0  # forgotten: it starts full


def test_a_long_subject_is_not_kept(guests: Buckets) -> None:
    name = "x" * 1_000_000
    references = sys.getrefcount(name)
    guests.take(name)
    assert sys.getrefcount(name) == references
    assert "x" not in repr(list(guests._buckets))


@given(LIMITS, STEPS)
def test_subjects_are_within_burst_and_rate(limit: Limit, steps: list[tuple[int, int, bool]]) -> None:
    bench = Bench()
    guests = Buckets(limit, bench.clock, subjects=2)
    taken = 0
    for ticks, cost, given_back in steps:
        bench.now += ticks * TICK
        wait_s = guests.take("a", cost)
        assert wait_s >= 0
        if wait_s == 0:
            taken += cost
            if given_back:
                guests.give_back("a", cost)
                taken -= cost
    assert taken <= limit.burst + Fraction(limit.count, limit.period_s) * Fraction(bench.now - 1000)
