"""The limits of a key: as a list in the file, and as one text each on the command line."""

from collections.abc import Iterable
from typing import Final

from gateway.configfile import grammar
from gateway.keyterms import Limit, Unit
from gateway.yamltree import Section, Value

_UNITS: Final = ", ".join(Unit)
_MAX_BURST: Final = 1_000_000_000


def read_limits(value: Value) -> tuple[Limit, ...]:
    """`[{recipients: 100/min, burst: 200}]`; an empty list is no limit."""
    limits: list[Limit] = []
    for item in value.items():
        limit = _limit(item)
        if limit is None:
            continue
        try:
            limits = _with(limits, limit)
        except ValueError as error:
            item.problem(str(error))
    return tuple(limits)


def parse_limits(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Each as `parse_limit` reads it; ValueError says what is wrong, with one of them or with two together."""
    limits: list[Limit] = []
    for text in texts:
        limits = _with(limits, parse_limit(text))
    return tuple(limits)


def parse_limit(text: str) -> Limit:
    """`recipients=100/min`, `messages=10/s,burst=50`; ValueError says what is wrong."""
    limited, _, burst_text = text.partition(",")
    unit, equals, rate = limited.partition("=")
    if not equals or unit not in set(Unit):
        raise ValueError(f"{text!r} is not a limit like recipients=100/min or recipients=100/min,burst=200 ({_UNITS})")
    count, period_s = grammar.rate(rate)
    burst = _burst(burst_text) if limited != text else count
    return Limit(Unit(unit), count, period_s, burst)


def _burst(text: str) -> int:
    number = text.removeprefix("burst=")
    if number == text or not number.isascii() or not number.isdigit() or len(number) > len(str(_MAX_BURST)):
        raise ValueError(f"{text!r} is not a burst like burst=200")
    if not 1 <= int(number) <= _MAX_BURST:
        raise ValueError(f"a burst is from 1 to {_MAX_BURST}")
    return int(number)


def _limit(value: Value) -> Limit | None:
    section = value.section()
    if not value.is_mapping and not value.is_null:
        return None  # section() has said why
    given = [unit for unit in Unit if section.get(unit.value) is not None]
    limit = _of(section, given[0]) if len(given) == 1 else None
    burst = section.take("burst", Value.integer, None)
    section.close()
    if len(given) != 1:
        value.problem(f"give one of {_UNITS}")
        return None
    return limit if limit is None or burst is None else Limit(limit.unit, limit.count, limit.period_s, burst)


def _of(section: Section, unit: Unit) -> Limit | None:
    rate = section.parsed(unit.value, grammar.rate, None)
    return Limit(unit, rate[0], rate[1], burst=rate[0]) if rate is not None else None


def _with(limits: list[Limit], limit: Limit) -> list[Limit]:
    """Two of a kind would be one that never counts."""
    for known in limits:
        if (known.unit, known.period_s) == (limit.unit, limit.period_s):
            raise ValueError(f"there is a limit of {limit.unit} in the same period already: {known.rate}")
    return [*limits, limit]
