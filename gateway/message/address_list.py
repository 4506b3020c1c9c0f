"""Address lists of header fields (RFC 5322, 3.4): names, comments, groups, encoded-words.

Guarantees: one pass, linear time, no recursion. `header_addresses` is for the check of allowed senders: it
never misses an address that a mail client would show; what is ambiguous raises AddressError. It does not
repair lists.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.message import encoded_word
from gateway.message.address import AddressError, UnqualifiedError, parse_path
from gateway.message.model import Mailbox

_MAX_OCTETS: Final = 8000  # of a From or Sender field: reading longer ones would hold the loop
_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_ADDRESS: Final = rf"(?:{_ATEXT}|\.)++@(?:{_ATEXT}|\.)++"
# `a@b` or `Name <a@b>` or `"Name" <a@b>` in plain ASCII.
_PLAIN_FIELD: Final = re.compile(rf'(?:"[ !#-\[\]-~]*+"|(?:{_ATEXT}|[ .])*+)[ ]*+<({_ADDRESS})>|({_ADDRESS})')
_SPACE: Final = re.compile(r"[ \t]++")
# A run of characters that means nothing to the grammar, an encoded-word, a quoted string or a domain literal.
_ATOM: Final = re.compile(r'[^\x00-\x20"(),:;<>@\[\]\\\x7f]++|"(?:[^"\\]|\\.)*+"|\[[^\[\]\\]*+\]')
_ENCODED: Final = re.compile(r"=\?[^?\s]++\?[bBqQ]\?[^?\s]*+\?=")
_ENCODED_SPECIAL: Final = re.compile(r'[@,<>;:()"\\\[\]]')
_PAREN: Final = re.compile(r"[()]|\\.")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")


def parse_mailbox_list(text: str) -> tuple[Mailbox, ...]:
    """The mailboxes of a header-style list (RFC 5322, 3.4: names, comments, groups). Raises AddressError.

    Encoded-words in names are decoded. A local part without a domain raises UnqualifiedError.
    """
    return tuple(Mailbox(found.name, parse_path(found.address)) for found in _Reader(text).read() if not found.in_name)


def header_addresses(value: bytes) -> tuple[str, ...]:
    """Every address of a foreign From or Sender field, in normal form, for the check of allowed senders.

    Comments, groups, quoted and encoded names are understood; an unquoted name with an @ counts as an address
    too; a word without a domain (`root`) is returned as it is. At least one is returned: whatever is
    ambiguous, so that a mail client might show an address that is not in the result, raises AddressError, and so does
    what is longer than any such field.
    """
    if len(value) > _MAX_OCTETS:
        raise AddressError(f"the field is longer than {_MAX_OCTETS} octets")
    text = value.replace(b"\r\n", b"").decode("utf-8", "surrogateescape").strip(" \t")
    plain = _PLAIN_FIELD.fullmatch(text)
    if plain is not None and "=?" not in text:
        return (parse_path(plain[1] or plain[2]),)
    addresses: dict[str, None] = {}
    for found in _Reader(text).read():
        if found.hides:
            raise AddressError("an encoded name hides an address")
        try:
            addresses[parse_path(found.address)] = None
        except UnqualifiedError:
            if found.in_name or found.address.startswith('"') or "=?" in found.address:
                raise
            addresses[found.address] = None
    if not addresses:
        raise AddressError("the field holds no address")
    return tuple(addresses)


@dataclass(frozen=True, slots=True)
class _Found:
    """An address as written. `in_name`: it stood in an unquoted display name."""

    name: str
    address: str
    in_name: bool = False
    hides: bool = False  # the decoded name looks like another address


class _Reader:
    """Reads an address list in one pass. What is neither plain nor certain raises AddressError."""

    __slots__ = ("_angle", "_comment", "_found", "_in_group", "_pos", "_text", "_words")

    def __init__(self, text: str) -> None:
        if (control := _CONTROL.search(text)) is not None:
            raise AddressError(f"the list contains a control character (U+{ord(control[0]):04X})")
        self._text = text
        self._pos = 0
        self._found: list[_Found] = []
        self._in_group = False
        self._begin()

    def _begin(self) -> None:
        self._words: list[str] = []  # runs without whitespace between them
        self._angle: str | None = None
        self._comment = ""

    def read(self) -> list[_Found]:
        text = self._text
        while self._pos < len(text):
            if (space := _SPACE.match(text, self._pos)) is not None:
                self._pos = space.end()
            elif (character := text[self._pos]) == "(":
                self._read_comment()
            elif character == "<":
                self._read_angle()
            elif character in ",:;":
                self._pos += 1
                self._separate(character)
            else:
                self._read_word()
        self._finish()
        if self._in_group:
            raise AddressError("a group of addresses is not closed by a semicolon")
        return self._found

    def _separate(self, character: str) -> None:
        if character == ",":
            self._finish()
        elif character == ":":
            self._open_group()
        else:
            self._close_group()

    def _read_word(self) -> None:
        if self._angle is not None:
            raise AddressError("there is text after <address>: separate addresses by commas")
        text, start = self._text, self._pos
        while self._pos < len(text):
            if (encoded := _ENCODED.match(text, self._pos)) is not None:
                # A client that cuts the list first would see other addresses than one that decodes first.
                if _ENCODED_SPECIAL.search(encoded[0]) is not None:
                    raise AddressError("an encoded-word holds a character that must be encoded (RFC 2047, 5)")
                self._pos = encoded.end()
            elif (atom := _ATOM.match(text, self._pos)) is not None:
                self._pos = atom.end()
            elif text[self._pos] == "@":
                self._pos += 1
            else:
                break
        if self._pos == start:
            raise AddressError(f"unexpected {text[start]!a}")
        self._words.append(text[start : self._pos])

    def _read_angle(self) -> None:
        if self._angle is not None:
            raise AddressError("there are two <addresses> without a comma between them")
        text, start = self._text, self._pos + 1
        self._pos = start
        while self._pos < len(text) and text[self._pos] != ">":
            atom = _ATOM.match(text, self._pos) or _SPACE.match(text, self._pos)
            if atom is None and text[self._pos] != "@":
                raise AddressError(f"unexpected {text[self._pos]!a} in <address>")
            self._pos = atom.end() if atom is not None else self._pos + 1
        if self._pos >= len(text):
            raise AddressError("there is a < without a >")
        self._angle = text[start : self._pos].strip(" \t")
        self._pos += 1

    def _read_comment(self) -> None:
        depth, start = 1, self._pos + 1
        for match in _PAREN.finditer(self._text, start):
            depth += {"(": 1, ")": -1}.get(match[0], 0)
            if depth == 0:
                self._comment = self._comment or self._text[start : match.start()]
                self._pos = match.end()
                return
        raise AddressError("a comment is not closed")

    def _open_group(self) -> None:
        if self._in_group or self._angle is not None or not self._words or any("@" in w for w in self._words):
            raise AddressError("unexpected colon")
        self._in_group = True
        self._begin()

    def _close_group(self) -> None:
        if not self._in_group:
            raise AddressError("unexpected semicolon: separate addresses by commas")
        self._finish()
        self._in_group = False

    def _finish(self) -> None:
        """End of one mailbox: an empty one is allowed between commas (RFC 5322, 4.4)."""
        words = self._words
        if self._angle is not None:
            self._found += [_Found("", word, in_name=True) for word in words if _has_at(word)]
            if "=?" in self._angle:
                raise AddressError("an encoded-word stands inside an address (RFC 2047, 5)")
            written = _phrase(words) or self._comment.strip(" \t")
            name = encoded_word.decode(written)
            hides = name != written and "@" in name and "<" in name
            self._found.append(_Found(name, self._angle, hides=hides))
        elif len(words) == 1:
            if "=?" in words[0]:
                raise AddressError("an encoded-word stands inside an address (RFC 2047, 5)")
            self._found.append(_Found(encoded_word.decode(self._comment.strip(" \t")), words[0]))
        elif words:
            raise AddressError("there is a name without an address, or a comma is missing")
        self._begin()


def _has_at(word: str) -> bool:
    """Whether a word of a name has an @ outside quotes."""
    return "@" in word and "@" in _QUOTED.sub("", word)


def _phrase(words: list[str]) -> str:
    return " ".join([re.sub(r"\\(.)", r"\1", w[1:-1]) if _QUOTED.fullmatch(w) else w for w in words])
