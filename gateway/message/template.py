"""Templates: a text with `{{name}}` in it, and what it becomes with given values.

Logic-less: values, defaults, sections, comments; no code, no partials, nothing that reads anything but the values. What
a value holds is never read as a template.

Guarantees: pure; nothing but TemplateError is raised, and it names every fault with its place; reading takes time
linear to the text, rendering a bounded number of steps; no output is longer than the limit; no recursion. It does not
know where templates are kept.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from gateway.errors import Problem
from gateway.message import template_tags
from gateway.message.model import Submission
from gateway.message.template_tags import CODE, End, Faults, Op, Path, Section, TemplateError, Value

__all__ = ["StoredTemplate", "Template", "TemplateError", "apply", "parse"]

MAX_STEPS: Final = 50_000  # of one rendering, 25 ms: a list of 2500 things with five values each
MAX_SUBJECT_CHARACTERS: Final = 8000  # rendered: the header stays well under 100 KB

UNSENDABLE: Final = re.compile("[\x00\ud800-\udfff]")  # neither the store nor a message can hold them
# What ends a header field, or is taken for its end by some readers (RFC 5322, 2.2).
CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Template:
    """A text that was read. `path` is the field that its problems are told of."""

    ops: tuple[Op, ...]
    path: str = ""

    def render(self, variables: Mapping[str, Any], *, escape: bool, limit: int) -> str:
        """The text with its values, of at most `limit` characters; `escape` makes values safe in html.

        A value is a text, number or boolean; null is none. Raises TemplateError.
        """
        if len(self.ops) == 1 and isinstance(self.ops[0], str) and len(self.ops[0]) <= limit:
            return self.ops[0]
        return _Rendering(self, variables, escape=escape, limit=limit).run()


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """The parts of a stored template, read."""

    subject: Template
    html: Template | None
    text: Template | None

    @classmethod
    def read(cls, subject: str, html_body: str | None, text_body: str | None) -> Self:
        """Raises TemplateError with the problems of all parts, each under its own name."""
        reading = _Substitution({})
        parts = (
            reading.read(subject, "subject"),
            reading.read(html_body, "html_body"),
            reading.read(text_body, "text_body"),
        )
        reading.finish()
        first, second, third = (part and replace(part, path=f"template.{part.path}") for part in parts)
        return cls(first or Template(()), second, third)


def parse(text: str, path: str = "") -> Template:
    """Read a text; `path` is the field it came in. Raises TemplateError."""
    return Template(template_tags.read(text, path), path)


def apply(submission: Submission, stored: StoredTemplate | None, *, limit: int) -> Submission:
    """The submission with its values in place, and nothing left to substitute.

    It is returned as it is where it has neither variables nor a template. A subject of its own stands before the
    template's. `limit` is of each body, in characters. Raises TemplateError with the problems of all parts.
    """
    if stored is None and submission.variables is None:
        return submission
    work = _Substitution(submission.variables or {})
    subject = work.read(submission.subject, "subject")
    html_part = work.read(submission.html, "html_body")
    text_part = work.read(submission.text, "text_body")
    if stored is not None:
        work.refuse(part.path for part in (html_part, text_part) if part)
        subject, html_part, text_part = subject if submission.subject else stored.subject, stored.html, stored.text
    line = work.render(subject, escape=False, limit=min(limit, MAX_SUBJECT_CHARACTERS)) or ""
    if CONTROL.search(line):
        work.problems.append(Problem("subject", "holds line breaks or other control characters once filled in", CODE))
    filled = replace(
        submission,
        subject=line,
        html=work.render(html_part, escape=True, limit=limit),
        text=work.render(text_part, escape=False, limit=limit),
        variables=None,
        template=None,
    )
    work.finish()
    return filled


class _Substitution:
    """Reads and renders several parts, and keeps what is wrong with them."""

    __slots__ = ("_variables", "problems")

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self.problems: list[Problem] = []

    def read(self, text: str | None, path: str) -> Template | None:
        try:
            return None if text is None else parse(text, path)
        except TemplateError as error:
            self.problems += error.problems
            return None

    def render(self, part: Template | None, *, escape: bool, limit: int) -> str | None:
        try:
            return None if part is None else part.render(self._variables, escape=escape, limit=limit)
        except TemplateError as error:
            self.problems += error.problems
            return None

    def refuse(self, paths: Iterable[str]) -> None:
        self.problems += [Problem(path, "the template has this part: give one of them", CODE) for path in paths]

    def finish(self) -> None:
        """Raises TemplateError where anything is wrong."""
        if self.problems:
            raise TemplateError(self.problems[: template_tags.MAX_PROBLEMS])


class _Rendering:
    """One run over a template's operations."""

    def __init__(self, template: Template, variables: Mapping[str, Any], *, escape: bool, limit: int) -> None:
        self._ops = template.ops
        self._escape = escape
        self._limit = limit
        self._faults = Faults(template.path)
        self._faulty: set[Path] = set()  # a name is told once, however often it stands there
        self._contexts: list[Any] = [variables]
        self._items: list[Iterator[Any]] = []  # what is left of the list of each section we are in
        self._out: list[str] = []
        self._size = 0
        self.steps = 0

    def run(self) -> str:
        at = 0
        while at < len(self._ops):
            op = self._ops[at]
            self._step()
            if isinstance(op, str):
                self._put(op)
            elif isinstance(op, Value):
                self._value(op)
            elif isinstance(op, Section):
                at = self._enter(op, at)
            else:
                at = self._again(op, at)
            at += 1
        self._faults.refuse()
        return "".join(self._out)

    def _enter(self, op: Section, at: int) -> int:
        """The index to go on after: the section's own, or that of its end."""
        value = self._find(op.path)
        if bool(value) is op.inverted:
            return op.end
        here = self._contexts[-1] if op.inverted else value
        items = iter(here if isinstance(here, list) and not op.inverted else (here,))
        self._contexts.append(next(items))
        self._items.append(items)
        return at

    def _again(self, op: End, at: int) -> int:
        for item in self._items[-1]:
            self._contexts[-1] = item
            return op.start
        self._contexts.pop()
        self._items.pop()
        return at

    def _value(self, op: Value) -> None:
        value = self._find(op.path)
        if value is None:
            if op.default is not None:
                self._put(op.default)  # the author's own text, as trusted as the rest of it
            else:
                self._fault(
                    op, f"{{{{{op.name}}}}} has no value: give it in variables, or write {{{{{op.name}|default}}}}"
                )
            return
        text = _scalar(value)
        if text is None:
            self._fault(op, f"{{{{{op.name}}}}} is {_kind(value)}, not a text, number or boolean")
        elif len(text) > self._limit - self._size:
            raise self._too_long()
        elif UNSENDABLE.search(text):
            self._fault(op, f"{{{{{op.name}}}}} holds a character that no message can hold")
        else:
            self._put(html.escape(text) if self._escape and not op.raw else text)

    def _find(self, path: Path) -> Any:
        """The value of a name, None where there is none: of the innermost section that knows its first part."""
        if not path:
            return self._contexts[-1]
        for context in reversed(self._contexts):
            self._step()
            if isinstance(context, Mapping) and path[0] in context:
                value = context[path[0]]
                break
        else:
            return None
        for part in path[1:]:
            self._step()
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def _put(self, text: str) -> None:
        self._size += len(text)
        if self._size > self._limit:
            raise self._too_long()
        self._out.append(text)

    def _fault(self, op: Value, text: str) -> None:
        if op.path not in self._faulty:
            self._faulty.add(op.path)
            self._faults.add(op.line, op.column, text)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise self._faults.stop(f"takes more than {MAX_STEPS} steps to fill in: its lists are too long")

    def _too_long(self) -> TemplateError:
        return self._faults.stop(f"has more than {self._limit} characters once filled in")


def _scalar(value: Any) -> str | None:
    """What stands for a value in the text, None where nothing can."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (int, float)):
        return None
    try:
        return str(value)
    except ValueError:  # the interpreter's own limit on digits
        return None


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (int, float)):
        return "a number with too many digits"
    return "a list" if isinstance(value, (list, tuple)) else "something else"
