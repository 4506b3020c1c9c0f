"""What the header of a part says of whether, and how, its links are found (RFC 2045, RFC 2183, RFC 3676). Pure.

Guarantees: only what a reader of mail shows as the text of the message is a text here: no attachment, nothing with a
file name. Nothing is raised on foreign bytes; a field that cannot be read for certain makes it no text.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.message import charset

_FIELD: Final = re.compile(
    rb"^(content-type|content-disposition)[ \t]*+:((?:[^\n]|\n[ \t])*+)(?:\n|\Z)", re.IGNORECASE | re.MULTILINE
)
_VALUE: Final = re.compile(r"[ \t]*([^\s;\"()]+)[ \t]*(?=;|\Z)")
_PARAMETER: Final = re.compile(r";[ \t]*(?:([^\s;=\"()]+)[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*+\"|[^\s;\"()]*)[ \t]*)?")
_MARKUP: Final = b"<>\"'=&/: \t\r\n"
_FILE_NAMES: Final = ("name", "name*", "name*0", "name*0*", "filename", "filename*", "filename*0", "filename*0*")
# In these an octet that looks like markup may be half of a character.
_SHIFTING: Final = re.compile(r"iso-?2022|hz|utf_7")
_WIDE: Final = re.compile(r"(?:cs|x-)?(?:utf|ucs|iso-10646|unicode|ebcdic|ibm)")
_UTF8: Final = frozenset({"", "us-ascii", "ascii", "utf-8", "utf8"})


class Text(NamedTuple):
    """A text that is shown. `charset` is "" where none is said, `joins`: format=flowed with delsp=yes."""

    html: bool
    charset: str
    joins: bool

    @property
    def utf8(self) -> bool:
        """What is not ASCII in it is UTF-8."""
        return self.charset in _UTF8

    @property
    def readable(self) -> bool:
        """Its markup is in ASCII, whatever else it holds."""
        return self.utf8 or _keeps_ascii(self.charset)


def text(header: bytes) -> Text | None:
    """None: it is no text that is shown, or not certainly one."""
    values: dict[str, str] = {}
    for found in _FIELD.finditer(header):
        name = found[1].decode("ascii").lower()
        if name in values:
            return None
        values[name] = found[2].replace(b"\r\n", b"").strip().decode("latin-1")
    kind, parameters = _read(values.get("content-type", "text/plain"))
    disposition, more = _read(values.get("content-disposition", "inline"))
    if kind not in {"text/html", "text/plain"} or disposition != "inline":
        return None
    if any(name in parameters or name in more for name in _FILE_NAMES):
        return None
    flowed = parameters.get("format", "").lower() == "flowed"
    joins = flowed and parameters.get("delsp", "").lower() == "yes"
    return Text(kind == "text/html", parameters.get("charset", "").strip().lower(), joins)


def _read(value: str) -> tuple[str, dict[str, str]]:
    """A structured value and its parameters; "" where it cannot be read."""
    found = _VALUE.match(value)
    if found is None:
        return "", {}
    at, parameters = found.end(), dict[str, str]()
    while at < len(value):
        parameter = _PARAMETER.match(value, at)
        if parameter is None:
            return "", {}
        at = parameter.end()
        if parameter[1] is not None:
            given = parameter[2]
            parameters.setdefault(parameter[1].lower(), given[1:-1] if given.startswith('"') else given)
    return found[1].lower(), parameters


@lru_cache(maxsize=256)  # names come from mail; a name is at most a line
def _keeps_ascii(named: str) -> bool:
    """Whether octets below 128 that markup is made of always are that: not so in UTF-16, ISO-2022 and the like."""
    codec = charset.codec(named)
    if _SHIFTING.match(codec or named):
        return False
    if codec is None:
        return _WIDE.match(named) is None
    try:
        return _MARKUP.decode(codec) == _MARKUP.decode("ascii")
    except UnicodeError:
        return False
