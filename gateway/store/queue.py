"""The contract of the durable queue; `sqlite.py` is its first engine.

Guarantees of every engine:
- a method that changes something returns only after commit and fsync; several callers may share one commit;
- a recipient stands in at most one of `ready`, `waiting`, `leased`, `held`; a final one in none of them;
- a state and its event are written in one transaction;
- a result with a stale fence changes nothing;
- no cost grows with the backlog but that of `counts`.

Times are Unix milliseconds. Errors: StoreError, StoreFull. The queue knows nothing of SMTP, HTTP or routes' meaning.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.events import BounceClass, EventType, Scope, State
from gateway.message.model import Facts
from gateway.store.newmail import Accepted, Conflict, NewMessage, Replayed, RequestKey
from gateway.store.shown import Backlog, Count, EventView, Filter, MessageView, Order, QueueRow, Suspension


@dataclass(frozen=True, slots=True)
class Due:
    """A destination with claimable recipients."""

    destination: int
    route: str
    domain: str


class Leased(msgspec.Struct, frozen=True, gc=False):
    """A recipient in hand. `possible_duplicate`: an earlier process died with it in hand. `reply` and `host` are those
    of its last attempt."""

    id: int
    address: str
    attempts: int  # tries so far, before this one
    fence: int
    possible_duplicate: bool
    notify: int = 0
    orcpt: str = ""
    reply: str = ""
    host: str = ""


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """The recipients of one message that were claimed together. `content` is the whole message where it has one piece
    of at most INLINE_BYTES; else None, and the pieces are read with `piece`."""

    message: int
    uuid: bytes
    account: str
    key: str
    envelope_sender: str
    header_from: str
    message_id: str
    facts: Facts
    created_at: int
    expires_at: int
    priority: int
    piece_count: int
    content: bytes | None
    recipients: tuple[Leased, ...]
    ret: str = ""
    envid: str = ""
    tls_wish: int = 0
    at_most_once: bool = False
    track: int = 0
    unsubscribe: str = ""
    own_return_path: bool = False
    tags: str = "[]"  # JSON array
    recipient_count: int = 1  # of the message, whether they are in hand or not


INLINE_BYTES = 64 * 1024


class Result(msgspec.Struct, frozen=True, gc=False):
    """What an attempt (or the sweeper, or an operator) decided for one recipient in hand.

    `state` is QUEUED (give back, no attempt counted), DEFERRED (`next_at` is set) or a final one. `event` is None
    where nothing is to be told. `reply` is the remote reply verbatim, or our own words where there was none.
    """

    recipient: int
    fence: int
    state: State
    event: EventType | None
    attempts: int  # tries including this one
    to: str  # the address, for the log
    next_at: int = 0
    reply: str = ""
    bounce_class: BounceClass | None = None
    scope: Scope | None = None
    stage: str = ""  # connect, greeting, ehlo, starttls, auth, mail, rcpt, data, dot, dns, route, expire
    host: str = ""  # name of the remote host
    address: str = ""  # its IP address
    tls: str = ""  # protocol version, "" in clear
    note: str = ""  # why: a hint for people ("TLS failed, sent in clear")
    possible_duplicate: bool = False
    dsn_passed: bool = False  # delivered to a host that promised to notify (RFC 3461, 5.2.1): nothing is left to tell
    source: str = ""  # the route's own local address and name, "" where it has none
    ehlo: str = ""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One try: its facts and what it decided for each recipient of one message. Not `tried`: nobody was asked, or not
    by this process, so it is no attempt to count and its times say nothing."""

    message: int
    uuid: bytes  # of the message, for the log
    destination: int
    route: str
    started_at: int
    ended_at: int
    results: tuple[Result, ...]
    envelope_ms: int = 0  # from MAIL to the answer to DATA, or to the last answer that came
    content_ms: int = 0  # from there to the answer to the final dot
    wire_bytes: int = 0  # of the content as it was written, dot-stuffed, with the final dot
    tried: bool = True


class Heard(msgspec.Struct, frozen=True, gc=False):
    """What is heard of a recipient beside its attempts. `recipient` 0: of the only one of the message, or the one with
    one of `addresses`.

    A BOUNCED (a delivery status notification that came later) turns `delivered` into `bounced`, tells the submitter who
    wants to be told, and suppresses where `bounce_class` says so; of any other state nothing is changed. COMPLAINED and
    UNSUBSCRIBED suppress. OPENED and CLICKED count unless a machine fetched it. What is not known is left empty.
    """

    message: int
    recipient: int
    type: EventType
    at: int
    reply: str = ""  # verbatim: the diagnostic of a notification, the kind of feedback
    status: str = ""  # RFC 3463
    bounce_class: BounceClass | None = None
    scope: Scope | None = None
    host: str = ""  # who reports it
    note: str = ""
    url: str = ""
    client: str = ""  # address of the HTTP client
    user_agent: str = ""
    machine: str = ""  # what is known to fetch it without a person; "" is a person as far as we know
    tag: str = ""  # of UNSUBSCRIBED: "" from all mail of the account
    addresses: tuple[str, ...] = ()  # where `recipient` is 0 and there are several: whom the report names, best first


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """How many recipients were given back, and what was failed in place of that, as attempts that are written down."""

    given_back: int
    lost: tuple[Attempt, ...] = ()  # one recipient each

    @property
    def count(self) -> int:
        return self.given_back + len(self.lost)


@dataclass(frozen=True, slots=True)
class Told:
    """A recipient whose submitter is to be told something. `kind` is one of message/notify.py: SUCCESS, FAILURE,
    DELAY; `at` when it happened."""

    recipient: int
    address: str
    orcpt: str
    kind: int
    at: int
    state: State
    attempts: int
    reply: str
    host: str
    bounce_class: str
    stage: str


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be told of a message: the content of one or more delivery status notifications (RFC 3464)."""

    message: int
    uuid: bytes
    account: str
    key: str
    route: str
    envelope_sender: str  # never "": nobody is told of such mail
    subject: str
    message_id: str
    facts: Facts
    piece_count: int
    ret: str
    envid: str
    created_at: int
    expires_at: int
    recipients: tuple[Told, ...]
    tls_wish: int = 0


class Queue(Protocol):
    """The verbs. `on_ready` of an engine's constructor is called in the loop when a commit made something claimable, or
    made something wait for an earlier time than `promote` has told."""

    async def put_piece(self, message: int, index: int, data: bytes) -> None:
        """Store a piece of a message that is still being received; without an `enqueue` a sweep drops it."""

    async def enqueue(self, message: NewMessage) -> Accepted | Conflict:
        """Accept a message: content, recipients, `accepted` events and idempotency record, all or nothing."""

    async def enqueue_all(
        self, messages: Sequence[NewMessage], request: RequestKey | None
    ) -> Sequence[Accepted | Conflict] | Replayed | Conflict:
        """Accept several messages in one transaction: all or, where it fails, none.

        Without `request` an outcome for each, in order (messages may have idempotency keys of their own). With it (and
        then without any of their own) the record of the request is in the same transaction, even of one without
        messages; a request known by its key gives Replayed, or Conflict where something else was asked for.
        """

    async def record(self, message: NewMessage, results: Sequence[Result], attempt: Attempt) -> None:
        """Write down what was delivered without the queue (pass-through): the message with no content, its recipients
        in the final states of `results` (one each, in place of those of `attempt`), and the events `accepted` and those
        of `results`, in one transaction. What the message says of pieces, idempotency and `send_at` is not looked at.
        """

    async def due(self) -> Sequence[Due]:
        """Destinations with claimable recipients."""

    def urgent(self) -> Collection[int]:
        """Destinations for which something of high priority was accepted since this was last asked."""

    async def claim(self, destination: int, limit: int, until: int) -> Sequence[Claimed]:
        """Take up to `limit` recipients: highest priority, then keys in turn, oldest first; leased until `until`."""

    async def renew(self, recipients: Sequence[tuple[int, int]], until: int) -> None:
        """Keep (recipient, fence) in hand until then."""

    async def settle(self, attempts: Sequence[Attempt]) -> int:
        """Write results and their events; returns how many recipients were changed (stale fences are not).

        What a submitter wants to be told of them is written down too, in the same transaction: of failures, of
        deliveries that no other host reports, and once of a delay. Recipients that `expire` fails likewise.
        """

    async def mark(self, recipients: Sequence[tuple[int, int]]) -> None:
        """The final dot of these (recipient, fence) is about to leave: `reclaim` fails what is marked, as uncertain,
        instead of giving it back. For messages that are `at_most_once`. StoreError where one is not in hand any more,
        or it cannot be written: then the dot must not leave."""

    async def settle_late(self, heard: Sequence[Heard]) -> Sequence[bool]:
        """Write what was heard and what follows from it: state, event, counts, suppression, what submitters are told.
        False of what changed nothing: an unknown recipient, a bounce of what was not delivered."""

    async def reports(self, before: int, limit: int) -> Sequence[Report]:
        """At most `limit` messages of which something is to be told since before that time, oldest first."""

    async def report(self, report: Report, notices: Sequence[NewMessage]) -> None:
        """Accept the notifications and forget what they tell, in one transaction; without any, just forget."""

    async def piece(self, message: int, index: int) -> bytes:
        """A stored piece, its hash checked. StoreError where it is missing or altered."""

    async def promote(self, now: int) -> int | None:
        """Make what is due claimable, what was scheduled as queued; returns when the next one will be, or None. Costs
        nothing while nothing is due: it can be asked at every turn."""

    async def reclaim(self, now: int) -> Reclaimed:
        """Give back what was leased to a dead owner or whose lease ran out, marked `possible_duplicate`; of messages
        that are `at_most_once` fail what was marked, and give the rest back without that. StoreError where nothing was
        done; where something was, it is returned, and the rest is found again."""

    async def expire(self, now: int) -> int:
        """Fail queued recipients past `expires_at`, whatever else is stuck; returns how many."""

    async def retry(self, which: Filter, now: int) -> int:
        """Make waiting recipients claimable now (operator); scheduled ones only where `which` names their message or
        that state."""

    async def operate(self, which: Filter, order: Order, now: int) -> int:
        """Do what an operator says with the queued recipients that match, but with those in hand; returns how many
        were changed. State, event and what submitters are told are written together."""

    async def reschedule(self, uuid: bytes, account: str, at: int, now: int) -> int:
        """Send a scheduled message at another time: all its recipients or none; returns how many."""

    async def suspend(self, suspension: Suspension) -> Suspension:
        """Claim nothing any more of what it means, now and after a restart; what is in hand goes on. Returns it with
        its id."""

    async def resume(self, suspensions: Sequence[int]) -> int:
        """End them; returns how many there were."""

    async def suspensions(self) -> Sequence[Suspension]:
        """Those in force, oldest first."""

    def backlog(self) -> Backlog:
        """What is queued, as known in the process: costs nothing."""

    async def sweep(self, now: int) -> None:
        """Drop orphaned pieces, content past retention, old messages, events and idempotency records."""

    async def counts(self) -> Sequence[Count]:
        """Recipients by destination and place."""

    async def find(self, which: Filter) -> Sequence[QueueRow]:
        """Queued recipients that match, oldest first."""

    async def message(self, uuid: bytes, account: str | None) -> MessageView | None:
        """A message; None also where it belongs to another account (None: any account)."""

    async def events(self, uuid: bytes) -> Sequence[EventView]:
        """The events of a message in order."""

    async def content(self, uuid: bytes) -> bytes | None:
        """What is stored of a message's content, None when it was erased."""

    async def close(self) -> None:
        """Finish what is queued for writing, then close."""


Ready = Callable[[], None]
