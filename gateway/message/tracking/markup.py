"""The links of an HTML text, and the place for a pixel, by octet. Pure.

Guarantees: a slot is the value of the first `href` of an `<a>` or `<area>`, as a browser reads it, without its quotes;
all outside the slots is to stay. Text in comments (conditional ones, too), scripts, styles and the like is none of it.
Whatever the octets are, nothing is raised; time is linear.

A tokenizer of WHATWG's algorithm says what is a tag and what its attributes are; where an attribute stands in a tag is
read here, and a tag that both do not read alike stays whole. The text is taken as Latin-1, so that a character is an
octet: every charset that leaf.py lets through has its markup in ASCII. A line end is a space to it, so that all is one
line and a column is a place.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from turbohtml import Token, Tokenizer, TokenType

from gateway.message.tracking import links

_STEP: Final = 32 * 1024  # characters that are told to the tokenizer at once
_TAGS: Final = frozenset({"a", "area"})
_ENDS: Final = frozenset({"body", "html"})
_LOOKED_AT: Final = _TAGS | _ENDS
# WHATWG HTML, 13.2.5.8 and 32 to 40: the name of the tag, attributes that are no href, and the first that is. An
# attribute's name may begin with "=".
_SPACE: Final = rb"[\t\n\f\r ]*+"
_VALUE: Final = rb"(?:\"[^\"]*+\"|'[^']*+'|(?![\"'])[^\t\n\f\r >]*+)"
_HREF: Final = re.compile(
    rb"<[A-Za-z][^\t\n\f\r />]*+"
    rb"(?:[\t\n\f\r /]*+(?!href[\t\n\f\r />=])[^\t\n\f\r />][^\t\n\f\r />=]*+(?:%(space)b=%(space)b%(value)b)?+)*+"
    rb"[\t\n\f\r /]*+href%(space)b=%(space)b(?:\"([^\"]*+)\"|'([^']*+)'|((?![\"'])[^\t\n\f\r >]*+))"
    % {b"space": _SPACE, b"value": _VALUE},
    re.IGNORECASE,
)
_SPECIAL: Final = re.compile(r"[&\r\n\0]")  # from there on a value is not what stands there
# A link that says so stays whole: our own word, and those of services that senders may come from.
_ANY: Final = None  # whatever its value is
_REFUSALS: Final[dict[str, frozenset[str] | None]] = {
    "data-track": frozenset({"false", "off", "no", "0"}),
    "clicktracking": frozenset({"off"}),  # SendGrid
    "data-msys-clicktrack": frozenset({"0"}),  # SparkPost
    "data-pm-no-track": _ANY,  # Postmark
    "disable-tracking": frozenset({"true"}),  # Mailgun
    "mc:disable-tracking": _ANY,  # Mandrill
    "ses:no-track": _ANY,  # Amazon SES
}
_CLASS: Final = "untracked"  # Customer.io
_PROBE: Final = "<img>"


class Slot(NamedTuple):
    """Octets from `start` to `end` give way to the address of `target`; None: to the pixel."""

    start: int
    end: int
    target: str | None


class Markup:
    """What is found: `slots` (in order) and `pixel` (where one may stand, None: nowhere)."""

    def __init__(self, html: bytes, *, utf8: bool, spared: Collection[str], own: str) -> None:
        """`utf8`: octets over 127 are that. Links to `spared` targets stay, and those that begin with `own`."""
        self.slots: list[Slot] = []
        self.pixel: int | None = None
        self._html = html
        self._utf8 = utf8
        self._spared = spared
        self._own = own
        self._has_body_end = False
        text = html.replace(b"\r", b" ").replace(b"\n", b" ").decode("latin-1")
        tokenizer = Tokenizer()
        for start in range(0, len(text), _STEP):
            self._read(tokenizer.feed(text[start : start + _STEP]))
        # Where a tag after the end is one, the end is neither in a tag nor in a comment or the like.
        after = [*tokenizer.feed(_PROBE), *tokenizer.close()]
        if self.pixel is None and any(token.tag == "img" and token.col == len(html) for token in after):
            self.pixel = len(html.rstrip(b"\r\n"))

    def _read(self, tokens: Iterator[Token]) -> None:
        for token in tokens:
            if token.tag not in _LOOKED_AT:
                continue
            if token.type is TokenType.END_TAG:
                if token.tag in _ENDS:
                    self._close(token)
            elif token.tag in _TAGS:
                self._link(token)

    def _close(self, token: Token) -> None:
        """The pixel stands before the last end of the body or, without one, of all."""
        is_body = token.tag == "body"
        if is_body or not self._has_body_end:
            self.pixel = token.col
        self._has_body_end = is_body or self._has_body_end

    def _link(self, token: Token) -> None:
        href = token.attr("href")
        if not href:
            return
        found = _HREF.match(self._html, token.col)
        if found is None:
            return
        start, end = found.span(found.lastindex or 0)
        value = self._value(start, end, href)
        target = links.target(value) if value is not None else None
        if target is None or target in self._spared or target.startswith(self._own):
            return
        if not _refuses(token):
            self.slots.append(Slot(start, end, target))

    def _value(self, start: int, end: int, read: str) -> str | None:
        """The value as text; None where it cannot be, or is not what the tokenizer `read` as Latin-1."""
        raw = self._html[start:end]
        plain = raw.decode("latin-1")
        if plain != read:
            special = _SPECIAL.search(plain)
            if special is None or not read.startswith(plain[: special.start()]):
                return None
        value: str | None = read
        if not plain.isascii() or "\n" in plain or "\r" in plain:
            try:
                value = _read_again(raw.decode())
            except UnicodeDecodeError:
                return None
        # Browsers write other characters of a query in the charset of the page.
        return value if self._utf8 or (value is not None and value.isascii()) else None


def _read_again(value: str) -> str | None:
    """A value with its character references resolved."""
    quoted = value.replace('"', "&quot;")
    for token in Tokenizer().feed(f'<a href="{quoted}">'):
        return token.attr("href")
    return None


def _refuses(token: Token) -> bool:
    for name, value in token.attrs or ():
        if name in _REFUSALS:
            words = _REFUSALS[name]
            if words is None or value.strip().lower() in words:
                return True
        elif name == "class" and _CLASS in value.split():
            return True
    return False
