"""docs/flow.md names files and functions that are there."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "flow.md").read_text()
NAMED: Final = re.findall(r"`([\w/]+\.py)(?:: ([\w.]+))?`", TEXT)


@cache
def _names(path: Path) -> frozenset[str]:
    """Functions, classes and methods of a module: `Writer`, `Writer.submit`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            names.update(f"{node.name}.{one.name}" for one in inner)
    return frozenset(names)


def test_the_path_is_told_in_names() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_what_it_names_is_there(file: str, name: str) -> None:
    path = ROOT / "gateway" / file
    assert path.is_file()
    if name:
        assert name in _names(path)


def test_names_without_a_file_are_of_the_file_before() -> None:
    """`Sweep.messages` after `store/sweep.py: Sweep.contents`."""
    last = ""
    for file, name, alone in re.findall(r"`(?:([\w/]+\.py)(?:: ([\w.]+))?|(\w+\.\w+))`", TEXT):
        if file:
            last = file
        elif not alone.endswith((".db", ".md")):
            assert alone in _names(ROOT / "gateway" / last), f"{alone} is not in {last} ({name})"
