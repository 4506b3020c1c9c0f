"""JSON Schema (2020-12) of what the native API answers.

Guarantees: every member of an answer is in its schema. Schemas are open: a later version may add members.
"""

from typing import Final

from gateway import eventview
from gateway.api import codes, suppressionshapes, webhookshapes
from gateway.api.schema import Schema
from gateway.events import State
from gateway.keyterms import Unit

TIME: Final[Schema] = {"type": "string", "format": "date-time", "examples": ["2026-11-21T05:04:00.123Z"]}
MESSAGE_ID: Final[Schema] = {
    "type": "string",
    "pattern": "^eml_[a-z0-9]{24}$",
    "examples": ["eml_00k2m8v0q4x9d7c1b5n3h6j2"],
}
_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_STATE: Final[Schema] = {"type": "string", "enum": [state.value for state in State]}
_ACCEPTED: Final[Schema] = {"type": "string", "enum": ["queued", "scheduled", "held", "captured"]}


def _object(properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object whose members are all there, but for the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def reference(name: str) -> Schema:
    """The schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def success(name: str) -> Schema:
    """The envelope of a success whose `data` has the schema of this name."""
    return _object({"ok": {"const": True}, "data": reference(name), "meta": reference("Meta")})


def page(name: str) -> Schema:
    """A page of a list whose entries have the schema of this name."""
    return _object(
        {
            "ok": {"const": True},
            "data": _list(reference(name)),
            "has_more": {"type": "boolean", "description": "Whether there is more already."},
            "next_cursor": {
                **_TEXT_OR_NULL,
                "description": "Where to go on: the parameter `after` of the next request.",
            },
            "meta": reference("Meta"),
        }
    )


_IDEMPOTENT: Final[Schema] = {
    "const": True,
    "description": "It was accepted before, under the same `idempotency_key`.",
}
_SENDMUX: Final[Schema] = {"description": "For clients of Sendmux: nothing that is not said above."}
_EVENT_DATA: Final[dict[str, Schema]] = {
    "message_id": {**MESSAGE_ID, "type": ["string", "null"], "description": "Null where the message was erased."},
    "recipient": _TEXT_OR_NULL,
    "from": _TEXT,
    "subject": _TEXT,
    "key": _TEXT,
    "tags": _list(_TEXT),
    "metadata": {"type": "object"},
    "reply": {**_TEXT, "description": "What the next hop said, verbatim, or why it could not be asked."},
    "command": {
        **_TEXT,
        "description": "How far the attempt came: connect, greeting, ehlo, starttls, auth, mail, rcpt, data, dot, dns,"
        " route, expire.",
    },
    "host": {**_TEXT, "description": "The next hop."},
    "address": {**_TEXT, "description": "Its IP address."},
    "tls": {**_TEXT, "description": "The version of TLS; absent in clear."},
    "source": {**_TEXT, "description": "From which address of ours, where the route names one."},
    "ehlo": {**_TEXT, "description": "By which name of ours, where the route has its own."},
    "bounce_class": {**_TEXT, "description": "Why it was not delivered, in one word."},
    "scope": {**_TEXT, "description": "Whose fault it was: recipient, infrastructure, content."},
    "attempt": {**_COUNT, "description": "Which attempt it was, from 1."},
    "route": _TEXT,
    "next_attempt_at": TIME,
    "possible_duplicate": {"type": "boolean"},
    "note": {**_TEXT, "description": "A word for people."},
    "door": {**_TEXT, "description": "Of `email.accepted`: http, smtp or dsn."},
    "client": {**_TEXT, "description": "The address of who handed it in, or followed a link."},
    "late": {"type": "boolean", "description": "It came after the delivery: a bounce, a complaint."},
    "status": {**_TEXT, "description": "RFC 3463."},
    "url": {**_TEXT, "description": "Of `email.clicked`; of `webhook.disabled` the endpoint's, without its path."},
    "user_agent": _TEXT,
    "machine": {**_TEXT, "description": "What is known to fetch it without a person."},
    "tag": {**_TEXT, "description": "Of `email.unsubscribed`: from what; empty from everything."},
    "new_recipient": {**_TEXT, "description": "Of `email.redirected`; also `old_recipient` and `old_route`."},
    "old_recipient": _TEXT,
    "old_route": _TEXT,
    "reason": {**_TEXT, "description": "Of `key.braked` and `webhook.disabled`."},
    "detail": _TEXT,
}
_TEMPLATE_HEAD: Final[dict[str, Schema]] = {
    "id": {**_TEXT_OR_NULL, "description": "Null where it is a file of the gateway's directory of templates."},
    "alias": _TEXT_OR_NULL,
    "subject": _TEXT,
    "source": {"type": "string", "enum": ["store", "directory"]},
    "created_at": TIME,
    "updated_at": TIME,
}

_MESSAGE: Final[dict[str, Schema]] = {
    "message_id": MESSAGE_ID,
    "state": {
        **_STATE,
        "description": "Open while any recipient's is, and that of the recipient furthest behind; once all"
        " are final, the worst: `delivered` only when everybody has it.",
    },
    "status": {**_STATE, "description": "The same as `state`."},
    "from": _TEXT,
    "subject": _TEXT,
    "created_at": TIME,
    "delivered_at": {
        **_TIME_OR_NULL,
        "description": "When the last recipient got it; null until all have.",
    },
    "bounce_reason": {
        **_TEXT_OR_NULL,
        "description": "What was said of the one that will not get it; of several, of the worst.",
    },
    "opens": {**_COUNT, "description": "How often people opened it, as far as can be told."},
    "clicks": {**_COUNT, "description": "How often people followed a link of it, as far as can be told."},
    "recipients": _list(reference("Recipient")),
    "tags": _list(_TEXT),
    "metadata": {"type": "object"},
}

SCHEMAS: Final[dict[str, Schema]] = {
    "ErrorCode": {"type": "string", "enum": list(codes.MEANINGS)},
    "Receipt": {
        "description": "A message that was accepted: it is on disk.",
        **_object(
            {"message_id": MESSAGE_ID, "status": _ACCEPTED, "created_at": TIME, "idempotent": _IDEMPOTENT},
            optional=("idempotent",),
        ),
    },
    "BatchResult": {
        "description": "What became of one message of a batch.",
        **_object(
            {
                "index": {**_COUNT, "description": "Its place in the request, from 0."},
                "message_id": {**MESSAGE_ID, "type": ["string", "null"]},
                "status": {"type": "string", "enum": [*_ACCEPTED["enum"], "failed"]},
                "idempotent": _IDEMPOTENT,
                "error": {**reference("Error"), "description": "Why it failed; absent where it did not."},
            },
            optional=("error", "idempotent"),
        ),
    },
    "BatchReceipt": _object(
        {
            "results": {**_list(reference("BatchResult")), "description": "In the order of the request."},
            "summary": _object({"total": _COUNT, "queued": _COUNT, "failed": _COUNT}),
        }
    ),
    "Message": {
        "description": "Where a message stands.",
        **_object(_MESSAGE),
    },
    "MessageChanged": {
        "description": "Where a message stands after a change.",
        **_object(
            {**_MESSAGE, "changed": {**_COUNT, "minimum": 1, "description": "How many recipients were changed."}}
        ),
    },
    "Recipient": {
        "description": "Where a message stands with one recipient.",
        **_object(
            {
                "address": _TEXT,
                "state": _STATE,
                "attempts": _COUNT,
                "last_reply": {**_TEXT_OR_NULL, "description": "What the next hop said last."},
                "blocked_by": {
                    **_TEXT_OR_NULL,
                    "description": "Why it is not tried now: backoff, dns, schedule, held, suspended, lease (it is"
                    " being tried), connections (its turn comes when one is free); null of a final one.",
                },
                "next_attempt_at": _TIME_OR_NULL,
                "host": {**_TEXT_OR_NULL, "description": "The next hop of the last attempt."},
                "bounce_class": {**_TEXT_OR_NULL, "description": "Why it was not delivered, in one word."},
                "updated_at": TIME,
                "possible_duplicate": {
                    "type": "boolean",
                    "description": "An attempt ended where nobody can tell whether the next hop took it.",
                },
                "opens": {**_COUNT, "description": "By people, as far as can be told."},
                "clicks": {**_COUNT, "description": "Likewise."},
            }
        ),
    },
    "Event": {
        "description": "Something that happened.",
        **_object(
            {
                "id": {
                    "type": "string",
                    "pattern": "^evt_[a-z0-9]{24}$",
                    "description": "Of the event; always the same.",
                },
                "type": {"type": "string", "enum": list(eventview.NAMES)},
                "cursor": {**_TEXT, "description": "Its place in the log: what `after` takes."},
                "timestamp": TIME,
                "data": reference("EventData"),
            }
        ),
    },
    "EventData": {
        "description": "Of a message always `message_id` to `metadata`; the rest where it is known.",
        "type": "object",
        "properties": _EVENT_DATA,
    },
    "TemplateHead": {"description": "A template without its bodies.", **_object(_TEMPLATE_HEAD)},
    "Template": _object({**_TEMPLATE_HEAD, "html_body": _TEXT_OR_NULL, "text_body": _TEXT_OR_NULL}),
    "TemplateList": _object({"templates": _list(reference("TemplateHead"))}),
    "TemplateRemoved": _object({**_TEMPLATE_HEAD, "removed": {"const": True}}),
    **suppressionshapes.ANSWERS,
    **webhookshapes.ANSWERS,
    "Key": {
        "description": "What the key that asks may do.",
        **_object(
            {
                "key": {**_TEXT, "description": "Its name."},
                "account": _TEXT,
                "scopes": _list(_TEXT),
                "from": {**_list(_TEXT), "description": "Patterns of the senders it may use; empty: any."},
                "default_from": _TEXT_OR_NULL,
                "expires_at": _TIME_OR_NULL,
                "limits": _list(reference("Allowance")),
                "credential": {**_object({"id": _TEXT, "name": _TEXT, "type": {"const": "api_key"}}), **_SENDMUX},
                "label": {**_TEXT, **_SENDMUX},
                "mailboxes": {**_list(_TEXT), "maxItems": 0, **_SENDMUX},
                "permissions": {**_list(_TEXT), **_SENDMUX},
                "team": {**_object({"id": _TEXT, "name": _TEXT}), **_SENDMUX},
            }
        ),
    },
    "Allowance": {
        "description": "A limit of a key, and what is left of it.",
        **_object(
            {
                "unit": {"type": "string", "enum": [unit.value for unit in Unit]},
                "count": {**_COUNT, "description": "So many in `period_s` seconds."},
                "period_s": _COUNT,
                "burst": {**_COUNT, "description": "So many at once, after a pause."},
                "remaining": {**_COUNT, "description": "So many now."},
                "reset_s": {**_COUNT, "description": "Seconds until all of them are there again."},
            }
        ),
    },
    "Health": _object(
        {"status": {"type": "string", "enum": ["ok", "unavailable"]}, "reason": _TEXT}, optional=("reason",)
    ),
    "Unready": {"anyOf": [reference("Health"), reference("Failure")]},
    "Meta": _object({"request_id": {**_TEXT, "description": "The same as the header X-Request-Id."}}),
    "Failure": _object({"ok": {"const": False}, "error": reference("Error"), "meta": reference("Meta")}),
    "Error": _object(
        {
            "code": reference("ErrorCode"),
            "message": {**_TEXT, "description": "For people. It may change: decide by `code`."},
            "param": {**_TEXT_OR_NULL, "description": "The field at fault."},
            "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
            "doc_url": {**_TEXT, "format": "uri-reference"},
            "errors": {**_list(reference("Problem")), "description": "Every problem of the request, one at least."},
        }
    ),
    "Problem": _object(
        {
            "code": reference("ErrorCode"),
            "message": _TEXT,
            "param": {**_TEXT_OR_NULL, "examples": ["to[1].email"]},
            "field": {**_TEXT_OR_NULL, "description": "The same as `param`."},
        }
    ),
}
