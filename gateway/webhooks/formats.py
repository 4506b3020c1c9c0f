"""What endpoints are sent: an event of the log in the shape that their programs read. Pure.

Guarantees: the same event is the same bytes at every attempt; an event that a format has no word for is not sent. Which
events an endpoint wants is asked before (backlog.py).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway import eventview
from gateway.events import EventType, Scope
from gateway.runtime import rfc3339, show_id
from gateway.store.eventlog import LoggedEvent
from gateway.store.webhook import Format
from gateway.tokens import Tokens
from gateway.webhooks import signing

PING: Final = "webhook.ping"
_CODE: Final = re.compile(r"(?:[245]\d\d[ -])?#?([245]\.\d{1,3}\.\d{1,3})\b|([245]\d\d)\b", re.ASCII)  # of a reply


@dataclass(frozen=True, slots=True)
class Payload:
    """A request's body, and the name of what it tells in the words of its format."""

    id: str
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """One format. `types` are those that it has a word for. `body` gives (type, JSON value), None where too little is
    known of the event; `ping` gives the same for the test, of (its id, the webhook's id, Unix ms); `headers` are those
    beside Standard Webhooks', of (payload, secret, Unix seconds, attempt)."""

    types: frozenset[EventType]
    body: Callable[[LoggedEvent, Tokens], tuple[str, Any] | None]
    ping: Callable[[str, str, int], tuple[str, Any]]
    headers: Callable[[Payload, str, int, int], Mapping[str, str]]


def payload(format_: Format, event: LoggedEvent, tokens: Tokens) -> Payload | None:
    """None: there is nothing to be said of it in this format."""
    told = SHAPES[format_].body(event, tokens)
    if told is None:
        return None
    return Payload(eventview.event_id(event, tokens), told[0], msgspec.json.encode(told[1]))


def ping(format_: Format, id_: str, webhook: str, at: int) -> Payload:
    """The request that must be answered before an endpoint is told anything. `webhook` is its id."""
    name, value = SHAPES[format_].ping(id_, webhook, at)
    return Payload(id_, name, msgspec.json.encode(value))


# native


def _native(event: LoggedEvent, tokens: Tokens) -> tuple[str, Any]:
    return eventview.name(event.type), eventview.native(event, tokens)


def _native_ping(_id: str, webhook: str, at: int) -> tuple[str, Any]:
    return PING, {"type": PING, "timestamp": rfc3339(at), "data": {"webhook_id": webhook}}


# cloudmails: the document's flat one

_CLOUDMAILS: Final = {
    EventType.DELIVERED: "delivered",
    EventType.BOUNCED: "bounced",
    EventType.FAILED: "bounced",
    EventType.EXPIRED: "bounced",
    EventType.OPENED: "opened",
    EventType.CLICKED: "clicked",
    EventType.UNSUBSCRIBED: "unsubscribed",
    EventType.COMPLAINED: "complained",
}


def _cloudmails_name(event: LoggedEvent, facts: Mapping[str, Any]) -> str | None:
    """None of what there is no word for: what a machine fetched is neither opened nor clicked by anybody."""
    return None if event.uuid is None or facts.get("machine") else _CLOUDMAILS.get(event.type)


def _cloudmails(event: LoggedEvent, _tokens: Tokens) -> tuple[str, Any] | None:
    name = _cloudmails_name(event, _decoded(event.data))
    if name is None or event.uuid is None:
        return None
    return name, {
        "event": name,
        "message_id": show_id("msg_", event.uuid),
        "timestamp": rfc3339(event.at),
        "recipient": event.address,
        "custom_args": _decoded(event.metadata),
    }


def _cloudmails_ping(_id: str, webhook: str, at: int) -> tuple[str, Any]:
    return "ping", {"event": "ping", "timestamp": rfc3339(at), "webhook_id": webhook}


# cloudmails-nested: that of the vendor's other page


def _nested(event: LoggedEvent, _tokens: Tokens) -> tuple[str, Any] | None:
    facts = _decoded(event.data)
    name = _cloudmails_name(event, facts)
    if name is None or event.uuid is None:
        return None
    data: dict[str, Any] = {"message_id": show_id("msg_", event.uuid), "recipient": event.address}
    if name == "bounced":
        data |= {
            "bounce_type": "hard" if _is_hard(event, facts) else "soft",
            "bounce_code": _enhanced(facts),
            "bounce_description": facts.get("reply", ""),
        }
    if name == "clicked":
        data["url"] = facts.get("url", "")
    data["custom_args"] = _decoded(event.metadata)
    return f"email.{name}", {"event": f"email.{name}", "timestamp": event.at // 1000, "data": data}


def _nested_ping(_id: str, webhook: str, at: int) -> tuple[str, Any]:
    return PING, {"event": PING, "timestamp": at // 1000, "data": {"webhook_id": webhook}}


def _cloudmails_headers(payload: Payload, secret: str, _at_s: int, _attempt: int) -> Mapping[str, str]:
    # The vendor's page says how it is made, and not the name of the field.
    return {"X-CloudMails-Signature": signing.plain(secret, payload.body)}


# sendmux

_SENDMUX: Final = {
    EventType.DELIVERED: "message.delivered",
    EventType.BOUNCED: "message.bounced",
    EventType.EXPIRED: "message.bounced",
    EventType.COMPLAINED: "message.complained",
    EventType.FAILED: "message.rejected",
    EventType.SUPPRESSED: "message.rejected",
    EventType.DEFERRED: "message.delivery_delayed",
}


def _sendmux(event: LoggedEvent, tokens: Tokens) -> tuple[str, Any] | None:
    name = _SENDMUX.get(event.type)
    if name is None or event.uuid is None:
        return None
    facts = _decoded(event.data)
    bounced, refused = name == "message.bounced", name == "message.rejected"
    data = {
        "message_id": event.message_id,
        "message_id_kind": "rfc5322",
        "sendmux_message_id": show_id("eml_", event.uuid),
        "sender": event.header_from,
        "recipients": [event.address],
        "mailbox_id": None,
        "bounce_type": ("Permanent" if _is_hard(event, facts) else "Transient") if bounced else None,
        "bounce_subtype": facts.get("bounce_class") if bounced else None,
        "complaint_type": facts.get("reply") if name == "message.complained" else None,
        "complaint_subtype": None,
        "reject_reason": (facts.get("reply") or facts.get("note") or event.type.value) if refused else None,
        "delay_type": facts.get("bounce_class") if event.type is EventType.DEFERRED else None,
        "delay_expires_at": None,
        "is_spam": False,
        "webhook_id": None,
        "metadata": _decoded(event.metadata),
    }
    return name, {**_sendmux_head(eventview.event_id(event, tokens), name, event.at), "data": data}


def _sendmux_ping(id_: str, webhook: str, at: int) -> tuple[str, Any]:
    name = "sendmux.test"
    return name, {**_sendmux_head(id_, name, at), "data": {"webhook_id": webhook}}


def _sendmux_head(id_: str, name: str, at: int) -> dict[str, Any]:
    return {"id": id_, "type": name, "team_public_id": None, "occurred_at": rfc3339(at)}


def _sendmux_headers(payload: Payload, secret: str, at_s: int, attempt: int) -> Mapping[str, str]:
    return {
        "X-Sendmux-Signature": f"sha256={signing.plain(secret, payload.body)}",
        "X-Sendmux-Timestamp": str(at_s),
        "X-Sendmux-Signature-V2": f"v1={signing.plain(secret, f'{at_s}.'.encode() + payload.body)}",
        "X-Sendmux-Event-Id": payload.id,
        "X-Sendmux-Event-Type": payload.type,
        "X-Sendmux-Delivery-Attempt": str(attempt),
    }


def _no_headers(_payload: Payload, _secret: str, _at_s: int, _attempt: int) -> Mapping[str, str]:
    return {}


SHAPES: Final[Mapping[Format, Shape]] = {
    Format.NATIVE: Shape(frozenset(EventType), _native, _native_ping, _no_headers),
    Format.CLOUDMAILS: Shape(frozenset(_CLOUDMAILS), _cloudmails, _cloudmails_ping, _cloudmails_headers),
    Format.CLOUDMAILS_NESTED: Shape(frozenset(_CLOUDMAILS), _nested, _nested_ping, _cloudmails_headers),
    Format.SENDMUX: Shape(frozenset(_SENDMUX), _sendmux, _sendmux_ping, _sendmux_headers),
}


def _is_hard(event: LoggedEvent, facts: Mapping[str, Any]) -> bool:
    """Whether the address is at fault: programs write to it no more. A notification may tell of another fault."""
    return event.type is EventType.BOUNCED and facts.get("scope", "") in {"", Scope.RECIPIENT.value}


def _enhanced(facts: Mapping[str, Any]) -> str:
    """The enhanced status code (RFC 3463) of a reply, else its code; "" of what no host said."""
    if status := facts.get("status"):
        return str(status)
    said = _CODE.match(str(facts.get("reply", "")))
    return said[1] or said[2] if said else ""


def _decoded(text: str) -> dict[str, Any]:
    """An empty one where the row is damaged."""
    try:
        value = msgspec.json.decode(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
