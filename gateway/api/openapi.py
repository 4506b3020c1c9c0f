"""GET /api/v1/openapi.json: the native API as an OpenAPI 3.1 document.

Guarantees: the schema of a request is made of the very table that decodes it; errors have one schema and one list of
codes; what the configuration bounds has this gateway's bounds. The document is public and names no host.
"""

from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from gateway import __version__
from gateway.api import answers, attachment, codes, message, operations, schema, suppressionshapes, webhookshapes
from gateway.api.described import Described, Success
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import DOCS, Answer
from gateway.api.schema import Schema
from gateway.api.service import Service
from gateway.config import Config, Limits
from gateway.message.template import MAX_SUBJECT_CHARACTERS
from gateway.policy.templates import ALIAS_FORM, MAX_PART_BYTES

CACHE: Final = ("Cache-Control", "public, max-age=3600")
_ABOUT: Final = (
    "JSON in and out. null, an empty text and an empty list are absent; an unknown field is an error that names the"
    " nearest known one, and so is a field that stands twice. Every problem of a request is told at once. Times are"
    " RFC 3339 in UTC with milliseconds. Every answer has the header X-Request-Id."
)
_BODIES: Final = ("html_body", "html", "text_body", "text")


async def show(service: Service, _call: Call) -> Answer:
    """The operation."""
    return Answer(200, document(service.config), (CACHE,))


OPERATIONS: Final = (Operation("GET", operations.OPENAPI, show),)


def document(config: Config) -> bytes:
    """The document as JSON; made once for a configuration."""
    return _encoded(config.limits)


@lru_cache(maxsize=4)
def _encoded(limits: Limits) -> bytes:
    return msgspec.json.encode(build(limits))


def build(limits: Limits) -> dict[str, Any]:
    """The document as a JSON value."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations.OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    statuses = sorted({status for one in operations.OPERATIONS for status in one.errors})
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {"title": "Mail Gateway", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "webhooks": webhookshapes.WEBHOOKS,
        "components": {
            "schemas": {**_requests(limits), **answers.SCHEMAS},
            "responses": {_error_name(status): _error(status) for status in statuses},
            "headers": _HEADERS,
            "parameters": _PARAMETERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A key of this gateway: `mgw_…`."}
            },
        },
        "externalDocs": {"url": DOCS},
    }


def _requests(limits: Limits) -> dict[str, Schema]:
    """What is taken."""
    bodies = ("html_body", "html", "text_body", "text", "attachments", "template")
    mail = message.TABLE.schema(limits)
    refused = ", ".join(f"`{name}`" for name in message.TABLE.refused)
    return {
        "Mail": {
            **mail,
            "anyOf": [{"required": [name]} for name in bodies],
            "description": f"A message. Known, and refused as `not_supported`: {refused}.",
        },
        "Mailbox": schema.MAILBOX,
        "Attachment": attachment.TABLE.schema(limits),
        "Batch": {
            "type": "object",
            "properties": {
                "messages": {
                    "type": "array",
                    "items": answers.reference("Mail"),
                    "minItems": 1,
                    "maxItems": limits.batch,
                    "description": "The messages; none of them has `wait`.",
                }
            },
            "required": ["messages"],
            "additionalProperties": False,
        },
        "TemplateText": _template_text(),
        **suppressionshapes.REQUESTS,
        **webhookshapes.REQUESTS,
        "Appointment": {
            "type": "object",
            "properties": {
                "send_at": {
                    **schema.SEND_AT,
                    "minLength": 1,
                    "description": "RFC 3339 with its offset, `in 10m`, or `now`; within a year.",
                }
            },
            "required": ["send_at"],
            "additionalProperties": False,
        },
        "Content": {"type": "string", "description": "RFC 5322."},
        "Document": {"type": "object", "required": ["openapi", "paths"]},
        "Page": {"type": "string"},
    }


def _template_text() -> Schema:
    body = {"type": "string", "maxLength": MAX_PART_BYTES}
    return {
        "type": "object",
        "properties": {
            "alias": {
                "type": "string",
                "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$",
                "description": f"A name to use it by: {ALIAS_FORM}.",
            },
            "subject": {
                "type": "string",
                "maxLength": MAX_SUBJECT_CHARACTERS,
                "description": "For messages that have none of their own.",
            },
            "html_body": {**body, "description": "HTML with `{{name}}` in it; what is filled in is escaped."},
            "html": {**body, "description": "The same as `html_body`; give one of them."},
            "text_body": {**body, "description": "Plain text with `{{name}}` in it."},
            "text": {**body, "description": "The same as `text_body`; give one of them."},
        },
        "anyOf": [{"required": [name]} for name in _BODIES],
        "additionalProperties": False,
    }


def _operation(one: Described) -> dict[str, Any]:
    key = {None: "Needs no key.", "": "Any key may ask."}.get(one.scope, f"Needs the scope {_scopes(one.scope or '')}.")
    parameters: list[dict[str, Any]] = [{"$ref": "#/components/parameters/X-Request-Id"}]
    if one.argument is not None:
        parameters.append({"name": "id", "in": "path", "required": True, **one.argument})
    parameters += one.parameters
    if one.idempotent:
        parameters.append({"$ref": "#/components/parameters/Idempotency-Key"})
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.title,
        "description": f"{one.text} {key}",
        "parameters": parameters,
        "responses": {
            **{str(status): _success(one, answer) for status, answer in one.answers.items()},
            **{str(status): {"$ref": f"#/components/responses/{_error_name(status)}"} for status in sorted(one.errors)},
        },
    }
    if one.body:
        content = {"schema": answers.reference(one.body), "example": one.example}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    if one.scope is None:
        described["security"] = []
    return described


def _success(one: Described, answer: Success) -> dict[str, Any]:
    names = ["X-Request-Id"]
    if one.scope is not None:
        names += _LIMIT_HEADERS
    if answer.replays:
        names.append("Idempotent-Replayed")
    if answer.body in {"Document", "Page"}:
        names.append("Cache-Control")
    if answer.listed:
        names.append("Link")
    described: dict[str, Any] = {
        "description": answer.text,
        "headers": {name: _header(name) for name in names},
        "content": {answer.content_type.partition(";")[0]: {"schema": _shape(answer)}},
    }
    if answer.streamed:
        described["content"][answer.streamed] = {"schema": {"type": "string"}}
    if answer.links:
        described["links"] = {
            name: {"operationId": name, "parameters": {"id": f"$response.body#{place}"}} for name, place in answer.links
        }
    return described


def _scopes(text: str) -> str:
    return " or ".join(f"`{scope}`" for scope in text.split(" or "))


def _shape(answer: Success) -> Schema:
    if answer.listed:
        return answers.page(answer.listed)
    return answers.success(answer.data) if answer.data else answers.reference(answer.body)


def _error_name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _error(status: int) -> dict[str, Any]:
    names = ["X-Request-Id", *_LIMIT_HEADERS]
    if status == 401:
        names = ["X-Request-Id", "WWW-Authenticate"]
    if status in {429, 503}:
        names.append("Retry-After")
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes.of(status))}.",
        "headers": {name: _header(name) for name in names},
        "content": {"application/json": {"schema": answers.reference("Failure")}},
    }


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


_LIMIT_HEADERS: Final = (
    "RateLimit-Policy",
    "RateLimit",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)
_WHOLE: Final[Schema] = {"type": "integer", "minimum": 0}
_HEADERS: Final[dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Names the request, in logs too: the client's own, or one that begins with `req_`.",
        "required": True,
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The key's limits, where it has any: their units and seconds, `q` in `w` seconds.",
        "schema": {"type": "string", "examples": ['"recipients-60";q=100;w=60']},
    },
    "RateLimit": {
        "description": "What is left of them: `r` now, all of it in `t` seconds.",
        "schema": {"type": "string", "examples": ['"recipients-60";r=150;t=30']},
    },
    "X-RateLimit-Limit": {"description": "Of the limit nearest to its end: how many.", "schema": _WHOLE},
    "X-RateLimit-Remaining": {"description": "Of that limit: how many are left.", "schema": _WHOLE},
    "X-RateLimit-Reset": {
        "description": "Of that limit: when all are there again, in Unix time.",
        "schema": _WHOLE,
    },
    "Retry-After": {
        "description": "Seconds until it is worth trying again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Idempotent-Replayed": {
        "description": "The request was made before, under the same idempotency key; this is its answer.",
        "schema": {"type": "string", "const": "true"},
    },
    "Link": {
        "description": "The next page (RFC 8288), where there is one.",
        "schema": {"type": "string", "examples": ['</api/v1/emails?after=…>; rel="next"']},
    },
    "WWW-Authenticate": {"description": "How to say who asks.", "schema": {"type": "string", "const": "Bearer"}},
    "Cache-Control": {"description": "How long it stays good.", "schema": {"type": "string", "const": CACHE[1]}},
}
_PARAMETERS: Final[dict[str, Any]] = {
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "A name for the request; one of another form is passed over.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A name for what is asked, bare or quoted. For 24 hours the same name and message are the same"
        " message again, and another message is a conflict; nothing is kept of a failure.",
        "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
    },
}
