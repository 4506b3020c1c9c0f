"""How many connections a destination gets: the machine by table and by any sequence of events, and what is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import pacing
from gateway.delivery.pacing import RECOVERY, Outcome, Pace, Paces, Standing
from gateway.events import BounceClass, EventType, State
from gateway.store.queue import Attempt, Result

INITIAL, MAXIMUM = 5, 20


def result(
    reply: str,
    *,
    state: State = State.DEFERRED,
    host: str = "mx.test",
    stage: str = "rcpt",
    bounce_class: BounceClass | None = None,
) -> Result:
    event = EventType(state.value)
    return Result(1, 1, state, event, 1, "a@b.test", reply=reply, host=host, stage=stage, bounce_class=bounce_class)


def said(*results: Result) -> Outcome | None:
    return pacing.outcome([Attempt(1, b"", 1, "direct", 0, 0, results)])


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (result("250 2.0.0 ok", state=State.DELIVERED), Outcome.SENT),
        (result("captured", state=State.CAPTURED, host=""), Outcome.SENT),
        (result("421 too busy", stage="mail"), Outcome.SLOWED),
        (result("421 4.3.2 too many connections", stage="greeting"), Outcome.SLOWED),
        (result("450 4.7.1 rate exceeded"), Outcome.SLOWED),
        (result("451 4.7.500 server busy"), Outcome.SLOWED),
        (result("451 4.4.5 congestion", stage="dot"), Outcome.SLOWED),
        (result("451 Temporarily THROTTLED"), Outcome.SLOWED),
        (result("452 too many messages from you", stage="mail"), Outcome.SLOWED),
        (
            result("550 5.7.1 unusual rate", state=State.BOUNCED, bounce_class=BounceClass.REPUTATION_BLOCK),
            Outcome.SLOWED,
        ),
        (result("451 4.7.1 Greylisted, try again later"), Outcome.ANSWERED),
        (result("451 4.3.0 disk trouble"), Outcome.ANSWERED),
        (result("452 4.5.3 too many recipients"), Outcome.ANSWERED),
        (result("550 5.1.1 no such user", state=State.BOUNCED), Outcome.ANSWERED),
        (result("554 5.7.1 not at all", stage="greeting"), Outcome.SILENT),
        (result("no connection to mx.test within 30 s", stage="connect"), Outcome.SILENT),
        (result("no reply within 300 s", stage="mail"), Outcome.SILENT),
        (result("451 4.4.3 the DNS lookup of b.test failed", host="", stage="dns"), Outcome.SILENT),
        (result("550 5.7.1 suppressed", state=State.SUPPRESSED, host="", stage="suppression"), None),
    ],
)
def test_what_an_attempt_says_about_pace(one: Result, expected: Outcome | None) -> None:
    assert said(one) is expected
    assert said(one, one) is expected


def test_the_strongest_word_of_an_attempt_counts() -> None:
    sent = result("250 ok", state=State.DELIVERED)
    slower = result("421 4.7.0 slow down")
    silent = result("no reply", stage="data")
    assert said(sent, slower, silent) is Outcome.SLOWED
    assert said(silent, sent) is Outcome.SENT
    assert said() is None


def see(pace: Pace, *outcomes: Outcome) -> list[int]:
    """The width after each, of attempts that began after the one before was over."""
    widths = []
    for one in outcomes:
        pace.see(one, pace.era)
        widths.append(pace.width)
    return widths


SENT, SLOWED, SILENT, ANSWERED = Outcome.SENT, Outcome.SLOWED, Outcome.SILENT, Outcome.ANSWERED


@pytest.mark.parametrize(
    ("outcomes", "widths"),
    [
        ([SENT] * 17, [*range(6, 21), 20, 20]),  # to the maximum and no further
        ([SILENT] * 3, [5, 5, 5]),  # a dead host says nothing about pace
        ([ANSWERED] * 3, [5, 5, 5]),
        ([*[SENT] * 10, SILENT, SILENT, SENT], [*range(6, 16), 5, 5, 6]),  # after an outage it begins anew
        ([*[SLOWED] * 2, SILENT], [2, 1, 1]),
        ([SLOWED] * 4, [2, 1, 1, 1]),
        ([SENT, SENT, SENT, SLOWED], [6, 7, 8, 4]),
        ([SLOWED, *[SENT] * 20], [2] * 20 + [3]),  # ten deliveries for each connection
        ([SLOWED, *[SENT] * 50], [2] * 20 + [3] * 30 + [4]),
        ([SLOWED, *[SENT] * 19, SILENT, ANSWERED, SENT], [2] * 22 + [3]),
        ([SLOWED, *[SENT] * 19, SLOWED, *[SENT] * 10], [2] * 20 + [1] * 10 + [2]),  # a complaint begins it anew
    ],
)
def test_width_follows_what_is_said(outcomes: list[Outcome], widths: list[int]) -> None:
    assert see(Pace(INITIAL, MAXIMUM), *outcomes) == widths


def test_one_complaint_heard_on_every_connection_halves_once() -> None:
    pace = Pace(20, MAXIMUM)
    era = pace.era
    for _ in range(20):
        pace.see(SLOWED, era)
    assert pace.width == 10
    for _ in range(100):
        pace.see(SENT, era)  # these began before it, too
    assert pace.width == 10
    pace.see(SLOWED, pace.era)
    assert pace.width == 5


def test_back_at_the_maximum_it_is_as_if_it_had_never_been_slowed() -> None:
    pace = Pace(4, 4)
    see(pace, SLOWED, *[SENT] * (RECOVERY * (2 + 3)))
    assert (pace.width, pace.slowed) == (4, False)


@given(
    initial=st.integers(1, 20),
    more=st.integers(0, 30),
    events=st.lists(st.tuples(st.sampled_from(Outcome), st.integers(0, 3)), max_size=200),
)
def test_whatever_happens_the_bounds_hold(initial: int, more: int, events: list[tuple[Outcome, int]]) -> None:
    maximum = initial + more
    pace = Pace(initial, maximum)
    for one, ago in events:
        before, era = pace.width, pace.era
        pace.see(one, era - ago)
        assert 1 <= pace.width <= maximum
        assert 1 <= pace.ordinary <= pace.width
        assert pace.width - pace.ordinary >= (pace.width >= 3)
        if pace.width != before:
            assert ago == 0
            expected = {SLOWED: max(1, before // 2), SILENT: initial, SENT: before + 1}
            assert pace.width == expected[one]
        assert pace.standing is (Standing.SILENT if one is SILENT else Standing.GOOD)


@given(initial=st.integers(1, 20), more=st.integers(0, 30), deliveries=st.integers(0, 2000))
def test_recovery_is_slow_and_comes_to_its_end(initial: int, more: int, deliveries: int) -> None:
    pace = Pace(initial, initial + more)
    pace.see(SLOWED, pace.era)
    low = pace.width
    see(pace, *[SENT] * deliveries)
    # Each step takes RECOVERY deliveries for each connection there was.
    needed = [RECOVERY * sum(range(low, width)) for width in range(low, initial + more + 1)]
    assert pace.width == low + sum(1 for count in needed[1:] if deliveries >= count)


def test_a_slowed_destination_stays_slow_with_its_next_burst_and_another_begins_anew() -> None:
    paces = Paces(INITIAL, MAXIMUM)
    slow, fast = paces.take(1, 0.0), paces.take(2, 0.0)
    see(slow, SENT, SLOWED)
    see(fast, *[SENT] * 10)
    paces.rest(1, slow, 10.0)
    paces.rest(2, fast, 10.0)
    assert paces.take(1, 10.0 + pacing.KEPT_S - 1).width == 3
    assert paces.take(2, 11.0).width == INITIAL
    assert len(paces) == 0


def test_what_is_known_is_forgotten_after_a_while() -> None:
    paces = Paces(INITIAL, MAXIMUM)
    pace = paces.take(1, 0.0)
    see(pace, SLOWED)
    paces.rest(1, pace, 0.0)
    anew = paces.take(1, pacing.KEPT_S)
    assert (anew.width, anew.standing) == (INITIAL, Standing.NEW)


def test_what_is_kept_is_bounded_and_the_longest_at_rest_goes_first() -> None:
    paces = Paces(INITIAL, MAXIMUM, kept=3)
    for destination in (1, 2, 3, 1, 4):
        pace = paces.take(destination, 0.0)
        see(pace, SILENT)
        paces.rest(destination, pace, 0.0)
    assert len(paces) == 3
    assert [paces.standing(destination) for destination in (1, 2, 3, 4)] == [
        Standing.SILENT,
        Standing.NEW,
        Standing.SILENT,
        Standing.SILENT,
    ]
