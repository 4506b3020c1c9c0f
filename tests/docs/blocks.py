"""Blocks of code in documents, with what is said of each in a comment before it that no reader sees.

    <!-- run -->                 its commands are run against a daemon, and succeed
    <!-- run: exit 1 -->         and end with that code
    <!-- config -->              a configuration, or a part of one, in which `check` finds nothing
    <!-- nginx -->, <!-- caddy -->, <!-- postfix -->   a part of that program's configuration, which takes it
    <!-- not run: REASON -->     why nothing does

A block of `text` or `json` is something shown, as are lines of the log; commands of ours are run without a mark, too.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SHOWN: Final = {"text", "json"}
_LOGGED: Final = r"\d{4}-\d\d-\d\dT|\{"
_OURS: Final = r"mail-gateway "
_BLOCK: Final = re.compile(
    r"^(?:(?P<margin> *)<!-- (?P<mark>[^\n]*?) -->\n\n?)?(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """`kind` is the word after the fence, `mark` what the comment before it says."""

    document: str
    line: int
    kind: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """Those whose commands are run or have a reason: what operators read."""
    names = ("operating", "backup", "lifecycle", "baddays", "log")
    chosen = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in names)]
    return [path for path in chosen if path.exists()] + sorted((ROOT / "docs" / "howto").glob("*.md"))


def of(path: Path) -> list[Block]:
    """The blocks of a document, in order."""
    text = path.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("indent")) + 1
        inside = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        kind = "text" if not match["mark"] and _are(_LOGGED, inside) else match["kind"]
        mark = match["mark"] or ("run" if _are(_OURS, inside) else "")
        found.append(Block(str(path.relative_to(ROOT)), line, kind, mark, inside))
    return found


def _are(pattern: str, text: str) -> bool:
    return all(re.match(pattern, line) for line in text.splitlines())


def marked(mark: str) -> list[Block]:
    """All blocks of those documents that are marked so."""
    return [block for path in documents() for block in of(path) if block.mark == mark]
