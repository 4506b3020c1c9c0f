"""What is remembered of destinations where nobody was reached, and of those that somebody talks with."""

from gateway.delivery.unreachable import LONGEST_S, UNREACHABLE_S, Unreachable, is_door_shut
from gateway.delivery.verdict import Word

PLACE = ("direct", "example.test", 0)
SILENCE = Word("connect", 0, "", "no connection")
STEPS = [60.0, 300.0, 900.0]


def pauses(*failures: float, retry_s: list[float] = STEPS) -> list[float]:
    """How long nobody is asked after failures at those times."""
    made = Unreachable()
    found = []
    for at in failures:
        made.remember(PLACE, SILENCE, at, retry_s)
        told = made.told(PLACE, at)
        assert told is not None
        found.append(told.until - at)
    return found


def test_the_pause_grows_while_nobody_is_reached() -> None:
    assert pauses(0, 31, 100, 250, 400) == [UNREACHABLE_S, 60, LONGEST_S, LONGEST_S, LONGEST_S]


def test_a_failure_long_after_the_last_one_is_the_first() -> None:
    assert pauses(0, 31, 1000) == [30, 60, 30]


def test_the_pause_is_no_longer_than_the_schedule() -> None:
    assert pauses(0, 2, 4, retry_s=[1.0]) == [1, 1, 1]
    assert pauses(0, 11, 60, retry_s=[10.0, 45.0]) == [10, 45, 45]


def test_the_same_failure_heard_of_by_several_is_one() -> None:
    assert pauses(0, 1, 2) == [30, 29, 28]


def test_whoever_is_reached_is_forgotten() -> None:
    made = Unreachable()
    made.remember(PLACE, SILENCE, 0, STEPS)
    made.forget(PLACE)
    assert made.told(PLACE, 1) is None
    made.remember(PLACE, SILENCE, 31, STEPS)
    assert made.told(PLACE, 31 + UNREACHABLE_S - 0.1) is not None
    assert made.told(PLACE, 31 + UNREACHABLE_S) is None


def test_what_is_remembered_is_bounded() -> None:
    made = Unreachable()
    for number in range(10_001):
        made.remember(("direct", f"d{number}.test", 0), SILENCE, 0, STEPS)
    assert made.told(("direct", "d0.test", 0), 1) is None
    assert made.told(("direct", "d1.test", 0), 1) is not None


def test_a_lane_talks_until_its_last_worker_hung_up() -> None:
    made = Unreachable()
    made.connected((1, "a.test"))
    made.connected((1, "a.test"))
    made.hung_up((1, "a.test"))
    assert made.is_talking((1, "a.test"))
    assert not made.is_talking((2, "a.test"))
    made.hung_up((1, "a.test"))
    assert not made.is_talking((1, "a.test"))


def test_what_a_further_connection_may_be_refused_with() -> None:
    assert is_door_shut(SILENCE)
    assert is_door_shut(Word("greeting", 554, "", "554 too many"))
    assert is_door_shut(Word("ehlo", 421, "", "421 too many"))
    assert not is_door_shut(Word("starttls", 0, "4.7.4", "no STARTTLS"))
