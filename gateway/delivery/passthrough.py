"""Mail for a relay that the request itself names, with its own credentials: one attempt, never queued.

Guarantees: off unless the relay is listed and the client's network is; credentials live in memory for one attempt and
are in no log, event or answer; they are never sent in clear but to loopback, and never to another host. Who the relay
is, is proved by its certificate, but on loopback where TLS is not required. What became of the message is written down
whatever happens, also where the client has gone.

`relaylist` says whether there is an attempt at all, `passage` makes it; here it is written down and judged.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from gateway.config import Config, HopTls, Listen, RelayRoute, Secret, Signing
from gateway.delivery import relaylist, telling
from gateway.delivery.figures import UNQUEUED_ROUTE, DeliveryFigures
from gateway.delivery.passage import Passage
from gateway.delivery.relaylist import RelayList, Throttle
from gateway.delivery.route import Ways
from gateway.delivery.verdict import Word
from gateway.errors import Reason, Refused, StoreError
from gateway.intake.figures import IntakeFigures
from gateway.intake.refusals import Refusals
from gateway.metrics import Metrics
from gateway.observe import MailLog
from gateway.resolver import Resolver, has_ipv6_route
from gateway.runtime import Clock, show_id
from gateway.store.newmail import NewMessage
from gateway.store.queue import Attempt, Queue

AT_ONCE: Final = 100  # attempts; each holds a message and a connection
_BUSY_S: Final = 1.0
_NOT_HERE: Final = "Mail for the server named in the request is not taken here."
_NO_CREDENTIALS: Final = "The user name or the password holds a character that no mail server takes."

log = logging.getLogger("gateway.delivery")


@dataclass(frozen=True, slots=True)
class NamedRelay:
    """What a request says of its relay. `port` None: the listed one; `secure`: TLS is required (implicit on 465)."""

    host: str
    port: int | None
    secure: bool
    username: str
    password: Secret


class Ending(Enum):
    """How a pass-through ended."""

    ACCEPTED = "accepted"  # for one recipient at least
    AUTHENTICATION_FAILED = "authentication_failed"
    REFUSED = "refused"  # by the relay, for good or for now
    UNREACHABLE = "unreachable"  # no connection, no TLS, no answer in time; nothing was sent
    UNCERTAIN = "uncertain"  # no answer after the final dot: it may have been sent


@dataclass(frozen=True, slots=True)
class Passed:
    """`attempt` has the results by recipient and the times; `uuid` is the message's."""

    uuid: bytes
    message_id: str
    envelope_sender: str
    ending: Ending
    attempt: Attempt


class PassThrough:
    """Passes mail on."""

    def __init__(
        self,
        config: Config,
        queue: Queue,
        resolver: Resolver,
        *,
        clock: Clock,
        log: MailLog,
        ca: Path | None = None,
        figures: DeliveryFigures | None = None,
        intake: IntakeFigures | None = None,
    ) -> None:
        """`ca`: the authorities that certificates are judged by, in place of the system's."""
        self._queue = queue
        self._clock = clock
        self._log = log
        self._ca = ca
        self._figures = figures or DeliveryFigures(Metrics())
        self._intake = intake or IntakeFigures(Metrics())
        self._refusals = Refusals(log, self._intake)
        self._settings = config.pass_through
        self._relays = RelayList(config.pass_through)
        self._throttle = Throttle(config.pass_through.limit, clock)
        self._ways = Ways(config, resolver, random.Random(), ipv6=has_ipv6_route())  # noqa: S311 - nothing is drawn for a relay
        self._busy = 0

    def reconfigure(self, config: Config) -> None:
        """For the attempts to come. What counts against the limit still does, unless the limit is another one."""
        if config.pass_through.limit != self._settings.limit:
            self._throttle = Throttle(config.pass_through.limit, self._clock)
        self._settings = config.pass_through
        self._relays = RelayList(config.pass_through)
        self._ways.reconfigure(config)

    def allowed(self, host: str, port: int | None, client: str) -> bool:
        """May this client name this relay? `port` None: any listed one of that host."""
        return self._relays.find(host, port, client) is not None

    async def send(self, relay: NamedRelay, message: NewMessage, *, client: str) -> Passed:
        """Try it once; the message has its recipients and all its pieces. Takes at most `passage.WITHIN_S` seconds.

        Raises Refused: an unlisted relay or another network (INSUFFICIENT_PERMISSIONS), credentials that cannot be sent
        (VALIDATION_ERROR), too many (RATE_LIMITED).
        """
        passage = Passage(self._ways, self._route(self._admit(relay, client), relay), message)
        self._tell_accepted(message)
        started = self._clock.now_ms()
        self._busy += 1
        try:
            await passage.go()
        finally:
            # Also where the client has gone or the daemon stops: what was sent stays sent.
            self._busy -= 1
            attempt = passage.attempt(started, self._clock.now_ms())
            await self._write_down(message, attempt)
        ending = judge(passage.words)
        if ending is Ending.AUTHENTICATION_FAILED:
            self._throttle.punish(client, relay.username)
        return Passed(message.uuid, message.message_id, message.envelope_sender, ending, attempt)

    def _admit(self, relay: NamedRelay, client: str) -> Listen:
        """Where it goes. Raises Refused."""
        try:
            return self._check(relay, client)
        except Refused as refusal:
            self._refusals.tell(refusal, door="http", key="pass_through", client=client)
            raise

    def _check(self, relay: NamedRelay, client: str) -> Listen:
        listed = self._relays.find(relay.host, relay.port, client)
        if listed is None:
            raise Refused(Reason.INSUFFICIENT_PERMISSIONS, _NOT_HERE)
        if not (_can_be_sent(relay.username) and _can_be_sent(relay.password.value)):
            raise Refused(Reason.VALIDATION_ERROR, _NO_CREDENTIALS)
        if self._busy >= AT_ONCE:
            raise relaylist.too_many(_BUSY_S)
        self._throttle.take(client, relay.username)
        return listed

    def _route(self, listed: Listen, relay: NamedRelay) -> RelayRoute:
        required = HopTls.STARTTLS if relay.secure else HopTls.OPPORTUNISTIC
        return RelayRoute(
            name=f"pass_through {listed}",
            host=listed.host,
            port=listed.port,
            tls=HopTls.IMPLICIT if listed.port == 465 else required,  # RFC 8314, 7.3
            verify=relay.secure,
            ca=self._ca,
            username=relay.username,
            password=relay.password,
            dkim=Signing.NONE,
        )

    def _tell_accepted(self, message: NewMessage) -> None:
        self._intake.accepted(message.door, len(message.recipients), message.facts.size)
        self._log.accepted(
            message=show_id("eml_", message.uuid),
            door=message.door,
            key=message.key,
            sender=message.envelope_sender or "<>",
            recipients=len(message.recipients),
            size=message.facts.size,
            client=message.client,
        )

    async def _write_down(self, message: NewMessage, attempt: Attempt) -> None:
        self._figures.settled((attempt,), UNQUEUED_ROUTE)
        telling.tell(self._log, (attempt,))
        try:
            await self._queue.record(message, attempt.results, attempt)
        except StoreError as error:
            # An error here would make the client send again what the relay has.
            log.error("what became of %s cannot be written: %s", show_id("eml_", message.uuid), error)  # noqa: TRY400 - cause in the text


def judge(words: Sequence[Word]) -> Ending:
    """What the words for all recipients come to."""
    if any(200 <= word.code < 300 for word in words):
        return Ending.ACCEPTED
    if any(word.uncertain for word in words):
        return Ending.UNCERTAIN
    if any(word.stage == "auth" and word.code >= 500 for word in words):
        return Ending.AUTHENTICATION_FAILED
    return Ending.REFUSED if any(word.code for word in words) else Ending.UNREACHABLE


def _can_be_sent(text: str) -> bool:
    """As a part of AUTH PLAIN: UTF-8 without NUL, which divides its parts (RFC 4616, 2)."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
