"""The fields that say how a message is to be handled: `priority`, `dsn` and `require_tls`.

Guarantees: pure; every fault is added to `Problems`.
"""

from collections.abc import Iterable
from typing import Any, Final

from gateway.api.fields import Problems, kind
from gateway.message import notify
from gateway.message.priority import WORDS as PRIORITIES

# What a notification may be wanted of; each alone, or several but "never" in a list.
NOTICES: Final = {"never": 0, "success": notify.SUCCESS, "failure": notify.FAILURE, "delay": notify.DELAY}
_NEVER: Final = "never"


def priority(value: Any, path: str, problems: Problems) -> int | None:
    """0 (high) to 2 (low)."""
    if not isinstance(value, str):
        problems.add(path, f"must be {_either(PRIORITIES)}, got {kind(value)}")
    elif value not in PRIORITIES:
        problems.add(path, f"must be {_either(PRIORITIES)}", "validation_error")
    else:
        return PRIORITIES[value]
    return None


def dsn(value: Any, path: str, problems: Problems) -> int | None:
    """A sum of message/notify.py: it was asked for, so ASKED is in it."""
    if isinstance(value, str):
        words = [value]
    elif isinstance(value, list) and all(isinstance(word, str) for word in value):
        words = value
    else:
        problems.add(path, f"must be {_either(NOTICES)}, or a list of them, got {kind(value)}")
        return None
    if not NOTICES.keys() >= set(words):
        problems.add(path, f"must be {_either(NOTICES)}, or a list of them", "validation_error")
    elif len(set(words)) < len(words):
        problems.add(path, "must not have a word twice", "validation_error")
    elif _NEVER in words and len(words) > 1:
        problems.add(path, "must not have other words beside never", "validation_error")
    else:
        return notify.ASKED + sum(NOTICES[word] for word in words)
    return None


def flag(value: Any, path: str, problems: Problems) -> bool:
    """true or false."""
    if isinstance(value, bool):
        return value
    problems.add(path, f"must be true or false, got {kind(value)}")
    return False


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"
