"""The fields that say when: `send_at`, `ttl` and `wait`.

Guarantees: pure; every fault is added to `Problems`. A number is seconds; a boolean is none.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from gateway.api import fields
from gateway.api.document import LongString
from gateway.api.fields import Problems, kind
from gateway.message import schedule
from gateway.message.schedule import MAX_TTL_S, MIN_TTL_S, Start

MAX_WAIT_S: Final = 60
MAX_CHARACTERS: Final = 64

Value = TypeVar("Value")


def send_at(value: Any, path: str, problems: Problems) -> Start:
    """An RFC 3339 time with its offset, or `in 10m`."""
    text = fields.line(value, path, problems, limit=MAX_CHARACTERS)
    return (text and _said(schedule.start, text, path, problems)) or Start()


def ttl(value: Any, path: str, problems: Problems) -> float | None:
    """Seconds, MIN_TTL_S to MAX_TTL_S: `4h`, or a whole number of seconds."""
    if isinstance(value, (str, LongString)):
        text = fields.line(value, path, problems, limit=MAX_CHARACTERS)
        return _said(schedule.ttl, text, path, problems) if text is not None else None
    # JSON has one kind of number: 60.0 is whole.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:
        problems.add(path, f"must be a duration such as 4h, or a whole number of seconds, got {kind(value)}")
    elif not MIN_TTL_S <= value <= MAX_TTL_S:
        problems.add(path, f"must be between {MIN_TTL_S}s and {MAX_TTL_S // schedule.DAY_S}d", "validation_error")
    else:
        return float(value)
    return None


def wait(value: Any, path: str, problems: Problems) -> float | None:
    """Seconds, more than none and at most MAX_WAIT_S: `10s`, or a number of seconds."""
    seconds: float | None
    if isinstance(value, (str, LongString)):
        text = fields.line(value, path, problems, limit=MAX_CHARACTERS)
        seconds = _said(schedule.duration, text, path, problems) if text is not None else None
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        problems.add(path, f"must be a duration such as 10s, or a number of seconds, got {kind(value)}")
        return None
    else:
        seconds = value
    if seconds is None or 0 < seconds <= MAX_WAIT_S:
        return seconds
    problems.add(path, f"must be more than 0 and at most {MAX_WAIT_S}s", "validation_error")
    return None


def _said(read: Callable[[str], Value], text: str, path: str, problems: Problems) -> Value | None:
    try:
        return read(text)
    except ValueError as error:
        problems.add(path, str(error), "validation_error")
        return None
