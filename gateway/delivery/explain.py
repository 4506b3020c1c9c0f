"""Why a message is not delivered yet, and what its next attempt would do.

Guarantees: it reads and looks up, and changes nothing of the queue; it asks the configuration, the zones and the
policies as an attempt would now, so it shows what a change of them does. Where no daemon runs it says what cannot be
known. It connects to no mail host.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, assert_never

from gateway import views
from gateway.config import CAPTURED, SIMULATED, CaptureRoute, Config, HopTls, MxRoute, RelayRoute, Route, Signing
from gateway.delivery import advice, seen
from gateway.delivery.family import FamilyChoice
from gateway.delivery.lane import Lane
from gateway.delivery.route import Ways
from gateway.delivery.session import Hop
from gateway.delivery.tls.mtasts_cache import StsPolicies
from gateway.delivery.tls.policy import DANE, TlsPolicies
from gateway.delivery.unreachable import Place, Unreachable
from gateway.delivery.verdict import Word
from gateway.manage import refusals, selection
from gateway.message import address, model
from gateway.policy.domains import Domains
from gateway.policyhost import PolicyHost
from gateway.resolver import Resolver, has_ipv6_route
from gateway.runtime import Clock
from gateway.store.queue import Queue
from gateway.store.records import Records
from gateway.store.shown import MessageView, RecipientView, Suspension

LOOKED_UP: Final = 20  # destinations of one message
LOOKUP_S: Final = 20.0  # for one of them
_KINDS: Final = {MxRoute: "mx", RelayRoute: "relay", CaptureRoute: "capture"}
_WHY: Final = {
    "backoff": "The last try failed; it is tried again then.",
    "dns": "The last try failed because a DNS lookup did; it is tried again then.",
    "schedule": "It is to be sent at that time, not before.",
    "held": "An operator, the mode of its key or a brake holds it until: mail-gateway queue release.",
    "lease": "An attempt has it in hand now.",
    "connections": "It is its turn: it is tried as soon as its destination has a connection for it.",
}
_UNTRIED: Final = "Nobody was reached for its destination a moment ago: it was not tried, and is then."
_TLS: Final = {
    HopTls.NONE: "none",
    HopTls.OPPORTUNISTIC: "if the host offers it, else in clear",
    HopTls.STARTTLS: "required (STARTTLS)",
    HopTls.IMPLICIT: "required (from the first byte)",
}
_WISHES: Final = {model.TLS_REQUIRED: "required by the message (REQUIRETLS)", model.TLS_OPTIONAL: "optional"}

Args = dict[str, Any]
# The name of a route; the domain that an attempt goes to, "" for all; that by which the queue was cut when it came.
_Way = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Live:
    """What only the daemon knows: who did not answer a moment ago, how many connections there are to all hosts, what is
    being delivered."""

    unreachable: Callable[[], Unreachable]
    connections: Callable[[], int]
    lanes: Iterable[Lane] = ()


class Explainer:
    """`live` None: no daemon runs."""

    def __init__(
        self,
        config: Callable[[], Config],
        queue: Queue,
        ways: Ways,
        domains: Domains,
        *,
        live: Live | None = None,
    ) -> None:
        self._config = config
        self._queue = queue
        self._ways = ways
        self._domains = domains
        self._live = live

    async def explain(self, args: Args) -> Any:
        """The action. Args: id. Raises Refused, StoreError."""
        uuid = selection.message_uuid(str(args["id"]))
        view = await self._queue.message(uuid, None) if uuid else None
        if view is None:
            raise refusals.unknown("message", args["id"])
        return await self.message(view)

    async def message(self, view: MessageView) -> Any:
        """A message as JSON values: what is known of it, of each recipient that is queued, and of the ways they take
        (`way` of a recipient is an index of `ways`)."""
        queued = [one for one in view.recipients if not one.state.final]
        ways = list(dict.fromkeys(self._way_of(one) for one in queued))
        found = await asyncio.gather(
            *[self.way(way, sender=view.header_from, wish=view.tls_wish) for way in ways[:LOOKED_UP]]
        )
        suspensions = await self._queue.suspensions()
        message = views.message_view(view)
        del message["recipients"]
        return {
            **message,
            "daemon": self._live is not None,
            "connections": self._connections(),
            "tls_wish": _WISHES.get(view.tls_wish),
            "final": len(view.recipients) - len(queued),
            "recipients": [
                _recipient(one, view.key, suspensions)
                | {"way": at if (at := ways.index(self._way_of(one))) < LOOKED_UP else None}
                for one in queued
            ],
            "ways": found,
        }

    async def way(self, way: _Way, *, sender: str, wish: int = model.BY_POLICY) -> Args:
        """What an attempt would do now: the route, the hosts and their TLS, the signature; `sender` is the From
        address."""
        route_name, domain, cut = way
        ours = route_name in {CAPTURED, SIMULATED}
        route = CaptureRoute(route_name) if ours else self._config().routes.get(route_name)
        hosts, problem = await self._hosts(route, route_name, domain, wish)
        return {
            "route": route_name,
            "type": _KINDS[type(route)] if route is not None else None,
            "domain": domain or None,
            "problem": problem,
            "hosts": hosts,
            "signature": self.signature(route, sender) if route is not None else None,
            "unreachable": self._unreachable((route_name, domain, wish)),
            "lane": self._lane(route_name, cut),
        }

    def signature(self, route: Route, sender: str) -> Args:
        """What would sign, or why nothing would."""
        domain = address.domain_of(sender)
        if isinstance(route, CaptureRoute):
            return _unsigned("nothing leaves this machine")
        keys = self._domains.signing_keys(domain, route.dkim)
        if keys:
            return {"domain": keys[0].domain, "selectors": [key.selector for key in keys], "why_not": None}
        if route.dkim is Signing.NONE:
            return _unsigned(f"the route {route.name} has dkim: none")
        if self._domains.nearest(domain) is None:
            return _unsigned(f"{domain} is no sending domain (mail-gateway domain add {domain})")
        return _unsigned(f"{domain} has no signing key")

    def _way_of(self, recipient: RecipientView) -> _Way:
        """The route may have been another kind when the recipient was queued: what was cut by domain then stays so, and
        what was not is cut at the attempt, where it has to be."""
        cut = recipient.domain
        by_domain = isinstance(self._config().routes.get(recipient.route), MxRoute)
        return recipient.route, address.domain_of(recipient.address) if by_domain else cut, cut

    async def _hosts(self, route: Route | None, name: str, domain: str, wish: int) -> tuple[list[Args], str | None]:
        """The hosts in the order in which they would be tried; or why there is none."""
        match route:
            case None:
                return [], f"The route {name} is not configured (any more): add it, or queue redirect --new-route."
            case CaptureRoute():
                return [], None
            case MxRoute() | RelayRoute():
                try:
                    async with asyncio.timeout(LOOKUP_S):
                        hops = await self._ways.hops(route, domain, wish)
                except TimeoutError:
                    return [], f"The lookup of its hosts took longer than {LOOKUP_S:g} s."
                return ([], hops.text) if isinstance(hops, Word) else ([_host(hop) for hop in hops], None)
            case _:
                assert_never(route)

    def _connections(self) -> Args | None:
        """To all hosts together."""
        if self._live is None:
            return None
        return {"open": self._live.connections(), "most": self._config().delivery.connections}

    def _unreachable(self, place: Place) -> Args | None:
        """What was said when nobody answered, and for how long it is not tried for other messages."""
        now = time.monotonic()
        told = self._live.unreachable().told(place, now) if self._live is not None else None
        return {"reply": told.word.text, "next_try_in_s": round(told.until - now)} if told is not None else None

    def _lane(self, route: str, domain: str) -> Args | None:
        """None where nothing is in hand for it, or nobody knows."""
        lane = seen.of(self._live.lanes, route, domain) if self._live is not None else None
        return asdict(lane) if lane is not None else None


def alone(config: Config, queue: Queue, records: Records, resolver: Resolver, domains: Domains) -> Explainer:
    """Where no daemon runs."""
    sts = StsPolicies(records, resolver, PolicyHost(resolver), Clock())
    ways = Ways(
        config,
        resolver,
        random.Random(),  # noqa: S311 - the order of equal hosts
        ipv6=has_ipv6_route(),
        families=FamilyChoice(resolver),
        policies=TlsPolicies(resolver, sts),
    )
    return Explainer(lambda: config, queue, ways, domains)


def _recipient(one: RecipientView, key: str, suspensions: Sequence[Suspension]) -> Args:
    shown = views.recipient_view(one)
    return {
        **shown,
        "why": _why(one, key, suspensions),
        "stage": one.stage or None,
        "advice": advice.for_class(one.bounce_class) or None,
        "expires_at": views.time_view(one.expires_at),
    }


def _why(one: RecipientView, key: str, suspensions: Sequence[Suspension]) -> str:
    if one.blocked_by != "suspended":
        return _UNTRIED if one.blocked_by == "backoff" and not one.attempts else _WHY[one.blocked_by]
    numbers = [
        f"{s.id}{f' ({s.reason})' if s.reason else ''}"
        for s in suspensions
        if s.route in {None, one.route} and s.domain in {None, one.domain} and s.key in {None, key}
    ]
    return f"An operator suspended it: number {', '.join(numbers)}. It goes on with: mail-gateway queue resume."


def _host(hop: Hop) -> Args:
    return {
        "host": hop.name,
        "address": hop.address,
        "port": hop.port,
        "source": hop.source,
        "ehlo": hop.ehlo,
        "login": hop.username is not None,
        "tls": _TLS[hop.tls],
        "proof": _proof(hop),
        "min_tls": hop.min_tls if hop.tls is not HopTls.NONE else None,
        "policy": hop.policy or None,
        "note": hop.note or None,
    }


def _proof(hop: Hop) -> str | None:
    """What its certificate must be; None: any will do, or there is none."""
    if hop.tls is HopTls.NONE:
        return None
    if hop.tlsa:
        return "one that its TLSA records name"
    if hop.verify and hop.ca is not None:
        return f"one for {hop.name}, of the authorities in {hop.ca}"
    if hop.verify:
        return f"one for {hop.name}, of an authority that this machine trusts"
    return None if hop.policy != DANE else "any: its TLSA records cannot be used"


def _unsigned(why: str) -> Args:
    return {"domain": None, "selectors": [], "why_not": why}
