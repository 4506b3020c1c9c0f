"""What one message has to do at one destination: the mail a host can be given, and what was said so far.

Guarantees: a host is given no mail that it announced it cannot take: another form of it, or none; what is refused for
that reason is refused for good only where no other host of the destination might take it; the most telling word stays.
It opens no connection and does not judge (attempt.py does).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.config import MxRoute, RelayRoute
from gateway.delivery import envelope
from gateway.delivery.envelope import Mail, Offer
from gateway.delivery.personal import Personal
from gateway.delivery.session import Hop, Session
from gateway.delivery.variants import Variant, Variants
from gateway.delivery.verdict import Word
from gateway.message import model
from gateway.store.queue import Claimed, Leased, Queue

_NO_UTF8_ADDRESS: Final = Word(
    "mail",
    550,
    "5.6.7",
    "550 5.6.7 the next hop does not take internationalized mail (SMTPUTF8), and an address is not ASCII",
)
_NOT_TRIED: Final = "not tried: no host of this destination took a connection a moment ago"


class Said(msgspec.Struct, frozen=True, gc=False):
    """A word, who said it, and who asked: `source` and `ehlo` are those that the route has of its own. `ours`: nobody
    said it, we know that this host cannot be given the message."""

    word: Word
    host: str = ""
    address: str = ""
    tls: str = ""
    note: str = ""
    ours: bool = False
    offer: Offer | None = None  # of the host that was told of the recipient
    put_off_s: float | None = None  # nobody was asked, and nobody is for so long
    source: str = ""
    ehlo: str = ""


class Fitted(NamedTuple):
    """Mail for those who are `able` to be sent it there; `word` says why not, for the others."""

    mail: Mail | None
    able: list[Leased]
    unable: list[Leased]
    word: Word


class Errand:
    """`said` is what was said so far, by recipient: of this destination and of others; `wish` is about TLS; `personal`
    knows the envelope sender (None: as it was submitted); `note` is of the message, told where there is no other."""

    __slots__ = (
        "_ehlo",
        "_from_ascii",
        "_is_ascii",
        "_note",
        "_personal",
        "_renames",
        "claimed",
        "domain",
        "queue",
        "route",
        "said",
        "variants",
        "wish",
    )

    def __init__(
        self,
        route: MxRoute | RelayRoute,
        domain: str,
        claimed: Claimed,
        variants: Variants,
        *,
        queue: Queue,
        said: dict[int, Said],
        personal: Personal | None = None,
        note: str = "",
    ) -> None:
        self.route = route
        self.domain = domain
        self.claimed = claimed
        self.variants = variants
        self.queue = queue
        self.said = said
        self.wish = claimed.tls_wish
        self._ehlo = route.ehlo or ""
        self._personal = personal
        self._note = note
        addresses = "".join([recipient.address for recipient in claimed.recipients])
        self._renames = personal is not None and personal.renames(claimed)
        self._from_ascii = self._renames or claimed.envelope_sender.isascii()
        self._is_ascii = self._from_ascii and addresses.isascii()

    async def fit(self, offer: Offer, recipients: list[Leased]) -> Fitted:
        """The mail for a host that offers that."""
        able, unable = recipients, list[Leased]()
        if not self._is_ascii and not offer.smtputf8:
            able, unable = self._by_address(recipients)
            if not able:
                return Fitted(None, [], recipients, _NO_UTF8_ADDRESS)
        variant = await self.variants.fit(offer)
        if isinstance(variant, Word):
            return Fitted(None, [], recipients, variant)
        mail = self._mail(able, variant, offer)
        refusal = envelope.refusal(mail, offer)
        if refusal is not None:
            return Fitted(None, [], recipients, refusal)
        return Fitted(mail, able, unable, _NO_UTF8_ADDRESS)

    def heard(self, recipient: Leased, word: Word, session: Session) -> None:
        """The host spoke of this recipient."""
        hop = session.hop
        note = session.note or self._note
        # Where notifications come back to us the host has taken over no duty to tell the submitter.
        offer = None if self._renames else session.wire.offer
        self.said[recipient.id] = Said(
            word, hop.name, hop.address, session.tls, note, offer=offer, source=hop.source or "", ehlo=self._ehlo
        )

    def unreached(self, recipients: Sequence[Leased], word: Word, hop: Hop) -> None:
        """The host was not reached, or not talked with. That hides neither the reply of another, nor that it cannot be
        given the message, which another of its addresses said."""
        for recipient in recipients:
            before = self.said.get(recipient.id)
            if before is not None and (before.host == hop.name if before.ours else before.word.code and not word.code):
                continue
            self.said[recipient.id] = Said(word, hop.name, hop.address, source=hop.source or "", ehlo=self._ehlo)

    def unfit(self, recipients: Sequence[Leased], word: Word, session: Session) -> None:
        """The host cannot be given the message. What another one said may come to another end."""
        hop = session.hop
        for recipient in recipients:
            before = self.said.get(recipient.id)
            if before is None or before.ours or (before.host == hop.name and not before.word.code):
                self.said[recipient.id] = Said(word, hop.name, hop.address, session.tls, session.note, ours=True)

    def all_heard(self, recipients: Sequence[Leased], word: Word) -> None:
        """No host was asked; what one said before is worth more."""
        for recipient in recipients:
            self.said.setdefault(recipient.id, Said(word))

    def put_off(self, recipients: Sequence[Leased], word: Word, pause_s: float) -> None:
        """No host is asked for so long: that was heard a moment ago."""
        for recipient in recipients:
            self.said.setdefault(recipient.id, Said(word, note=_NOT_TRIED, put_off_s=pause_s))

    def _by_address(self, recipients: list[Leased]) -> tuple[list[Leased], list[Leased]]:
        """Who can be named in ASCII, and who cannot; domains always can (RFC 6531, 3.2)."""
        if not self._from_ascii:
            return [], recipients
        able = [recipient for recipient in recipients if recipient.address.isascii()]
        return able, [recipient for recipient in recipients if not recipient.address.isascii()]

    def _mail(self, recipients: list[Leased], variant: Variant, offer: Offer) -> Mail:
        claimed = self.claimed
        addresses = tuple([recipient.address for recipient in recipients])
        mark = self._personal.mark(claimed, recipients) if self._personal is not None else None
        sender, field = mark if mark is not None else (claimed.envelope_sender, b"")
        is_ascii = self._is_ascii or (self._from_ascii and all(map(str.isascii, addresses)))
        return Mail(
            sender=sender,
            recipients=addresses,
            size=variant.size + len(field),
            eight_bit=variant.eight_bit,
            utf8=variant.utf8 or not is_ascii,
            dot_lines=variant.dot_lines,
            prefix=field + variant.prefix,
            content=variant.content,
            stream=variant.stream,
            # To an envelope sender of ours failures are to come back, and nothing else.
            notify=tuple([recipient.notify for recipient in recipients]) if offer.dsn and not self._renames else (),
            orcpt=tuple([recipient.orcpt for recipient in recipients]) if offer.dsn else (),
            ret="HDRS" if self._renames else claimed.ret,
            envid="" if self._renames else claimed.envid,
            require_tls=claimed.tls_wish == model.TLS_REQUIRED,
            before_end=self._marker(recipients) if claimed.at_most_once else None,
        )

    def _marker(self, recipients: list[Leased]) -> Callable[[Sequence[int]], Awaitable[None]]:
        async def mark(which: Sequence[int]) -> None:
            await self.queue.mark([(recipients[index].id, recipients[index].fence) for index in which])

        return mark
