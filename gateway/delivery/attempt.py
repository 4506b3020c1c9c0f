"""One message to one destination: the way, the signature, the connection, the words, the verdicts.

Guarantees: the route is looked up at the attempt, so a changed configuration reaches queued mail; every recipient gets
a result whatever happens, unless it should wait for another worker's connection; what is not understood is temporary;
what may have been delivered and must not be twice has failed; no host is begun with after the life of the message, nor
after HOPS_S. It does not choose when (scheduler.py), writes nothing but that mark (store), and asks errand.py what a
host can be given.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from gateway.config import CAPTURED, SIMULATED, CaptureRoute, Config, MxRoute, RelayRoute, Signing
from gateway.delivery import judging, trace, verdict
from gateway.delivery.errand import Errand, Said
from gateway.delivery.family import FamilyChoice
from gateway.delivery.judging import Terms
from gateway.delivery.lifetime import Lifetime
from gateway.delivery.personal import Personal
from gateway.delivery.pool import Pool
from gateway.delivery.route import Ways
from gateway.delivery.session import Failure, Hop, Session
from gateway.delivery.signer import Signer
from gateway.delivery.simulator import HOST, Simulator
from gateway.delivery.tls.policy import TlsPolicies
from gateway.delivery.trace import Trace
from gateway.delivery.unreachable import Place, Talk, Unreachable, is_door_shut
from gateway.delivery.unwanted import without_suppressed
from gateway.delivery.variants import Sign, Variants
from gateway.delivery.verdict import Word
from gateway.delivery.wire import NO_TURN, UNREADABLE, Spent, StaleConnection
from gateway.errors import StoreError
from gateway.message import address, dkim, priority
from gateway.policy.domains import Domains
from gateway.policy.suppression import Suppressions
from gateway.resolver import Resolver, has_ipv6_route
from gateway.runtime import Clock, show_id
from gateway.store.connection import Damaged
from gateway.store.queue import Attempt, Claimed, Due, Leased, Queue

HOPS_S: Final = 300.0  # no further host is begun with after that; the next attempt begins with the first one again
# No further form of a message is begun with after that, so that what was said is written down: what a crash, or the
# deadline of a stop, would have sent again. The others go back into the queue.
EACH_S: Final = 5.0

DAMAGED: Final = Word("store", 0, "5.3.0", "554 5.3.0 the message is damaged in the message store", permanent=True)

_LATER: Final = Said(Word(judging.TURN, 0, "", ""), put_off_s=0.0)

log = logging.getLogger("gateway.delivery")


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
    unreachable: Unreachable = field(default_factory=Unreachable)
    ipv6: bool = field(default_factory=has_ipv6_route)
    policies: TlsPolicies | None = None  # None: without MTA-STS
    families: FamilyChoice | None = None  # None: by `ipv6`
    life: Lifetime | None = None  # None: by `clock` alone
    personal: Personal | None = None  # None: without tracking, unsubscribing and a return path of ours
    suppressions: Suppressions | None = None  # None: nobody is suppressed
    simulator: Simulator | None = None
    ways: Ways = field(init=False)

    def __post_init__(self) -> None:
        self.ways = Ways(
            self.config, self.resolver, self.rng, ipv6=self.ipv6, families=self.families, policies=self.policies
        )

    def reconfigure(self, config: Config) -> None:
        """For every attempt from now on, also of what is queued already."""
        self.config = config
        if self.personal is not None:
            self.personal.reconfigure(config.http.public_url)
        self.ways.reconfigure(config)
        self.unreachable.clear()  # another way may be open

    def carrier(self, due: Due) -> "Carrier":
        return Carrier(self, due)


class Carrier:
    """One worker's hold on a destination: keeps its connection from message to message."""

    def __init__(self, shared: Couriers, due: Due) -> None:
        self._shared = shared
        self._due = due
        self._session: Session | None = None
        self._session_for: tuple[object, str, int] | None = None  # route, domain and wish about TLS
        self._talk: Talk = (due.destination, due.domain)  # that of the session
        self._welcome = False  # the last host that was asked talked to us
        self._crowded = False  # the message in hand should wait for another worker's connection
        self._spent = Spent()  # by it, on all connections
        self._trace: Trace | None = None  # of it

    def close(self) -> None:
        """Give the connection back."""
        if self._session is not None:
            self._shared.pool.give_back(self._session)
            self._shared.unreachable.hung_up(self._talk)
            self._session = None

    async def deliver(self, claimed: Claimed) -> Sequence[Attempt]:
        """Try every recipient of a claimed message; never raises but for cancellation. Empty: no host took a further
        connection, and another worker of the lane has one: the message should wait for that."""
        shared = self._shared
        started = shared.clock.now_ms()
        self._crowded = False
        self._spent = Spent()
        self._trace = trace.of(claimed.uuid)
        said: dict[int, Said] = {}  # what was said before an error stands: it must not be sent twice
        try:
            await self._try(claimed, said)
        except Damaged as error:
            log.error("%s is damaged in the store, and is not sent: %s", show_id("eml_", claimed.uuid), error)  # noqa: TRY400 - cause in the text
            said = _for_all(claimed.recipients, DAMAGED) | said
        except StoreError as error:
            log.error("%s cannot be read from the store: %s", show_id("eml_", claimed.uuid), error)  # noqa: TRY400 - cause in the text
            said = _for_all(claimed.recipients, UNREADABLE) | said
        except Exception:  # the root of a delivery: whatever it is, it costs this attempt and nothing else
            log.exception("the delivery of %s failed", show_id("eml_", claimed.uuid))
            said = _for_all(claimed.recipients, Word("internal", 0, "4.3.0", "451 4.3.0 internal error, logged")) | said
        if self._crowded:
            return ()
        ended = shared.clock.now_ms()
        terms = Terms(ended, self._end_of(claimed), shared.config.delivery.retry_s, shared.rng.random())
        return (
            Attempt(
                message=claimed.message,
                uuid=claimed.uuid,
                destination=self._due.destination,
                route=self._due.route,
                started_at=started,
                ended_at=ended,
                results=tuple([judging.result(one, said[one.id], claimed, terms) for one in claimed.recipients]),
                envelope_ms=round(self._spent.envelope_s * 1000),
                content_ms=round(self._spent.content_s * 1000),
                wire_bytes=self._spent.wire_bytes,
                tried=any(one.put_off_s is None for one in said.values()),
            ),
        )

    async def _try(self, claimed: Claimed, said: dict[int, Said]) -> None:
        shared, name = self._shared, self._due.route
        if name == SIMULATED and shared.simulator is not None:
            await _simulate(shared.simulator, claimed, said)
            return
        route = CaptureRoute(CAPTURED) if name == CAPTURED else shared.config.routes.get(name)
        match route:
            case None:
                text = f"451 4.3.5 the route {name} is not configured"
                said |= _for_all(claimed.recipients, Word("route", 0, "4.3.5", text))
            case CaptureRoute():
                captured = Word(judging.CAPTURE, 0, "", "captured: nothing left this machine")
                said |= _for_all(claimed.recipients, captured)
            case MxRoute() | RelayRoute():
                if shared.suppressions is not None:
                    claimed = await without_suppressed(shared.suppressions, claimed, said)
                if claimed.recipients:
                    await self._send(route, claimed, said)
            case _:
                assert_never(route)

    async def _send(self, route: MxRoute | RelayRoute, claimed: Claimed, said: dict[int, Said]) -> None:
        shared, personal = self._shared, self._shared.personal
        sign = self._sign(claimed, route.dkim)
        if personal is not None and personal.wanted(claimed):
            await self._send_each(route, claimed, said, sign, personal)
            return
        variants = Variants(claimed.facts, claimed.content, lambda: self._pieces(claimed), sign)
        for domain, recipients in self._by_domain(route, claimed.recipients).items():
            errand = Errand(route, domain, claimed, variants, queue=shared.queue, said=said, personal=personal)
            await self._send_to(errand, recipients)

    async def _send_each(
        self,
        route: MxRoute | RelayRoute,
        claimed: Claimed,
        said: dict[int, Said],
        sign: Sign | None,
        personal: Personal,
    ) -> None:
        """A message that is another one for each recipient."""
        queue, clock = self._shared.queue, self._shared.clock
        until_s, is_first = clock.monotonic() + EACH_S, True
        for domain, recipients in self._by_domain(route, claimed.recipients).items():
            for recipient in recipients:
                if not is_first and clock.monotonic() >= until_s:
                    said[recipient.id] = _LATER
                    continue
                is_first = False
                form = await personal.form(claimed, recipient, claimed.content, lambda: self._pieces(claimed))
                own = Variants(form.facts, form.content, form.stream, sign)
                alone = msgspec.structs.replace(claimed, recipients=(recipient,))
                note = form.note
                errand = Errand(route, domain, alone, own, queue=queue, said=said, personal=personal, note=note)
                await self._send_to(errand, [recipient])
                if self._crowded:
                    return

    def _by_domain(self, route: MxRoute | RelayRoute, recipients: Sequence[Leased]) -> dict[str, list[Leased]]:
        """One group for a relay; by domain where the queue did not cut so (the route was a relay at enqueue)."""
        if isinstance(route, RelayRoute) or self._due.domain:
            return {self._due.domain: list(recipients)}
        groups: dict[str, list[Leased]] = {}
        for recipient in recipients:
            groups.setdefault(address.domain_of(recipient.address), []).append(recipient)
        return groups

    def _sign(self, claimed: Claimed, signing: Signing) -> Sign | None:
        """Makes the DKIM-Signature fields; None where no key signs for the From domain.

        Each covers the message alone, not the others. RSA's comes first: who looks at one only can verify that.
        """
        keys = self._shared.domains.signing_keys(address.domain_of(claimed.header_from), signing)
        if not keys:
            return None

        async def sign(header: bytes, body_hash: bytes) -> bytes:
            fields = b""
            for key in keys:
                unsigned = dkim.prepare(
                    header,
                    body_hash,
                    domain=key.domain,
                    selector=key.selector,
                    now_s=self._shared.clock.now_ms() // 1000,
                    algorithm=key.private.algorithm,
                )
                fields += dkim.finish(unsigned, await self._shared.signer.sign(key.private, unsigned.digest))
            return fields

        return sign

    async def _send_to(self, errand: Errand, recipients: list[Leased]) -> None:
        way = (errand.route, errand.domain, errand.wish)
        place = (errand.route.name, errand.domain, errand.wish)
        kept = self._session if self._session_for == way else None
        if kept is None and self._is_put_off(errand, recipients, place):
            return
        await errand.variants.plain()  # signed before a host waits for it
        reached, left = False, recipients
        if kept is not None:
            # The way of the last message: no lookup.
            reached, left = await self._through(kept.hop, left, errand)
        if left:
            self.close()
            hops = await self._shared.ways.hops(errand.route, errand.domain, errand.wish)
            if isinstance(hops, Word):
                errand.all_heard(left, hops)
                return
            got_through, left = await self._through_any(
                hops, left, errand, tried=kept.hop if kept is not None else None
            )
            reached = reached or got_through
        if self._session is not None:
            self._session_for = way
        if reached:
            self._welcome = True
            self._shared.unreachable.forget(place)
        elif left:
            self._turned_away(errand, left, place)

    async def _through_any(
        self, hops: Sequence[Hop], recipients: list[Leased], errand: Errand, *, tried: Hop | None
    ) -> tuple[bool, list[Leased]]:
        """Try one host after the other: as `_through`."""
        clock, claimed = self._shared.clock, errand.claimed
        until_s = clock.monotonic() + HOPS_S
        reached, begun, left = False, tried is not None, recipients
        for hop in hops:
            if hop == tried:
                continue  # it has just refused: greylisting wants a pause
            if begun and (clock.monotonic() >= until_s or clock.now_ms() >= self._end_of(claimed)):
                break
            begun = True
            got_through, left = await self._through(hop, left, errand)
            reached = reached or got_through
            if not left:
                break
            self.close()
        return reached, left

    async def _through(self, hop: Hop, recipients: list[Leased], errand: Errand) -> tuple[bool, list[Leased]]:
        """Try one host: (whether it talked to us, recipients for whom another host may be tried)."""
        high = errand.claimed.priority == priority.HIGH
        left: list[Leased] = []
        reached = False
        while recipients:
            if self._trace is not None:
                self._trace.host = hop.name
            session = self._session or self._shared.pool.kept(hop)
            if session is None:
                opened = await self._shared.pool.open(hop, high=high, trace=self._trace)
                if isinstance(opened, Failure):
                    errand.unreached(recipients, opened.word, hop)
                    return reached, left + recipients
                session = opened
            self._hold(session, errand)
            session.wire.follow(self._trace)
            fitted = await errand.fit(session.wire.offer, recipients)
            words: list[Word] = []
            if fitted.mail is not None:
                try:
                    words = await session.wire.send(fitted.mail)
                except StaleConnection:
                    self.close()
                    continue
                self._spent.add(session.wire.spent)
            reached = True
            if fitted.unable:
                errand.unfit(fitted.unable, fitted.word, session)
                left += fitted.unable
            recipients = []
            for recipient, word in zip(fitted.able, words, strict=True):
                if word is NO_TURN and session.wire.worn:
                    recipients.append(recipient)  # RFC 9422, MAILMAX: the host wants another connection for it
                    continue
                errand.heard(recipient, word, session)
                if verdict.another_host(word):
                    left.append(recipient)
            limit = self._shared.config.delivery.messages_per_connection
            if not session.wire.usable or session.wire.transactions >= limit:
                self.close()
        return reached, left

    async def _pieces(self, claimed: Claimed) -> AsyncIterator[bytes]:
        for index in range(claimed.piece_count):
            yield await self._shared.queue.piece(claimed.message, index)

    def _hold(self, session: Session, errand: Errand) -> None:
        if self._session is None:
            self._talk = (self._due.destination, errand.domain)
            self._shared.unreachable.connected(self._talk)
        self._session = session

    def _end_of(self, claimed: Claimed) -> int:
        """Of its life, on the wall clock."""
        life = self._shared.life
        return claimed.expires_at if life is None else life.end_of(claimed.expires_at)

    # Destinations where nobody is reached

    def _is_put_off(self, errand: Errand, recipients: list[Leased], place: Place) -> bool:
        """Whether nobody is asked: that was tried a moment ago."""
        unreachable, now = self._shared.unreachable, self._shared.clock.monotonic()
        told = unreachable.told(place, now)
        if told is None or (is_door_shut(told.word) and unreachable.is_talking((self._due.destination, errand.domain))):
            return False
        errand.put_off(recipients, told.word, told.until - now)
        return True

    def _turned_away(self, errand: Errand, recipients: list[Leased], place: Place) -> None:
        """No host of the destination talked to us."""
        shared = self._shared
        word = errand.said[recipients[0].id].word
        if is_door_shut(word) and shared.unreachable.is_talking((self._due.destination, errand.domain)):
            # It talks to others: it wants no more of us at a time.
            self._crowded = len(recipients) == len(errand.claimed.recipients) and _is_only_of(recipients, errand.said)
        elif word.code and self._welcome:
            self._welcome = False  # once is no sign: it may not have heard yet that our last connection is over
        else:
            shared.unreachable.remember(place, word, shared.clock.monotonic(), shared.config.delivery.retry_s)


def _for_all(recipients: Iterable[Leased], word: Word) -> dict[int, Said]:
    return {recipient.id: Said(word) for recipient in recipients}


def _is_only_of(recipients: Iterable[Leased], said: Mapping[int, Said]) -> bool:
    """Whether nobody else was sent to."""
    own = {recipient.id for recipient in recipients}
    return all(id_ in own or one.word.stage == judging.SUPPRESSION for id_, one in said.items())


async def _simulate(simulator: Simulator, claimed: Claimed, said: dict[int, Said]) -> None:
    words = await asyncio.gather(*map(simulator.word, claimed.recipients))
    for recipient, word in zip(claimed.recipients, words, strict=True):
        said[recipient.id] = Said(word, host=HOST)
