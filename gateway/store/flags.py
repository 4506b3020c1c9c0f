"""The small facts of a message, packed into the number `message.flags`.

Guarantees: what is packed comes out as it was. A bit is never given another meaning: rows of older versions hold them.
"""

from typing import Final

from gateway.message.model import Facts
from gateway.store.newmail import NewMessage

AT_MOST_ONCE: Final = 32

_EIGHT_BIT: Final = 1
_UTF8_HEADER: Final = 2
_DOT_LINES: Final = 4
_WISH_SHIFT: Final = 3
_RETURNS: Final = ("", "FULL", "HDRS")  # by the bits from the sixth on
_RETURN_SHIFT: Final = 6
_TRACK_SHIFT: Final = 8  # three bits
OWN_RETURN_PATH: Final = 2048
_RETURN_BITS: Final = {word: index << _RETURN_SHIFT for index, word in enumerate(_RETURNS)}


def pack(message: NewMessage) -> int:
    """KeyError where `ret` is none of its three words."""
    facts = message.facts
    flags = facts.eight_bit | facts.utf8_header << 1 | facts.dot_lines << 2
    if message.at_most_once:
        flags |= AT_MOST_ONCE
    if message.own_return_path:
        flags |= OWN_RETURN_PATH
    return flags | message.track << _TRACK_SHIFT | message.tls_wish << _WISH_SHIFT | _RETURN_BITS[message.ret]


def facts(flags: int, size: int, header_size: int, body_hash: bytes) -> Facts:
    """Those of a message, of which the others have columns of their own."""
    return Facts(
        size, header_size, body_hash, bool(flags & _EIGHT_BIT), bool(flags & _UTF8_HEADER), bool(flags & _DOT_LINES)
    )


def tls_wish(flags: int) -> int:
    return flags >> _WISH_SHIFT & 3


def ret(flags: int) -> str:
    return _RETURNS[flags >> _RETURN_SHIFT & 3]


def track(flags: int) -> int:
    """A sum of message/model.py: TRACK_OPENS, TRACK_CLICKS, TRACK_TEXT."""
    return flags >> _TRACK_SHIFT & 7
