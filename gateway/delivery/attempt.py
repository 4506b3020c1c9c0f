"""One message to one destination: the way, the signature, the connection, the words, the verdicts.

Guarantees: the route is looked up at the attempt, so a changed configuration reaches queued mail; every recipient gets
a result whatever happens; what is not understood is temporary; what may have been delivered and must not be twice has
failed. It does not choose when (scheduler.py), writes nothing but that mark (store), and asks errand.py what a host can
be given.
"""

import logging
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from gateway.config import CaptureRoute, Config, MxRoute, RelayRoute, Signing
from gateway.delivery import envelope, trace, verdict
from gateway.delivery.errand import Errand, Said
from gateway.delivery.family import FamilyChoice
from gateway.delivery.lifetime import Lifetime
from gateway.delivery.pool import Pool
from gateway.delivery.route import Ways
from gateway.delivery.session import Failure, Hop, Session
from gateway.delivery.signer import Signer
from gateway.delivery.tls.policy import TlsPolicies
from gateway.delivery.trace import Trace
from gateway.delivery.variants import Sign, Variants
from gateway.delivery.verdict import Decision, Word
from gateway.delivery.wire import NO_TURN, UNREADABLE, Spent, StaleConnection
from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, Scope, State
from gateway.message import address, dkim, priority
from gateway.policy.domains import Domains
from gateway.resolver import Resolver, has_ipv6_route
from gateway.runtime import Clock, show_id
from gateway.store.connection import Damaged
from gateway.store.queue import Attempt, Claimed, Due, Leased, Queue, Result

UNREACHABLE_S: Final = 30.0  # so long a destination that nobody answered for is not tried again for other messages
_REMEMBERED: Final = 10_000  # destinations at most
_UNCERTAIN: Final = Decision(
    State.FAILED, EventType.FAILED, bounce_class=BounceClass.UNCERTAIN, scope=Scope.INFRASTRUCTURE
)

DAMAGED: Final = Word("store", 0, "5.3.0", "554 5.3.0 the message is damaged in the message store", permanent=True)

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
    unreachable: dict[tuple[str, str, int], tuple[Word, float]] = field(default_factory=dict)
    ipv6: bool = field(default_factory=has_ipv6_route)
    policies: TlsPolicies | None = None  # None: without MTA-STS
    families: FamilyChoice | None = None  # None: by `ipv6`
    life: Lifetime | None = None  # None: by `clock` alone
    ways: Ways = field(init=False)

    def __post_init__(self) -> None:
        self.ways = Ways(
            self.config, self.resolver, self.rng, ipv6=self.ipv6, families=self.families, policies=self.policies
        )

    def reconfigure(self, config: Config) -> None:
        """For every attempt from now on, also of what is queued already."""
        self.config = config
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
        self._spent = Spent()  # by the message in hand, on all connections
        self._trace: Trace | None = None  # of it

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
        life = self._shared.life
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
        if word.uncertain and claimed.at_most_once:
            decision = _UNCERTAIN
        else:
            decision = verdict.judge(
                word,
                tries=tries,
                expires_at=claimed.expires_at if life is None else life.end_of(claimed.expires_at),
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
            dsn_passed=decision.state is State.DELIVERED
            and said.offer is not None
            and envelope.passes_success(said.offer, recipient.notify),
        )

    async def _try(self, claimed: Claimed, said: dict[int, Said]) -> None:
        route = self._shared.config.routes.get(self._due.route)
        match route:
            case None:
                text = f"451 4.3.5 the route {self._due.route} is not configured"
                said |= _for_all(claimed.recipients, Word("route", 0, "4.3.5", text))
            case CaptureRoute():
                captured = Word("capture", 0, "", "captured: nothing left this machine")
                said |= _for_all(claimed.recipients, captured)
            case MxRoute() | RelayRoute():
                sign = self._sign(claimed, route.dkim)
                variants = Variants(claimed.facts, claimed.content, lambda: self._pieces(claimed), sign)
                await variants.plain()
                for domain, recipients in self._by_domain(route, claimed.recipients).items():
                    errand = Errand(route, domain, claimed, variants, queue=self._shared.queue, said=said)
                    await self._send_to(errand, recipients)
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
        if (told := self._unreachable(place)) is not None:
            errand.all_heard(recipients, told, note="not tried: nobody answered for this destination a moment ago")
            return
        left = recipients
        reached = False
        tried: Hop | None = None
        if self._session is not None and self._session_for == way:
            # The way of the last message: no lookup.
            tried = self._session.hop
            reached, left = await self._through(tried, left, errand)
        if left:
            self.close()
            hops = await self._shared.ways.hops(errand.route, errand.domain, errand.wish)
            if isinstance(hops, Word):
                errand.all_heard(left, hops)
                return
            for hop in hops:
                if hop == tried:
                    continue  # it has just refused: greylisting wants a pause
                got_through, left = await self._through(hop, left, errand)
                reached = reached or got_through
                if not left:
                    break
                self.close()
        if self._session is not None:
            self._session_for = way
        if not reached and left:
            self._remember_unreachable(place, errand.said[left[0].id].word)

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
            self._session = session
            session.wire.follow(self._trace)
            reached = True
            fitted = await errand.fit(session.wire.offer, recipients)
            words: list[Word] = []
            if fitted.mail is not None:
                try:
                    words = await session.wire.send(fitted.mail)
                except StaleConnection:
                    self.close()
                    continue
                self._spent.add(session.wire.spent)
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

    # Destinations that nobody answers for

    def _unreachable(self, place: tuple[str, str, int]) -> Word | None:
        told = self._shared.unreachable.get(place)
        if told is None:
            return None
        if told[1] <= self._shared.clock.monotonic():
            del self._shared.unreachable[place]
            return None
        return told[0]

    def _remember_unreachable(self, place: tuple[str, str, int], word: Word) -> None:
        remembered = self._shared.unreachable
        while len(remembered) >= _REMEMBERED:
            del remembered[next(iter(remembered))]
        pause_s = min(UNREACHABLE_S, self._shared.config.delivery.retry_s[0])
        remembered[place] = (word, self._shared.clock.monotonic() + pause_s)


def _for_all(recipients: Iterable[Leased], word: Word, *, note: str = "") -> dict[int, Said]:
    return {recipient.id: Said(word, note=note) for recipient in recipients}
