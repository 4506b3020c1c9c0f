"""Mail on its way into the queue: what is handed to it, and what it answers.

These are values: nothing is stored or checked here. Times are Unix milliseconds.
"""

from dataclasses import dataclass

import msgspec

from gateway.events import State
from gateway.message.model import Facts


class NewRecipient(msgspec.Struct, frozen=True, gc=False):
    """One envelope recipient. `domain` is the queue's cut: the recipient's domain, or "" where a relay takes all.

    `notify` is a sum of message/notify.py; `orcpt` the original recipient as it came (RFC 3461, 4.2), "" without.
    `route`: in place of the message's. `state`: it begins as QUEUED (or SCHEDULED, by its message), HELD, or is
    SUPPRESSED from the start; `why`, for the event.
    """

    id: int
    address: str
    domain: str
    notify: int = 0
    orcpt: str = ""
    route: str = ""
    state: State = State.QUEUED
    why: str = ""


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
    track: int = 0  # a sum of message/model.py: TRACK_OPENS, TRACK_CLICKS, TRACK_TEXT
    unsubscribe: str = ""  # "": nothing is offered; "*": from all mail of the account; else from this tag
    own_return_path: bool = False  # the request gave the envelope sender: it stays, whatever the domain has
    original_to: tuple[str, ...] = ()  # the recipients before the key redirected them


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
