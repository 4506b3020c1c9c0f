"""What the header of a message or of a MIME part says of its body, for re-encoding it (RFC 2045, RFC 2046).

Guarantees: nothing here raises on foreign bytes; what two readers could take differently is a `fault`, and such a part
is never changed. `with_encoding` and `fold` change only what they are for: order and bytes of all else stay.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from gateway.message.fixup import MAX_LINE, has_long_line

_WELL_FORMED: Final = re.compile(
    rb"(?:>?From [^\n]*+\n)?(?:[!-9;-~]++[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*+)*+(?:\r\n)?"
)
_FIELD: Final = re.compile(
    rb"^(content-type|content-transfer-encoding|mime-version|dkim-signature)[ \t]*+:((?:[^\n]|\n[ \t])*+)(?:\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_TYPE: Final = re.compile(rb"[ \t]*([^\s/;\"()]+)/([^\s/;\"()]+)[ \t]*(?=;|\Z)")
_PARAMETER: Final = re.compile(rb";[ \t]*(?:([^\s;=\"()]+)[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*+\"|[^\s;\"()]*)[ \t]*)?")
_QUOTED_PAIR: Final = re.compile(rb"\\(.)")
_IDENTITY: Final = frozenset((b"", b"7bit", b"8bit", b"binary"))
_ENCODED: Final = frozenset((b"base64", b"quoted-printable"))
_EIGHT_BIT: Final = frozenset((b"8bit", b"binary"))
_MESSAGES: Final = frozenset((b"rfc822", b"global", b"news"))
_NAME: Final = re.compile(rb"[ \t]|[!-9;-~]++[ \t]*+:")
_PLACE: Final = re.compile(rb"(?<=[^ \t])[ \t](?=[ \t]*[^ \t\r\n])")  # where a line may be folded

_ODD_HEADER: Final = "its header has a line that is no field"
_ODD_TYPE: Final = "its Content-Type cannot be read for certain"
_ODD_ENCODING: Final = "its Content-Transfer-Encoding is unknown or given twice"


class Kind(Enum):
    """What a body is."""

    LEAF = auto()
    MULTIPART = auto()
    MESSAGE = auto()


class Nature(NamedTuple):
    """What a header says. `encoding` is b"" for a body that stands as it is, else base64 or quoted-printable.

    `fault` says why the body must stay as it came, "" where it need not. A multipart whose boundary is not known for
    certain is a leaf with a fault.
    """

    kind: Kind
    encoding: bytes = b""
    text: bool = False  # text/*
    boundary: bytes = b""
    digest: bool = False  # multipart/digest: its parts are messages if they do not say what they are
    signed: bool = False  # multipart/signed
    encrypted: bool = False  # multipart/encrypted
    fault: str = ""


def read(header: bytes, *, default: bytes = b"text/plain") -> Nature:
    """The nature of what follows a header, which may be empty; `default` is its type where it does not say."""
    types = _values(header, b"content-type")
    encodings = {value.lower() for value in _values(header, b"content-transfer-encoding")}
    nature = _of_type(types[0] if types else default)
    fault = nature.fault
    if len(set(types)) > 1:
        fault = fault or _ODD_TYPE
    if len(encodings) > 1 or not encodings <= _IDENTITY | _ENCODED:
        fault = fault or _ODD_ENCODING
    if _WELL_FORMED.fullmatch(header) is None:
        fault = _ODD_HEADER
    encoded = encodings & _ENCODED
    if not encoded:
        return nature._replace(fault=fault)
    if nature.kind is Kind.MULTIPART:
        fault = fault or _ODD_ENCODING  # RFC 2045, 6.4: never of a multipart
    # RFC 6532, 3.5 lets a message/global be encoded, and senders do so with others: then it is opaque.
    return Nature(Kind.LEAF, encoding=min(encoded), text=nature.text, fault=fault)


def is_signed(header: bytes) -> bool:
    """Whether there is a DKIM-Signature: it covers the body and some of the header."""
    return bool(_values(header, b"dkim-signature"))


def says_eight_bit(header: bytes) -> bool:
    """Whether it promises, or threatens, octets above 127."""
    return any(value.lower() in _EIGHT_BIT for value in _values(header, b"content-transfer-encoding"))


def with_encoding(header: bytes, encoding: bytes, *, message: bool) -> bytes:
    """The header with this Content-Transfer-Encoding, in the place of the old one or last.

    That of a message gets a MIME-Version, where it lacks one (RFC 2045, 4).
    """
    field = b"Content-Transfer-Encoding: %b\r\n" % encoding
    kept, pos, found, version = [], 0, False, not message
    for match in _FIELD.finditer(header):
        name = match[1].lower()
        version = version or name == b"mime-version"
        if name == b"content-transfer-encoding":
            kept += [header[pos : match.start()], match[1], field[len(name) :]]
            pos, found = match.end(), True
    kept.append(header[pos:])
    new = b"".join(kept)
    # A header without its empty line is none at all: that of a message that is only text.
    end = len(new) - 2 if new.endswith(b"\r\n") else 0
    more = b"" if version else b"MIME-Version: 1.0\r\n"
    return b"".join((new[:end], more, b"" if found else field, new[end:] or b"\r\n"))


def fold(header: bytes) -> bytes | None:
    """The header with its lines over 998 octets folded where white space stands (RFC 5322, 2.2.3); None where one has
    none."""
    if not has_long_line(header):
        return header
    lines: list[bytes] = []
    for line in header.split(b"\r\n"):
        rest, first = line, _value_at(line)
        while len(rest) > MAX_LINE:
            places = [found.start() for found in _PLACE.finditer(rest, first, MAX_LINE + 2)]
            if not places or places[0] > MAX_LINE:
                return None
            place = max(place for place in places if place <= MAX_LINE)
            lines.append(rest[:place])
            rest, first = rest[place:], 1
        lines.append(rest)
    return b"\r\n".join(lines)


def _value_at(line: bytes) -> int:
    """Where white space may be the place for a fold: not in a name, nor in a line that is no field."""
    found = _NAME.match(line)
    return found.end() if found is not None else len(line)


def _values(header: bytes, name: bytes) -> list[bytes]:
    """The values of a field, unfolded, in order."""
    return [value.replace(b"\r\n", b"").strip() for found, value in _fields(header) if found == name]


def _fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((match[1].lower(), match[2]) for match in _FIELD.finditer(header))


def _of_type(value: bytes) -> Nature:
    found = _TYPE.match(value)
    if found is None:
        lower = value.lower()
        # RFC 2045, 5.2: what cannot be read is text; but it must not be a structure to somebody else.
        structured = b"multipart" in lower or b"message" in lower
        return Nature(Kind.LEAF, text=True, fault=_ODD_TYPE if structured else "")
    main, sub = found[1].lower(), found[2].lower()
    if main == b"message":
        if sub.startswith(b"global-"):
            return Nature(Kind.LEAF)  # RFC 6533, 4: these may be
        # RFC 2046, 5.2: the others may not be encoded, and hold no message that could be.
        fault = f"message/{sub.decode('ascii', 'replace')[:40]} may not be encoded"
        return Nature(Kind.MESSAGE) if sub in _MESSAGES else Nature(Kind.LEAF, fault=fault)
    if main != b"multipart":
        return Nature(Kind.LEAF, text=main == b"text")
    boundary = _boundary(value, found.end())
    if not boundary:
        return Nature(Kind.LEAF, fault=_ODD_TYPE)
    return Nature(
        Kind.MULTIPART,
        boundary=boundary,
        digest=sub == b"digest",
        signed=sub == b"signed",
        encrypted=sub == b"encrypted",
    )


def _boundary(value: bytes, pos: int) -> bytes:
    """The boundary, b"" where it is not certain: given twice, in the way of RFC 2231, or among what is no parameter."""
    boundary = b""
    while pos < len(value):
        found = _PARAMETER.match(value, pos)
        if found is None:
            return b""
        pos = found.end()
        name = (found[1] or b"").lower()
        if name.startswith(b"boundary*") or (name == b"boundary" and boundary):
            return b""
        if name == b"boundary":
            text = found[2]
            boundary = _QUOTED_PAIR.sub(rb"\1", text[1:-1]) if text.startswith(b'"') else text
    return boundary.rstrip(b" \t")
