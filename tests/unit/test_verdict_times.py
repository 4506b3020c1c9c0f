"""When the next attempt is: what hosts ask for, greylists, bounds."""

import time

import pytest

from gateway.delivery import hints
from gateway.delivery.verdict import Word, judge

NOW = 1_800_000_000_000
RETRY_S = (60, 300, 900, 1800, 3600, 7200, 14400)
DAYS_5_MS = 432_000_000


def pause_s(
    text: str, *, code: int = 451, stage: str = "rcpt", tries: int = 1, jitter: float = 0, left_ms: int = DAYS_5_MS
) -> float:
    said = Word(stage, code, "", text)
    decision = judge(said, tries=tries, expires_at=NOW + left_ms, now=NOW, retry_s=RETRY_S, jitter=jitter)
    return (decision.next_at - NOW) / 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted for 300 seconds", 300),  # Postgrey
        ("450 4.2.0 Greylisted, see http://postgrey.example/help.html or wait 240 seconds", 240),
        ("451 4.7.1 Greylisting in action, please come back in 00:05:00", 300),  # milter-greylist
        ("451 try again in 5 minutes", 300),
        ("450 retry in 00:04:32", 272),
        ("451 please try later, in 15 min", 900),
        ("421 retry after 600s", 600),
        ("451 Try again in about 1 hour", 3600),
        ("451 Please try again in 2 hours and 30 minutes", 9000),
        ("451 wait 1 min 30 s", 90),
        ("450 GRAYLISTED FOR 90 SECS", 90),
        ("450 greylisting: try again after 10 minute(s)", 600),
        ("451 delayed for 2h", 7200),
        ("450 retry-after: 120 sec", 120),
        ("451 try again later", None),
        ("451 try again", None),
        ("451 4.7.1 try again later", None),
        ("452 retry: 10 messages in 60 minutes are too many", None),  # the time belongs to another matter
        ("451 you sent too many messages in 60 minutes", None),
        ("451 retry in 300", None),  # of what?
        ("451 try again. Our clock says 12:00:00", None),
        ("451 deferred due to user complaints - 4.16.55.1", None),
        ("451 try again in \u0665 minutes", None),
        ("", None),
    ],
)
def test_time_in_a_text(text: str, seconds: int | None) -> None:
    assert hints.wait_s(text) == seconds


def test_a_time_asked_for_is_kept_and_jitter_only_adds() -> None:
    assert pause_s("try again in 5 minutes") == 300
    assert pause_s("try again in 5 minutes", jitter=0.5) == 315
    assert 300 <= pause_s("try again in 5 minutes", jitter=0.999999) <= 330


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
def test_at_every_stage(stage: str) -> None:
    assert pause_s("421 try again in 20 minutes", code=421, stage=stage) == 1200


def test_bounds_of_what_a_host_may_ask() -> None:
    assert pause_s("retry in 0 seconds") == 30
    assert pause_s("retry in 1 s") == 30
    assert pause_s("retry in 999999999 days") == 4 * 3600
    assert pause_s("retry in 4 hours", jitter=0.9) == 4 * 3600
    assert pause_s("retry in 4 hours", left_ms=60_000) == 60


def test_a_host_that_asks_for_ever_is_believed_for_a_few_tries() -> None:
    assert pause_s("retry in 30 seconds", tries=5, jitter=0.5) == 31.5
    assert pause_s("retry in 30 seconds", tries=6, jitter=0.5) == 7200
    assert pause_s("retry in 3 hours", tries=6) == 3 * 3600


@pytest.mark.parametrize("code", [0, 354, 550, 552, 554])
def test_only_a_temporary_reply_sets_a_time(code: int) -> None:
    stage = "rcpt" if code == 552 else "greeting"
    assert pause_s("try again in 3 hours", code=code, stage=stage) == 48
    assert pause_s("greylisted", code=code, stage=stage, tries=4) == 1440


@pytest.mark.parametrize(
    ("tries", "seconds"), [(1, 60), (2, 300), (3, 300), (4, 300), (5, 300), (6, 1800), (7, 1800), (90, 1800)]
)
def test_a_greylist_without_a_time_is_asked_often_at_first(tries: int, seconds: int) -> None:
    assert pause_s("450 4.2.0 Greylisted", tries=tries) == seconds
    assert seconds <= pause_s("450 4.7.1 Greylisting in action", tries=tries, jitter=0.99) <= seconds * 1.1


def test_a_greylist_of_a_quarter_of_an_hour_is_passed_soon_after() -> None:
    waited_s, tries = 0.0, 0
    while waited_s < 15 * 60:
        tries += 1
        waited_s += pause_s("451 4.7.1 graylisted", tries=tries, jitter=0.5)
    assert tries <= 5
    assert waited_s < 20 * 60


@pytest.mark.parametrize("text", ["Greylisted", "graylisted", "grey listed", "Greylisting in action", "GREY-LISTING"])
def test_greylisting_is_recognised(text: str) -> None:
    assert hints.greylisted(text)
    assert not hints.greylisted(text.replace("list", "hound").replace("LIST", "HOUND"))


@pytest.mark.parametrize(
    "text", ["try again " * 500_000, "try " + "9" * 5_000_000, "wait" * 1_000_000, "try" + " " * 5_000_000]
)
def test_a_hostile_text_costs_nothing(text: str) -> None:
    started = time.process_time()
    pause_s(text)
    assert time.process_time() - started < 0.5


def test_a_time_behind_the_bound_is_not_read() -> None:
    assert hints.wait_s("x" * hints.MAX_READ + " try again in 5 minutes") is None
