"""YAML as nodes that know their line: strict reading, every problem collected with its path.

Guarantees: unknown, duplicate and later-version keys are problems, as are anchors, aliases, tags, control characters
and values of the wrong type; nothing here raises for what stands in the file. It knows no key of ours (configfile/
does).
"""

import difflib
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar

import yaml

from gateway.errors import Problem

MAX_BYTES: Final = 1_000_000
MAX_DURATION_S: Final = 10 * 365 * 86_400  # what is longer is a mistake, and milliseconds must fit the store
_MAX_DEPTH: Final = 20  # the deepest value of ours is five mappings down
_MAX_INTEGER: Final = 1_000_000_000
_SIZE: Final = re.compile(r"(\d{1,15})\s*(B|KB|MB|GB)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS: Final = {"": 1, "B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_DURATION: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(ms|s|m|h|d|w)", re.ASCII)
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_AVAILABLE_LATER: Final = "not available in this version"

_START: Final = yaml.Mark("", 0, 0, 0, "", 0)
_EMPTY: Final = yaml.MappingNode("tag:yaml.org,2002:map", [], _START, _START)  # a file without a key

T = TypeVar("T")
D = TypeVar("D")
E = TypeVar("E", bound=StrEnum)


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


class Findings:
    """What was found wrong: problems stop a start, warnings do not."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []


class Value:
    """A node with its path and line (its key's, where it has one), and the findings its problems go to."""

    def __init__(self, node: yaml.Node, path: str, findings: Findings, line: int | None = None) -> None:
        self.node = node
        self.path = path
        self.findings = findings
        self.line = line or _line(node)

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == "tag:yaml.org,2002:null"

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    def problem(self, message: str) -> None:
        self.findings.problems.append(Problem(self.path, message, line=self.line))

    def warning(self, message: str) -> None:
        self.findings.warnings.append(Problem(self.path, message, line=self.line))

    def text(self) -> str | None:
        """A scalar as it is written; a number or a date is text here. Control characters are refused: what is written
        here becomes headers, commands and log lines."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null or not self.node.value:
            self.problem("must be text")
            return None
        text = str(self.node.value)
        if (control := CONTROL.search(text)) is not None:
            self.problem(f"contains a control character (U+{ord(control[0]):04X})")
            return None
        return text

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

    def integer(self) -> int | None:
        text = self.text()
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or not 1 <= int(text) <= _MAX_INTEGER:
            self.problem("must be a whole number of at least 1")
            return None
        return int(text)

    def duration(self, *, least_s: float = 0.001) -> float | None:
        """Seconds; from `least_s` to ten years."""
        seconds = self.parsed(duration_s)
        if seconds is not None and seconds < least_s:
            self.problem("must be more than nothing")
            return None
        if seconds is not None and seconds > MAX_DURATION_S:
            self.problem("must be at most 3650d")
            return None
        return seconds

    def boolean(self) -> bool | None:
        text = self.text()
        if text in {"true", "false"}:
            return text == "true"
        if text is not None:
            self.problem("must be true or false (yes, no, on and off are not taken)")
        return None

    def one_of(self, choices: type[E]) -> E | None:
        text = self.text()
        if text is None:
            return None
        members = {member.value: member for member in choices}
        if text not in members:
            self.problem(f"must be one of {', '.join(members)}")
        return members.get(text)

    def items(self) -> "Iterator[Value]":
        """The items of a list; a problem where it is none."""
        if not self.is_list:
            self.problem("must be a list")
            return
        for index, node in enumerate(self.node.value):
            yield Value(node, f"{self.path}[{index}]", self.findings)

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
        line = _line(key)
        if not isinstance(key, yaml.ScalarNode) or not key.value or CONTROL.search(key.value):
            Value(key, self.value.path, self.value.findings).problem("a key must be text")
            return
        name = str(key.value)
        value = Value(child, f"{self.value.path}.{name}" if self.value.path else name, self.value.findings, line)
        if name in self._values:
            value.problem("is given twice")
        self._values[name] = value

    def get(self, name: str) -> Value | None:
        """The value of a key, None where it is absent or null."""
        self._known.add(name)
        value = self._values.get(name)
        return None if value is None or value.is_null else value

    def is_null(self, name: str) -> bool:
        """Whether a key is there and null: for those where that is not the same as absent."""
        value = self._values.get(name)
        return value is not None and value.is_null

    def require(self, name: str) -> Value | None:
        value = self.get(name)
        if value is None:
            self.value.problem(f"{name} is missing")
        return value

    def take(self, name: str, read: Callable[[Value], T | None], default: D) -> T | D:
        """What `read` makes of the value; the default where there is none or it cannot be read."""
        value = self.get(name)
        result = read(value) if value is not None else None
        return default if result is None else result

    def parsed(self, name: str, parse: Callable[[str], T], default: D) -> T | D:
        """As `take`, of a scalar."""
        return self.take(name, lambda value: value.parsed(parse), default)

    def one_of(self, name: str, default: E) -> E:
        """As `take`, of a closed set: the default's."""
        return self.take(name, lambda value: value.one_of(type(default)), default)

    def each(self, name: str, parse: Callable[[str], T]) -> list[T]:
        """The items of a list of scalars that can be read; none where there is no list."""
        value = self.get(name)
        items = value.items() if value is not None else ()
        return [result for item in items if (result := item.parsed(parse)) is not None]

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


class _Refused(yaml.MarkedYAMLError):
    """What is YAML, but not taken."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, never objects; refuses at its line what a configuration has no use for."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it open
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            _refuse("anchors and aliases are not taken", event)
        if event.tag is not None:
            _refuse("tags are not taken", event)
        if self._depth >= _MAX_DEPTH:
            _refuse(f"nested deeper than {_MAX_DEPTH} levels", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _refuse(text: str, event: yaml.Event) -> NoReturn:
    mark = event.start_mark
    raise _Refused(problem=text, problem_mark=mark if isinstance(mark, yaml.Mark) else None)


def read(text: str, findings: Findings) -> Value | None:
    """The root of a file; None where it cannot be read at all (the reason is in `findings`)."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except _Refused as error:
        _not_read(findings, str(error.problem), error.problem_mark)
    except yaml.MarkedYAMLError as error:
        _not_read(findings, f"this is not YAML: {error.problem}", error.problem_mark)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{error.character:04X}" if isinstance(error.character, int) else "a byte"
        findings.problems.append(Problem("", f"this is not YAML: {character} is not allowed", line=line))
    else:
        return Value(node if node is not None else _EMPTY, "", findings)
    return None


def _not_read(findings: Findings, message: str, mark: yaml.Mark | None) -> None:
    findings.problems.append(Problem("", message, line=mark.line + 1 if mark is not None else 1))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
