"""Links between the documents lead somewhere: to a file that is there, and to a heading in it."""

import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _links(text: str) -> list[str]:
    without_code = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "`code`", without_code))
    return [link for link in found if not re.match(r"https?://|mailto:", link)]


@cache
def _anchors(path: Path) -> frozenset[str]:
    """What a heading is called as an anchor, and anchors given by hand."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    names = (re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings)
    return frozenset(names) | frozenset(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in _links(path.read_text()):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), link


def test_every_how_to_is_reached_from_the_readme() -> None:
    linked = set(_links((ROOT / "README.md").read_text()))
    everything = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/howto/*.md"), *ROOT.glob("docs/reference/*.md")]
    assert {str(path.relative_to(ROOT)) for path in everything} - linked == set()
