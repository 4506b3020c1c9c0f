"""The clock by which mail is too old, and what a step of the wall clock does to it (A15)."""

import logging
from dataclasses import dataclass

import pytest

from gateway.delivery.lifetime import HELD_S, STEP_MS, Lifetime
from gateway.runtime import Clock

START_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


@dataclass(slots=True)
class Watch:
    """Time passes on both clocks; the wall clock is set besides."""

    passed_ms: int = 0
    set_by_ms: int = 0

    def clock(self) -> Clock:
        return Clock(
            now_ms=lambda: START_MS + self.passed_ms + self.set_by_ms, monotonic=lambda: 5.0 + self.passed_ms / 1000
        )


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_without_a_step_it_is_the_wall_clock(watch: Watch) -> None:
    life = Lifetime(watch.clock())
    for hours in range(200):
        watch.passed_ms = hours * HOUR_MS
        assert life.now_ms() == START_MS + hours * HOUR_MS
        assert life.end_of(7) == 7


@pytest.mark.parametrize("step_ms", [2 * HOUR_MS, YEAR_MS])
def test_a_step_forward_is_believed_after_four_hours(
    step_ms: int, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    life = Lifetime(watch.clock())
    watch.set_by_ms = step_ms
    assert life.now_ms() == START_MS
    assert life.end_of(START_MS) == START_MS + step_ms
    watch.passed_ms = int(HELD_S * 1000) - 1
    assert life.now_ms() == START_MS + watch.passed_ms
    watch.passed_ms += 1
    assert life.now_ms() == START_MS + step_ms + watch.passed_ms
    assert life.end_of(7) == 7
    assert f"set forward by {step_ms / HOUR_MS:.1f} h" in caplog.text
    assert caplog.text.count("believed from now on") == 1


def test_a_step_back_that_undoes_it_ends_it(watch: Watch) -> None:
    life = Lifetime(watch.clock())
    watch.set_by_ms = YEAR_MS
    assert life.now_ms() == START_MS
    watch.set_by_ms = 0
    assert life.now_ms() == START_MS
    assert life.end_of(7) == 7


def test_a_step_back_alone_is_the_wall_clock_and_said(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    life = Lifetime(watch.clock())
    watch.set_by_ms = -24 * HOUR_MS
    assert life.now_ms() == START_MS - 24 * HOUR_MS
    assert "set back by 24.0 h" in caplog.text


def test_steps_add_up(watch: Watch) -> None:
    life = Lifetime(watch.clock())
    for count in range(1, 4):
        watch.set_by_ms = count * HOUR_MS
        assert life.now_ms() == START_MS
    watch.set_by_ms = 2 * HOUR_MS
    assert life.now_ms() == START_MS


def test_a_clock_that_is_corrected_a_little_is_believed(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    life = Lifetime(watch.clock())
    for _ in range(100):
        watch.set_by_ms += STEP_MS - 1
        assert life.now_ms() == START_MS + watch.set_by_ms
    assert caplog.text == ""
