"""Properties of templates on generated and on hostile text."""

import gc
import html
import sys
from types import FrameType
from typing import Any, SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.message import template
from gateway.message.template import TemplateError
from tests.fuzz import effort

EXAMPLES = effort.examples(60)
LIMIT = 500
PIECE = st.sampled_from(
    [
        *("{{", "}}", "{{{", "}}}", "{", "}", "{{#", "{{^", "{{/", "{{!", "|", ".", " ", "\n", "\r\n", "\0", "\ud800"),
        *("a", "b.a", "{{a}}", "{{b.a|x}}", "{{{a}}}", "{{#l}}", "{{/l}}", "{{^a}}", "{{/a}}", "{{.}}", "<&>", "ü"),
    ]
)
TEXT = st.one_of(st.lists(PIECE, max_size=40).map("".join), st.text(max_size=50))
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), TEXT)
VALUE: st.SearchStrategy[Any] = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(["a", "b", "l", "."]), inner, max_size=3)
    ),
    max_leaves=15,
)
VARIABLES = st.dictionaries(st.sampled_from(["a", "b", "l"]), VALUE, max_size=3)
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}\0"), max_size=40)


@EXAMPLES
@given(TEXT, VARIABLES, st.booleans())
def test_nothing_but_a_template_error_is_raised(text: str, variables: dict[str, Any], escape: bool) -> None:
    try:
        filled = template.parse(text, "html_body").render(variables, escape=escape, limit=LIMIT)
    except TemplateError as error:
        told = [str(problem) for problem in error.problems]
        assert told
        assert all(words.startswith("html_body: ") and words.isprintable() for words in told)
    else:
        assert len(filled) <= LIMIT


@EXAMPLES
@given(TEXT.filter(lambda text: "{{" not in text))
def test_text_without_tags_stays_as_it_is(text: str) -> None:
    assert template.parse(text).render({}, escape=True, limit=len(text)) == text


@EXAMPLES
@given(PLAIN, st.lists(st.tuples(st.sampled_from("abc"), PLAIN), max_size=10), st.lists(PLAIN, min_size=3, max_size=3))
def test_values_stand_where_their_names_stood(first: str, pieces: list[tuple[str, str]], values: list[str]) -> None:
    variables = dict(zip("abc", values, strict=True))
    text = first + "".join(f"{{{{{name}}}}}{after}" for name, after in pieces)
    plain = first + "".join(variables[name] + after for name, after in pieces)
    safe = first + "".join(html.escape(variables[name]) + after for name, after in pieces)
    read = template.parse(text)
    assert read.render(variables, escape=False, limit=10_000) == plain
    assert read.render(variables, escape=True, limit=10_000) == safe


@EXAMPLES
@given(st.text(max_size=60), st.booleans())
def test_an_escaped_value_holds_no_markup(value: str, raw: bool) -> None:
    try:
        filled = template.parse("{{a}}").render({"a": value}, escape=True, limit=1000)
    except TemplateError:
        assert "\0" in value
    else:
        assert not set("<>\"'") & set(filled)
        assert html.unescape(filled) == html.unescape(html.escape(value))


class Counted(str):
    """A text that counts the characters its own searches and slices go over."""

    __slots__ = ("seen",)
    seen: int

    def find(self, sub: str, start: SupportsIndex | None = None, end: SupportsIndex | None = None) -> int:
        found = super().find(sub, start, end)
        self._count(start, found if found >= 0 else end)
        return found

    def rfind(self, sub: str, start: SupportsIndex | None = None, end: SupportsIndex | None = None) -> int:
        self._count(start, end)
        return super().rfind(sub, start, end)

    def count(self, sub: str, start: SupportsIndex | None = None, end: SupportsIndex | None = None) -> int:
        self._count(start, end)
        return super().count(sub, start, end)

    def __getitem__(self, at: SupportsIndex | slice) -> str:
        part = super().__getitem__(at)
        self.seen += len(part)
        return part

    def _count(self, start: SupportsIndex | None, end: SupportsIndex | None) -> None:
        self.seen += (len(self) if end is None else int(end)) - int(start or 0)


def work_of(text: str) -> int:
    """Characters gone over and lines of code run by reading a text."""
    counted = Counted(text)
    counted.seen = 0
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += 1
        return trace

    before = sys.gettrace()
    gc.disable()  # what it calls would be counted
    sys.settrace(trace)
    try:
        template.parse(counted)
    except TemplateError:
        pass
    finally:
        sys.settrace(before)
        gc.enable()
    return counted.seen + lines


@pytest.mark.parametrize(
    "piece",
    [
        *("{{", "{{{", "}}", "{", "{{a}}", "{{a", "{{a {{b}} ", "{{#a}}", "{{/a}}", "{{#a}}{{/a}}", "{{!}}"),
        *("   {{!}}   ", " {{^a}} ", "\n", "{{a|", "{{{a}}", "{{a}}\n", "x{{a}}y", "{{\n", "|{{", "{{a..}}"),
    ],
)
def test_the_work_of_reading_is_linear(piece: str) -> None:
    once, twice = work_of(piece * 1000), work_of(piece * 2000)
    assert twice <= 2 * once + 100
    assert twice <= 2000 * (len(piece) * 10 + 300)
