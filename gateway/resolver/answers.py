"""What a lookup said, and how long it is remembered."""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

LONGEST_S: Final = 86_400.0  # a record is kept; some zones say 68 years
LONGEST_MISSING_S: Final = 3600.0  # its absence is; RFC 2308, 5: hours at most

Question = tuple[str, str]  # name (in lower case, without the last dot) and type


class Missing(Enum):
    """Why there is no record, for certain."""

    NAME = "no such name"  # NXDOMAIN
    RECORD = "no such record"


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """Nobody knows now: SERVFAIL, REFUSED, a CNAME loop, no answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The records (their values by type: lookup.py), or why there are none; `canonical` is the end of the CNAMEs."""

    records: tuple[Any, ...] | Missing | LookupFailed
    ttl_s: float = 0.0
    secure: bool = False  # the nameserver said that it is authentic, and its word counts
    canonical: str = ""


class Cache:
    """Answers until they are out of date. The one that was not asked for longest goes first."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._answers: OrderedDict[Question, tuple[Answer, float]] = OrderedDict()

    def get(self, question: Question, now: float) -> Answer | None:
        """`now` is a monotonic time in seconds."""
        found = self._answers.get(question)
        if found is None:
            return None
        if found[1] <= now:
            del self._answers[question]
            return None
        self._answers.move_to_end(question)
        return found[0]

    def put(self, question: Question, answer: Answer, now: float) -> None:
        """Keep it for its TTL, within bounds; not at all with a TTL of 0 (RFC 1035, 3.2.1)."""
        longest = LONGEST_MISSING_S if isinstance(answer.records, Missing) else LONGEST_S
        kept_s = min(answer.ttl_s, longest)
        self._answers.pop(question, None)
        if kept_s <= 0:
            return
        while len(self._answers) >= self._entries:
            self._answers.popitem(last=False)
        self._answers[question] = (answer, now + kept_s)

    def __len__(self) -> int:
        return len(self._answers)
