"""JSON Schema (2020-12) of the values that a message is made of, beside the readers in `fields`, `timing`, `wishes`,
`variables`.

Guarantees: what a schema refuses, its reader refuses too (null, "" and [] aside, which are absent fields). A reader may
refuse more: an address that is none, a control character, a time that does not exist.
"""

from typing import Any, Final

from gateway.api import fields, timing, variables, wishes
from gateway.message import labels
from gateway.message.priority import WORDS as PRIORITIES
from gateway.message.schedule import MAX_TTL_S, MIN_TTL_S

Schema = dict[str, Any]

LINE: Final[Schema] = {"type": "string", "maxLength": fields.MAX_LINE_CHARACTERS}
BODY: Final[Schema] = {"type": "string"}
ADDRESS: Final[Schema] = {"type": "string", "format": "email", "maxLength": fields.MAX_LINE_CHARACTERS}
MAILBOX: Final[Schema] = {
    "anyOf": [
        {"type": "string", "pattern": "@", "maxLength": fields.MAX_LINE_CHARACTERS},
        {
            "type": "object",
            "properties": {"email": ADDRESS, "name": {**LINE, "type": ["string", "null"]}},
            "required": ["email"],
            "additionalProperties": False,
        },
    ],
    "description": "An address, `a@b` or `Name <a@b>`, or the two apart.",
    "examples": ["Shop <shop@example.com>", {"email": "shop@example.com", "name": "Shop"}],
}
ONE: Final[Schema] = {"$ref": "#/components/schemas/Mailbox"}
SEVERAL: Final[Schema] = {"anyOf": [ONE, {"type": "array", "items": ONE}]}
ATTACHMENTS: Final[Schema] = {"type": "array", "items": {"$ref": "#/components/schemas/Attachment"}}
HEADERS: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": r"^[!-9;-~]{1,76}$"},
    "additionalProperties": LINE,
    "maxProperties": fields.MAX_HEADERS,
    "examples": [{"X-Campaign": "spring"}],
}
TAGS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": labels.MAX_TAG_CHARACTERS},
    "maxItems": labels.MAX_TAGS,
    "examples": [["receipt", "shop"]],
}
METADATA: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    "examples": [{"order": 4711}],
}
REFERENCE: Final[Schema] = {"type": "string", "maxLength": fields.MAX_REFERENCE_CHARACTERS, "examples": ["welcome"]}
VARIABLES: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean", "null", "object", "array"]},
    "description": f"At most {variables.MAX_DEPTH} levels of objects and lists.",
    "examples": [{"name": "Ann", "items": [{"title": "Tea", "price": 4.5}]}],
}
REQUEST_KEY: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,255}$", "examples": ["order-4711"]}

_DURATION: Final[Schema] = {
    "type": "string",
    "pattern": r"^ *[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d) *$",
    "maxLength": timing.MAX_CHARACTERS,
}
SEND_AT: Final[Schema] = {
    "type": "string",
    "maxLength": timing.MAX_CHARACTERS,
    "examples": ["in 10m", "2026-12-24T08:30:00+01:00"],
}
TTL: Final[Schema] = {
    "anyOf": [_DURATION, {"type": "integer", "minimum": MIN_TTL_S, "maximum": MAX_TTL_S}],
    "examples": ["4h", 1800],
}
WAIT: Final[Schema] = {
    "anyOf": [_DURATION, {"type": "number", "exclusiveMinimum": 0, "maximum": timing.MAX_WAIT_S}],
    "examples": ["10s", 2.5],
}
PRIORITY: Final[Schema] = {"enum": list(PRIORITIES), "default": "normal"}
_NOTICE: Final[Schema] = {"enum": list(wishes.NOTICES)}
DSN: Final[Schema] = {
    "anyOf": [_NOTICE, {"type": "array", "items": _NOTICE, "uniqueItems": True}],
    "examples": ["failure", ["success", "failure", "delay"]],
}
REQUIRE_TLS: Final[Schema] = {"type": "boolean", "default": False}
_WANTED: Final[Schema] = {"type": ["boolean", "null"]}
TRACK: Final[Schema] = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "object", "properties": dict.fromkeys(labels.TRACKS, _WANTED), "additionalProperties": False},
    ],
    "examples": [{"opens": True, "clicks": True}, False],
}
_TAG: Final[Schema] = {"type": "string", "maxLength": labels.MAX_TAG_CHARACTERS}
UNSUBSCRIBE: Final[Schema] = {
    "anyOf": [
        {"type": "boolean"},
        _TAG,
        {
            "type": "object",
            "properties": {"tag": {**_TAG, "minLength": 1}},
            "required": ["tag"],
            "additionalProperties": False,
        },
    ],
    "default": False,
    "examples": [True, "news", {"tag": "news"}],
}
