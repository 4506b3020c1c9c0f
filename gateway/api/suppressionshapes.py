"""JSON Schema (2020-12) of what the API takes and answers about suppressions, and the parameters of their list.

Guarantees: a literal for each, held against what is served by tests. It serves nothing.
"""

from typing import Any, Final

from gateway.api import fields, suppressions
from gateway.api.schema import Schema
from gateway.manage.suppressionlist import MAX_NOTE_CHARACTERS
from gateway.message.labels import MAX_TAG_CHARACTERS
from gateway.store.suppression import Kind, Reason

_TEXT: Final[Schema] = {"type": "string"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time", "examples": ["2026-11-21T05:04:00.123Z"]}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_REASON: Final[Schema] = {"type": "string", "enum": [reason.value for reason in Reason]}
_ADDRESS: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": fields.MAX_LINE_CHARACTERS,
    "description": "An address, or a domain: all addresses of just that domain.",
    "examples": ["ann@example.org", "example.org"],
}

ARGUMENT: Final[dict[str, Any]] = {
    "description": "The address or the domain. One with a slash in it: the operation for many.",
    "schema": {"type": "string", "minLength": 1, "examples": ["ann@example.org"]},
}


def _query(name: str, text: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


_TAG: Final[Schema] = {"type": "string", "maxLength": MAX_TAG_CHARACTERS}
FILTERS: Final = (
    _query("address", "Only of this address or domain.", {"type": "string", "maxLength": 1000}),
    _query("reason", "Only for this reason.", _REASON),
    _query("tag", "Only for mail with this tag.", _TAG),
    _query(
        "after",
        "Go on behind this page: the `next_cursor` of an answer.",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
    ),
    _query(
        "limit",
        "At most so many.",
        {"type": "integer", "minimum": 1, "maximum": suppressions.MOST, "default": suppressions.USUAL_PAGE},
    ),
)
REMOVAL: Final = (_query("tag", "Only the entry for this tag; absent: whatever its tag.", _TAG),)

_ENTRY: Final[dict[str, Schema]] = {
    "address": _ADDRESS,
    "reason": {**_REASON, "description": "Why nothing is sent there; `operator` where nothing is said."},
    "tag": {**_TAG, "description": "Of which mail; absent: of all."},
    "note": {"type": "string", "maxLength": MAX_NOTE_CHARACTERS, "description": "For whoever reads the list."},
    "expires_at": {**_TIME, "description": "When it ends; absent: never."},
}
REQUESTS: Final[dict[str, Schema]] = {
    "SuppressionEntry": {
        "type": "object",
        "properties": _ENTRY,
        "required": ["address"],
        "additionalProperties": False,
    },
    "SuppressionEntries": {
        "type": "object",
        "properties": {
            "suppressions": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/SuppressionEntry"},
                "minItems": 1,
                "maxItems": suppressions.MOST,
                "description": "Each is taken or refused by itself.",
            }
        },
        "required": ["suppressions"],
        "additionalProperties": False,
    },
    "SuppressionAddition": {
        "anyOf": [
            {"$ref": "#/components/schemas/SuppressionEntry"},
            {"$ref": "#/components/schemas/SuppressionEntries"},
        ],
        "description": "One entry, or many.",
    },
    "SuppressionRemoval": {
        "type": "object",
        "properties": {
            "addresses": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": fields.MAX_LINE_CHARACTERS},
                "minItems": 1,
                "maxItems": suppressions.MOST,
                "description": "Addresses and domains.",
            },
            "tag": {**_TAG, "description": "Only entries for this tag; absent: whatever their tag."},
        },
        "required": ["addresses"],
        "additionalProperties": False,
    },
}
ANSWERS: Final[dict[str, Schema]] = {
    "Suppression": {
        "description": "An address or a domain that is not sent to.",
        "type": "object",
        "properties": {
            "address": {**_TEXT, "description": "In lower case; `hash:…` where a person was erased."},
            "kind": {"type": "string", "enum": [kind.value for kind in Kind]},
            "reason": _REASON,
            "tag": {"type": ["string", "null"], "description": "Of which mail; null: of all."},
            "note": _TEXT,
            "created_at": _TIME,
            "expires_at": {"type": ["string", "null"], "format": "date-time", "description": "Null: never."},
            "event_id": {"type": ["string", "null"], "description": "The event that caused it."},
        },
        "required": ["address", "kind", "reason", "tag", "note", "created_at", "expires_at", "event_id"],
    },
    "SuppressionsAdded": {
        "description": "What became of many entries.",
        "type": "object",
        "properties": {
            "added": _COUNT,
            "failed": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": {**_COUNT, "description": "Its place in the request, from 0."},
                        "error": {"$ref": "#/components/schemas/Error"},
                    },
                    "required": ["index", "error"],
                },
            },
        },
        "required": ["added", "failed"],
    },
    "SuppressionRemoved": {
        "type": "object",
        "properties": {"address": _TEXT, "removed": {**_COUNT, "description": "So many entries: one for each tag."}},
        "required": ["address", "removed"],
    },
    "SuppressionsRemoved": {
        "type": "object",
        "properties": {
            "removed": {**_COUNT, "description": "So many entries."},
            "not_found": {"type": "array", "items": _TEXT, "description": "What had none."},
        },
        "required": ["removed", "not_found"],
    },
}
EXAMPLE: Final[dict[str, Any]] = {"address": "ann@example.org", "reason": "operator", "note": "asked by telephone"}
REMOVAL_EXAMPLE: Final[dict[str, Any]] = {"addresses": ["ann@example.org", "example.net"]}
