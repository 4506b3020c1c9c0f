"""docs/dialects/coverage.md names tests that exist, every one that runs an example, and a reason for each "no"."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "dialects" / "coverage.md"
EXAMPLES = TESTS / "interop" / "examples"
ROW = re.compile(r"^\| (.+?) \| (.+) \|$")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
HEADS = {"the document", "what its users do"}


def _rows() -> list[tuple[str, str]]:
    """What a document says, and what shows it."""
    found = [ROW.match(line) for line in DOCUMENT.read_text().splitlines()]
    return [(row[1], row[2]) for row in found if row is not None and row[1] not in HEADS]


@cache
def _tests(file: Path) -> frozenset[str]:
    """The names of the tests in a file."""
    tree = ast.parse(file.read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


@pytest.mark.parametrize(("says", "shown"), _rows())
def test_every_line_has_its_tests_or_a_reason(says: str, shown: str) -> None:
    named = NAMED.findall(shown)
    assert named or re.match(r"no: \w.{10,}", shown), "neither a test nor a reason"
    for file, name in named:
        assert (TESTS / file).is_file(), file
        assert name in _tests(TESTS / file), f"{file}::{name}"


def test_every_test_of_an_example_is_named() -> None:
    named = {f"{file}::{name}" for _, shown in _rows() for file, name in NAMED.findall(shown)}
    files = [*TESTS.glob("interop/test_examples_*.py"), TESTS / "interop" / "test_sendmux_sdk.py"]
    files.remove(Path(__file__))
    written = {f"interop/{file.name}::{name}" for file in files for name in _tests(file)}
    assert written - named == set()


def test_every_example_is_run() -> None:
    sources = "".join(file.read_text() for file in TESTS.glob("interop/test_examples_*.py"))
    names = [f"{file.parent.name}/{file.stem}" for file in EXAMPLES.glob("*/*")]
    assert len(names) > 15
    assert [name for name in names if f'"{name}"' not in sources] == []
