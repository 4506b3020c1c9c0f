"""The parts of foreign mail (RFC 2045, 2046): found as far as they can be, whatever is wrong with the rest.

Guarantees: never an exception; at most MAX_PARTS parts, MAX_DEPTH deep; each level costs time linear in what it holds.
A multipart whose boundary is missing or does not occur is cut at the first line that looks like one. Messages within
the message come behind all parts of their own level, so that what a report says comes before what it quotes.
"""

import binascii
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.message import charset
from gateway.message.reports import fields
from gateway.message.reports.fields import Fields

MAX_PARTS: Final = 200
MAX_DEPTH: Final = 12

_PARAMETER: Final = re.compile(r';\s*([A-Za-z0-9_*-]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.){0,300})"|([^\s;"]{1,300}))')
_TYPE: Final = re.compile(r"\s*([A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100})")
_ANY_BOUNDARY: Final = re.compile(rb"^--([^\r\n]{1,200})\r?$", re.MULTILINE)
_MESSAGES: Final = frozenset({"message/rfc822", "message/global", "message/news"})


@dataclass(frozen=True, slots=True)
class Part:
    """`type` is in lower case. `level`: how many messages it is within. `data` is the body with its transfer encoding
    taken off, of a multipart nothing."""

    type: str
    fields: Fields
    data: bytes
    level: int

    @property
    def is_message(self) -> bool:
        return self.type in _MESSAGES

    @property
    def charset(self) -> str:
        return charset.codec(_parameter(self.fields, "charset")) or "utf-8"

    def text(self) -> str:
        """The body as text, with LF line ends."""
        try:
            found = self.data.decode(self.charset)
            found.encode()  # UTF-7 can name half a surrogate pair, which nothing could be written with
        except ValueError:
            found = fields.text(self.data)
        return found.replace("\r\n", "\n").replace("\r", "\n")


def walk(content: bytes) -> Iterator[Part]:
    """The message itself, then its parts in order, level by level."""
    waiting: deque[tuple[bytes, int, int]] = deque([(content, 0, 0)])
    inner: deque[tuple[bytes, int, int]] = deque()
    count = 0
    while waiting and count < MAX_PARTS:
        raw, depth, level = waiting.popleft()
        part, children = _read(raw, level)
        count += 1
        yield part
        if depth < MAX_DEPTH:
            # Depth first: what stands first comes first.
            waiting.extendleft((child, depth + 1, level) for child in reversed(children))
            if part.is_message:
                inner.append((part.data, depth + 1, level + 1))
        if not waiting:
            waiting, inner = inner, deque()


def _read(raw: bytes, level: int) -> tuple[Part, list[bytes]]:
    header, body = fields.split(raw)
    found = fields.read(header)
    type_ = _type(found)
    if type_.startswith("multipart/"):
        return Part(type_, found, b"", level), _cut(body, _parameter(found, "boundary"))
    return Part(type_, found, _decoded(body, fields.first(found, "content-transfer-encoding")), level), []


def _type(found: Fields) -> str:
    match = _TYPE.match(fields.first(found, "content-type"))
    return match[1].lower() if match is not None else "text/plain"


def _parameter(found: Fields, name: str) -> str:
    for match in _PARAMETER.finditer(fields.first(found, "content-type")):
        if match[1].lower() == name:
            return match[3] or re.sub(r"\\(.)", r"\1", match[2] or "")
    return ""


def _cut(body: bytes, boundary: str) -> list[bytes]:
    """What stands between the delimiters (RFC 2046, 5.1.1); the last part may have no end."""
    lines = _delimiters(body, boundary.encode("utf-8", "replace")) if boundary else []
    if not lines and (guess := _guessed(body)):
        lines = _delimiters(body, guess)
    parts: list[bytes] = []
    for number, (_, start, last) in enumerate(lines):
        if last or len(parts) >= MAX_PARTS:
            break
        end = lines[number + 1][0] if number + 1 < len(lines) else len(body)
        part = body[start:end]
        parts.append(part.removesuffix(b"\r\n") if part.endswith(b"\r\n") else part.removesuffix(b"\n"))
    return parts


def _guessed(body: bytes) -> bytes:
    """The boundary of the first line that looks like a delimiter; nothing without one."""
    lines = (match[1].rstrip(b" \t").removesuffix(b"--") for match in _ANY_BOUNDARY.finditer(body))
    return next((line for line in lines if line), b"")


def _delimiters(body: bytes, boundary: bytes) -> list[tuple[int, int, bool]]:
    """Of each delimiter line: where it begins, where the next one does, and whether it is the last."""
    found: list[tuple[int, int, bool]] = []
    for match in re.finditer(rb"^--" + re.escape(boundary) + rb"(--)?[ \t]*\r?(?:\n|\Z)", body, re.MULTILINE):
        found.append((match.start(), match.end(), match[1] is not None))
        if len(found) > MAX_PARTS:
            break
    return found


def _decoded(body: bytes, encoding: str) -> bytes:
    try:
        match encoding.lower():
            case "base64":
                return _from_base64(body)
            case "quoted-printable":
                return binascii.a2b_qp(body)
    except binascii.Error:
        pass  # as it is: what can be found in it is found
    return body


def _from_base64(body: bytes) -> bytes:
    try:
        return binascii.a2b_base64(body + b"==")
    except binascii.Error:
        return binascii.a2b_base64(body + b"A==")  # it was cut behind the first of four characters
