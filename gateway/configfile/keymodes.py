"""What becomes of a key's mail: mode, tracking, brakes and retention, as values of the file and of the command line.

Every function that takes text raises ValueError, which says what is wrong; those that take a value of the file put it
into the findings.
"""

import re
from collections.abc import Iterable
from typing import Final

from gateway.configfile import grammar
from gateway.keyterms import Brakes, KeyRetention, Limit, Mode, ModeKind, Unit
from gateway.yamltree import MAX_DURATION_S, Section, Value, duration_s

_MODES: Final = "live, capture, hold, redirect:ADDRESS or allow:PATTERN,PATTERN"
_BITS: Final = {"opens": 1, "clicks": 2, "text": 4}  # those of message/model.py
_RATES: Final = ("volume", "new_recipients")
_KEPT: Final = {
    "delivered": "content_delivered_s",
    "failed": "content_failed_s",
    "messages": "messages_s",
    "events": "events_s",
}
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%", re.ASCII)

TRACKS: Final = tuple(_BITS)


def mode(text: str) -> Mode:
    """`live`, `capture`, `hold`, `redirect:ADDRESS`, `allow:PATTERN,PATTERN`."""
    word, colon, given = text.partition(":")
    if word not in set(ModeKind):
        raise ValueError(f"{text!r} is not {_MODES}")
    kind = ModeKind(word)
    match kind:
        case ModeKind.REDIRECT | ModeKind.ALLOW if not given.strip():
            raise ValueError(f"{text!r} names no address; a mode is {_MODES}")
        case ModeKind.REDIRECT:
            return Mode(kind, (grammar.address(given),))
        case ModeKind.ALLOW:
            return Mode(kind, tuple(dict.fromkeys(grammar.sender_pattern(one.strip()) for one in given.split(","))))
        case _ if colon:
            raise ValueError(f"{word} stands alone")
        case _:
            return Mode(kind)


def tracked(words: Iterable[str]) -> int:
    """The sum of some of TRACKS."""
    given = set(words)
    if unknown := given - _BITS.keys():
        raise ValueError(f"{min(unknown)!r} is not one of {', '.join(TRACKS)}")
    if "text" in given and "clicks" not in given:
        raise ValueError("text means the links of plain text: it needs clicks")
    return sum(_BITS[one] for one in given)


def tracks(total: int) -> list[str]:
    """The inverse of `tracked`."""
    return [word for word, bit in _BITS.items() if total & bit]


def read_track(value: Value) -> int | None:
    """`{opens: true, clicks: true, text: false}`."""
    section = value.section()
    words = [word for word in _BITS if section.take(word, Value.boolean, default=False)]
    section.close()
    try:
        return tracked(words)
    except ValueError as error:
        value.problem(str(error))
        return None


def parse_brakes(texts: Iterable[str]) -> Brakes:
    """`volume=5000/day`, `bounces=10%`, `new_recipients=500/day`; each at most once."""
    found: dict[str, Limit | float] = {}
    for text in texts:
        name, _, given = text.partition("=")
        if name in found:
            raise ValueError(f"{name} is given twice")
        if name in _RATES:
            found[name] = _recipients(given)
        elif name == "bounces":
            found[name] = _share(given)
        else:
            raise ValueError(f"{text!r} is not a brake like volume=5000/day, bounces=10% or new_recipients=500/day")
    return Brakes(**found)  # type: ignore[arg-type]  # each as its name wants it


def brake_texts(brakes: Brakes) -> list[str]:
    """The inverse of `parse_brakes`."""
    rates = ((name, getattr(brakes, name)) for name in _RATES)
    texts = [f"{name}={limit.rate}" for name, limit in rates if limit is not None]
    return texts if brakes.bounces is None else [*texts, f"bounces={100 * brakes.bounces:g}%"]


def read_brakes(value: Value) -> Brakes:
    """`{volume: 5000/day, bounces: 10%, new_recipients: 500/day}`."""
    section = value.section()
    brakes = Brakes(
        volume=section.parsed("volume", _recipients, None),
        bounces=section.parsed("bounces", _share, None),
        new_recipients=section.parsed("new_recipients", _recipients, None),
    )
    section.close()
    return brakes


def parse_retention(texts: Iterable[str]) -> KeyRetention:
    """`delivered=1d`, `failed=7d` (content), `messages=30d`, `events=30d`; each at most once."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, given = text.partition("=")
        if name not in _KEPT:
            raise ValueError(f"{text!r} is not a time to keep like {', '.join(f'{one}=30d' for one in _KEPT)}")
        if _KEPT[name] in found:
            raise ValueError(f"{name} is given twice")
        seconds = duration_s(given)
        if seconds > MAX_DURATION_S or (not seconds and name in {"messages", "events"}):
            raise ValueError(f"{text!r}: must be more than nothing, and at most 3650d")
        found[_KEPT[name]] = seconds
    return KeyRetention(**found)


def retention_texts(retention: KeyRetention) -> list[str]:
    """The inverse of `parse_retention`."""
    times = ((name, getattr(retention, attribute)) for name, attribute in _KEPT.items())
    return [f"{name}={_duration(seconds)}" for name, seconds in times if seconds is not None]


def read_retention(value: Value) -> KeyRetention:
    """`{content: {delivered: 1d, failed: 7d}, messages: 30d, events: 30d}`."""
    section = value.section()
    delivered, failed = section.take("content", _content, (None, None))
    retention = KeyRetention(
        content_delivered_s=delivered,
        content_failed_s=failed,
        messages_s=section.take("messages", Value.duration, None),
        events_s=section.take("events", Value.duration, None),
    )
    section.close()
    return retention


def _content(value: Value) -> tuple[float | None, float | None]:
    section: Section = value.section()
    kept = section.take("delivered", _from_zero, None), section.take("failed", _from_zero, None)
    section.close()
    return kept


def _from_zero(value: Value) -> float | None:
    return value.duration(least_s=0)


def _recipients(text: str) -> Limit:
    """A rate of recipients."""
    count, period_s = grammar.rate(text)
    return Limit(Unit.RECIPIENTS, count, period_s, burst=count)


def _share(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if match is None or not 0 < float(match[1]) < 100:  # at 100 % it would never be reached
        raise ValueError(f"{text!r} is not a share like 10%")
    return float(match[1]) / 100


def _duration(seconds: float) -> str:
    """In days, hours or minutes where it is whole, else in seconds."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and not seconds % size:
            return f"{seconds // size:g}{unit}"
    return f"{seconds:g}s"
