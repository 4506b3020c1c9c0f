"""The terms of a key: how much it may send, what brakes it, and what becomes of its mail.

These are values of the configuration and of stored keys alike. Nothing is read, checked or counted here.
"""

from dataclasses import dataclass
from enum import StrEnum

_PERIODS = {1: "s", 60: "min", 3600: "hour", 86400: "day"}


class Unit(StrEnum):
    """What a limit of a key counts."""

    REQUESTS = "requests"
    MESSAGES = "messages"
    RECIPIENTS = "recipients"


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate of a key: `count` in `period_s` seconds, as a token bucket that holds `burst`."""

    unit: Unit
    count: int
    period_s: int
    burst: int

    @property
    def rate(self) -> str:
        """`100/min`."""
        return f"{self.count}/{_PERIODS.get(self.period_s, f'{self.period_s}s')}"

    def __str__(self) -> str:
        """As the command line takes it: `recipients=100/min,burst=200`."""
        burst = f",burst={self.burst}" if self.burst != self.count else ""
        return f"{self.unit.value}={self.rate}{burst}"


@dataclass(frozen=True, slots=True)
class Brakes:
    """What a key may do before its new mail is held; None: no bound."""

    volume: Limit | None = None  # recipients
    bounces: float | None = None  # share of hard bounces among what ended in the last day, 0 to 1
    new_recipients: Limit | None = None  # addresses that the key never wrote to

    def __bool__(self) -> bool:
        return self != Brakes()


@dataclass(frozen=True, slots=True)
class KeyRetention:
    """As `config.Retention`, for the mail of one key; None: as for all."""

    content_delivered_s: float | None = None
    content_failed_s: float | None = None
    messages_s: float | None = None
    events_s: float | None = None


class ModeKind(StrEnum):
    """What becomes of a key's mail."""

    LIVE = "live"
    CAPTURE = "capture"  # nothing leaves the machine
    HOLD = "hold"  # until an operator lets it go
    REDIRECT = "redirect"  # all of it goes to one address
    ALLOW = "allow"  # what goes to other addresses than these is captured


@dataclass(frozen=True, slots=True)
class Mode:
    """As `live`, `redirect:ADDRESS`, `allow:PATTERN,PATTERN`; a pattern is that of an allowed sender."""

    kind: ModeKind = ModeKind.LIVE
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(self.values)}" if self.values else self.kind.value


class Duplicates(StrEnum):
    """What becomes of a recipient that may have been delivered when a process or a connection died."""

    AT_LEAST_ONCE = "at_least_once"  # tried again
    AT_MOST_ONCE = "at_most_once"  # failed
