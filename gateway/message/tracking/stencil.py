"""A message with holes: where the addresses that are made for one recipient go. Pure.

Guarantees: what a text decodes to is, outside the holes, octet for octet what it was; its lines are of at most 998
octets: where an address would make one longer the text is encoded (RFC 2045), and the header of its part says so. Read
once, it is filled in for each recipient at the cost of the addresses.
"""

import html
import re
from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from gateway.message import transfer
from gateway.message.fixup import MAX_LINE
from gateway.message.recode import ESCAPED
from gateway.message.recode.encoding import QuotedPrintable
from gateway.message.tracking import quoted
from gateway.message.tracking.markup import Slot

QP: Final = b"quoted-printable"
BASE64: Final = b"base64"
PIXEL: Final = '<img src="{}" width="1" height="1" alt="" style="border:0;display:block;height:1px;width:1px">'
_SPECIAL: Final = re.compile("[&<>\"']")
_STEP: Final = 32 * 1024


class Addresses(Protocol):
    """What is made for one recipient. All are ASCII without space, and of the same length for every recipient."""

    def click(self, target: str) -> str:
        """The URL that leads to a target over us."""

    def pixel(self) -> str:
        """That of the pixel."""


class Stencil(NamedTuple):
    """A text: `literals` and, between two of them, a hole. Where `encoded` they are in quoted-printable, as the text
    will be; else they are what was said, and the text is put into `encoding`. `ending` stands behind base64."""

    literals: tuple[bytes, ...]
    targets: tuple[str | None, ...]
    html: bool
    encoding: bytes  # b"": it stands as it is
    encoded: bool
    ending: bytes

    def fill(self, addresses: Addresses) -> bytes:
        """The body of the part for a recipient."""
        made = self.made(addresses)
        if self.encoding == QP:
            known = {address: quoted.encode(address) for address in set(made)}
            made = [known[address] for address in made]
        pieces = [piece for pair in zip(self.literals, [*made, b""], strict=True) for piece in pair]
        if self.encoding == QP:
            return quoted.join(pieces)
        if self.encoding == BASE64:
            return b"".join([*transfer.encode_base64(b"".join(pieces)), self.ending])
        return b"".join(pieces)

    def made(self, addresses: Addresses) -> list[bytes]:
        """What goes into the holes."""
        known: dict[str | None, bytes] = {}
        for target in self.targets:
            if target in known:
                continue
            url = addresses.pixel() if target is None else addresses.click(target)
            url = html.escape(url) if self.html and _SPECIAL.search(url) else url
            known[target] = (PIXEL.format(url) if target is None else url).encode()
        return [known[target] for target in self.targets]

    @property
    def size(self) -> int:
        """Octets that it holds, about."""
        return sum(map(len, self.literals)) + sum(len(target or "") for target in self.targets)


def cut(text: bytes, slots: Sequence[Slot], *, is_html: bool, encoding: bytes = b"", body: bytes = b"") -> Stencil:
    """The stencil of a text: of a part whose `body` says it in this encoding (b"": as it is)."""
    places = [place for slot in slots for place in (slot.start, slot.end)]
    pieces = quoted.cut(body, len(text), places) if encoding == QP else None
    is_cut = pieces is not None
    if pieces is None:
        pieces = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    ending = b"\r\n" if body.endswith(b"\n") else b""
    return Stencil(tuple(pieces[::2]), tuple([slot.target for slot in slots]), is_html, encoding, is_cut, ending)


def settled(stencil: Stencil, sample: Addresses) -> Generator[None, None, Stencil]:
    """The same as it will leave, returned after some steps; `sample` are the addresses of anybody."""
    encoding = stencil.encoding
    if not encoding and _has_long_line(stencil, sample):
        encoding = QP if _is_mostly_ascii(stencil.literals) else BASE64
    elif encoding == QP and not stencil.encoded and any(_has_bare_ends(literal) for literal in stencil.literals):
        encoding = BASE64  # a line end of another kind would become one of ours
    stencil = stencil._replace(encoding=encoding)
    if encoding != QP or stencil.encoded:
        return stencil
    literals, done = [], 0
    for literal in stencil.literals:
        literals.append(_encoded(literal))
        done += len(literal)
        if done > _STEP:
            done = 0
            yield
    return stencil._replace(literals=tuple(literals), encoded=True)


def _has_long_line(stencil: Stencil, sample: Addresses) -> bool:
    """Whether an address makes a line too long."""
    length = 0  # of the line so far
    for literal, made in zip(stencil.literals, [*stencil.made(sample), b""], strict=True):
        first = literal.find(b"\n")
        if length and length + (len(literal) if first < 0 else first - 1) > MAX_LINE:
            return True
        length = (length if first < 0 else 0) + len(literal) - (literal.rfind(b"\n") + 1) + len(made)
        if length > MAX_LINE:
            return True
    return False


def _is_mostly_ascii(literals: Sequence[bytes]) -> bool:
    size = sum(map(len, literals))
    escaped = sum(len(literal) - len(literal.translate(None, ESCAPED)) for literal in literals)
    return escaped * transfer.MOSTLY_ASCII <= size


def _has_bare_ends(text: bytes) -> bool:
    return text.count(b"\n") != text.count(b"\r\n")


def _encoded(text: bytes) -> bytes:
    """In quoted-printable: whole lines, or the last one with a soft line break, so that anything may follow."""
    encoder = QuotedPrintable()
    done = encoder.feed(text) + encoder.feed(b"-")  # what is in hand comes out when something follows
    encoder.finish()
    return done
