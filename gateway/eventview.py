"""An event of the log as programs see it: the native API's, and the native webhooks'. Pure.

Guarantees: the same event is the same object at every reading, but for what was erased with its message; its id is
that of the event, not of the reading. What is not known is left out of `data`.
"""

from typing import Any, Final

import msgspec

from gateway.events import EventType
from gateway.runtime import rfc3339, show_id
from gateway.store.eventlog import LoggedEvent
from gateway.tokens import Tokens

_OF_ACCOUNT: Final = {
    EventType.BRAKED: "key.braked",
    EventType.BRAKE_RELEASED: "key.brake_released",
    EventType.WEBHOOK_DISABLED: "webhook.disabled",
}
_NAMES: Final = {type_: _OF_ACCOUNT.get(type_, f"email.{type_.value}") for type_ in EventType}
_TYPES: Final = {name: type_ for type_, name in _NAMES.items()}
NAMES: Final = tuple(_TYPES)  # all of them, as clients read and write them

_RENAMED: Final = {"stage": "command", "next_at": "next_attempt_at"}
# Of a redirected recipient; of an attempt `address` is the host's.
_REDIRECTED: Final = {"address": "new_recipient", "old_address": "old_recipient"}
_UNTOLD: Final = frozenset({"attempt_id"})  # a number of the store, which says how much there is


def name(type_: EventType) -> str:
    """`email.delivered`, `key.braked`."""
    return _NAMES[type_]


def read_name(text: str) -> EventType | None:
    """The inverse of `name`; `delivered` is taken for `email.delivered`. None where there is no such type."""
    return _TYPES.get(text) or _TYPES.get(f"email.{text}")


def native(event: LoggedEvent, tokens: Tokens) -> dict[str, Any]:
    """`{id, type, cursor, timestamp, data}`; `data` of mail always has message_id, recipient, from, subject, key, tags
    and metadata, null or empty where the message was erased."""
    return {
        "id": event_id(event, tokens),
        "type": _NAMES[event.type],
        "cursor": tokens.cursor(event.seq),
        "timestamp": rfc3339(event.at),
        "data": _of_message(event) if event.type.of_message else _facts(event),
    }


def event_id(event: LoggedEvent, tokens: Tokens) -> str:
    """`evt_` and 24 characters."""
    return show_id("evt_", tokens.event_id(event.seq, event.at))


def key_of(event: LoggedEvent) -> str:
    """The name of the key that it is about, "" of none."""
    return event.key if event.type.of_message else str(_decoded(event.data, dict).get("key", ""))


def tags_of(event: LoggedEvent) -> list[str]:
    """Those of its message."""
    tags: list[str] = _decoded(event.tags, list)
    return tags


def _of_message(event: LoggedEvent) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": show_id("eml_", event.uuid) if event.uuid is not None else None,
        "recipient": event.address or None,
        "from": event.header_from,
        "subject": event.subject,
        "key": event.key,
        "tags": tags_of(event),
        "metadata": _decoded(event.metadata, dict),
    }
    return {**_facts(event), **data}


def _facts(event: LoggedEvent) -> dict[str, Any]:
    """What the event itself says. A whole number whose name ends in `_at` is a time in Unix ms, 0 is none."""
    renamed = _RENAMED if event.type is not EventType.REDIRECTED else {**_RENAMED, **_REDIRECTED}
    facts: dict[str, Any] = {}
    for key, value in _decoded(event.data, dict).items():
        if key in _UNTOLD:
            continue
        is_time = key.endswith("_at") and type(value) is int
        if not is_time:
            facts[renamed.get(key, key)] = value
        elif value:
            facts[renamed.get(key, key)] = rfc3339(value)
    return facts


def _decoded(text: str, kind: type[Any]) -> Any:
    """An empty one where the row is damaged: one bad byte must not end the log for its readers."""
    try:
        value = msgspec.json.decode(text)
    except ValueError:
        return kind()
    return value if isinstance(value, kind) else kind()
