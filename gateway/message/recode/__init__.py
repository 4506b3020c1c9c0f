"""Mail with lines over 998 octets made fit for SMTP: the parts that hold them are re-encoded.

Guarantees: a leaf part with such a line becomes quoted-printable where it is text and at most one octet in six would
be escaped, else base64; one that is base64 or quoted-printable already has its long lines cut; a header line is folded
where white space stands. What a part decodes to stays, and so does every octet outside these parts but their
Content-Transfer-Encoding (and a MIME-Version that was missing). Memory is bounded by two pieces and by what is
remembered of each part with such a line; linear time.

1. `Survey` reads header and body and finds what has to be done; or why nothing may: Unrepairable.
2. `Rewriting` reads the body again and gives the new one.

What is signed stays as it is: nothing of a message with a DKIM-Signature is touched, nor what is in multipart/signed.
"""

import re
from typing import Final, Protocol

from gateway.message.fixup import MAX_LINE, has_long_line
from gateway.message.model import PIECE_BYTES
from gateway.message.recode import header as part_header
from gateway.message.recode.encoding import LONG_LINE, Base64, Cut, Encoder, QuotedPrintable
from gateway.message.recode.parts import Part, Unrepairable, Walk
from gateway.message.transfer import MOSTLY_ASCII

__all__ = ["ESCAPED", "Rewriting", "Survey", "Surveyed", "Unrepairable", "fold"]

# What quoted-printable escapes: there base64 is shorter from one octet in six on, as for composed text (transfer.py).
ESCAPED: Final = bytes([*range(9), *range(11, 13), *range(14, 32), 61, *range(127, 256)])
_NOT_QP: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|[0-9A-Fa-f]?\Z|[ \t]*\Z)")
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/= \t]")

_DKIM: Final = "it has a DKIM signature, which that would break (without one it is signed here)"
_SIGNED: Final = "it is in a signed part, and that would break the signature"
_FRAME: Final = "it is before, between or after the parts of a multipart"
_HEADER: Final = "it is in a header and has no white space to fold it at"


class Survey:
    """Feed it the body as the listener cuts it, then `end`; all three raise Unrepairable.

    `plan` is what to do, by number of a part: its new encoding, or b"" where its lines are cut.
    """

    __slots__ = ("_escaped", "_long", "_open", "_size", "_walk", "header", "plan")

    def __init__(self, header: bytes) -> None:
        self.header = header
        self.plan: dict[int, bytes] = {}
        self._size = self._escaped = 0  # of the part's body
        self._long = False
        self._open = 0  # octets of a line whose end did not come yet
        if part_header.is_signed(header):
            raise Unrepairable(None, _DKIM)
        self._walk = Walk(header, self)

    def feed(self, data: bytes) -> None:
        self._walk.feed(data)

    def end(self) -> None:
        self._walk.end()

    # What the walk tells

    def frame(self, data: bytes, line: int) -> None:
        if self._long_lines(data):
            raise _unrepairable(data, line, _FRAME)

    def enter(self, part: Part, line: int) -> None:
        self._size = self._escaped = self._open = 0
        self._long = False
        if part.fixed and has_long_line(part.header):
            raise _unrepairable(part.header, line, _SIGNED)
        _folded(part.header, line)

    def body(self, part: Part, data: bytes, line: int) -> None:
        nature = part.nature
        self._size += len(data)
        if nature.text:
            self._escaped += len(data) - len(data.translate(None, ESCAPED))
        lines = self._long_lines(data)
        if not lines:
            return
        self._long = True
        if part.fixed or nature.fault:
            raise _unrepairable(data, line, _SIGNED if part.fixed else nature.fault)
        if nature.encoding:
            wrong = _NOT_BASE64 if nature.encoding == b"base64" else _NOT_QP
            if any(wrong.search(text) for text in lines):
                raise _unrepairable(data, line, f"its part says {nature.encoding.decode()} and is not")

    def leave(self, part: Part) -> None:
        self._open = 0  # the line end belongs to the delimiter
        if not self._long:
            return
        if part.nature.encoding:
            self.plan[part.number] = b""
        elif part.nature.text and self._escaped * MOSTLY_ASCII <= self._size:
            self.plan[part.number] = b"quoted-printable"
        else:
            self.plan[part.number] = b"base64"

    def mended(self, part: Part) -> bytes:
        """Without long lines."""
        return _folded(part.header)

    def _long_lines(self, data: bytes) -> list[bytes]:
        """The lines of more than 998 octets, or what is in hand of them."""
        before, end = self._open, data.rfind(b"\n") + 1
        self._open = len(data) - end + (0 if end else before)
        first = data[: data.find(b"\r\n")] if end else data
        begun = [first] if before and before + len(first) > MAX_LINE else []
        return begun + LONG_LINE.findall(data) if begun or has_long_line(data) else []


class Surveyed(Protocol):
    """What a rewriting goes by: the header of the message, and the plan (b"7bit" changes but the name)."""

    header: bytes
    plan: dict[int, bytes]

    def mended(self, part: Part) -> bytes:
        """The header of a part as it will be, but for its encoding."""


class Rewriting:
    """A message with the plan carried out: `header` is its new one. Feed it the same body, cut in the same way."""

    __slots__ = ("_encoder", "_mended", "_out", "_plan", "_size", "_walk", "header")

    def __init__(self, survey: Surveyed) -> None:
        self.header = b""
        self._plan = survey.plan
        self._mended = survey.mended
        self._encoder: Encoder | None = None
        self._out: list[bytes] = []
        self._size = 0
        self._walk = Walk(survey.header, self)

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces that are full now: at most PIECE_BYTES, cut after a line end."""
        self._walk.feed(data)
        if self._size <= PIECE_BYTES:
            return []
        pieces = []
        text = b"".join(self._out)
        while len(text) > PIECE_BYTES:
            cut = text.rfind(b"\n", 0, PIECE_BYTES) + 1
            pieces.append(text[:cut])
            text = text[cut:]
        self._out, self._size = [text], len(text)
        return pieces

    def finish(self) -> list[bytes]:
        """The last pieces; the last one may be empty."""
        self._walk.end()
        # Where the last part is encoded, the line end that its text had is in there.
        if self._out and not (self._out[-1] or b"\n").endswith(b"\n"):
            self._add(b"\r\n")
        return [*self.feed(b""), b"".join(self._out)]

    # What the walk tells

    def frame(self, data: bytes, _: int) -> None:
        self._add(data)

    def enter(self, part: Part, _: int) -> None:
        encoding = self._plan.get(part.number)
        header = self._mended(part)
        if encoding:
            header = part_header.with_encoding(header, encoding, message=part.message)
        if part.number:
            self._add(header)
        else:
            self.header = header
        if encoding is None or encoding == b"7bit":
            self._encoder = None
        elif encoding:
            self._encoder = QuotedPrintable() if encoding == b"quoted-printable" else Base64()
        else:
            self._encoder = Cut(quoted_printable=part.nature.encoding == b"quoted-printable")

    def body(self, _: Part, data: bytes, __: int) -> None:
        self._add(data if self._encoder is None else self._encoder.feed(data))

    def leave(self, _: Part) -> None:
        if self._encoder is not None:
            self._add(self._encoder.finish())

    def _add(self, data: bytes) -> None:
        if data:
            self._out.append(data)
            self._size += len(data)


def fold(header: bytes) -> bytes:
    """The header of a message whose body is fit, without long lines. Raises Unrepairable."""
    if part_header.is_signed(header):
        raise _unrepairable(header, 1, _DKIM)
    return _folded(header)


def _folded(header: bytes, line: int = 1) -> bytes:
    folded = part_header.fold(header)
    if folded is None:
        raise _unrepairable(header, line, _HEADER)
    return folded


def _unrepairable(data: bytes, line: int, why: str) -> Unrepairable:
    """For data that begins in this line of the message."""
    found = LONG_LINE.search(data)
    return Unrepairable(line + (data.count(b"\n", 0, found.start()) if found is not None else 0), why)
