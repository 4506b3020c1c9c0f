"""The field `variables`: what `{{name}}` stands for.

Guarantees: pure; every fault is added to `Problems`; what is read is at most MAX_BYTES as JSON and MAX_DEPTH deep, has
no NUL and no number that others cannot hold, and its names are sorted, so that equal values are written alike.
"""

import math
from typing import Any, Final

import msgspec

from gateway.api import fields
from gateway.api.document import LongString
from gateway.api.fields import Problems, shown
from gateway.message import labels

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 8  # objects and lists inside one another, the outermost among them
_LEAST: Final = -labels.SAFE_INTEGER
_MOST: Final = labels.SAFE_INTEGER - 1
_TOO_LARGE: Final = f"must be at most {MAX_BYTES} bytes of JSON"
_TOO_DEEP: Final = f"is nested deeper than {MAX_DEPTH} levels"
_NUL: Final = "must not hold the NUL character"
_RANGE: Final = "holds a number out of range; send it as a string"
_ESCAPED: Final = 6  # bytes that a character takes at most as it came: \u00e9


def read(value: Any, path: str, problems: Problems) -> dict[str, Any] | None:
    """Texts, numbers, booleans, null, and objects and lists of them."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object, got {fields.kind(value)}")
        return None
    room = MAX_BYTES
    right = True
    long: list[LongString] = []
    for name, item in value.items():
        room -= len(name)
        weight, fault = _look(item, room, long) if "\x00" not in name else (0, _NUL)
        room -= weight
        if room < 0:
            problems.add(path, _TOO_LARGE, "validation_error")
            return None
        if fault is not None:
            problems.add(f"{path}.{shown(name)}", fault, "validation_error")
            right = False
    return _copy(_decoded(value) if long else value, path, problems) if right else None


def _look(value: Any, room: int, long: list[LongString]) -> tuple[int, str | None]:
    """How many bytes a value has as JSON at least, looked at up to `room`, and what is wrong with it.

    Strings that are still to be decoded go into `long`. One loop without calls: a value may hold thirty thousand
    numbers, and everybody else waits.
    """
    weight = 0
    level: list[Any] = [(value,)]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            for item in container:
                weight += 2
                kind = type(item)
                if kind is int:
                    if not _LEAST <= item <= _MOST:
                        return weight, _RANGE
                elif kind is str:
                    weight += len(item)
                    if "\x00" in item:
                        return weight, _NUL
                elif kind is dict:
                    below += (item, item.values())
                elif kind is list:
                    below.append(item)
                elif kind is float:
                    if not math.isfinite(item):
                        return weight, _RANGE
                elif kind is LongString:
                    long.append(item)
                    weight += len(item.raw) // _ESCAPED
                    if weight <= room and "\x00" in item.text():
                        return weight, _NUL
                if weight > room:
                    return weight, None
        if not below:
            return weight, None
        level = below
    return weight, _TOO_DEEP


def _decoded(value: Any) -> Any:
    """The same with every string decoded."""
    match value:
        case LongString():
            return value.text()
        case dict():
            return {name: _decoded(item) for name, item in value.items()}
        case list():
            return [_decoded(item) for item in value]
        case _:
            return value


def _copy(value: dict[str, Any], path: str, problems: Problems) -> dict[str, Any] | None:
    encoded = msgspec.json.encode(value, order="sorted")
    if len(encoded) > MAX_BYTES:
        problems.add(path, _TOO_LARGE, "validation_error")
        return None
    copied: dict[str, Any] = msgspec.json.decode(encoded)
    return copied
