"""A JSON document from outside, decoded strictly: RFC 8259, and RFC 7493 where that leaves room.

Guarantees: invalid UTF-8, NaN and Infinity, an object with one name twice, a lone surrogate, nesting
without end and numbers of thousands of digits are refused as `invalid_json`, with the place; never another
exception. A document over LARGE_BYTES costs no long hold of the interpreter: its long strings (attachments)
are cut out before the decoder runs and stay undecoded, so it may be decoded in a thread. It knows no field.
"""

import json
import re
import secrets
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import Any, Final

from gateway.errors import Reason, Refused

LARGE_BYTES: Final = 128 * 1024  # up to here a document is decoded in one go: below 5 ms whatever it holds
CUT_BYTES: Final = 32 * 1024  # strings of a large document that are longer than this stay undecoded
_MAX_QUOTES: Final = 1_000_000  # in a large document; bounds objects made and time spent (0.5 s in a thread)
_MAX_STRUCTURE_BYTES: Final = 500_000  # outside strings: a thousand recipients, one a line, take a fifth
_BOM: Final = b"\xef\xbb\xbf"
_BACKSLASH: Final = 0x5C
_CURLY: Final = re.compile("[\u201c-\u201f\u2018-\u201b\u00ab\u00bb]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_CURLY_REACH: Final = 200  # characters before a fault where a typographic quote is taken for its cause

Pairs = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class LongString:
    """A string of a large document as it came: the bytes between its quotes, with their JSON escapes."""

    raw: memoryview

    def text(self) -> str:
        """The string. Raises Refused (`invalid_json`)."""
        try:
            decoded: str = scanstring(str(self.raw, "utf-8") + '"', 0, True)[0]
        except UnicodeDecodeError:
            raise _invalid("A string is not valid UTF-8.") from None
        except ValueError as error:
            raise _invalid(f"A string is malformed: {error}.") from None
        if _SURROGATE.search(decoded):
            raise _invalid("A string holds a lone surrogate (half a character).")
        return decoded


class _StrictError(ValueError):
    """What the decoder's hooks found; the text is public."""


def _pairs(items: Pairs) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):  # RFC 7493, 2.3: names must be unique; who sends two is read two ways
        seen: set[str] = set()
        for name, _ in items:
            if name in seen:
                raise _StrictError(f"The name {name[:80]!r} stands twice in one object.")
            seen.add(name)
    return found


def _constant(name: str) -> Any:
    raise _StrictError(f"{name} is not JSON.")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def decode(body: bytes | bytearray) -> dict[str, Any]:
    """The object that `body` holds; `LongString` may stand for a string of a large one. Raises Refused."""
    if body[: len(_BOM)] == _BOM:  # RFC 8259, 8.1: a parser may ignore a byte order mark; .NET sends one
        body = body[len(_BOM) :]
    return _decode(_text(body), _STRICT) if len(body) <= LARGE_BYTES else _decode_large(body)


def _decode_large(body: bytes | bytearray) -> dict[str, Any]:
    mark = secrets.token_hex(16)  # nobody can send it as a string of his own
    rest, cuts = _cut(body, mark)
    restored = 0

    def pairs(items: Pairs) -> dict[str, Any]:
        nonlocal restored
        found = _pairs(items)
        for name, value in items:
            if type(value) is str and value.startswith(mark):
                found[name] = cuts[int(value[len(mark) :])]
                restored += 1
        return found

    decoder = json.JSONDecoder(object_pairs_hook=pairs, parse_constant=_constant)
    document = _decode(_text(rest), decoder, exact=not cuts)
    if restored != len(cuts):
        raise _invalid(f"A string of more than {CUT_BYTES // 1024} KB stands where none can be.")
    return document


def _decode(text: str, decoder: json.JSONDecoder, *, exact: bool = True) -> dict[str, Any]:
    try:
        document = decoder.decode(text)
        if "\\ud" in text or "\\uD" in text:  # cheap to ask; an escaped emoji passes the full check below
            json.dumps(document, ensure_ascii=False, default=str).encode()
    except json.JSONDecodeError as error:
        raise _invalid(_place(error, exact=exact)) from None
    except _StrictError as error:
        raise _invalid(str(error)) from None
    except UnicodeEncodeError:
        raise _invalid("A string holds a lone surrogate (half a character, such as \\ud800).") from None
    except RecursionError:
        raise _invalid("The body is nested too deeply.") from None
    except ValueError:  # the interpreter's own limit on digits
        raise _invalid("A number has too many digits.") from None
    if not isinstance(document, dict):
        raise _invalid("The body must be a JSON object: { ... }.")
    return document


def _cut(body: bytes | bytearray, mark: str) -> tuple[bytes, list[LongString]]:
    """The document with `mark` and a number in place of each long string, and those strings."""
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    cuts: list[LongString] = []
    quotes = structure = copied = at = 0
    while (start := body.find(b'"', at)) >= 0:
        structure += start - at
        end = body.find(b'"', start + 1)
        quotes += 1
        while end > 0 and body[end - 1] == _BACKSLASH and _escaped(body, end):
            end = body.find(b'"', end + 1)
            quotes += 1
        if end < 0:
            raise _invalid("The body ends inside a string.")
        if quotes > _MAX_QUOTES:
            raise _invalid("The body holds too many strings.")
        if end - start > CUT_BYTES:
            parts += (view[copied : start + 1], f"{mark}{len(cuts)}".encode())
            cuts.append(LongString(view[start + 1 : end]))
            copied = end
        at = end + 1
    if structure + len(body) - at > _MAX_STRUCTURE_BYTES:
        raise _invalid("The body holds too many values.")
    parts.append(view[copied:])
    return b"".join(parts), cuts


def _escaped(body: bytes | bytearray, quote: int) -> bool:
    """Is the quote there preceded by an odd number of backslashes?"""
    first = quote
    while first > 0 and body[first - 1] == _BACKSLASH:
        first -= 1
    return (quote - first) % 2 == 1


def _text(body: bytes | bytearray) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise _invalid(f"The body is not valid UTF-8 (byte {error.start}).") from None


def _place(error: json.JSONDecodeError, *, exact: bool) -> str:
    """Where and what, for people. Where long strings were cut out (not `exact`) only the line is right."""
    where = f"line {error.lineno}, column {error.colno}" if exact else f"line {error.lineno}"
    before = error.doc[max(0, error.pos - _CURLY_REACH) : error.pos + 1]
    behind = error.doc[error.pos : error.pos + _CURLY_REACH].lstrip()[:1]  # a word processor's spaces come before it
    if found := _CURLY.search(before + behind):
        return (
            f"The body is not valid JSON at {where}: it has typographic quotes ({found.group()}); "
            'JSON takes straight ones (").'
        )
    return f"The body is not valid JSON at {where}: {error.msg.removesuffix(' at')}."


def _invalid(text: str) -> Refused:
    return Refused(Reason.INVALID_JSON, text)
