"""Destinations that took no connection a moment ago, and those that somebody talks with.

Guarantees: a destination where nobody was reached is asked again after a pause, whatever there is for it: half a minute
at first, twice as long each time while it stays so, two minutes at most, and never longer than the schedule of retries;
who refuses a further connection while another worker of its lane has one is not unreachable. What is remembered is
bounded. It decides nothing about mail (attempt.py does).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.delivery.verdict import Word

UNREACHABLE_S: Final = 30.0  # the first pause
LONGEST_S: Final = (
    120.0  # ten thousand messages that wait are looked at 80 times a second, and new mail waits no longer
)
SPELL_S: Final = 600.0  # who fails again within that time after a pause has not been well meanwhile
_REMEMBERED: Final = 10_000  # destinations at most
_CLOSING: Final = 421  # RFC 5321, 3.8
_DOORS: Final = frozenset({"connect", "greeting"})

Place = tuple[str, str, int]  # route, domain and wish about TLS
Talk = tuple[int, str]  # destination in the queue, and domain: the workers of one lane


class Told(NamedTuple):
    """What was said when nobody was reached; until then (monotonic seconds) nobody is asked; the how manieth time."""

    word: Word
    until: float
    times: int


class Unreachable:
    """One for all workers. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._places: dict[Place, Told] = {}
        self._talking: Counter[Talk] = Counter()

    def told(self, place: Place, now: float) -> Told | None:
        """None where somebody may be asked."""
        told = self._places.get(place)
        return told if told is not None and told.until > now else None

    def remember(self, place: Place, word: Word, now: float, retry_s: Sequence[float]) -> None:
        """Nobody was reached. Heard of several workers at once it is one time."""
        before = self._places.pop(place, None)
        if before is not None and before.until > now:
            self._places[place] = before
            return
        times = before.times + 1 if before is not None and now < before.until + SPELL_S else 1
        while len(self._places) >= _REMEMBERED:
            del self._places[next(iter(self._places))]
        doubled_s = UNREACHABLE_S * 2 ** min(times - 1, 8)
        pause_s = min(doubled_s, LONGEST_S, retry_s[min(times, len(retry_s)) - 1])
        self._places[place] = Told(word, now + pause_s, times)

    def forget(self, place: Place) -> None:
        """Somebody was reached."""
        if self._places:
            self._places.pop(place, None)

    def clear(self) -> None:
        """Everybody may be asked."""
        self._places.clear()

    def connected(self, talk: Talk) -> None:
        """A worker has a connection. It says `hung_up` in the end."""
        self._talking[talk] += 1

    def hung_up(self, talk: Talk) -> None:
        self._talking[talk] -= 1
        if not self._talking[talk]:
            del self._talking[talk]

    def is_talking(self, talk: Talk) -> bool:
        """Whether a worker of the lane has a connection."""
        return talk in self._talking


def is_door_shut(word: Word) -> bool:
    """Whether a further connection may be what was refused (and not, for one, the TLS of every connection)."""
    return word.stage in _DOORS or word.code == _CLOSING
