"""What becomes of each recipient of new mail: by the key's mode and brakes, by who is not sent to, by the simulator.

Guarantees: both doors ask here, and nothing else makes rows of recipients; whoever is suppressed is not sent to, and a
message of which nobody is left is refused. Mail of a live key without brakes, to nobody who may be suppressed, costs
some comparisons. Addresses of the simulator play their part whatever the mode: they are never suppressed, and leave
nobody's machine; only a key that is held holds them too.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from gateway.config import CAPTURED, SIMULATED, CaptureRoute, MxRoute, Route
from gateway.errors import StoreError
from gateway.events import State
from gateway.intake.admission import Admission
from gateway.intake.notices import NOTHING_SAID, Said
from gateway.keyterms import ModeKind
from gateway.message import address
from gateway.policy import suppression
from gateway.policy.auth import Principal
from gateway.policy.brakes import Braking
from gateway.policy.suppression import NOBODY, Suppressions
from gateway.store.newmail import IdempotencyKey, NewMessage, NewRecipient
from gateway.store.suppression import Entry

_LIVE: Final = ModeKind.LIVE  # looked up once: a member of an enumeration costs a tenth of a microsecond
_HELD: Final = State.HELD
_SUPPRESSED: Final = State.SUPPRESSED
_HOLDS: Final = "the key holds its mail"
_NOT_ALLOWED: Final = "captured: the mode of the key does not allow this address"


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """Whom a message is for: each address once. `notify` is what to tell of those of whom nothing was `said`; `tags`
    are those of the message; `request` is the name of the request that it is of."""

    addresses: Sequence[str]
    notify: int
    tags: Collection[str]
    said: Said = NOTHING_SAID
    request: IdempotencyKey | None = None


class Earlier(Protocol):
    """What the store knows of clients' own names for messages."""

    async def is_named(self, key: IdempotencyKey) -> bool: ...

    async def beginning(self, uuid: bytes) -> str: ...


class Treatment:
    """`suppressions` None: nobody is suppressed; `braking` None: no key has brakes; `earlier` None: nothing is known of
    what was accepted before."""

    def __init__(
        self,
        admission: Admission,
        *,
        suppressions: Suppressions | None = None,
        braking: Braking | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self._admission = admission
        self._suppressions = suppressions
        self._braking = braking
        self._earlier = earlier

    async def treat(self, principal: Principal, route: Route, message: NewMessage, wanted: Wanted) -> NewMessage:
        """The message with its recipients. Raises Refused where nobody is left, StoreError."""
        mode = principal.mode
        live = mode.kind is _LIVE and principal.brakes is None and self._admission.config.simulator is None
        if live and not self._may_be_suppressed(wanted.addresses):
            return replace(message, recipients=tuple(self._rows(route, wanted)))
        original_to: tuple[str, ...] = ()
        if mode.kind is ModeKind.REDIRECT:
            first, wanted = wanted, self._redirected(mode.values[0], wanted)
            original_to = () if tuple(wanted.addresses) == tuple(first.addresses) else tuple(first.addresses)
        rows = [self._diverted(row, principal) for row in self._rows(route, wanted)]
        asked = [row.address for row in rows if row.route != SIMULATED]
        suppressed = await self._suppressed(principal, wanted, asked)
        if suppressed:
            rows = [_held_back(row, suppressed) for row in rows]
            if all(row.state is State.SUPPRESSED for row in rows):
                await self._refuse(message, next(iter(suppressed.values())))
        if mode.kind is ModeKind.HOLD:
            rows = _all_held(rows, _HOLDS)
        elif principal.brakes is not None and self._braking is not None:
            counted = [row.address for row in rows if _counts(row)]
            came_before = partial(self._came_before, message.idempotency or wanted.request)
            why = await self._braking.judge(principal, counted, came_before=came_before)
            rows = _all_held(rows, why) if why else rows
        return replace(message, recipients=tuple(rows), original_to=original_to)

    async def status_before(self, route: Route, message: NewMessage, uuid: bytes) -> str:
        """What was told of a message that was accepted before, and has come again."""
        begun = ""
        if self._earlier is not None:
            with suppress(StoreError):  # others of its batch were stored just now: an error would have them sent twice
                begun = await self._earlier.beginning(uuid)
        return begun or _told(route, message)

    async def _came_before(self, name: IdempotencyKey | None) -> bool:
        return name is not None and self._earlier is not None and await self._earlier.is_named(name)

    async def _refuse(self, message: NewMessage, entry: Entry) -> None:
        """Nobody is left of its recipients. One that was accepted before goes on, to be answered as it was then."""
        if not await self._came_before(message.idempotency):
            raise suppression.refusal(entry, param="to")

    def is_written_to(self, principal: Principal, recipient: str) -> bool:
        """Whether a recipient stays who it is, and may be suppressed."""
        return principal.mode.kind is not ModeKind.REDIRECT and not self._is_simulated(recipient)

    def give_back(self, principal: Principal, message: NewMessage) -> None:
        """It was not queued after all: the brakes do not count it."""
        if self._braking is not None and principal.brakes is not None:
            self._braking.give_back(principal, sum(map(_counts, message.recipients)))

    def _rows(self, route: Route, wanted: Wanted) -> list[NewRecipient]:
        """Cut by domain where the route delivers by domain."""
        by_domain = isinstance(route, MxRoute)
        next_id, unsaid, said = self._admission.ids.next, (wanted.notify, ""), wanted.said
        return [
            NewRecipient(next_id(), one, address.domain_of(one) if by_domain else "", *said.get(one, unsaid))
            for one in wanted.addresses
        ]

    def _diverted(self, row: NewRecipient, principal: Principal) -> NewRecipient:
        """To a route of the gateway's own, where it does not go the key's."""
        mode = principal.mode
        if self._is_simulated(row.address):
            return replace(row, route=SIMULATED, domain="")
        if mode.kind is ModeKind.CAPTURE:
            return replace(row, route=CAPTURED, domain="")
        if mode.kind is ModeKind.ALLOW and not any(address.matches(one, row.address) for one in mode.values):
            return replace(row, route=CAPTURED, domain="", why=_NOT_ALLOWED)
        return row

    def _is_simulated(self, recipient: str) -> bool:
        simulator = self._admission.config.simulator
        return simulator is not None and address.domain_of(recipient).lower() == simulator

    def _redirected(self, to: str, wanted: Wanted) -> Wanted:
        """One address in place of all but the simulator's. What was to be told of any of them is told of it."""
        stay = [one for one in wanted.addresses if self._is_simulated(one)]
        gone = [one for one in wanted.addresses if not self._is_simulated(one)]
        if not gone:
            return wanted
        told = 0
        for one in gone:
            told |= wanted.said.get(one, (wanted.notify, ""))[0]
        orcpt = wanted.said.get(gone[0], (0, ""))[1] if len(gone) == 1 else ""
        return replace(wanted, addresses=tuple(dict.fromkeys([*stay, to])), said={**wanted.said, to: (told, orcpt)})

    def _may_be_suppressed(self, addresses: Collection[str]) -> bool:
        return self._suppressions is not None and any(map(self._suppressions.may_have, addresses))

    async def _suppressed(self, principal: Principal, wanted: Wanted, asked: Collection[str]) -> Mapping[str, Entry]:
        if self._suppressions is None:
            return NOBODY
        return await self._suppressions.find(principal.account, wanted.tags, asked)


def asked(message: NewMessage) -> int:
    """How many recipients its client named: what limits count."""
    return len(message.original_to) or len(message.recipients)


def status(route: Route, message: NewMessage) -> str:
    """What a client is told of a message that was just accepted."""
    captures, word = isinstance(route, CaptureRoute), "captured"
    for row in message.recipients:
        if row.state is _HELD:
            return "held"
        if row.state is not _SUPPRESSED and row.route != CAPTURED and (row.route or not captures):
            word = "queued"
    return "scheduled" if message.send_at > message.created_at else word


def _told(route: Route, message: NewMessage) -> str:
    """As it would be of a key in mode live."""
    if message.send_at > message.created_at:
        return "scheduled"
    return "captured" if isinstance(route, CaptureRoute) else "queued"


def _held_back(row: NewRecipient, suppressed: Mapping[str, Entry]) -> NewRecipient:
    entry = suppressed.get(row.address)
    return row if entry is None else replace(row, state=State.SUPPRESSED, why=suppression.refused(entry))


def _all_held(rows: Sequence[NewRecipient], why: str) -> list[NewRecipient]:
    return [row if row.state is State.SUPPRESSED else replace(row, state=State.HELD, why=why) for row in rows]


def _counts(row: NewRecipient) -> bool:
    """Whether brakes count it: what the mode of its key keeps here burns nobody's name."""
    return row.state is not State.SUPPRESSED and row.route != CAPTURED
