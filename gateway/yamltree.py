"""YAML as nodes that know their line: strict reading, every problem collected with its path.

Guarantees: unknown, duplicate and later-version keys are problems, as are anchors, aliases and values of the wrong
type; nothing here raises for what stands in the file. It knows no key of ours (configfile.py does).
"""

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import yaml

from gateway.errors import Problem

MAX_BYTES: Final = 1_000_000
_SIZE: Final = re.compile(r"(\d+)\s*(B|KB|MB|GB)?", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AVAILABLE_LATER: Final = "not available in this version"

_START: Final = yaml.Mark("", 0, 0, 0, "", 0)
_EMPTY: Final = yaml.MappingNode("tag:yaml.org,2002:map", [], _START, _START)  # a file without a key

T = TypeVar("T")


def duration_s(text: str) -> float:
    """Seconds of `30s`, `5m`, `4h`, `5d`; ValueError says what is wrong."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration like 30s, 5m, 4h or 5d")
    return float(match[1]) * _DURATION_UNITS[match[2]]


def size_bytes(text: str) -> int:
    """Bytes of `35MB` (decimal units) or a number; ValueError says what is wrong."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size like 512KB or 35MB")
    return int(match[1]) * _SIZE_UNITS[(match[2] or "").upper()]


class Value:
    """A node with its path, and the list its problems go to."""

    def __init__(self, node: yaml.Node, path: str, problems: list[Problem]) -> None:
        self.node = node
        self.path = path
        self.problems = problems

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == "tag:yaml.org,2002:null"

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    def problem(self, message: str) -> None:
        self.problems.append(Problem(self.path, message, line=self.line))

    def text(self) -> str | None:
        """A scalar as it is written; a number or a date is text here."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null:
            self.problem("must be text")
            return None
        return str(self.node.value)

    def parsed(self, parse: Callable[[str], T]) -> T | None:
        """A scalar read by `parse`, whose ValueError is the problem."""
        text = self.text()
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.problem(str(error))
            return None

    def integer(self, *, least: int = 1) -> int | None:
        text = self.text()
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,15}", text) or int(text) < least:
            self.problem(f"must be a whole number of at least {least}")
            return None
        return int(text)

    def duration(self, *, least: float = 0.001) -> float | None:
        seconds = self.parsed(duration_s)
        if seconds is not None and seconds < least:
            self.problem("must be more than nothing")
            return None
        return seconds

    def boolean(self) -> bool | None:
        text = self.text()
        if text in {"true", "false"}:
            return text == "true"
        if text is not None:
            self.problem("must be true or false" + (" (yes, no, on and off are not taken)" if len(text) <= 3 else ""))
        return None

    def one_of(self, choices: type[T]) -> T | None:
        """A member of a StrEnum."""
        members = {str(member): member for member in choices}  # type: ignore[attr-defined]  # an enum class iterates
        text = self.text()
        if text is not None and text not in members:
            self.problem(f"must be one of {', '.join(members)}")
        return members.get(text or "")

    def items(self) -> "Iterator[Value]":
        """The items of a list; a problem where it is none."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.problem("must be a list")
            return
        for index, node in enumerate(self.node.value):
            yield Value(node, f"{self.path}[{index}]", self.problems)

    def section(self) -> "Section":
        return Section(self)


class Section:
    """A mapping that is read key by key; `close` reports what nobody asked for."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self._known: set[str] = set()
        self._values: dict[str, Value] = {}
        node = value.node
        if isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                self._add(key, child)
        elif not value.is_null:
            value.problem("must be a mapping of keys to values")

    def _add(self, key: yaml.Node, child: yaml.Node) -> None:
        if not isinstance(key, yaml.ScalarNode):
            Value(key, self.value.path, self.value.problems).problem("a key must be text")
            return
        name = str(key.value)
        value = Value(child, f"{self.value.path}.{name}" if self.value.path else name, self.value.problems)
        if name in self._values:
            Value(key, value.path, value.problems).problem("is given twice")
        self._values[name] = value

    def get(self, name: str) -> Value | None:
        """The value of a key, None where it is absent or null."""
        self._known.add(name)
        value = self._values.get(name)
        return None if value is None or value.is_null else value

    def require(self, name: str) -> Value | None:
        value = self.get(name)
        if value is None:
            self.value.problem(f"{name} is missing")
        return value

    def rest(self) -> Iterator[tuple[str, Value]]:
        """All keys and values, for mappings whose keys are names."""
        self._known.update(self._values)
        yield from self._values.items()

    def later(self, *names: str) -> None:
        """Keys of the documented configuration that this version does not serve."""
        for name in names:
            self._known.add(name)
            if name in self._values:
                self._values[name].problem(_AVAILABLE_LATER)

    def close(self) -> None:
        for name, value in self._values.items():
            if name not in self._known:
                nearest = difflib.get_close_matches(name, self._known, n=1)
                value.problem("unknown key" + (f"; did you mean {nearest[0]}?" if nearest else ""))


def read(text: str, problems: list[Problem]) -> Value | None:
    """The root of a file; None where it cannot be read at all (the reason is in `problems`)."""
    if len(text) > MAX_BYTES:
        problems.append(Problem("", f"the file is larger than {MAX_BYTES} bytes"))
        return None
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else None
                problems.append(Problem("", "anchors and aliases are not taken", line=line))
                return None
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problems.append(Problem("", f"this is not YAML: {error.problem}", line=line))
        return None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problems.append(Problem("", f"this is not YAML: {type(error).__name__}"))
        return None
    return Value(node if node is not None else _EMPTY, "", problems)
