"""docs/rfcs.md: every RFC that the code cites is in it, and what it points at is there."""

import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = {"yes", "partial", "no", "cited"}


def _rows() -> list[tuple[str, str, str, str, str]]:
    """(numbers and name, kept, what, where, shown by)."""
    lines = (ROOT / "docs" / "rfcs.md").read_text().splitlines()
    rows = [line.strip("|").split("|") for line in lines if re.match(r"\| \d", line)]
    return [(row[0].strip(), row[1].strip(), row[2].strip(), row[3].strip(), row[4].strip()) for row in rows]


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\b\d{4}\b", text))


@cache
def _cited() -> frozenset[str]:
    sources = [*ROOT.glob("gateway/**/*.py"), *ROOT.glob("gateway/**/*.sql")]
    return frozenset(number for path in sources for number in re.findall(r"RFCs? ?(\d{4})", path.read_text()))


def test_every_rfc_that_the_code_cites_is_listed() -> None:
    cited = _cited()
    listed = [number for row in _rows() for number in _numbers(row[0])]
    assert len(cited) > 50
    assert cited - set(listed) == set()
    assert sorted(listed) == sorted(set(listed)), "one of them is listed twice"


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_a_row_says_where_and_how_it_is_shown(row: tuple[str, str, str, str, str]) -> None:
    name, kept, what, where, shown = row
    modules, tests = re.findall(r"`([^`]+)`", where), re.findall(r"`([^`]+)`", shown)
    assert kept in KEPT, name
    if kept in {"partial", "cited"}:
        assert what, "what of it?"
    if kept != "no":
        assert modules, "where?"
        assert tests, "which test shows it?"
    assert [path for path in modules if not (ROOT / "gateway" / path).is_file()] == []
    assert [path for path in tests if not (ROOT / "tests" / path).is_file()] == []


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_what_is_cited_somewhere_is_cited_where_the_row_says(row: tuple[str, str, str, str, str]) -> None:
    """Of each number, where the code cites it at all."""
    name, _, _, where, _ = row
    text = "".join((ROOT / "gateway" / path).read_text() for path in re.findall(r"`([^`]+)`", where))
    for number in _numbers(name) & _cited():
        assert re.search(rf"RFCs? ?{number}", text), f"RFC {number} is cited, but in none of these modules"
