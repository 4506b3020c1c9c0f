"""Markdown: a page with its origin, and tables."""

from collections.abc import Iterable, Sequence
from typing import Final

_ORIGIN: Final = "<!-- Made by `make docs`; changes here are lost. -->"


def page(title: str, *parts: str) -> str:
    """A whole page, paragraphs and tables parted by empty lines."""
    return "\n\n".join((_ORIGIN, f"# {title}", *(part for part in parts if part))) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell stays text."""
    lines = [_row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows)]
    return "\n".join(lines)


def code(text: str) -> str:
    """Text as it is written; nothing for nothing."""
    return f"`{text}`" if text else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
