"""What is shown of the queue to clients and operators, and how they say which part of it they mean.

Values only; times are Unix milliseconds.
"""

from dataclasses import dataclass

from gateway.events import EventType, State


@dataclass(frozen=True, slots=True)
class RecipientView:
    """A recipient as status shows it."""

    id: int
    address: str
    state: State
    attempts: int
    next_at: int | None  # next attempt, when waiting
    expires_at: int
    reply: str
    host: str
    bounce_class: str
    blocked_by: str  # "" when nothing holds it: "backoff", "schedule", "held", "lease"
    updated_at: int
    possible_duplicate: bool
    route: str
    domain: str


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


@dataclass(frozen=True, slots=True)
class EventView:
    """A row of the event log; `data` is a JSON object."""

    seq: int
    recipient: str
    type: EventType
    at: int
    data: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which queued recipients an operator means; all given conditions must hold. `older_than` is a creation time."""

    uuid: bytes | None = None
    account: str | None = None
    key: str | None = None
    route: str | None = None
    domain: str | None = None
    state: State | None = None
    older_than: int | None = None
    limit: int = 100


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
