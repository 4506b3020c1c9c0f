"""Printing for people and, with --json, for programs.

Guarantees: no control character of foreign text reaches the terminal (a subject or a remote reply could otherwise
rewrite what the operator sees); JSON is ASCII, whatever the terminal speaks.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def emit(arguments: argparse.Namespace, result: Any, people: Callable[[Any], None]) -> int:
    """Print a result the way it was asked for; returns exit code 0."""
    if arguments.json:
        print(json.dumps(result, indent=2).replace("\x7f", "\\u007f"))  # the one control that JSON does not escape
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


def complain(text: str, *more: str, hint: str = "") -> None:
    """An error in words on standard error: what is wrong, then details, then what can be done."""
    lines = [f"mail-gateway: {text}", *(f"  {line}" for line in more), *([hint] if hint else [])]
    print("\n".join(clean(line) for line in lines), file=sys.stderr)


def count(number: int, noun: str) -> str:
    """`1 recipient`, `2 recipients`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def clean(text: str) -> str:
    """Foreign text for a terminal: what cannot be printed is shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def prepare(*streams: TextIO) -> None:
    """What a terminal's encoding lacks is shown as an escape; it must not end the command."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return clean(", ".join(map(str, value))) or "any"
    return clean(str(value))
