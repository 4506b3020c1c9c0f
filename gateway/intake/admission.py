"""What both doors ask before they take a message: the route, the senders, how many, how large, how long.

Guarantees: the key decides the route, and nothing else does: no argument of a submission is asked for it. Everything
here answers at once and stores nothing.
"""

from collections.abc import Iterable, Sequence

from gateway.config import Config, Route
from gateway.errors import Reason, Refused
from gateway.intake.figures import IntakeFigures
from gateway.intake.refusals import Refusals
from gateway.intake.room import Room
from gateway.message import address
from gateway.message.schedule import LATEST_S, Start
from gateway.observe import MailLog
from gateway.policy import senders
from gateway.policy.auth import Principal, require_scope
from gateway.policy.domains import Domains
from gateway.policy.limits import Limiter
from gateway.runtime import Clock, IdSource, show_id
from gateway.store.newmail import NewMessage

ROUTE_RETRY_S = 60  # a missing route is a mistake in the configuration that somebody is about to see


class Admission:
    """The checks that need the configuration, the domains and the limits of keys."""

    def __init__(
        self,
        config: Config,
        domains: Domains,
        limiter: Limiter,
        *,
        clock: Clock,
        ids: IdSource,
        log: MailLog,
        figures: IntakeFigures,
        room: Room,
    ) -> None:
        self.config = config
        self.domains = domains
        self.limiter = limiter
        self.clock = clock
        self.ids = ids
        self.log = log
        self.figures = figures
        self.room = room
        self._refusals = Refusals(log, figures)

    def route(self, principal: Principal) -> Route:
        """Where this key's mail goes. Raises Refused."""
        require_scope(principal, "send")
        name = principal.route or self.config.default_route
        route = self.config.routes.get(name)
        if route is None:
            text = f"The route of the key {principal.name} is not configured."
            raise Refused(Reason.NO_ROUTE, text, retry_after_s=ROUTE_RETRY_S)
        return route

    def check_senders(self, principal: Principal, header_from: str, envelope_sender: str) -> None:
        """Of a JSON submission. Raises Refused."""
        senders.check(principal, (header_from,), param="from")
        senders.check(principal, (envelope_sender,), param="return_path")
        self.domains.require(address.domain_of(header_from))

    def check_count(self, recipients: Sequence[str]) -> None:
        limit = self.config.limits.recipients_per_message
        if len(recipients) > limit:
            text = f"{len(recipients)} recipients; at most {limit} a message."
            raise Refused(Reason.TOO_MANY_RECIPIENTS, text, param="to")

    def check_size(self, size: int) -> None:
        most = self.config.max_message
        if size > most:
            raise Refused(Reason.PAYLOAD_TOO_LARGE, f"The message is {size} bytes; at most {most} are taken.")

    def start(self, wanted: Start, now_ms: int) -> int:
        """When delivery begins (Unix ms), at the earliest now. Raises Refused."""
        at = wanted.at if wanted.delay_s is None else now_ms + int(wanted.delay_s * 1000)
        if at is None or at <= now_ms:
            return now_ms
        if at > now_ms + LATEST_S * 1000:
            raise Refused(Reason.VALIDATION_ERROR, "send_at: must be within a year.", param="send_at")
        return at

    def expiry(self, start_ms: int, ttl_s: float | None = None) -> int:
        """When delivery is given up (Unix ms)."""
        return start_ms + int((self.config.delivery.expire_after_s if ttl_s is None else ttl_s) * 1000)

    def tell_accepted(self, message: NewMessage) -> None:
        self.figures.accepted(message.door, len(message.recipients), message.facts.size)
        if self.log.enabled:
            self.log.accepted(
                message=show_id("eml_", message.uuid),
                door=message.door,
                key=message.key,
                sender=message.envelope_sender or "<>",
                recipients=len(message.recipients),
                size=message.facts.size,
                client=message.client,
            )

    def tell_refused(self, door: str, principal: Principal, client: str, refusal: Refused) -> None:
        """A line of the mail log: what was not taken, whose it was and why."""
        self._refusals.tell(refusal, door=door, key=principal.name, client=client)


def unique(addresses: Iterable[str]) -> tuple[str, ...]:
    """An address twice is one recipient; the order stays."""
    return tuple(dict.fromkeys(addresses))
