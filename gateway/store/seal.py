"""A sum over those columns of a row that say what is sent, from whom and to whom.

Guarantees: a row that one damaged byte, or any run of up to four, has made another one does not fit its sum. SQLite's
pages have none, and a flipped bit in an address would send mail to somebody else. Contents have a SHA-256 that holds
their place too. It does not guard against people: who can write the file can write the sum.
"""

import hashlib
from typing import Final
from zlib import crc32

FUNCTION: Final = "seal_of"  # as the statements call it; they join what is no blob, for each value costs


def of(text: object, *blobs: bytes) -> int:
    """From 1 to 2^32 - 1, the same in every version of Python. 0 is no seal: rows older than the column have it, and
    are believed."""
    found = crc32(str(text).encode())  # what is no text, or no blob, in a damaged row only
    for blob in blobs:
        found = crc32(blob, found)
    return found or 1


def content(message: int, index: int, data: bytes) -> bytes:
    """What is stored with a piece: it is that piece of that message, and no other's."""
    found = hashlib.sha256(data)
    found.update(b"%d %d" % (message, index))
    return found.digest()


def is_content(stored: bytes, message: int, index: int, data: bytes) -> bool:
    """Whether a piece is what was stored there; one of a version before schema 5 holds no place."""
    found = hashlib.sha256(data)
    plain = found.digest()
    found.update(b"%d %d" % (message, index))
    return stored in (found.digest(), plain)
