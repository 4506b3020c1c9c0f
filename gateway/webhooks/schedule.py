"""What an answer of an endpoint means, and when it is asked again. Pure."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

JITTER: Final = 0.2  # of a pause, either way
LONGEST_QUIET_S: Final = 3600.0  # for an endpoint that says when to come again (Retry-After)
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_LONGEST_REASON: Final = 200
_QUIET: Final = frozenset({429, 503})  # of the whole endpoint, not of this event


class Outcome(StrEnum):
    """Of a request, as it is counted."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # an answer that is no success
    GONE = "gone"  # 410: for good
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BLOCKED = "blocked"  # by the guard


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request. `status` 0: no answer; `retry_after` as the header has it; `error` has nothing of the
    body of an answer, which is nobody's business."""

    outcome: Outcome
    status: int
    took_ms: int
    error: str = ""
    retry_after: str = ""

    @property
    def delivered(self) -> bool:
        return self.outcome is Outcome.DELIVERED

    @property
    def words(self) -> str:
        """Why it failed."""
        return (self.error or f"it answered {self.status}")[:_LONGEST_REASON]


def outcome_of(status: int) -> Outcome:
    """Only 2xx is a success; a redirect is none, for it is not followed."""
    if 200 <= status < 300:
        return Outcome.DELIVERED
    return Outcome.GONE if status == 410 else Outcome.REFUSED


def next_at(attempts: int, pauses_s: Sequence[float], answer: Answer, now: int, rng: random.Random) -> int | None:
    """When an event is tried again that was tried so often, in Unix ms; None: no more."""
    if attempts > len(pauses_s):
        return None
    pause_s = pauses_s[attempts - 1] * rng.uniform(1 - JITTER, 1 + JITTER)
    return now + int(max(pause_s, wish_s(answer, now)) * 1000)


def longest_ms(pauses_s: Sequence[float]) -> int:
    """No time that `next_at` gives is further ahead."""
    return int(max((*(pause * (1 + JITTER) for pause in pauses_s), LONGEST_QUIET_S)) * 1000)


def quiet_s(answer: Answer, now: int) -> float:
    """For how long the endpoint wants to be asked nothing at all."""
    return wish_s(answer, now) if answer.status in _QUIET else 0.0


def wish_s(answer: Answer, now: int) -> float:
    """Retry-After (RFC 9110, 10.2.3) in seconds, at most LONGEST_QUIET_S; 0 where there is none that can be read."""
    text = answer.retry_after.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_QUIET_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    seconds = (at - datetime.fromtimestamp(now / 1000, tz=UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_QUIET_S)
