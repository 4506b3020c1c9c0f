"""Times and durations as clients write them."""

import pytest

from gateway.message import schedule
from gateway.message.schedule import Start


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("2026-11-21T08:30:00Z", Start(at=1_795_249_800_000)),
        ("2026-11-21t09:30:00.250+01:00", Start(at=1_795_249_800_250)),
        (" 2026-11-21 08:30:00Z ", Start(at=1_795_249_800_000)),
        ("1969-12-31T23:59:59Z", Start(at=-1000)),
        ("in 10m", Start(delay_s=600)),
        ("In 1.5h", Start(delay_s=5400)),
        ("in 365d", Start(delay_s=schedule.LATEST_S)),
    ],
)
def test_when_a_message_is_sent(text: str, start: Start) -> None:
    assert schedule.start(text) == start


NO_TIMES = """
tomorrow|2026-11-21|2026-11-21T08:30:00|2026-02-30T00:00:00Z|2026-11-21T08:30:60Z|in|in 10|in 366d|in -5m
20261121T083000Z|2026-11-21T08:30:00+25:00|0000-01-01T00:00:00Z
"""


@pytest.mark.parametrize("text", NO_TIMES.replace("\n", "|").split("|"))
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|is not a time"):
        schedule.start(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("4h", 14_400), ("5d", 432_000), ("500ms", 0.5), ("1.5m", 90)]
)
def test_durations(text: str, seconds: float) -> None:
    assert schedule.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "1 h", "1w", "-1s", "1e3s", "1.2345s", "١s", "9999999999s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="number and its unit"):
        schedule.duration(text)


@pytest.mark.parametrize("text", ["500ms", "31d", "0s"])
def test_how_long_delivery_can_be_tried(text: str) -> None:
    with pytest.raises(ValueError, match="between 1s and 30d"):
        schedule.ttl(text)
