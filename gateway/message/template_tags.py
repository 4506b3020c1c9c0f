"""The tags of a template: its text, read into operations that are done one after the other.

Guarantees: pure, no recursion; a text is gone over once, in time linear to it; nothing but TemplateError is raised, and
it names every fault with its place. It does not fill anything in (message/template.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.errors import Problem

MAX_TAGS: Final = 5000  # of one text: 20 ms to read
MAX_DEPTH: Final = 16  # sections within sections: a name is looked for in each
MAX_NAME_CHARACTERS: Final = 128
MAX_PROBLEMS: Final = 100  # told at once
CODE: Final = "template_error"

_OPEN: Final = "{{"
_SPACES: Final = " "  # round a name; a line break there is a mistake
_STRUCTURE: Final = frozenset("#^/!")
_SHOWN_CHARACTERS: Final = 40
_NAME: Final = re.compile(r"\.|[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+")
_REST_OF_LINE: Final = re.compile(r"[ \t]*+(?:\r?\n|\Z)")

Path = tuple[str, ...]  # a dotted name; () is `.`, the thing of the section itself


class TemplateError(ValueError):
    """A template that cannot be read, or not be used with these values. `problems` has every fault."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = f" ({len(problems) - 1} more in errors)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = tuple(problems)

    @property
    def param(self) -> str | None:
        """The field of the request at fault: subject, html_body, text_body or template."""
        return self.problems[0].path.partition(".")[0] or None


@dataclass(frozen=True, slots=True)
class Tag:
    """A name, and where it stands."""

    path: Path
    line: int
    column: int

    @property
    def name(self) -> str:
        return ".".join(self.path) or "."


@dataclass(frozen=True, slots=True)
class Value(Tag):
    """`{{name}}`, `{{name|default}}`; `raw` with three braces."""

    raw: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class Section(Tag):
    """`{{#name}}`, `inverted` `{{^name}}`; `end` is the index of its end."""

    inverted: bool
    end: int = -1


@dataclass(frozen=True, slots=True)
class End:
    """`{{/name}}`; `start` is the index of its section."""

    start: int


Op = str | Value | Section | End


def read(text: str, path: str) -> tuple[Op, ...]:
    """The operations of a text; `path` is the field it came in. Raises TemplateError."""
    if _OPEN not in text:
        return (text,)
    return _Parser(text, path).run()


class Faults:
    """What is wrong with one text."""

    __slots__ = ("_path", "found")

    def __init__(self, path: str) -> None:
        self._path = path
        self.found: list[Problem] = []

    def add(self, line: int, column: int, text: str) -> None:
        self._add(f"line {line}, column {column}: {text}")

    def stop(self, text: str) -> TemplateError:
        """The error of a text that cannot be followed any further."""
        self._add(text)
        return TemplateError(self.found)

    def refuse(self) -> None:
        if self.found:
            raise TemplateError(self.found)

    def _add(self, text: str) -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(Problem(self._path, text, CODE))


class _Parser:
    """Goes over a text once, from left to right."""

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._ops: list[Op] = []
        self._open: list[int] = []  # indexes of the sections we are in
        self._faults = Faults(path)
        self._counted = 0  # up to here `_line` is right
        self._line = 1
        self._line_start = 0

    def run(self) -> tuple[Op, ...]:
        at = tags = 0
        while (start := self._text.find(_OPEN, at)) >= 0:
            tags += 1
            if tags > MAX_TAGS:
                raise self._faults.stop(f"has more than {MAX_TAGS} tags")
            at = self._tag(at, start)
        self._literal(self._text[at:])
        for index in self._open:
            section = self._ops[index]
            assert isinstance(section, Section)
            text = f"the section {section.name} has no end: write {{{{/{section.name}}}}}"
            self._faults.add(section.line, section.column, text)
        self._faults.refuse()
        return tuple(self._ops)

    def _tag(self, at: int, start: int) -> int:
        """Read the literal from `at` and the tag at `start`; where to go on."""
        line, column = self._place(start)
        width = 3 if self._text.startswith("{", start + 2) else 2
        close = self._text.find("}" * width, start + width)
        if close < 0:
            raise self._faults.stop(f"line {line}, column {column}: the tag is not closed: write {'}' * width}")
        inner = self._text[start + width : close].strip(_SPACES)
        literal, end = self._text[at:start], close + width
        mark, name = (inner[:1], inner[1:]) if width == 2 else ("", inner)
        if mark in _STRUCTURE:
            literal, end = self._without_line(literal, at, end)
            self._literal(literal)
            self._structure(mark, name, line, column)
        else:
            self._literal(literal)
            self._value(inner, line, column, raw=width == 3)
        return end

    def _without_line(self, literal: str, at: int, end: int) -> tuple[str, int]:
        """A section's tag or comment that has a line to itself takes the line with it."""
        before = literal.rstrip(" \t")
        begins = before.endswith("\n") or (not before and (at == 0 or self._text[at - 1] == "\n"))
        rest = _REST_OF_LINE.match(self._text, end) if begins else None
        return (before, rest.end()) if rest else (literal, end)

    def _literal(self, text: str) -> None:
        if text:
            self._ops.append(text)

    def _value(self, inner: str, line: int, column: int, *, raw: bool) -> None:
        name, bar, default = inner.partition("|")
        if _OPEN in default:
            self._faults.add(line, column, "a default cannot hold a tag")
        elif (path := self._name(name, line, column)) is not None:
            self._ops.append(Value(path, line, column, raw, default.strip(_SPACES) if bar else None))

    def _structure(self, mark: str, name: str, line: int, column: int) -> None:
        if mark == "!":
            return
        path = self._name(name, line, column)
        if mark == "/":
            self._close(path, line, column)
            return
        if len(self._open) == MAX_DEPTH:
            raise self._faults.stop(f"line {line}, column {column}: sections stand {MAX_DEPTH} deep at most")
        self._open.append(len(self._ops))
        self._ops.append(Section(path or (), line, column, inverted=mark == "^"))

    def _close(self, path: Path | None, line: int, column: int) -> None:
        if not self._open:
            self._faults.add(line, column, "ends a section that was not begun")
            return
        start = self._open.pop()
        section = self._ops[start]
        assert isinstance(section, Section)
        if path is not None and path != section.path:
            text = f"ends another section than that of line {section.line}: write {{{{/{section.name}}}}}"
            self._faults.add(line, column, text)
        self._ops[start] = replace(section, end=len(self._ops))
        self._ops.append(End(start))

    def _name(self, given: str, line: int, column: int) -> Path | None:
        name = given.strip(_SPACES)
        if len(name) <= MAX_NAME_CHARACTERS and _NAME.fullmatch(name) is not None:
            return () if name == "." else tuple(name.split("."))
        shown = ascii(name[:_SHOWN_CHARACTERS])[1:-1]
        words = f"letters, digits, _ and -, with dots between, {MAX_NAME_CHARACTERS} characters at most"
        self._faults.add(line, column, f"{shown or 'nothing'} is no name: a name has {words}")
        return None

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column of a position; positions are asked for in rising order."""
        breaks = self._text.count("\n", self._counted, at)
        if breaks:
            self._line += breaks
            self._line_start = self._text.rfind("\n", self._counted, at) + 1
        self._counted = at
        return self._line, at - self._line_start + 1
