"""A message read for tracking: its texts found, their links, and what has to be put in place of what. Pure.

Guarantees: nothing of a message with a DKIM-Signature is changed, nor what is in multipart/signed or encrypted, in a
message within the message or in an attachment; what cannot be followed for certain stays whole, and `note` says why.
Of the body no more than HELD_BYTES is kept. Nothing is raised on foreign bytes.

1. `Survey` reads header and body, in the pieces that are stored.
2. `plan` reads the texts it found, and gives the `Plan`.
3. `Plan.patches` are what changes for a recipient.
"""

import binascii
import re
import string
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.message import model
from gateway.message.recode import header as part_header
from gateway.message.recode.header import Kind
from gateway.message.recode.parts import Part, Unrepairable, Walk
from gateway.message.tracking import leaf, links, plain, stencil
from gateway.message.tracking.leaf import Text
from gateway.message.tracking.listing import list_unsubscribe
from gateway.message.tracking.markup import Markup, Slot
from gateway.message.tracking.nesting import Nesting
from gateway.message.tracking.patching import Patch
from gateway.message.tracking.stencil import Addresses, Stencil

HELD_BYTES: Final = 2 * 1024 * 1024  # of all texts of a message, as they stand in it
_PLAN_BYTES: Final = 400  # of a Plan, without its places
_PATCH_BYTES: Final = 200  # of a Patch, without its data
_BASE64: Final = string.ascii_letters.encode() + string.digits.encode() + b"+/=\r\n \t"
_ENVELOPED: Final = re.compile(
    rb"^content-type[ \t]*:[ \t\r\n]*application/(?:x-)?pkcs7-mime\b", re.IGNORECASE | re.MULTILINE
)

DKIM: Final = "not tracked: it has a DKIM signature, which that would break"
SIGNED: Final = "not tracked: it is signed or encrypted"
LARGE: Final = f"not tracked: its text is larger than {HELD_BYTES // 1024**2} MB"
CHARSET: Final = "not tracked: a charset whose markup is not ASCII"
UNCLEAR: Final = "not tracked: its parts cannot be told apart for certain"


class Wish(NamedTuple):
    """`track` is a sum of TRACK_…; links that begin with `own` lead over us already."""

    track: int
    own: str


class Planned(NamedTuple):
    """As Patch, but for a text of which each recipient has one."""

    start: int
    end: int
    text: Stencil


class Plan(NamedTuple):
    """`header` is the new one of the message; `places`, in order, what of the body changes. `size` is about what it
    holds in memory, `holes` what is made for a recipient: links and pixels."""

    header: bytes
    places: tuple[Patch | Planned, ...]
    note: str
    size: int
    holes: int

    def patches(self, addresses: Addresses) -> list[Patch]:
        return [
            place if isinstance(place, Patch) else Patch(place.start, place.end, place.text.fill(addresses))
            for place in self.places
        ]

    @property
    def dot_lines(self) -> bool:
        """Whether a line may begin with a dot that did not before."""
        return any(isinstance(place, Planned) and place.text.encoding == stencil.QP for place in self.places)


class _Found(NamedTuple):
    """A text, as it stands in the body."""

    part: Part
    text: Text
    header_at: int
    body_at: int
    pieces: list[bytes]


class Survey:
    """Feed it the body as it is stored, then `end`; then `plan`."""

    def __init__(self, header: bytes, wish: Wish) -> None:
        self.note = ""
        self.held = 0  # octets of texts
        self._header = header
        self._wish = wish
        self._found: list[_Found] = []
        self._open: _Found | None = None  # the text whose body is read
        self._at = 0  # in the body
        self._nesting = Nesting()
        self._walk: Walk | None = None
        if part_header.is_signed(header):
            self.note = DKIM
            return
        if not wish.track:
            return
        if _ENVELOPED.search(header) is not None:
            self.note = SIGNED
            return
        try:
            self._walk = Walk(header, self)
        except Unrepairable:
            self._give_up()

    @property
    def over(self) -> bool:
        """Nothing more has to be read."""
        return self._walk is None

    def feed(self, data: bytes) -> None:
        if self._walk is None:
            return
        try:
            self._walk.feed(data)
        except Unrepairable:
            self._give_up()

    def end(self) -> None:
        if self._walk is None:
            return
        try:
            self._walk.end()
        except Unrepairable:
            self._give_up()
        self._walk = None

    def plan(self, sample: Addresses) -> Plan:
        """`sample` are the addresses of anybody."""
        spared = links.spared(list_unsubscribe(self._header))
        texts: list[tuple[_Found, bytes, list[Slot]]] = []
        pixel: tuple[int, int] | None = None
        for found in self._found:
            body = b"".join(found.pieces)
            decoded = _decoded(body, found.part.nature.encoding)
            if decoded is None:
                self.note = self.note or UNCLEAR
                continue
            slots: list[Slot] = []
            if found.text.html:
                markup = Markup(decoded, utf8=found.text.utf8, spared=spared, own=self._wish.own)
                slots = markup.slots if self._wish.track & model.TRACK_CLICKS else []
                if markup.pixel is not None:
                    pixel = len(texts), markup.pixel
            else:
                slots = plain.slots(decoded, joins=found.text.joins, spared=spared, own=self._wish.own)
            texts.append((found, decoded, slots))
        if pixel is not None and self._wish.track & model.TRACK_OPENS:
            # The last one is shown, be they alternatives or all shown.
            number, at = pixel
            slots = texts[number][2]
            slots.append(Slot(at, at, None))
            slots.sort(key=lambda slot: slot.start)
        return self._planned(texts, sample)

    def _planned(self, texts: Sequence[tuple[_Found, bytes, list[Slot]]], sample: Addresses) -> Plan:
        header, places = self._header, list[Patch | Planned]()
        for found, decoded, slots in texts:
            if not slots:
                continue
            before = found.part.nature.encoding
            body = b"".join(found.pieces)
            raw = stencil.cut(decoded, slots, encoding=before, body=body)
            made = stencil.settled(raw, sample)
            if made.encoding != before:
                new = part_header.with_encoding(found.part.header, made.encoding, message=found.part.message)
                if found.part.number:
                    places.append(Patch(found.header_at, found.body_at, new))
                else:
                    header = new
            places.append(Planned(found.body_at, found.body_at + len(body), made))
        sizes = [_PATCH_BYTES + len(one.data) if isinstance(one, Patch) else one.text.size for one in places]
        return Plan(
            header,
            tuple(places),
            # Where a part is signed and another one is not, that one was tracked.
            "" if places and self.note == SIGNED else self.note,
            size=_PLAN_BYTES + len(header) + sum(sizes),
            holes=sum(len(one.text.targets) for one in places if isinstance(one, Planned)),
        )

    # What the walk tells

    def frame(self, data: bytes, _: int) -> None:
        self._at += len(data)
        self._nesting.frame(data)

    def enter(self, part: Part, _: int) -> None:
        header_at = self._at
        if part.number:
            self._at += len(part.header)
        outside = self._nesting.enter(part)
        self._open = None
        if not outside or part.fixed or part.nature.kind is not Kind.LEAF:
            if part.fixed or part.nature.signed or part.nature.encrypted:
                self.note = self.note or SIGNED
            return
        text = leaf.text(part.header)
        wanted = model.TRACK_OPENS | model.TRACK_CLICKS if text is not None and text.html else model.TRACK_TEXT
        if text is None or not self._wish.track & wanted:
            return
        if part.nature.fault or not text.readable:
            self.note = self.note or (UNCLEAR if part.nature.fault else CHARSET)
            return
        self._open = _Found(part, text, header_at, self._at, [])

    def body(self, _: Part, data: bytes, __: int) -> None:
        self._at += len(data)
        if self._open is None:
            return
        self.held += len(data)
        if self.held > HELD_BYTES:
            self.held -= len(data) + sum(map(len, self._open.pieces))
            self._open = None
            self.note = LARGE
            return
        self._open.pieces.append(data)

    def leave(self, _: Part) -> None:
        if self._open is not None and self._open.pieces:
            self._found.append(self._open)
        self._open = None

    def _give_up(self) -> None:
        self.note, self._walk, self._open = UNCLEAR, None, None
        self._found.clear()


def _decoded(body: bytes, encoding: bytes) -> bytes | None:
    """What a part says; None where it is not what its header promises."""
    if not encoding:
        return body
    if encoding == stencil.QP:
        return binascii.a2b_qp(body)
    if body.translate(None, _BASE64):
        return None
    try:
        return binascii.a2b_base64(body, strict_mode=False) if _is_padded(body) else None
    except binascii.Error:
        return None


def _is_padded(body: bytes) -> bool:
    """Only at its end."""
    first = body.find(b"=")
    return first < 0 or not body[first:].rstrip(b"\r\n \t").strip(b"=")
