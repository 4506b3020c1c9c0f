"""Printing for people and, with --json, for programs."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def emit(arguments: argparse.Namespace, result: Any, people: Callable[[Any], None]) -> int:
    """Print a result the way it was asked for; returns exit code 0."""
    if arguments.json:
        json.dump(result, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        people(result)
    return 0


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Columns as wide as their widest cell; `empty` is printed where there is no row."""
    if not rows:
        print(empty)
        return
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(heading), *(len(row[i]) for row in cells)) for i, heading in enumerate(headings)]
    for line in [list(headings), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fields(pairs: Sequence[tuple[str, Any]]) -> None:
    """`name: value` lines, aligned."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        print(f"{name + ':':<{width + 1}} {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "any"
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()
