"""Header fields of foreign mail, and groups of fields that look like one (RFC 5322, 2.2; RFC 3464, 2.1.2).

Guarantees: never an exception; linear time; at most MAX_FIELDS fields of MAX_VALUE characters each. A value is what
stands after the colon, unfolded, with each run of white space as one space. Bytes that are no UTF-8 are read as
Latin-1, so that nothing is lost. What is no field is passed over.
"""

import re
from typing import Final, NamedTuple

from gateway.message import encoded_word

MAX_FIELDS: Final = 1000
MAX_VALUE: Final = 4000

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BLANK: Final = re.compile(rb"(?:\A|\r\n|\n|\r(?!\n))[ \t]*(?:\r\n|\n|\r)")
_NAME: Final = re.compile(rb"([!-9;-~]{1,100})[ \t]*:(.*)", re.DOTALL)


class Field(NamedTuple):
    """`name` is in lower case."""

    name: str
    value: str


Fields = tuple[Field, ...]


def split(content: bytes) -> tuple[bytes, bytes]:
    """Header and body of a message or a part, cut at the first blank line."""
    match = _BLANK.search(content)
    return (content, b"") if match is None else (content[: match.start()], content[match.end() :])


def read(block: bytes) -> Fields:
    """The fields of a block; a line that begins with white space belongs to the one before it."""
    found: list[Field] = []
    lines: list[bytes] = []
    for line in _LINE_END.split(block):
        if line[:1] in {b" ", b"\t"}:
            lines.append(line)
            continue
        _add(found, lines)
        if len(found) >= MAX_FIELDS:
            return tuple(found)
        lines = [line]
    _add(found, lines)
    return tuple(found)


def first(fields: Fields, name: str) -> str:
    """The value of the first field of that name, "" without one."""
    return next((field.value for field in fields if field.name == name), "")


def every(fields: Fields, name: str) -> list[str]:
    return [field.value for field in fields if field.name == name]


def text(data: bytes) -> str:
    """Bytes of an unknown character set."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def plain(value: str) -> str:
    """A value with its encoded-words (RFC 2047) read."""
    return encoded_word.decode(value)


def _add(found: list[Field], lines: list[bytes]) -> None:
    match = _NAME.fullmatch(b" ".join(lines)[: 4 * MAX_VALUE]) if lines else None
    if match is not None:
        value = " ".join(text(match[2]).replace("\0", " ").split())[:MAX_VALUE]
        found.append(Field(match[1].decode("ascii").lower(), value))
