"""Guesses are counted by address, and nobody else pays for them."""

import itertools

import pytest

from gateway.errors import Reason, Refused
from gateway.keyterms import Limit, Unit
from gateway.policy.guard import Guard
from gateway.runtime import Clock

LIMIT = Limit(Unit.REQUESTS, 10, 60, 10)
PEER = "192.0.2.7"
GOOD = "mgw_good" + "g" * 30  # what of a key is known by its first eight characters
WRONG = "mgw_wron"


class Watch:
    """A guard, the time it sees, and who asks it."""

    def __init__(self, limit: Limit = LIMIT, *, subjects: int = 10_000) -> None:
        self.now = 1000.0
        self.guard = Guard(limit, Clock(monotonic=lambda: self.now), subjects=subjects)
        self._texts = itertools.count()

    def guess(self, peer: str = PEER, login: str = "", text: str | None = None, *, begins: str = WRONG) -> bool:
        """Whether it is judged: and found wrong. Another text each time, unless one is given."""
        text = text or f"{begins}{next(self._texts):030}"
        try:
            self.guard.check(peer, login, text)
        except Refused:
            return False
        self.guard.failed(peer, login, text)
        return True

    def knock(self, peer: str = PEER, login: str = "", text: str = GOOD) -> bool:
        """Whether a good key is let in."""
        try:
            self.guard.check(peer, login, text)
        except Refused:
            return False
        self.guard.passed(peer, text)
        return True


@pytest.mark.parametrize("pace_s", [0.0, 0.01, 1.0, 5.9, 12.0])
def test_no_minute_has_more_than_ten(pace_s: float) -> None:
    watch = Watch()
    judged: list[float] = []
    for _ in range(1000):
        if watch.guess():
            judged.append(watch.now)
        watch.now += pace_s
    assert judged
    for start in judged:
        assert sum(start <= at < start + 60 for at in judged) <= 10


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_the_limit_is_never_exceeded_nor_much_too_small(count: int) -> None:
    watch = Watch(Limit(Unit.REQUESTS, count, 60, count))
    judged = 0
    for _ in range(6000):
        judged += watch.guess()
        watch.now += 0.01
    assert count / 2 <= judged <= count


def test_a_good_key_from_another_address_is_let_in_at_once() -> None:
    watch = Watch()
    assert sum(watch.guess(login="shop") for _ in range(1000)) <= 10
    assert watch.knock("192.0.2.8", "shop")
    assert not watch.knock(PEER, "shop")


def test_who_waits_as_long_as_it_was_told_is_judged() -> None:
    watch = Watch()
    while watch.guess():
        pass
    with pytest.raises(Refused, match="try again in 12 s") as refusal:
        watch.guard.check(PEER, "", "wrong")
    assert refusal.value.reason is Reason.THROTTLED
    watch.now += refusal.value.retry_after_s or 0
    assert watch.knock()


def test_good_keys_cost_nothing() -> None:
    watch = Watch()
    assert all(watch.knock(text=f"{number:08}{GOOD}") for number in range(1000))
    assert watch.guess()


def test_an_old_key_in_a_cron_job_does_not_stop_its_neighbours() -> None:
    watch = Watch()
    for second in range(1000):
        assert watch.guess(text="mgw_old" + "o" * 30), "it is told that its key is wrong, not to wait"
        assert watch.knock(text=f"{second:08}{GOOD}"), "a key that was never good from there before"
        watch.now += 1
    assert watch.guess()


@pytest.mark.parametrize("begins", [WRONG, "mgw_good"])
def test_one_text_counts_once_a_period(begins: str) -> None:
    watch = Watch()
    watch.knock()
    for _ in range(1000):
        assert watch.guess(text=begins + "o" * 30)
    assert sum(watch.guess(begins=begins) for _ in range(1000)) == 4
    watch.now += 3600
    for _ in range(5):
        assert watch.guess(text=begins + "o" * 30)
        watch.now += 60
    assert [watch.guess(begins=begins) for _ in range(6)] == [True] * 5 + [False]


def test_a_text_counts_again_under_another_name_and_from_another_address() -> None:
    watch = Watch()
    assert sum(watch.guess(login=f"name{number}", text=GOOD) for number in range(1000)) <= 10
    assert sum(watch.guess("192.0.2.8", text=GOOD) for _ in range(3)) == 3
    assert sum(watch.guess("192.0.2.8") for _ in range(1000)) == 4


def test_whether_a_failure_counted() -> None:
    guard = Watch().guard
    assert [guard.failed(PEER, "", text) for text in ("a", "a", "b", "a")] == [True, False, True, False]


def test_a_key_that_was_good_goes_on_whatever_fails_beside_it() -> None:
    watch = Watch()
    assert watch.knock()
    for _ in range(1000):
        watch.guess()
        assert watch.knock()
        watch.now += 1


def test_who_knows_how_a_good_key_begins_gets_no_more_guesses_at_it() -> None:
    watch = Watch()
    assert watch.knock()
    assert sum(watch.guess(begins="mgw_good") for _ in range(1000)) <= 10
    assert watch.knock(text="mgw_else" + GOOD)  # nor do they stop others


def test_a_name_is_nobodys_to_lock() -> None:
    watch = Watch()
    for number in range(500):
        for _ in range(20):
            watch.guess(f"198.51.100.{number}", "shop")
        assert watch.knock(f"203.0.113.{number}", "shop")


def test_a_name_that_many_addresses_failed_with_leaves_each_of_them_one_try() -> None:
    watch = Watch()
    for number in range(10):
        assert watch.guess(f"198.51.100.{number}", "shop")
    assert [watch.guess("203.0.113.1", "shop") for _ in range(3)] == [True, False, False]
    assert watch.guess("203.0.113.1", "crm")
    assert not watch.guess("198.51.100.1", "shop")
    watch.now += 61
    assert [watch.guess("203.0.113.1", "shop") for _ in range(3)] == [True, True, True]


def test_one_address_cannot_make_a_name_suspect() -> None:
    watch = Watch()
    for _ in range(1000):
        watch.guess(login="shop")
    assert [watch.guess("203.0.113.1", "shop") for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize(
    ("peers", "same"),
    [
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), True),
        (("2001:db8:1:2::1", "2001:db8:1:3::1"), False),
        (("192.0.2.7", "::ffff:192.0.2.7"), True),
        (("192.0.2.7", "192.0.2.8"), False),
        (("127.0.0.1", "127.0.0.2"), False),
        (("fe80::1%eth0", "fe80::2%eth0"), True),
        (("", ""), True),
        (("not:an:address", "not:an:other"), False),
    ],
)
def test_what_one_address_is(peers: tuple[str, str], same: bool) -> None:
    watch = Watch()
    while watch.guess(peers[0]):
        pass
    assert watch.guess(peers[1]) is not same


def test_memory_is_bounded() -> None:
    watch = Watch(subjects=100)
    for number in range(1000):
        watch.guess(f"198.51.100.{number}", f"name{number}")
        watch.knock(f"203.0.113.{number}", f"name{number}", f"{number:08}{GOOD}")
    guard = watch.guard
    for kept in (guard._places, guard._pairs, guard._names, guard._named, guard._texts, guard._good):
        assert len(kept) <= 100
        assert len(kept) > 0 or kept is guard._pairs
    kept_of_it = [vars(kept) for kept in (guard._places, guard._texts, guard._named, guard._names)]
    for word in ("203.0.113.999", "198.51.100.999", "name999", WRONG, GOOD):
        assert word not in f"{kept_of_it} {guard._good}"
