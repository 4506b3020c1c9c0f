"""What operators and programs see of endpoints of webhooks: values to JSON values. Pure. No view holds a secret."""

from typing import Any

from gateway import eventview
from gateway.events import EventType
from gateway.runtime import rfc3339, show_id
from gateway.store import webhook as endpoints
from gateway.store.webhook import Dead, Shown, Tried, WebhookRecord
from gateway.tokens import Tokens


def webhook(record: WebhookRecord, tokens: Tokens, *, parked: int, dead: int, now: int) -> dict[str, Any]:
    """`account` None: it is told of all; `reason`: why it is not active; `cursor`: where it is in the event log."""
    rotating = record.old_until is not None and record.old_until > now
    return {
        "id": endpoints.show(record.uuid),
        "account": record.account or None,
        "url": record.url,
        "format": record.format.value,
        "types": [eventview.name(type_) for type_ in record.types],
        "keys": list(record.keys),
        "tags": list(record.tags),
        "final_only": record.final_only,
        "state": record.state.value,
        "reason": record.why or None,
        "cursor": tokens.cursor(record.cursor),
        "parked": parked,
        "dead": dead,
        "failing_since": _time(record.failing_since),
        "old_secret_until": _time(record.old_until if rotating else None),
        "created_at": rfc3339(record.created_at),
        "updated_at": rfc3339(record.updated_at),
    }


def test(tried: Tried) -> dict[str, Any]:
    """What came of a ping."""
    return {
        "ok": not tried.error,
        "status": tried.status or None,
        "took_ms": tried.took_ms,
        "error": tried.error or None,
    }


def attempt(shown: Shown, tokens: Tokens) -> dict[str, Any]:
    """A request."""
    tried = shown.what
    assert isinstance(tried, Tried)
    return {
        "at": rfc3339(tried.at),
        **_event(shown, tried.seq, tokens),
        "attempt": tried.attempt,
        "status": tried.status or None,
        "took_ms": tried.took_ms,
        "error": tried.error or None,
    }


def dead(shown: Shown, tokens: Tokens) -> dict[str, Any]:
    """An event that was given up."""
    gone = shown.what
    assert isinstance(gone, Dead)
    return {
        "at": rfc3339(gone.at),
        **_event(shown, gone.seq, tokens),
        "attempts": gone.attempts,
        "reason": gone.why,
    }


def _event(shown: Shown, seq: int, tokens: Tokens) -> dict[str, Any]:
    """Which event it was; null for a ping, and for what is known no more."""
    if not shown.type:
        return {"event_id": None, "type": None if seq else "webhook.ping", "cursor": None}
    return {
        "event_id": show_id("evt_", tokens.event_id(seq, shown.event_at)),
        "type": eventview.name(EventType(shown.type)),
        "cursor": tokens.cursor(seq),
    }


def _time(at: int | None) -> str | None:
    return rfc3339(at) if at is not None else None
