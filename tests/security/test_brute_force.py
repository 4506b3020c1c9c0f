"""Who guesses keys is not listened to (S2): a thousand bad logins from one address, at both doors together.

An attempt that was judged is one that is told it was wrong (401, 535); the log tells each of them, too.
"""

import base64
import http.client
import itertools
import smtplib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import SECRET, Daemon, broken_twin
from tests.peers.process import wait_until

pytestmark = pytest.mark.slow

ATTEMPTS = 1000
MOST = 10  # judged in a minute: the default of limits.auth_failures
JUDGED, THROTTLED, GOOD = {401, 535}, {429, 421}, {200, 235}
GUESSER, ELSEWHERE = "127.0.0.1", "127.0.0.2"
OTHER = "other-key-of-thirty-characters"
SETTINGS = {"routes": {"here": {"type": "capture"}}, "default_route": "here"}

# A guard of its own for each door: a guesser has twice the guesses.
APART = """

_both = SmtpDoor.__init__


def _alone(self, keys, intake, clock, log, *, guard=None, **more):
    _both(self, keys, intake, clock, log, **more)


SmtpDoor.__init__ = _alone
"""


def by_http(daemon: Daemon, secret: str, source: str = GUESSER) -> int:
    """The status of a request with this key; who is to wait is told for how long."""
    client = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30, source_address=(source, 0))
    try:
        client.request("GET", "/api/v1/me", headers={"Authorization": f"Bearer {secret}"})
        response = client.getresponse()
        response.read()
        assert response.status != 429 or 1 <= int(response.headers["Retry-After"]) <= 60
        return response.status
    finally:
        client.close()


def by_smtp(daemon: Daemon, secret: str, source: str = GUESSER) -> int:
    """The reply to AUTH with this key as password."""
    with smtplib.SMTP(
        "127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30, source_address=(source, 0)
    ) as client:
        client.ehlo()
        return client.docmd("AUTH PLAIN " + base64.b64encode(f"\0client\0{secret}".encode()).decode())[0]


def wrong_keys(begin: str = "guess-of-many-characters") -> Iterator[str]:
    """No two alike."""
    return (f"{begin}{number:06}" for number in itertools.count())


def attack(daemon: Daemon, keys: Iterator[str]) -> Counter[int]:
    """What a thousand guesses are answered, by both doors in turn; all within a minute."""
    started = time.monotonic()
    answers = Counter(door(daemon, next(keys)) for _ in range(ATTEMPTS // 2) for door in (by_http, by_smtp))
    assert time.monotonic() - started < 60, "this machine is too slow for a count by the minute"
    return answers


def count(answers: Counter[int], codes: set[int]) -> int:
    return sum(answers[code] for code in codes)


def refusals(daemon: Daemon, why: str = "") -> int:
    """How many the log tells."""
    return sum(" refused " in line and why in line for line in daemon.log.read_text().splitlines())


def test_a_thousand_bad_logins_from_one_address(tmp_path: Path) -> None:
    with Daemon(tmp_path / "gw", SETTINGS) as daemon:
        daemon.cli("key", "create", "other", "--secret-stdin", stdin=OTHER)
        assert by_http(daemon, SECRET) in GOOD
        answers = attack(daemon, wrong_keys())
        assert 1 <= count(answers, JUDGED) <= MOST
        assert count(answers, JUDGED) + count(answers, THROTTLED) == ATTEMPTS
        wait_until(lambda: refusals(daemon, "no key has this text") == count(answers, JUDGED), "each is in the log")
        assert refusals(daemon) <= MOST + 10  # and the log is not full of the rest
        for door in (by_http, by_smtp):
            # A key that was good from that address before goes on; one that nobody knows there waits.
            assert door(daemon, SECRET) in GOOD
            assert door(daemon, OTHER) in THROTTLED
            started = time.monotonic()
            assert door(daemon, OTHER, ELSEWHERE) in GOOD
            assert time.monotonic() - started < 5  # nobody there waits for the guesser
        assert daemon.stop() == 0


def test_who_knows_how_a_good_key_begins(tmp_path: Path) -> None:
    with Daemon(tmp_path / "gw", SETTINGS) as daemon:
        assert by_smtp(daemon, SECRET) in GOOD
        assert 1 <= count(attack(daemon, wrong_keys(SECRET[:-6])), JUDGED) <= MOST
        assert by_smtp(daemon, SECRET, ELSEWHERE) in GOOD


def test_guesses_at_one_door_are_throttled_at_the_other(tmp_path: Path) -> None:
    with Daemon(tmp_path / "gw", SETTINGS) as daemon:
        assert _throttled_at_once_by_smtp(daemon)


def test_an_old_key_that_is_tried_every_moment_stops_nobody(tmp_path: Path) -> None:
    with Daemon(tmp_path / "gw", SETTINGS) as daemon:
        for door in (by_http, by_smtp) * 50:
            assert door(daemon, OTHER) in JUDGED
        assert by_smtp(daemon, SECRET) in GOOD


def test_doors_that_count_apart_are_seen(tmp_path: Path) -> None:
    twin = broken_twin(tmp_path / "twin", "doors.py", "a guess at one", "a guess at one", more=APART)
    with Daemon(tmp_path / "gw", SETTINGS, source=twin) as daemon:
        assert not _throttled_at_once_by_smtp(daemon)


def test_a_guard_that_lets_all_in_is_seen(tmp_path: Path) -> None:
    twin = broken_twin(tmp_path / "twin", "policy/guard.py", "        if wait_s:\n", "        if wait_s < 0:\n")
    with Daemon(tmp_path / "gw", SETTINGS, source=twin) as daemon:
        assert count(attack(daemon, wrong_keys()), JUDGED) > MOST


def _throttled_at_once_by_smtp(daemon: Daemon) -> bool:
    """Whether guesses at HTTP leave none for SMTP."""
    keys = wrong_keys()
    while by_http(daemon, next(keys)) in JUDGED:
        pass
    return by_smtp(daemon, next(keys)) in THROTTLED
