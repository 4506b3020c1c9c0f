"""The links of a plain text, by octet. Pure.

Guarantees: a slot is a whole URL as a reader of mail would make it a link: without the punctuation that ends a
sentence, without a bracket that was opened before it. One that goes on in the next line (RFC 3676, DelSp) or in
characters that are not ASCII stays whole; so does an OpenPGP block, and all that is with it. Linear time.
"""

import re
from collections.abc import Collection
from typing import Final

from gateway.message.tracking import links
from gateway.message.tracking.markup import Slot

_URL: Final = re.compile(rb"(?<![A-Za-z0-9+.-])https?://[!#-;=?-~]++", re.IGNORECASE)
_ENDS: Final = b".,;:!?'*_~|\""
_BRACKETS: Final = {b")": b"(", b"]": b"[", b"}": b"{"}
_LAST: Final = _ENDS + b")]}"
_OPENPGP: Final = re.compile(rb"^-----BEGIN PGP ", re.MULTILINE)


def slots(text: bytes, *, joins: bool, spared: Collection[str], own: str) -> list[Slot]:
    """`joins`: a line that ends with a space goes on in the next one, without the space. The others as for Markup."""
    if b"://" not in text or _OPENPGP.search(text) is not None:
        return []
    made = []
    for found in _URL.finditer(text):
        start, end = found.start(), found.end()
        if text[end : end + 1] > b"\x7f" or (joins and text.startswith(b" \r\n", end)):
            continue
        url = _trimmed(found[0])
        target = links.target(url.decode("ascii"))
        if target is not None and target not in spared and not target.startswith(own):
            made.append(Slot(start, start + len(url), target))
    return made


def _trimmed(url: bytes) -> bytes:
    """Without what belongs to the sentence around it."""
    if url[-1] not in _LAST:
        return url
    end = len(url)
    excess = {closing: url.count(closing) - url.count(opening) for closing, opening in _BRACKETS.items()}
    while end:
        last = url[end - 1 : end]
        if last in _BRACKETS:
            if excess[last] <= 0:
                break
            excess[last] -= 1
        elif last not in _ENDS:
            break
        end -= 1
    return url[:end]
