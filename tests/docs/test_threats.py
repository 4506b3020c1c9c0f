"""THREAT_MODEL.md: every threat names what stops it and a test that is there."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "THREAT_MODEL.md").read_text()
HEAD: Final = "| threat | what stops it | shown by | what is left |"


def _rows() -> list[list[str]]:
    rows: list[list[str]] = []
    inside = False
    for line in TEXT.splitlines():
        if line == HEAD:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@cache
def _tests(file: Path) -> frozenset[str]:
    functions = (node for node in ast.parse(file.read_text()).body)
    return frozenset(node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_are_threats() -> None:
    assert len(_rows()) > 30


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_what_stops_it_is_shown_by_a_test(row: list[str]) -> None:
    threat, stops, shown, _ = row
    assert threat
    assert stops
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", shown)
    assert named, "no test shows it"
    for file, name in named:
        assert (ROOT / "tests" / file).is_file(), file
        if name:
            assert name in _tests(ROOT / "tests" / file), f"{file}::{name}"


def test_what_is_not_covered_is_said() -> None:
    assert len(re.findall(r"^- \*\*", TEXT.partition("## Not covered")[2], flags=re.MULTILINE)) > 4
