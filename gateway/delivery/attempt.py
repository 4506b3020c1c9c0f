"""One message to one destination: the way, the signature, the connection, the words, the verdicts.

Guarantees: the route is looked up at the attempt, so a changed configuration reaches queued mail; every recipient gets
a result whatever happens; what is not understood is temporary. It does not choose when (scheduler.py) and does not
write (store).
"""

import logging
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from gateway.config import CaptureRoute, Config, MxRoute, RelayRoute, Signing
from gateway.delivery import verdict
from gateway.delivery.pool import Pool
from gateway.delivery.route import Ways
from gateway.delivery.session import Failure, Hop, Session
from gateway.delivery.signer import Signer
from gateway.delivery.verdict import Word
from gateway.delivery.wire import Mail, Spent, StaleConnection
from gateway.errors import StoreError
from gateway.events import EventType, State
from gateway.message import address, dkim
from gateway.policy.domains import Domains
from gateway.resolver import Resolver, has_ipv6_route
from gateway.runtime import Clock, show_id
from gateway.store.queue import Attempt, Claimed, Due, Leased, Queue, Result

UNREACHABLE_S: Final = 30.0  # so long a destination that nobody answered for is not tried again for other messages
_REMEMBERED: Final = 10_000  # destinations at most

log = logging.getLogger("gateway.delivery")


class Said(msgspec.Struct, frozen=True, gc=False):
    """A word and who said it."""

    word: Word
    host: str = ""
    address: str = ""
    tls: str = ""
    note: str = ""


@dataclass(slots=True)
class Couriers:
    """Makes carriers, and remembers what they share."""

    config: Config
    queue: Queue
    resolver: Resolver
    pool: Pool
    signer: Signer
    domains: Domains
    clock: Clock
    rng: random.Random = field(default_factory=random.Random)
    unreachable: dict[tuple[str, str], tuple[Word, float]] = field(default_factory=dict)
    ipv6: bool = field(default_factory=has_ipv6_route)
    ways: Ways = field(init=False)

    def __post_init__(self) -> None:
        self.ways = Ways(self.config, self.resolver, self.rng, ipv6=self.ipv6)

    def carrier(self, due: Due) -> "Carrier":
        return Carrier(self, due)


class Carrier:
    """One worker's hold on a destination: keeps its connection from message to message."""

    def __init__(self, shared: Couriers, due: Due) -> None:
        self._shared = shared
        self._due = due
        self._session: Session | None = None
        self._session_for: tuple[object, str] | None = None  # route and domain it was opened for
        self._spent = Spent()  # by the message in hand, on all connections

    def close(self) -> None:
        """Give the connection back."""
        if self._session is not None:
            self._shared.pool.give_back(self._session)
            self._session = None

    async def deliver(self, claimed: Claimed) -> Sequence[Attempt]:
        """Try every recipient of a claimed message; never raises but for cancellation."""
        shared = self._shared
        started = shared.clock.now_ms()
        self._spent = Spent()
        try:
            said = await self._try(claimed)
        except StoreError as error:
            log.error("%s cannot be read from the store: %s", show_id("eml_", claimed.uuid), error)  # noqa: TRY400 - cause in the text
            said = _for_all(
                claimed.recipients, Word("store", 0, "4.3.0", "451 4.3.0 the stored message cannot be read")
            )
        except Exception:  # the root of a delivery: whatever it is, it costs this attempt and nothing else
            log.exception("the delivery of %s failed", show_id("eml_", claimed.uuid))
            said = _for_all(claimed.recipients, Word("internal", 0, "4.3.0", "451 4.3.0 internal error, logged"))
        ended = shared.clock.now_ms()
        jitter = shared.rng.random()
        return (
            Attempt(
                message=claimed.message,
                uuid=claimed.uuid,
                destination=self._due.destination,
                route=self._due.route,
                started_at=started,
                ended_at=ended,
                results=tuple([self._result(r, said[r.id], claimed, ended, jitter) for r in claimed.recipients]),
                envelope_ms=round(self._spent.envelope_s * 1000),
                content_ms=round(self._spent.content_s * 1000),
                wire_bytes=self._spent.wire_bytes,
            ),
        )

    def _result(self, recipient: Leased, said: Said, claimed: Claimed, now: int, jitter: float) -> Result:
        tries = recipient.attempts + 1
        word = said.word
        if word.stage == "capture":
            return Result(
                recipient.id,
                recipient.fence,
                State.CAPTURED,
                EventType.CAPTURED,
                attempts=tries,
                to=recipient.address,
                reply=word.text,
                stage=word.stage,
            )
        decision = verdict.judge(
            word,
            tries=tries,
            expires_at=claimed.expires_at,
            now=now,
            retry_s=self._shared.config.delivery.retry_s,
            jitter=jitter,
        )
        return Result(
            recipient.id,
            recipient.fence,
            decision.state,
            decision.event,
            attempts=tries,
            to=recipient.address,
            next_at=decision.next_at,
            reply=word.text,
            bounce_class=decision.bounce_class,
            scope=decision.scope,
            stage=word.stage,
            host=said.host,
            address=said.address,
            tls=said.tls,
            note=said.note,
            possible_duplicate=recipient.possible_duplicate or word.uncertain,
        )

    async def _try(self, claimed: Claimed) -> dict[int, Said]:
        route = self._shared.config.routes.get(self._due.route)
        match route:
            case None:
                text = f"451 4.3.5 the route {self._due.route} is not configured"
                return _for_all(claimed.recipients, Word("route", 0, "4.3.5", text))
            case CaptureRoute():
                return _for_all(claimed.recipients, Word("capture", 0, "", "captured: nothing left this machine"))
            case MxRoute() | RelayRoute():
                prefix = await self._signatures(claimed, route.dkim)
                said: dict[int, Said] = {}
                for domain, recipients in self._by_domain(route, claimed.recipients).items():
                    said |= await self._send_to(route, domain, recipients, claimed, prefix)
                return said
            case _:
                assert_never(route)

    def _by_domain(self, route: MxRoute | RelayRoute, recipients: Sequence[Leased]) -> dict[str, list[Leased]]:
        """One group for a relay; by domain where the queue did not cut so (the route was a relay at enqueue)."""
        if isinstance(route, RelayRoute) or self._due.domain:
            return {self._due.domain: list(recipients)}
        groups: dict[str, list[Leased]] = {}
        for recipient in recipients:
            groups.setdefault(address.domain_of(recipient.address), []).append(recipient)
        return groups

    async def _signatures(self, claimed: Claimed, signing: Signing) -> bytes:
        """The DKIM-Signature fields, or nothing where no key signs for the From domain.

        Each covers the message alone, not the others. RSA's comes first: who looks at one only can verify that.
        """
        keys = self._shared.domains.signing_keys(address.domain_of(claimed.header_from), signing)
        if not keys:
            return b""
        first = claimed.content or await self._shared.queue.piece(claimed.message, 0)
        header = first[: claimed.facts.header_size]
        fields = b""
        for key in keys:
            unsigned = dkim.prepare(
                header,
                claimed.facts.body_hash,
                domain=key.domain,
                selector=key.selector,
                now_s=self._shared.clock.now_ms() // 1000,
                algorithm=key.private.algorithm,
            )
            fields += dkim.finish(unsigned, await self._shared.signer.sign(key.private, unsigned.digest))
        return fields

    async def _send_to(
        self,
        route: MxRoute | RelayRoute,
        domain: str,
        recipients: list[Leased],
        claimed: Claimed,
        prefix: bytes,
    ) -> dict[int, Said]:
        place = (route.name, domain)
        if (told := self._unreachable(place)) is not None:
            return _for_all(recipients, told, note="not tried: nobody answered for this destination a moment ago")
        said: dict[int, Said] = {}
        left = recipients
        reached = False
        tried: Hop | None = None
        if self._session is not None and self._session_for == (route, domain):
            # The way of the last message: no lookup.
            tried = self._session.hop
            reached, left = await self._through(tried, left, said, claimed, prefix)
        if left:
            self.close()
            hops = await self._shared.ways.hops(route, domain)
            if isinstance(hops, Word):
                return _for_all(left, hops) | said  # what a host said is worth more
            for hop in hops:
                if hop == tried:
                    continue  # it has just refused: greylisting wants a pause
                got_through, left = await self._through(hop, left, said, claimed, prefix)
                reached = reached or got_through
                if not left:
                    break
                self.close()
        if self._session is not None:
            self._session_for = (route, domain)
        if not reached and left:
            self._remember_unreachable(place, said[left[0].id].word)
        return said

    async def _through(
        self, hop: Hop, recipients: list[Leased], said: dict[int, Said], claimed: Claimed, prefix: bytes
    ) -> tuple[bool, list[Leased]]:
        """Try one host: (whether it talked to us, recipients for whom another host may be tried)."""
        mail = self._mail(claimed, recipients, prefix)
        while True:
            session = self._session or self._shared.pool.kept(hop) or await self._shared.pool.open(hop)
            if isinstance(session, Failure):
                for recipient in recipients:
                    before = said.get(recipient.id)
                    if before is None or session.word.code or not before.word.code:
                        said[recipient.id] = Said(session.word, hop.name, hop.address)
                    # else a backup that cannot be reached hides the reply of the host before it
                return False, recipients
            self._session = session
            try:
                words = await session.wire.send(mail)
            except StaleConnection:
                self.close()
                continue
            break
        self._spent.add(session.wire.spent)
        for recipient, word in zip(recipients, words, strict=True):
            said[recipient.id] = Said(word, hop.name, hop.address, session.tls, session.note)
        if not session.wire.usable or session.wire.transactions >= self._shared.config.delivery.messages_per_connection:
            self.close()
        return True, [r for r, word in zip(recipients, words, strict=True) if verdict.another_host(word)]

    def _mail(self, claimed: Claimed, recipients: Sequence[Leased], prefix: bytes) -> Mail:
        facts = claimed.facts
        addresses = tuple([recipient.address for recipient in recipients])
        return Mail(
            sender=claimed.envelope_sender,
            recipients=addresses,
            size=facts.size + len(prefix),
            eight_bit=facts.eight_bit,
            utf8=facts.utf8_header or not claimed.envelope_sender.isascii() or not all(map(str.isascii, addresses)),
            dot_lines=facts.dot_lines,
            prefix=prefix,
            content=claimed.content,
            stream=lambda: self._pieces(claimed),
        )

    async def _pieces(self, claimed: Claimed) -> AsyncIterator[bytes]:
        for index in range(claimed.piece_count):
            yield await self._shared.queue.piece(claimed.message, index)

    # Destinations that nobody answers for

    def _unreachable(self, place: tuple[str, str]) -> Word | None:
        told = self._shared.unreachable.get(place)
        if told is None:
            return None
        if told[1] <= self._shared.clock.monotonic():
            del self._shared.unreachable[place]
            return None
        return told[0]

    def _remember_unreachable(self, place: tuple[str, str], word: Word) -> None:
        remembered = self._shared.unreachable
        while len(remembered) >= _REMEMBERED:
            del remembered[next(iter(remembered))]
        pause_s = min(UNREACHABLE_S, self._shared.config.delivery.retry_s[0])
        remembered[place] = (word, self._shared.clock.monotonic() + pause_s)


def _for_all(recipients: Iterable[Leased], word: Word, *, note: str = "") -> dict[int, Said]:
    return {recipient.id: Said(word, note=note) for recipient in recipients}
