"""A message with holes: where the addresses that are made for one recipient go. Pure.

Guarantees: what a text decodes to is, outside the holes, octet for octet what it was; its lines are of at most 998
octets: where an address would make one longer the text is encoded (RFC 2045), and the header of its part says so. Read
once, it is filled in for each recipient at the cost of the addresses.
"""

from collections.abc import Sequence
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
_STENCIL_BYTES: Final = 350  # of memory, with what says where it stands
_HOLE_BYTES: Final = 100  # of memory: two objects, beside what they say


class Addresses(Protocol):
    """What is made for one recipient. All are ASCII, of the same length for every recipient, and without what means
    something in HTML: `http.public_url` (publicurl.py) and base64 have none of it."""

    def click(self, target: str) -> str:
        """The URL that leads to a target over us."""

    def pixel(self) -> str:
        """That of the pixel."""


class Stencil(NamedTuple):
    """A text: `literals` and, between two of them, a hole. Where `encoded` they are in quoted-printable, as the text
    will be; else they are what was said, and the text is put into `encoding`. `ending` stands behind base64."""

    literals: tuple[bytes, ...]
    targets: tuple[str | None, ...]
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
            made = PIXEL.format(addresses.pixel()) if target is None else addresses.click(target)
            known[target] = made.encode()
        return [known[target] for target in self.targets]

    @property
    def size(self) -> int:
        """Octets that it takes of memory, about."""
        texts = sum(map(len, self.literals)) + sum(len(target or "") for target in self.targets)
        return _STENCIL_BYTES + _HOLE_BYTES * len(self.targets) + texts


def cut(text: bytes, slots: Sequence[Slot], *, encoding: bytes = b"", body: bytes = b"") -> Stencil:
    """The stencil of a text: of a part whose `body` says it in this encoding (b"": as it is)."""
    places = [place for slot in slots for place in (slot.start, slot.end)]
    pieces = quoted.cut(body, len(text), places) if encoding == QP else None
    is_cut = pieces is not None
    if pieces is None:
        pieces = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    ending = b"\r\n" if body.endswith(b"\n") else b""
    return Stencil(tuple(pieces[::2]), tuple([slot.target for slot in slots]), encoding, is_cut, ending)


def settled(stencil: Stencil, sample: Addresses) -> Stencil:
    """The same as it will leave; `sample` are the addresses of anybody."""
    encoding = stencil.encoding
    if not encoding and _has_long_line(stencil, sample):
        encoding = QP if _is_mostly_ascii(stencil.literals) else BASE64
    elif encoding == QP and not stencil.encoded and any(_has_bare_ends(literal) for literal in stencil.literals):
        encoding = BASE64  # a line end of another kind would become one of ours
    stencil = stencil._replace(encoding=encoding)
    if encoding != QP or stencil.encoded:
        return stencil
    return stencil._replace(literals=tuple(map(_encoded, stencil.literals)), encoded=True)


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
