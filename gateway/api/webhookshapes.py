"""JSON Schema (2020-12) of what the API takes and answers about webhooks, its operations as they are described, and the
requests that endpoints get.

Guarantees: a literal for each, held against what is served by tests. It serves nothing.
"""

from typing import Any, Final

from gateway import eventview
from gateway.api import webhooks
from gateway.api.schema import Schema
from gateway.api.table import Table
from gateway.config import Limits
from gateway.store.webhook import Format, Standing

_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_TIME: Final[Schema] = {"type": "string", "format": "date-time", "examples": ["2026-11-21T05:04:00.123Z"]}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_WORDS: Final[Schema] = {"type": "array", "items": _TEXT}
_SECRET: Final[Schema] = {**_TEXT, "description": "It is shown this once."}

ARGUMENT: Final[dict[str, Any]] = {
    "description": "The webhook's id.",
    "schema": {"type": "string", "pattern": "^whk_[a-z0-9]{24}$", "examples": ["whk_00k2m8v0q4x9d7c1b5n3h6j2"]},
}
EXAMPLE: Final[dict[str, Any]] = {
    "url": "https://hooks.example.com/mail",
    "types": ["email.delivered", "email.bounced", "email.complained"],
    "tags": ["order"],
}
CHANGE_EXAMPLE: Final[dict[str, Any]] = {"final_only": True}
REPLAY_EXAMPLE: Final[dict[str, Any]] = {"since": "2026-11-21T08:30:00Z"}
ROTATION_EXAMPLE: Final[dict[str, Any]] = {"overlap": "24h"}


def _object(properties: dict[str, Schema], text: str = "") -> Schema:
    shape: Schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {**shape, "description": text} if text else shape


_WEBHOOK: Final[dict[str, Schema]] = {
    "id": ARGUMENT["schema"],
    "account": {**_TEXT_OR_NULL, "description": "Whose events it is told of."},
    "url": _TEXT,
    "format": {"type": "string", "enum": [format_.value for format_ in Format]},
    "types": {**_WORDS, "description": "Empty: all."},
    "keys": {**_WORDS, "description": "Empty: all."},
    "tags": {**_WORDS, "description": "Empty: all."},
    "final_only": {"type": "boolean"},
    "state": {
        "type": "string",
        "enum": [state.value for state in Standing],
        "description": "`pending` until it answers a ping; only `active` is told anything; `paused` by somebody;"
        " `disabled` after days of failure, or when it answered 410.",
    },
    "reason": {**_TEXT_OR_NULL, "description": "Why it is not active."},
    "cursor": {**_TEXT, "description": "Its place in the event log."},
    "parked": {**_COUNT, "description": "Events that failed and are tried again, and those that wait behind them."},
    "dead": {**_COUNT, "description": "Events that were given up after their last retry."},
    "failing_since": {**_TIME_OR_NULL, "description": "The first failure after the last success."},
    "old_secret_until": {**_TIME_OR_NULL, "description": "Until then requests are signed with the old secret, too."},
    "created_at": _TIME,
    "updated_at": _TIME,
}
_TEST: Final[Schema] = _object(
    {
        "ok": {"type": "boolean"},
        "status": {"type": ["integer", "null"], "description": "Of HTTP; null where there was no answer."},
        "took_ms": _COUNT,
        "error": _TEXT_OR_NULL,
    },
    "What came of the ping.",
)
_EVENT: Final[dict[str, Schema]] = {
    "at": _TIME,
    "event_id": {**_TEXT_OR_NULL, "description": "Null of a ping, and of what is known no more."},
    "type": {**_TEXT_OR_NULL, "description": "That of the event; `webhook.ping` of a test."},
    "cursor": {**_TEXT_OR_NULL, "description": "The event's place in the log."},
}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _taken(table: Table) -> Schema:
    return {name: value for name, value in table.schema(Limits()).items() if value or name != "allOf"}


REQUESTS: Final[dict[str, Schema]] = {
    "WebhookCreation": _taken(webhooks.CREATION),
    "WebhookChange": {
        **_taken(webhooks.CHANGE),
        "description": "What is to be another. An empty list of `types`, `keys` or `tags` means all.",
    },
    "WebhookReplay": {
        **_taken(webhooks.START),
        "oneOf": [{"required": [field.name]} for field in webhooks.START.fields],
    },
    "WebhookRotation": _taken(webhooks.ROTATION),
}
ANSWERS: Final[dict[str, Schema]] = {
    "Webhook": _object(_WEBHOOK, "An endpoint that is told of events."),
    "WebhookCreated": _object({**_WEBHOOK, "test": _TEST, "secret": _SECRET}),
    "WebhookChanged": {
        **_object(_WEBHOOK),
        "properties": {**_WEBHOOK, "test": {**_TEST, "description": "Of one with another URL: what came of the ping."}},
    },
    "WebhookTested": _object({**_WEBHOOK, "test": _TEST}),
    "WebhookReplayed": _object(
        {**_WEBHOOK, "revived": {**_COUNT, "description": "How many events that were given up are tried again."}}
    ),
    "WebhookRotated": _object({**_WEBHOOK, "secret": _SECRET}),
    "WebhookRemoved": _object({**_WEBHOOK, "removed": {"const": True}}),
    "WebhookList": _object({"webhooks": {"type": "array", "items": _reference("Webhook")}}),
    "WebhookAttempt": _object(
        {
            **_EVENT,
            "attempt": {**_COUNT, "description": "Which attempt of this event it was, from 1."},
            "status": {"type": ["integer", "null"], "description": "Of HTTP; null where there was no answer."},
            "took_ms": _COUNT,
            "error": _TEXT_OR_NULL,
        },
        "A request to an endpoint.",
    ),
    "WebhookAttempts": _object(
        {"attempts": {"type": "array", "items": _reference("WebhookAttempt"), "description": "The newest first."}}
    ),
    "WebhookDeadEvent": _object({**_EVENT, "attempts": _COUNT, "reason": _TEXT}, "An event that was given up."),
    "WebhookDead": _object(
        {"dead": {"type": "array", "items": _reference("WebhookDeadEvent"), "description": "The newest first."}}
    ),
    "WebhookPing": _object(
        {
            "type": {"const": "webhook.ping"},
            "timestamp": _TIME,
            "data": _object({"webhook_id": _TEXT}),
        },
        "The test of an endpoint.",
    ),
}

_SIGNED: Final = tuple(
    {"name": name, "in": "header", "required": True, "description": text, "schema": _TEXT}
    for name, text in (
        ("webhook-id", "The event's id, the same at every attempt."),
        ("webhook-timestamp", "When this attempt was made, in Unix seconds."),
        ("webhook-signature", "`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64; several by spaces."),
    )
)


def _request(name: str, schema: str, text: str) -> dict[str, Any]:
    """What endpoints of the native format get; 2xx is what they answer."""
    return {
        "post": {
            "operationId": name,
            "summary": text,
            "description": "Signed as Standard Webhooks 1.0 has it. Any 2xx within 15 seconds is a success; what"
            " else is answered is tried again, but 410, which ends it.",
            "parameters": list(_SIGNED),
            "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(schema)}}},
            "responses": {"2XX": {"description": "It was taken."}},
        }
    }


WEBHOOKS: Final[dict[str, Any]] = {
    **{name: _request(f"on {name}", "Event", f"The event {name}") for name in eventview.NAMES},
    "webhook.ping": _request("on webhook.ping", "WebhookPing", "The test of an endpoint"),
}
