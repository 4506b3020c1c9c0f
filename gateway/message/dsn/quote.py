"""The part of a notification that shows which message is meant: its header, or all of it (RFC 6522, 4).

Guarantees: no line over 998 octets, CRLF only, no NUL; what is quoted stands byte for byte, but for a header that no
mail may hold, which is encoded.
"""

from typing import NamedTuple

from gateway.message import transfer
from gateway.message.fixup import has_long_line


class Quote(NamedTuple):
    """A part: type, encoding, content with or without a line end at its end."""

    content_type: str
    encoding: str
    content: bytes


def of_message(head: bytes, body: bytes) -> Quote:
    """The whole message where it can stand as it is, else its header. `head` ends with the empty line."""
    whole = head + body
    if transfer.is_seven_bit(whole):
        return Quote("message/rfc822", "7bit", whole)
    if not _stands(whole) or not _is_utf8(head):
        return of_header(head)
    # RFC 6532, 3.7: message/global where the header is not ASCII.
    return Quote("message/rfc822" if head.isascii() else "message/global", "8bit", whole)


def of_header(head: bytes) -> Quote:
    """The header alone."""
    fields = head.removesuffix(b"\r\n")  # its empty line
    if transfer.is_seven_bit(fields):
        return Quote("text/rfc822-headers", "7bit", fields)
    if _stands(fields) and _is_utf8(fields):
        return Quote("message/global-headers", "8bit", fields)  # RFC 6533, 4
    # RFC 6522, 4: what is broken may be encoded to be legal. A bare CR counts as a line end: no stored message has one.
    lines = fields.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return Quote("text/rfc822-headers", "quoted-printable", transfer.quoted_printable(lines))


def _stands(data: bytes) -> bool:
    """Whether it may travel as 8bit (RFC 2045, 2.8)."""
    bare = data.replace(b"\r\n", b"")
    return not (b"\0" in data or b"\r" in bare or b"\n" in bare or has_long_line(data))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
