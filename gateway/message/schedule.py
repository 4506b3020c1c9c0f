"""When a message is to be sent and how long it is tried, as clients write it: in JSON fields and in header fields.

Guarantees: pure; a text that could mean two things is refused. It does not know the time: what is relative stays so.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

DAY_S: Final = 86_400
LATEST_S: Final = 365 * DAY_S  # how far ahead a message can be scheduled
MIN_TTL_S: Final = 1
MAX_TTL_S: Final = 30 * DAY_S
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": DAY_S}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", re.ASCII)
_TIME: Final = re.compile(  # RFC 3339, 5.6
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Start:
    """One of the two: `at` is Unix ms, `delay_s` seconds from the time of acceptance."""

    at: int | None = None
    delay_s: float | None = None


def duration(text: str) -> float:
    """Seconds of `90s`, `30m`, `4h`, `5d` or `500ms`. Raises ValueError, its text for people."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a number and its unit: 90s, 30m, 4h or 5d")
    return float(found[1]) * _UNITS[found[2]]


def start(text: str) -> Start:
    """An RFC 3339 time with its offset, or `in 10m`. Raises ValueError, its text for people."""
    given = text.strip()
    if given[:3].lower() == "in ":
        delay_s = duration(given[3:])
        if delay_s > LATEST_S:
            raise ValueError("must be within a year")
        return Start(delay_s=delay_s)
    if _TIME.fullmatch(given) is None:
        raise ValueError("must be an RFC 3339 time with its offset (2026-11-21T08:30:00Z), or in 10m")
    try:
        moment = datetime.fromisoformat(given.upper())
        return Start(at=int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


def ttl(text: str) -> float:
    """How long delivery is tried, in seconds. Raises ValueError, its text for people."""
    seconds = duration(text)
    if not MIN_TTL_S <= seconds <= MAX_TTL_S:
        raise ValueError(f"must be between {MIN_TTL_S}s and {MAX_TTL_S // DAY_S}d")
    return seconds
