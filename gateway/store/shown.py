"""What is shown of the queue to clients and operators, and how they say which part of it they mean.

Values only; times are Unix milliseconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.events import EventType, State


@dataclass(frozen=True, slots=True)
class RecipientView:
    """A recipient as status shows it."""

    id: int
    address: str
    state: State
    attempts: int
    next_at: int | None  # next attempt; None of a final one, and where it depends on an operator
    expires_at: int
    reply: str
    host: str
    bounce_class: str
    # Why it is not tried now: "backoff", "dns" (a backoff after a failed lookup), "schedule", "held", "suspended",
    # "lease" (in hand), "connections" (it is its turn once one is free); "" of a final one.
    blocked_by: str
    updated_at: int
    possible_duplicate: bool
    route: str
    domain: str
    scope: str = ""
    stage: str = ""
    opens: int = 0  # by people, as far as can be told
    clicks: int = 0


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message as status shows it."""

    uuid: bytes
    account: str
    key: str
    door: str
    envelope_sender: str
    header_from: str
    subject: str
    message_id: str
    size: int
    tags: str
    metadata: str
    created_at: int
    expires_at: int
    recipients: tuple[RecipientView, ...]
    tls_wish: int = 0  # of message/model.py


@dataclass(frozen=True, slots=True)
class EventView:
    """A row of the event log; `data` is a JSON object."""

    seq: int
    recipient: str
    type: EventType
    at: int
    data: str


class Standing(StrEnum):
    """Where a recipient stands, as far as it matters to what can be done with it."""

    IN_HAND = "in_hand"  # an attempt has it
    HELD = "held"
    BACKOFF = "backoff"  # waits for another try
    WAITING = "waiting"  # that, or for the time at which it is to be sent
    FREE = "free"  # waits, or could be tried now
    OPEN = "open"  # all but what is in hand


@dataclass(frozen=True, slots=True)
class Filter:
    """Which queued recipients an operator means; all given conditions must hold. `older_than` is a creation time."""

    uuid: bytes | None = None
    account: str | None = None
    key: str | None = None
    route: str | None = None
    domain: str | None = None
    address: str | None = None  # of the recipient, in normal form
    state: State | None = None
    older_than: int | None = None
    standing: Standing | None = None
    limit: int = 100


class Verb(StrEnum):
    """What an operator does to queued recipients."""

    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    BOUNCE = "bounce"
    REDIRECT = "redirect"


@dataclass(frozen=True, slots=True)
class Order:
    """A verb with what it needs; recipients in hand are left to their attempt, for which no order comes in time.

    `text` is what the operator says of it: the events have it, and a bounce tells it to the sender. A redirection has a
    `route` (with what its `domain`s are cut by: `by_domain` as NewRecipient.domain says), an `address`, or both.
    """

    verb: Verb
    text: str = ""
    route: str | None = None
    by_domain: bool = False
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Suspension:
    """What is not tried until it is resumed: all that matches every condition that is given; with none, everything."""

    id: int  # rises; 0 of a new one
    route: str | None
    domain: str | None
    key: str | None
    reason: str
    since: int
    until: int | None  # ends by itself then


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is queued: messages with an open recipient, and the bytes in use in the database."""

    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A line of `queue list`."""

    uuid: bytes
    key: str
    account: str
    envelope_sender: str
    subject: str
    created_at: int
    recipient: RecipientView


@dataclass(frozen=True, slots=True)
class Count:
    """A line of `queue summary`: recipients of one destination by where they stand."""

    route: str
    domain: str
    ready: int
    waiting: int
    leased: int
    held: int
    oldest_at: int | None  # creation of the oldest message among them, None when unknown
    next_at: int | None
    scheduled: int = 0  # of those that wait: for the time at which they are to be sent
