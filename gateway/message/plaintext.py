"""A text part from HTML, for readers that show none.

Guarantees: linear time and no recursion on any input, scripts and styles left out, links kept; bounded time and memory:
what comes after MAX_WORK is left out, and a last line `[...]` says so. It is no browser: no CSS, no tables beyond a
space between cells. Python's html.parser is not used: its time is quadratic on some input.
"""

import html
import re
from typing import Final

_RAW: Final = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "template", "noframes", "iframe", "svg")
}
_PARAGRAPHS: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "dl", "fieldset", "figure", "footer", "form"),
        *(
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "header",
            "main",
            "nav",
            "ol",
            "p",
            "pre",
            "section",
            "table",
            "ul",
        ),
    )
)
_LINES: Final = frozenset(
    (
        "br",
        "center",
        "dd",
        "details",
        "div",
        "dt",
        "figcaption",
        "hr",
        "li",
        "option",
        "summary",
        "thead",
        "tr",
    )
)
_CELLS: Final = frozenset(("td", "th"))
MAX_WORK: Final = 1_000_000  # characters of text, where a tag counts as TAG_WORK: half a second, some 40 MB
TAG_WORK: Final = 10
_MARKUP: Final = re.compile(r"<(?=[A-Za-z/!?])")
_TAG_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9:-]{0,30}")
_HREF: Final = re.compile(r"""\bhref\s*=\s*(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""", re.IGNORECASE)
_ALT: Final = re.compile(r"""\balt\s*=\s*(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""", re.IGNORECASE)
_SPACES: Final = re.compile(r"[ \t\n\r\f]+")
_MAX_QUOTED: Final = 8  # a > inside quotes is looked past at most so often in one tag
_MAX_DEPTH: Final = 8  # of lists that are indented
_ATTRIBUTE_CHARACTERS: Final = 8000  # of a tag, at either end: between them may be megabytes of an embedded image


def derive(source: str) -> str:
    """The text of an HTML document: an empty line between paragraphs, links as `text (URL)`, LF line ends."""
    return _Derivation(source).run()


class _Derivation:
    """One pass over the source; `_lines` holds what is finished, `_line` the line in the making."""

    __slots__ = ("_blank", "_href", "_line", "_lines", "_link_start", "_lists", "_pos", "_pre", "_source")

    def __init__(self, source: str) -> None:
        self._source = source
        self._pos = 0
        self._lines: list[str] = []
        self._line: list[str] = []
        self._blank = False  # an empty line is wanted before the next text
        self._pre = 0
        self._lists: list[int] = []  # open lists: the last number given, -1 for bullets
        self._href = ""
        self._link_start = 0

    def run(self) -> str:
        source, size, left = self._source, len(self._source), MAX_WORK
        while self._pos < size and left > 0:
            found = _MARKUP.search(source, self._pos)
            start = found.start() if found is not None else size
            if start > self._pos:
                self._text(source[self._pos : min(start, self._pos + left)])
                left -= start - self._pos
            self._pos = start
            if start < size and left > 0:
                self._markup(start)
                left -= TAG_WORK
        self._break()
        if left < 0 or self._pos < size:
            self._lines += ("", "[...]")
        return "\n".join(self._lines).strip("\n") + "\n" if self._lines else ""

    def _markup(self, start: int) -> None:
        source = self._source
        if source.startswith("<!--", start):
            self._skip_past("-->", start + 4)
            return
        if source.startswith(("<!", "<?"), start):
            self._skip_past(">", start)
            return
        closing = source.startswith("</", start)
        name_match = _TAG_NAME.match(source, start + 1 + closing)
        if name_match is None:
            self._text("<")
            self._pos = start + 1
            return
        name = name_match[0].lower()
        end = self._tag_end(name_match.end())
        attributes = self._attributes(name_match.end(), end)
        self._pos = end + 1
        if closing:
            self._close(name)
        elif name in _RAW:
            found = _RAW[name].search(source, self._pos)
            self._pos = found.start() if found is not None else len(source)
        else:
            self._open(name, attributes)

    def _attributes(self, start: int, end: int) -> str:
        if end - start <= 2 * _ATTRIBUTE_CHARACTERS:
            return self._source[start:end]
        return self._source[start : start + _ATTRIBUTE_CHARACTERS] + self._source[end - _ATTRIBUTE_CHARACTERS : end]

    def _skip_past(self, mark: str, start: int) -> None:
        end = self._source.find(mark, start)
        self._pos = end + len(mark) if end >= 0 else len(self._source)

    def _tag_end(self, start: int) -> int:
        """The place of the > that ends a tag; the end of the source where there is none."""
        source = self._source
        first = end = source.find(">", start)
        for _ in range(_MAX_QUOTED):
            if end < 0:
                break
            if source.count('"', start, end) % 2 == 0:
                return end
            end = source.find(">", end + 1)
        return first if first >= 0 else len(source)

    def _text(self, raw: str) -> None:
        text = _unescape(raw)
        if self._pre:
            *full, last = text.split("\n")
            for line in full:
                self._line.append(line)
                self._break(keep_empty=True)
            self._append(last)
            return
        text = _SPACES.sub(" ", text)
        if text.startswith(" ") and (not self._line or self._line[-1].endswith(" ")):
            text = text[1:]
        self._append(text)

    def _append(self, text: str) -> None:
        if not text:
            return
        if self._blank and text.strip():
            if self._lines and self._lines[-1]:
                self._lines.append("")
            self._blank = False
        self._line.append(text)

    def _break(self, *, keep_empty: bool = False) -> None:
        line = "".join(self._line).rstrip(" \t")
        self._line.clear()
        self._link_start = 0
        if line or (keep_empty and self._lines and self._lines[-1]):
            self._lines.append(line)

    def _open(self, name: str, attributes: str) -> None:
        if name in _PARAGRAPHS:
            self._break()
            self._blank = not (name in ("ul", "ol") and self._lists)
        elif name in _LINES:
            self._break(keep_empty=name == "br")
        elif name in _CELLS:
            self._text(" ")
        if name in ("ul", "ol"):
            self._lists.append(0 if name == "ol" else -1)
        elif name == "li":
            self._item()
        elif name == "hr":
            self._append("-" * 20)
            self._break()
        elif name == "pre":
            self._pre += 1
        elif name == "a":
            self._href, self._link_start = _attribute(_HREF, attributes), len(self._line)
        elif name == "img":
            self._append(_SPACES.sub(" ", _attribute(_ALT, attributes)))

    def _item(self) -> None:
        indent = "  " * (min(len(self._lists), _MAX_DEPTH) - 1)
        if self._lists and self._lists[-1] >= 0:
            self._lists[-1] += 1
            self._append(f"{indent}{self._lists[-1]}. ")
        else:
            self._append(f"{indent}- ")

    def _close(self, name: str) -> None:
        if name == "a":
            self._end_link()
        elif name == "pre":
            self._pre = max(0, self._pre - 1)
        elif name in ("ul", "ol") and self._lists:
            self._lists.pop()
        if name in _PARAGRAPHS:
            self._break()
            self._blank = not (name in ("ul", "ol") and self._lists)
        elif name in _LINES and name not in ("br", "hr"):
            self._break()

    def _end_link(self) -> None:
        href, self._href = self._href, ""
        if not href.lower().startswith(("http://", "https://", "mailto:")):
            return
        shown = "".join(self._line[self._link_start :]).strip()
        if shown not in (href, href[7:], href[8:]):
            self._append(f" ({href})" if shown else href)


def _attribute(pattern: re.Pattern[str], attributes: str) -> str:
    found = pattern.search(attributes)
    return _unescape(found[1] or found[2] or found[3] or "").strip() if found else ""


def _unescape(text: str) -> str:
    if "&" not in text:
        return text
    try:
        return html.unescape(text)
    except ValueError:  # a character reference of more digits than Python's int takes
        return text
