"""The parameters of queries, as the OpenAPI document describes them.

Guarantees: a literal for each, held against the operations that read them by tests. It reads nothing.
"""

from typing import Any, Final

from gateway import eventview
from gateway.api import answers, events, search
from gateway.api.schema import Schema
from gateway.events import State

_MESSAGE: Final[Schema] = {**answers.MESSAGE_ID}
_CURSOR: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"}
_TEXT: Final[Schema] = {"type": "string", "maxLength": 1000}
_ADDRESS: Final[Schema] = {"type": "string", "format": "email"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time", "examples": ["2026-11-21T08:30:00Z"]}


def _query(name: str, text: str, schema: Schema, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema, **more}


_TYPES: Final = _query(
    "types",
    "Only events of these types, with commas between: `email.delivered,email.bounced`.",
    {"type": "array", "items": {"type": "string", "enum": list(eventview.NAMES)}},
    explode=False,
)
_TAG: Final = _query("tag", "Only of messages with this tag.", _TEXT)
_KEY: Final = _query("key", "Only of this key, by its name.", _TEXT)


def _limit(usually: int, most: int) -> dict[str, Any]:
    schema: Schema = {"type": "integer", "minimum": 1, "maximum": most, "default": usually}
    return _query("limit", "At most so many.", schema)


EVENTS: Final = (
    _query(
        "after",
        "Go on behind this event: its `cursor`, or the `next_cursor` of an answer; `now`: from now on. Absent: from the"
        " oldest there is.",
        {"type": "string", "anyOf": [_CURSOR, {"enum": list(events.NOW)}]},
    ),
    _TYPES,
    _KEY,
    _TAG,
    _query("message", "Only of this message.", _MESSAGE),
    _limit(events.USUALLY, events.MOST),
    _query(
        "wait",
        f"Where there is nothing yet, wait so long for it: `30s`, at most {events.LONGEST_WAIT_S}s.",
        {"type": "string", "pattern": "^[0-9]{1,2}s$", "examples": ["30s"]},
    ),
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "With `Accept: text/event-stream`: the last `id` that was received; it wins over `after`.",
        "schema": _CURSOR,
    },
)
EVENTS_OF_MESSAGE: Final = (
    _query("after", "Go on behind this event: the `next_cursor` of an answer.", _CURSOR),
    _TYPES,
    _limit(events.USUALLY, events.MOST),
)
SEARCH: Final = (
    _query("state", "Only messages in this state.", {"type": "string", "enum": [one.value for one in State]}),
    _query("to", "Only messages to this address.", _ADDRESS),
    _query("from", "Only messages whose From has this address.", _ADDRESS),
    _TAG,
    _KEY,
    _query("subject", "Only messages with this in their subject; letters of ASCII in either case.", _TEXT),
    _query("since", "Only messages that were accepted then or later.", _TIME),
    _query("before", "Only messages that were accepted before.", _TIME),
    _query("after", "Go on behind this page: the `next_cursor` of an answer.", _CURSOR),
    _limit(search.USUALLY, search.MOST),
)
