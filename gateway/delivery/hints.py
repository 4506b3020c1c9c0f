"""When a host wants us back: "try again in 5 minutes", "Greylisted for 300 seconds". Pure.

Guarantees: at most `MAX_READ` characters are read, in linear time, and nothing in them raises. It only reads: how far a
host is believed is judged in verdict.py.
"""

import re
from typing import Final

MAX_READ: Final = 1000  # characters; what a host has to say about time it says at the beginning

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}  # by the first letter of the unit

# A word of waiting, then within the sentence a time. The gap holds no digit and is short, so no start is read twice.
_WAIT: Final = re.compile(
    r"\b(?:try|retry|retrying|again|back|later|wait|delayed|deferred|reconnect|resend|gr[ae]y[ -]?list(?:ed|ing))\b"
    r"[^0-9.;]{0,30}"
    r"(?:(?P<clock>[0-9]{1,3}:[0-5][0-9]:[0-5][0-9])\b"
    r"|(?P<spans>[0-9]{1,9} ?(?:seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b"
    r"(?:(?:,| and)? ?[0-9]{1,9} ?(?:seconds?|secs?|s|minutes?|mins?|m)\b)?))",
    re.ASCII,
)
_SPAN: Final = re.compile(r"([0-9]{1,9}) ?([smhd])", re.ASCII)
_GREYLISTED: Final = re.compile(r"\bgr[ae]y[ -]?list", re.ASCII)


def wait_s(text: str) -> int | None:
    """The seconds that `text` asks us to wait; None where it names no time. Unbounded: it is a stranger's wish."""
    found = _WAIT.search(text[:MAX_READ].lower())
    if found is None:
        return None
    if found["clock"]:
        hours, minutes, seconds = found["clock"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return sum(int(number) * _SECONDS[unit] for number, unit in _SPAN.findall(found["spans"]))


def greylisted(text: str) -> bool:
    """Whether `text` says that a first attempt is always put off."""
    return _GREYLISTED.search(text[:MAX_READ].lower()) is not None
