"""An endpoint that is told of events, as the store has it: values, and what is kept of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.events import EventType
from gateway.runtime import show_id

PREFIX: Final = "whk_"  # of an endpoint's id
MOST_PARKED: Final = 5000  # of an endpoint: more than a message to a thousand recipients has events
MOST_DEAD: Final = 10_000  # of an endpoint; of more, the oldest are forgotten
MOST_ATTEMPTS: Final = 100  # of an endpoint, that are remembered


class Format(StrEnum):
    """What an endpoint is sent (webhooks/formats.py)."""

    NATIVE = "native"
    CLOUDMAILS = "cloudmails"
    CLOUDMAILS_NESTED = "cloudmails-nested"
    SENDMUX = "sendmux"


class Standing(StrEnum):
    """Whether an endpoint is told anything."""

    PENDING = "pending"  # it has not answered a ping yet
    ACTIVE = "active"
    PAUSED = "paused"  # somebody said so
    DISABLED = "disabled"  # it failed for days, or said that it is gone


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """An endpoint. `account` "": it is told of every account. What is empty of `types` (of EventType), `keys` and
    `tags` means all. `cursor`: all events up to there were delivered, are parked or dead. `old_secret_wrapped` is good
    until `old_until`; `failing_since`: the first failure after the last success; `why` it is not active."""

    id: int
    uuid: bytes
    account: str
    url: str
    format: Format
    secret_wrapped: bytes
    old_secret_wrapped: bytes | None
    old_until: int | None
    types: tuple[EventType, ...]
    keys: tuple[str, ...]
    tags: tuple[str, ...]
    final_only: bool
    state: Standing
    why: str
    cursor: int
    epoch: int
    failing_since: int | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What is stored of a new endpoint; it is pending."""

    uuid: bytes
    account: str
    url: str
    format: Format
    secret_wrapped: bytes
    types: tuple[EventType, ...]
    keys: tuple[str, ...]
    tags: tuple[str, ...]
    final_only: bool
    at: int


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that failed, or waits behind one that did; `next_at` in Unix ms, 0 for one that waits."""

    seq: int
    message: int
    attempts: int
    next_at: int


@dataclass(frozen=True, slots=True)
class Dead:
    """An event that was given up."""

    seq: int
    attempts: int
    at: int
    why: str


@dataclass(frozen=True, slots=True)
class Tried:
    """A request. `seq` 0: a ping; `status` of HTTP, 0 where there was no answer."""

    seq: int
    at: int
    attempt: int
    status: int
    took_ms: int
    error: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A request or a dead event with what is known of the event: its type, "" and its time 0 where it is gone."""

    what: Tried | Dead
    type: str
    event_at: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What came of requests to one endpoint since this was last written. `cursor` never falls in one epoch;
    `done`: events that are parked no more. `disabled`: why it is told nothing any more, and `event` then the data of
    that event."""

    webhook: int
    epoch: int
    cursor: int
    failing_since: int | None
    at: int
    parked: Sequence[Parked] = ()
    done: Sequence[int] = ()
    dead: Sequence[Dead] = ()
    tried: Sequence[Tried] = ()
    disabled: str = ""
    event: str = "{}"


def show(uuid: bytes) -> str:
    """The id of an endpoint: `whk_…`."""
    return show_id(PREFIX, uuid)


def vault_label(uuid: bytes) -> str:
    """What the vault binds an endpoint's secrets to."""
    return f"webhook:{uuid.hex()}"
