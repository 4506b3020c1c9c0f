"""The fields that say how a message is to be handled: `priority`, `dsn`, `require_tls`, `track` and `unsubscribe`.

Guarantees: pure; every fault is added to `Problems`.
"""

from collections.abc import Iterable
from typing import Any, Final

from gateway.api import fields
from gateway.api.document import LongString
from gateway.api.fields import Problems, kind
from gateway.message import notify
from gateway.message.labels import ALL_MAIL, MAX_TAG_CHARACTERS, TRACKS
from gateway.message.model import TRACK_CLICKS, TRACK_OPENS
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


def track(value: Any, path: str, problems: Problems) -> int | None:
    """A sum of TRACK_…: of an object each of whose names is true or false, what it does not name is false; `true` is
    opens and clicks of the HTML."""
    if isinstance(value, bool):
        return TRACK_OPENS | TRACK_CLICKS if value else 0
    if not isinstance(value, dict):
        problems.add(path, f"must be true, false or an object of {_either(TRACKS)}, got {kind(value)}")
        return None
    wanted = 0
    for name, given in value.items():
        where = f"{path}.{fields.shown(name)}"
        if name not in TRACKS:
            problems.add(where, f"is not known here; it has {_either(TRACKS)}")
        elif given is not None and flag(given, where, problems):
            wanted |= TRACKS[name]
    if wanted & TRACKS["text"] and not wanted & TRACK_CLICKS:
        problems.add(f"{path}.text", "is nothing without clicks", "validation_error")
    return wanted


def unsubscribe(value: Any, path: str, problems: Problems) -> str:
    """ALL_MAIL of `true`, a tag of itself or of `{"tag": "news"}`, "" of `false`."""
    if isinstance(value, bool):
        return ALL_MAIL if value else ""
    if not isinstance(value, dict):
        if not isinstance(value, (str, LongString)):
            problems.add(path, f"must be true, false, a tag or an object with tag, got {kind(value)}")
            return ""
        return _tag(value, path, problems)
    for name in value:
        if name != "tag":
            problems.add(f"{path}.{fields.shown(name)}", "is not known here; it has tag")
    if fields.absent(value.get("tag")):
        problems.add(f"{path}.tag", "is required", "missing_parameter")
        return ""
    return _tag(value["tag"], f"{path}.tag", problems)


def _tag(value: Any, path: str, problems: Problems) -> str:
    tag = fields.line(value, path, problems, limit=MAX_TAG_CHARACTERS)
    if tag == ALL_MAIL:
        problems.add(path, f"{ALL_MAIL} is no tag; true stands for all mail", "validation_error")
    return tag or ""


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"
