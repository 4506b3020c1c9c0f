"""What has to be done to a message with octets above 127 before a host without 8BITMIME can have it (RFC 6152, 3).

Guarantees: a leaf part with such octets becomes quoted-printable where it is text and at most one octet in six would be
escaped, else base64; headers, of parts too, become ASCII (downgrade.py); what says "8bit" and is not any more says
"7bit". Nothing of a message with a DKIM-Signature is touched, nor what is in multipart/signed or multipart/encrypted:
then nothing may be done, and Unrepairable or Undowngradable say why. `Rewriting` carries it out.
"""

from typing import Final

from gateway.message.recode import ESCAPED
from gateway.message.recode import header as part_header
from gateway.message.recode.downgrade import header as downgraded
from gateway.message.recode.header import Kind
from gateway.message.recode.parts import Part, Unrepairable, Walk
from gateway.message.transfer import MOSTLY_ASCII

DKIM: Final = "it has a DKIM signature, which that would break"
_SIGNED: Final = "it has 8-bit content in a signed part, and that would break the signature"
_ENCRYPTED: Final = "it is encrypted, and must stay as it is"
_FRAME: Final = "it has 8-bit content before, between or after the parts of a multipart"
_NOT_ENCODED: Final = "one of its parts says that it is encoded and is not"


class SevenBitSurvey:
    """Feed it the body in the pieces that are stored, then `end`; all three raise Unrepairable and Undowngradable.

    `plan` is what to do, by number of a part: its new encoding.
    """

    __slots__ = ("_encrypted", "_escaped", "_high", "_size", "_walk", "header", "plan")

    def __init__(self, header: bytes) -> None:
        self.header = header
        self.plan: dict[int, bytes] = {}
        self._size = self._escaped = 0  # of the part's body
        self._high = self._encrypted = False
        if part_header.is_signed(header):
            raise Unrepairable(None, DKIM)
        self._walk = Walk(header, self)

    def feed(self, data: bytes) -> None:
        self._walk.feed(data)

    def end(self) -> None:
        self._walk.end()

    def mended(self, part: Part) -> bytes:
        """In ASCII."""
        return part.header if part.fixed else downgraded(part.header)

    # What the walk tells

    def frame(self, data: bytes, line: int) -> None:
        if not data.isascii():
            raise Unrepairable(line, _FRAME)

    def enter(self, part: Part, line: int) -> None:
        self._size = self._escaped = 0
        self._high = False
        self._encrypted = self._encrypted or part.nature.encrypted
        if not part.header.isascii():
            self._may_change(part, line)
            downgraded(part.header)
        if part.nature.kind is not Kind.LEAF and not part.fixed and part_header.says_eight_bit(part.header):
            self.plan[part.number] = b"7bit"

    def body(self, part: Part, data: bytes, line: int) -> None:
        nature = part.nature
        self._size += len(data)
        if nature.text:
            self._escaped += len(data) - len(data.translate(None, ESCAPED))
        if data.isascii():
            return
        self._high = True
        self._may_change(part, line)
        if nature.fault or nature.encoding:
            raise Unrepairable(line, nature.fault or _NOT_ENCODED)

    def leave(self, part: Part) -> None:
        if not self._high:
            if not part.fixed and not part.nature.fault and part_header.says_eight_bit(part.header):
                self.plan[part.number] = b"7bit"
        elif part.nature.text and self._escaped * MOSTLY_ASCII <= self._size:
            self.plan[part.number] = b"quoted-printable"
        else:
            self.plan[part.number] = b"base64"

    def _may_change(self, part: Part, line: int) -> None:
        if part.fixed:
            raise Unrepairable(line, _SIGNED)
        if self._encrypted:
            raise Unrepairable(line, _ENCRYPTED)
