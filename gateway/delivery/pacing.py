"""How many connections a destination gets: more while it delivers, half when it says that it is too much. Pure.

Guarantees: never more than `maximum` and never less than one; what was said to attempts that began before the last
halving halves nothing, so that one refusal heard on twenty connections counts once; what was halved comes back by one
connection at a time, each after `RECOVERY` deliveries for every connection in use. A destination whose hosts cannot be
reached begins anew, so what comes back after an outage meets no more connections than at first; below that it is not
narrowed, for silence is no word about pace. What is known of a destination outlives its lane, for a while and bounded.
"""

from collections import OrderedDict
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from gateway.delivery import hints
from gateway.events import BounceClass, State
from gateway.store.queue import Attempt, Result

RECOVERY: Final = 10  # deliveries for each connection in use, until a slowed destination gets one more
KEPT_S: Final = 3600.0  # so long what is known of a destination is kept after its last message
KEPT: Final = 10_000  # destinations; some 200 bytes each
_FROM_THREE: Final = 3  # connections: below it, none is kept for mail of high priority
_TENTH: Final = 10
_MAX_READ: Final = 1000  # characters of a reply

_SENT: Final = frozenset({State.DELIVERED, State.CAPTURED})
_SESSION_STAGES: Final = frozenset({"connect", "greeting", "ehlo", "starttls", "tls", "auth"})
# RFC 3463: takes no mail now, congestion, policy (where hosts put their rates; greylisting is told apart).
_SLOWING_CODES: Final = ("4.3.2 ", "4.4.5 ", "4.7.")
# What they say where the code says nothing.
_SLOWING_WORDS: Final = (
    "rate limit",  # Exim, Amazon SES
    "ratelimit",
    "throttl",
    "sending rate",
    "frequency limited",  # QQ
    "too many connections",  # Exim, Postfix
    "too many concurrent",
    "too many messages",  # Yahoo
    "too many sessions",
)


class Outcome(IntEnum):
    """What an attempt says about a destination."""

    SILENT = 0  # nobody was reached, or nobody answered
    ANSWERED = 1
    SENT = 2
    SLOWED = 3  # the host wants less


class Standing(IntEnum):
    """What is known of a destination; an index."""

    NEW = 0
    GOOD = 1  # its last attempt was answered
    SILENT = 2  # it was not


def outcome(attempts: Sequence[Attempt]) -> Outcome | None:
    """The most that is said by any result; None where nobody was asked: all are suppressed."""
    if len(attempts) == 1 and len(attempts[0].results) == 1:
        return _said(attempts[0].results[0])
    each = (_said(result) for attempt in attempts for result in attempt.results)
    return max((one for one in each if one is not None), default=None)


def _said(result: Result) -> Outcome | None:
    if result.state in _SENT:
        return Outcome.SENT
    if result.state is State.SUPPRESSED:
        return None
    if not result.host or not result.reply[:3].isdigit():
        return Outcome.SILENT  # our own words
    if _slows(result):
        return Outcome.SLOWED
    return Outcome.SILENT if result.stage in _SESSION_STAGES else Outcome.ANSWERED


def _slows(result: Result) -> bool:
    """Whether a reply is about how much we send: 421, a rate, our reputation."""
    reply = result.reply
    if reply.startswith("421") or result.bounce_class is BounceClass.REPUTATION_BLOCK:
        return True
    if not reply.startswith("4") or hints.greylisted(reply):
        return False
    if reply.startswith(_SLOWING_CODES, 4):
        return True
    read = reply[:_MAX_READ].lower()
    return any(words in read for words in _SLOWING_WORDS)


class Pace:
    """The connections of one destination. `era` rises with each halving: an attempt counts in the one it began in.

    `ordinary` is how many of `width` connections may serve mail that is not of high priority: a tenth, at least one, is
    kept free of it, where there are three or more. `full`: another delivery tells nothing new.
    """

    __slots__ = (
        "_delivered",
        "_initial",
        "_maximum",
        "era",
        "full",
        "ordinary",
        "proven",
        "slowed",
        "standing",
        "width",
    )

    def __init__(self, initial: int, maximum: int) -> None:
        self.era = 0
        self.slowed = False  # it was halved and is not back at the maximum
        self.standing = Standing.NEW
        self.proven = False  # its standing is good
        self._initial = initial
        self._maximum = maximum
        self._delivered = 0  # since the width last changed, where it was slowed
        self._set(initial)

    def see(self, said: Outcome, era: int) -> None:
        """The outcome of attempts that began in `era`."""
        self.proven = said is not Outcome.SILENT
        self.standing = Standing.GOOD if self.proven else Standing.SILENT
        if era == self.era:  # else it began when there were more connections
            if said is Outcome.SENT:
                self._grow()
            elif said is Outcome.SLOWED:
                self.era += 1
                self.slowed = True
                self._delivered = 0
                self._set(max(1, self.width // 2))
            elif said is Outcome.SILENT and self.width > self._initial:
                self._set(self._initial)
        self.full = self.proven and self.width == self._maximum

    def bound(self, maximum: int) -> None:
        """There may be so many connections from now on; those above it end with their message."""
        self._maximum = maximum
        self._set(min(self.width, maximum))

    def rest(self, initial: int) -> None:
        """Its last message has gone: what was not slowed begins anew with the next one."""
        self._initial = initial
        if not self.slowed:
            self._set(initial)

    def _grow(self) -> None:
        if self.width == self._maximum:
            self.slowed = False  # one connection is all there may be
            return
        if self.slowed:
            self._delivered += 1
            if self._delivered < RECOVERY * self.width:
                return
            self._delivered = 0
        self._set(self.width + 1)
        if self.width == self._maximum:
            self.slowed = False

    def _set(self, width: int) -> None:
        self.width = width
        self.ordinary = width - max(1, width // _TENTH) if width >= _FROM_THREE else width
        self.full = False


class Paces:
    """The paces of destinations that have no lane now. Times are monotonic seconds."""

    def __init__(self, initial: int, maximum: int, *, kept: int = KEPT) -> None:
        self._initial = initial
        self._maximum = maximum
        self._most = kept
        self._kept: OrderedDict[int, tuple[Pace, float]] = OrderedDict()  # longest at rest first

    def __len__(self) -> int:
        return len(self._kept)

    def bound(self, initial: int, maximum: int) -> None:
        """As a new `Paces` would be, with all that is known of destinations."""
        self._initial = initial
        self._maximum = maximum
        for pace, _ in self._kept.values():
            pace.bound(maximum)
            pace.rest(initial)

    def standing(self, destination: int) -> Standing:
        """What is known of a destination without a lane, however long ago it was learnt."""
        known = self._kept.get(destination)
        return known[0].standing if known is not None else Standing.NEW

    def take(self, destination: int, now: float) -> Pace:
        """The pace of a destination that gets a lane."""
        known = self._kept.pop(destination, None)
        if known is not None and now - known[1] < KEPT_S:
            return known[0]
        return Pace(self._initial, self._maximum)

    def rest(self, destination: int, pace: Pace, now: float) -> None:
        """Its lane is over."""
        pace.rest(self._initial)
        self._kept[destination] = (pace, now)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
