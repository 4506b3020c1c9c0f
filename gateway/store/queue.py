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
from gateway.store.shown import Backlog, Count, EventView, Filter, MessageView, Order, QueueRow, Suspension


class NewRecipient(msgspec.Struct, frozen=True, gc=False):
    """One envelope recipient. `domain` is the queue's cut: the recipient's domain, or "" where a relay takes all.

    `notify` is a sum of message/notify.py; `orcpt` the original recipient as it came (RFC 3461, 4.2), "" without.
    """

    id: int
    address: str
    domain: str
    notify: int = 0
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's own name for a request: unique per account for 24 h. `hash` is SHA-256 of what was asked for."""

    account: str
    text: str
    hash: bytes


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """A message to accept. `pieces` are those not stored yet: (index, bytes); piece 0 begins with the whole header."""

    id: int
    uuid: bytes
    account: str
    key: str  # name of the key
    route: str
    door: str  # "http" | "smtp" | "dsn"
    envelope_sender: str  # "" is the null sender
    header_from: str  # the address DKIM's domain is taken from
    subject: str
    message_id: str  # the Message-ID field without angle brackets
    facts: Facts
    tags: str  # JSON array
    metadata: str  # JSON object
    client: str  # peer address, for the accepted event
    created_at: int
    expires_at: int
    priority: int  # 0 high, 1 normal, 2 low
    recipients: tuple[NewRecipient, ...]
    pieces: tuple[tuple[int, bytes], ...]
    piece_count: int
    idempotency: IdempotencyKey | None = None
    send_at: int = 0  # its recipients are `scheduled` until then; 0: at once
    ret: str = ""  # FULL | HDRS | "": what a notification returns (RFC 3461, 4.3)
    envid: str = ""  # the envelope identifier as it came (RFC 3461, 4.4)
    tls_wish: int = 0  # of message/model.py: BY_POLICY, TLS_REQUIRED, TLS_OPTIONAL
    at_most_once: bool = False  # better lost than twice: what may have been delivered is not tried again


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A client's own name for a request that holds several messages. `answer`, never empty, is what the client is told
    of it, kept for a replay. Names of messages and of requests share one space."""

    account: str
    text: str
    hash: bytes
    answer: str


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The message is stored (or, replayed, was stored before under the same idempotency key)."""

    uuid: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """The idempotency key was used for another content; nothing was stored."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The request was accepted before under the same key, and answered so; nothing was stored."""

    answer: str


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
