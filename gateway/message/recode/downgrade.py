"""Header fields with octets above 127 made ASCII, for hosts without SMTPUTF8 or 8BITMIME (RFC 2047, 2231). Pure.

Guarantees: a field that is ASCII keeps every octet, and so does all of another but what must change: text becomes
encoded-words in free fields, display names and comments, names of files become RFC 2231's, domains A-labels; a reader
sees what it saw before. Octets that are no UTF-8 are called so (RFC 1428). What no encoding is defined for, as a local
part, a Message-ID or a URL, raises Undowngradable. Linear time.
"""

import itertools
import re
from typing import Final

from gateway.message import encoded_word
from gateway.message import header as fields
from gateway.message.address import AddressError, parse_path

_FIELD: Final = re.compile(rb"([!-9;-~]+)([ \t]*:)((?:[^\n]|\n[ \t])*+)(?:\n|\Z)")
_ADDRESSES: Final = frozenset(
    {
        "bcc",
        "cc",
        "disposition-notification-to",
        "from",
        "list-id",  # RFC 2919, 3: a phrase and what stands in angle brackets
        "mail-followup-to",
        "mail-reply-to",
        "reply-to",
        "resent-bcc",
        "resent-cc",
        "resent-from",
        "resent-reply-to",
        "resent-sender",
        "resent-to",
        "return-receipt-to",
        "sender",
        "to",
    }
)
_PARAMETERS: Final = frozenset({"content-type", "content-disposition"})
# Nothing but comments may be encoded in these (RFC 5322, 3.6; RFC 2045; RFC 2369; RFC 8601).
_STRICT: Final = frozenset(
    {
        "authentication-results",
        "auto-submitted",
        "content-id",
        "content-transfer-encoding",
        "date",
        "dkim-signature",
        "in-reply-to",
        "list-archive",
        "list-help",
        "list-owner",
        "list-post",
        "list-subscribe",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "message-id",
        "mime-version",
        "original-recipient",
        "received",
        "references",
        "resent-date",
        "resent-message-id",
        "return-path",
    }
)
_TOKEN: Final = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*+")|(?P<angle><[^<>]*+>)|(?P<open>\()|(?P<mark>[,:;])|(?P<space>[ \t\r\n]++)'
    r'|(?P<word>[^"<>(),:; \t\r\n]++)',
    re.DOTALL,
)
_PAREN: Final = re.compile(r"[()]|\\.", re.DOTALL)
_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_FOLDS: Final = re.compile(r"(?<![ \t])(?:[ \t]*+\r\n)++[ \t]++")  # one after another leave a line of nothing
_SPACES: Final = re.compile(r"[ \t\r\n]+")
_PARAMETER: Final = re.compile(r';[ \t]*(?:([^\s;="()]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*+"|[^\s;"()]*)[ \t]*)?')
_FILE_NAMES: Final = frozenset({"name", "filename"})
_WIDTH: Final = 76  # RFC 2047, 2: of a line with an encoded-word
_UNKNOWN: Final = "=?unknown-8bit?q?{}?="
_UNKNOWN_OCTETS: Final = 18  # that fill such a word, each escaped


class Undowngradable(ValueError):
    """A field that cannot be said in ASCII; the text names it and says why."""


def header(block: bytes) -> bytes:
    """The header in ASCII, its empty line as it came. Raises Undowngradable."""
    if block.isascii():
        return block
    out, end = [], 0
    for found in _FIELD.finditer(block):
        if found.start() != end:
            break
        end = found.end()
        out.append(found[0] if found[0].isascii() else _field(found))
    rest = block[end:]
    if not rest.isascii():
        raise Undowngradable("a line of its header is no field")
    return b"".join(out) + rest


def _field(found: re.Match[bytes]) -> bytes:
    name = found[1].decode("ascii")
    lower = name.lower()
    raw = found[3].removesuffix(b"\r")
    try:
        if lower in _PARAMETERS:
            return _parameters(name, raw)
        if lower in _ADDRESSES or lower in _STRICT:
            return found[1] + found[2] + _Structure(name, raw, phrases=lower in _ADDRESSES).read() + b"\r\n"
        return _free(name, raw)
    except (fields.HeaderError, AddressError, UnicodeDecodeError) as error:
        raise Undowngradable(f"its field {name} cannot be encoded ({error})") from error


def _free(name: str, raw: bytes) -> bytes:
    """Unstructured text (RFC 2047, 5 (1)). Words that are encoded already are read, and written anew."""
    unfolded = raw.replace(b"\r\n", b"")
    try:
        value = unfolded.decode()
    except UnicodeDecodeError:
        lines: list[str] = []
        for plain, some in itertools.groupby(unfolded.split(), bytes.isascii):
            octets = b" ".join(some)
            lines += [octets.decode()] if plain else _unknown(octets)
        folded = "\r\n ".join(lines)
        return f"{name}: {folded}\r\n".encode()
    return fields.text(name, encoded_word.decode(value), name)


def _unknown(octets: bytes) -> list[str]:
    """Encoded-words of what is in no known charset."""
    cuts = range(0, len(octets), _UNKNOWN_OCTETS)
    return [
        _UNKNOWN.format("".join(f"={octet:02X}" for octet in octets[start : start + _UNKNOWN_OCTETS])) for start in cuts
    ]


def _words(text: str, first: int) -> list[str]:
    """Encoded-words of a display name or a comment; surrogates are octets of no known charset."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _unknown(text.encode("utf-8", "surrogateescape"))
    return encoded_word.encode(encoded_word.decode(text), first)


class _Structure:
    """A structured field, token by token; with `phrases` it is a list of addresses."""

    def __init__(self, name: str, raw: bytes, *, phrases: bool) -> None:
        self._text = raw.decode("utf-8", "surrogateescape")
        self._column = len(name) + 2
        self._phrases = phrases
        self._out: list[str] = []
        self._phrase: list[str] = []  # what may be a name, or an address without brackets
        self._comments: list[str] = []  # that stand in it or behind it

    def read(self) -> bytes:
        text, pos = self._text, 0
        while pos < len(text):
            found = _TOKEN.match(text, pos)
            if found is None:
                raise AddressError(f"there is an unexpected {text[pos]!a}")
            kind, pos = found.lastgroup or "", found.end()
            if kind == "open":
                pos = self._comment(pos)
            elif self._phrases and kind in {"quoted", "word", "space"}:
                self._phrase.append(found[0])
            else:
                self._mark(found[0], kind)
        self._mark("", "")
        return _FOLDS.sub("\r\n ", "".join(self._out)).encode("ascii")

    def _mark(self, text: str, kind: str) -> None:
        """What ends a phrase."""
        self._end_phrase(is_name=kind == "angle" or text == ":")
        if not text.isascii():
            if kind != "angle" or not self._phrases:
                raise AddressError("nothing may be encoded there")
            text = f"<{_ascii_address(text[1:-1])}>"
        self._out.append(text)

    def _end_phrase(self, *, is_name: bool) -> None:
        phrase, self._phrase = "".join(self._phrase), []
        if phrase.isascii():
            self._out.append(phrase)
        elif is_name:
            self._encode(_plain(phrase))
        else:
            inner = phrase.strip(" \t\r\n")
            start = phrase.index(inner)
            self._out += [phrase[:start], _ascii_address(inner), phrase[start + len(inner) :]]
        self._out += self._comments
        self._comments = []

    def _comment(self, start: int) -> int:
        """RFC 2047, 5 (2): words in the place of the text, the outer parentheses stay."""
        depth = 1
        for found in _PAREN.finditer(self._text, start):
            depth += {"(": 1, ")": -1}.get(found[0], 0)
            if depth == 0:
                text = self._text[start : found.start()]
                if not text.isascii():
                    words = _words(_PAIR.sub(r"\1", _SPACES.sub(" ", text)), encoded_word.MAX_LENGTH - 2)
                    text = "\r\n ".join(words)
                self._comments.append(f"\r\n ({text})" if "=?" in text else f"({text})")
                if not self._phrase:
                    self._end_phrase(is_name=False)
                return found.end()
        raise AddressError("a comment is not closed")

    def _encode(self, name: str) -> None:
        """A display name. The first line may have it behind the name of the field, the others begin with it."""
        room = _WIDTH - self._column
        at_start = not any(part.strip() for part in self._out)  # the first mark ends the search
        if at_start and room >= encoded_word.MIN_LENGTH:
            words = _words(name, min(room, encoded_word.MAX_LENGTH))
            self._out.append(" ")
        else:
            words = _words(name, encoded_word.MAX_LENGTH)
            self._out.append("\r\n ")
        self._out += ["\r\n ".join(words), "\r\n "]


def _plain(phrase: str) -> str:
    """What a phrase says: quotes and folds undone, its encoded-words as they are."""
    parts = [token[0] for token in _TOKEN.finditer(phrase)]
    text = "".join([_PAIR.sub(r"\1", part[1:-1]) if part.startswith('"') else part for part in parts])
    return _SPACES.sub(" ", text).strip(" ")


def _ascii_address(text: str) -> str:
    """An address whose domain alone needs it; its local part has no other form (RFC 6531, 3.2)."""
    normal = parse_path(_SPACES.sub("", text))
    if not normal.isascii():
        raise AddressError("the local part of an address is not ASCII")
    return normal


def _parameters(name: str, raw: bytes) -> bytes:
    """Names of files by RFC 2231; no other parameter may be anything but ASCII."""
    text = raw.replace(b"\r\n", b"").decode()
    value, _, _ = text.partition(";")
    pos, made = len(value), []
    while pos < len(text):
        found = _PARAMETER.match(text, pos)
        if found is None:
            raise fields.HeaderError(name, "its parameters cannot be read")
        pos = found.end()
        key, given = found[1], found[2]
        if key is None:
            continue
        if given.isascii():
            made.append((key, given))
        elif key.lower() in _FILE_NAMES:
            plain = _PAIR.sub(r"\1", given[1:-1]) if given.startswith('"') else given
            made += fields.filename_parameters(key, plain, name)
        else:
            raise fields.HeaderError(name, f"its parameter {key[:40]!a} is not ASCII")
    return fields.parameters(name, fields.check(value.strip(" \t"), name), made, name)
