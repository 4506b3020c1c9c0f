"""One attempt to hand a message to a relay with the sender's own credentials: addresses, a connection, words.

Guarantees: it ends within `WITHIN_S` seconds; every recipient has a word, also where it was cut short; what the relay
says of the credentials is not repeated, nor anything with the password in it. The connection serves this message only.
"""

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Final

from msgspec.structs import replace

from gateway.config import RelayRoute, Timeouts
from gateway.delivery import envelope, relaylist, verdict
from gateway.delivery.route import Ways
from gateway.delivery.session import Failure, Hop, Session, open_session
from gateway.delivery.variants import Variant, Variants
from gateway.delivery.verdict import Word
from gateway.delivery.wire import Mail, Spent
from gateway.events import State
from gateway.message import model
from gateway.store.newmail import NewMessage, NewRecipient
from gateway.store.queue import Attempt, Result

WITHIN_S: Final = 60.0  # the whole attempt: somebody waits for the answer
STEPS: Final = Timeouts(connect_s=10, greeting_s=20, command_s=20, data_start_s=20, data_block_s=20, data_end_s=40)
ADDRESSES: Final = 4  # of the relay's that are tried until one takes the connection
_ELSEWHERE: Final = Word("route", 0, "5.4.4", "the relay's name leads to this machine or its link")
_CUT_SHORT: Final = "the attempt was ended before there was an answer"


class Passage:
    """`route` is the relay, with the credentials; `verify` False: it need not prove itself on loopback."""

    def __init__(self, ways: Ways, route: RelayRoute, message: NewMessage) -> None:
        self._ways = ways
        self._route = route
        self._message = message
        self._hop: Hop | None = None
        self._session: Session | None = None
        self._words: list[Word] = []

    async def go(self) -> None:
        """Never raises but for cancellation."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WITHIN_S):
                    self._words = await self._talk()
        finally:
            if self._session is not None:
                self._session.wire.close()

    @property
    def words(self) -> list[Word]:
        """What was said for each recipient, so far as it came."""
        return [self._discreet(word) for word in self._words] or [self._cut_short()] * len(self._message.recipients)

    def attempt(self, started: int, ended: int) -> Attempt:
        """The attempt as it is written down. Times in Unix milliseconds."""
        spent = self._session.wire.spent if self._session is not None else Spent()
        recipients = zip(self._message.recipients, self.words, strict=True)
        return Attempt(
            message=self._message.id,
            uuid=self._message.uuid,
            destination=0,
            route=self._message.route,
            started_at=started,
            ended_at=ended,
            results=tuple(self._result(recipient, word) for recipient, word in recipients),
            envelope_ms=round(spent.envelope_s * 1000),
            content_ms=round(spent.content_s * 1000),
            wire_bytes=spent.wire_bytes,
        )

    async def _talk(self) -> list[Word]:
        count = len(self._message.recipients)
        hops = await self._hops()
        if isinstance(hops, Word):
            return [hops] * count
        opened = await self._open(hops)
        if isinstance(opened, Failure):
            return [opened.word] * count
        self._session = opened
        message = self._message
        content = message.pieces[0][1] if len(message.pieces) == 1 else None
        variant = await Variants(message.facts, content, self._pieces, None).fit(opened.wire.offer)
        return [variant] * count if isinstance(variant, Word) else await opened.wire.send(self._mail(variant))

    async def _hops(self) -> list[Hop] | Word:
        """Connections to try: the name is looked up once, what is connected to are addresses."""
        route = self._route
        found = await self._ways.hops(route, "", self._message.tls_wish)
        if isinstance(found, Word):
            return found
        hops = [
            dataclasses.replace(hop, verify=route.verify or not relaylist.is_loopback(hop.address))
            for hop in found
            if relaylist.may_be_at(route.host, hop.address)
        ]
        return hops[:ADDRESSES] or _ELSEWHERE

    async def _open(self, hops: list[Hop]) -> Session | Failure:
        """The next address only where there was no connection: then nothing was said to anybody."""
        opened: Session | Failure = Failure(_ELSEWHERE)
        for hop in hops:
            self._hop = hop
            opened = await open_session(hop, STEPS)
            if isinstance(opened, Session) or opened.word.stage != "connect":
                break
        return opened

    def _mail(self, variant: Variant) -> Mail:
        message = self._message
        addresses = tuple(recipient.address for recipient in message.recipients)
        return Mail(
            sender=message.envelope_sender,
            recipients=addresses,
            size=variant.size,
            eight_bit=variant.eight_bit,
            utf8=variant.utf8 or not message.envelope_sender.isascii() or not all(map(str.isascii, addresses)),
            dot_lines=variant.dot_lines,
            prefix=variant.prefix,
            content=variant.content,
            stream=variant.stream,
            notify=tuple(recipient.notify for recipient in message.recipients),
            orcpt=tuple(recipient.orcpt for recipient in message.recipients),
            ret=message.ret,
            envid=message.envid,
            require_tls=message.tls_wish == model.TLS_REQUIRED,
        )

    async def _pieces(self) -> AsyncIterator[bytes]:
        for _, piece in self._message.pieces:
            yield piece

    def _cut_short(self) -> Word:
        if self._session is None:
            return Word("connect", 0, "4.4.2", _CUT_SHORT)
        sent = self._session.wire.spent.wire_bytes > 0
        return Word("dot" if sent else "body", 0, "4.4.2", _CUT_SHORT, uncertain=sent)

    def _discreet(self, word: Word) -> Word:
        if word.stage == "auth" and word.code:
            return replace(word, text=f"{word.code} {word.enhanced} the relay did not take the credentials")
        if any(secret in word.text for secret in self._secrets()):
            return replace(word, text=f"{word.code or ''} (the text is withheld)".lstrip())
        return word

    def _secrets(self) -> list[str]:
        """The password in every form in which it leaves."""
        name, secret = self._route.username or "", self._route.password.value if self._route.password else ""
        encoded = [base64.b64encode(text.encode()).decode() for text in (secret, f"\0{name}\0{secret}")]
        quoted = repr(secret.encode())[2:-1]  # as what is no SMTP is quoted
        return [form for form in (secret, quoted, *encoded) if form]

    def _result(self, recipient: NewRecipient, word: Word) -> Result:
        decision = verdict.judge_once(word)
        hop, session = self._hop, self._session
        return Result(
            recipient.id,
            0,
            decision.state,
            decision.event,
            attempts=1,
            to=recipient.address,
            reply=word.text,
            bounce_class=decision.bounce_class,
            scope=decision.scope,
            stage=word.stage,
            host=self._route.host,
            address=hop.address if hop is not None else "",
            tls=session.tls if session is not None else "",
            note=session.note if session is not None else "",
            possible_duplicate=word.uncertain,
            dsn_passed=decision.state is State.DELIVERED
            and session is not None
            and envelope.passes_success(session.wire.offer, recipient.notify),
            source=self._route.source or "",
            ehlo=self._route.ehlo or "",
        )
