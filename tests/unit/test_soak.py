"""What passes a soak: a daemon that took the mail, lost none and did not grow."""

from dataclasses import replace

from benchmarks.soak import Minute, judge

STEADY = Minute(
    minute=0,
    rss_mb=60.0,
    fds=60,
    threads=8,
    tasks=60,
    wal_mb=4.0,
    db_mb=100.0,
    queued=300,
    accepted=1000,
    delivered=1000,
    p99_ms=20.0,
    lag_ms=10,
)
MINUTES = [replace(STEADY, minute=minute) for minute in range(1, 13)]


def test_a_steady_daemon_passes() -> None:
    assert judge(MINUTES, missing=0, twice=0, failed=12) == []


def test_one_that_takes_no_mail_does_not() -> None:
    idle = [replace(minute, accepted=0, delivered=0) for minute in MINUTES]
    assert len(judge(idle, missing=0, twice=0, failed=0)) == len(MINUTES)
    assert "mail is not accepted" in judge(idle, missing=0, twice=0, failed=12_000)
    assert judge(MINUTES, missing=0, twice=0, failed=13) == ["mail is not accepted"]
    pause = [*MINUTES[:5], idle[5], *MINUTES[6:]]
    assert judge(pause, missing=0, twice=0, failed=0) == ["nothing was accepted in minute 6"]


def test_one_that_grows_or_loses_does_not() -> None:
    worse = replace(STEADY, minute=13, rss_mb=70.0, fds=90, threads=20, tasks=90, wal_mb=70.0)
    assert judge([*MINUTES, worse, worse], missing=1, twice=0, failed=0) == [
        "fds grow",
        "threads grow",
        "tasks grow",
        "memory grows",
        "the log grows",
        "mail is lost or repeated",
    ]
