"""GET /api/v1/docs: the native API as a page for people, made of the OpenAPI document.

Guarantees: one page without scripts, and nothing from another host; it holds no value that a client sent. Each error
code has the anchor `error-<code>` that answers point at; each example is a command that works as it stands.
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import lru_cache
from html import escape
from typing import Any, Final

from gateway.api import codes, openapi, operations
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import DOCS, Answer
from gateway.api.service import Service

STYLE: Final = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem; }
h2 { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: 4px; overflow-x: auto; padding: .75rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; }
nav ul { columns: 16rem; list-style: none; padding: 0; }
:target { background: var(--soft); }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS: Final = (
    openapi.CACHE,
    ("Content-Security-Policy", f"{_POLICY}; style-src 'sha256-{_STYLE_HASH}'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)
_BEFORE: Final = "GATEWAY=https://mail.example.com  # where this gateway is\nKEY=mgw_…"
_BOUNDS: Final = {
    "maxLength": "at most {} characters",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} entries",
    "minimum": "from {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "up to {}",
}
_UNLISTED: Final = {
    "ErrorCode": '<a href="#errors">error code</a>',
    "Document": "object",
    "Page": "text",
    "Content": "text",
}

Json = dict[str, Any]


async def show(service: Service, _call: Call) -> Answer:
    """The operation."""
    body = _page(openapi.document(service.config))
    return Answer(200, body, _HEADERS, content_type="text/html; charset=utf-8")


OPERATIONS: Final = (Operation("GET", DOCS, show),)


@lru_cache(maxsize=4)
def _page(document: bytes) -> bytes:
    return page(json.loads(document)).encode()


def page(document: Json) -> str:
    """The whole page as HTML."""
    title = f"{escape(document['info']['title'])}: HTTP API"
    objects = {name: schema for name, schema in document["components"]["schemas"].items() if _is_shown(schema)}
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
            f"<p>Version {escape(document['info']['version'])}. {_prose(document['info']['description'])}",
            f' The same for programs: <a href="{operations.OPENAPI}">OpenAPI</a>.</p>\n',
            f"<p>The examples want to know two things:</p>\n<pre>{escape(_BEFORE)}</pre>\n",
            _contents(document, objects),
            *(_operation(*one, document) for one in _operations(document)),
            '<h2 id="objects">Objects</h2>\n',
            *(_object(name, schema) for name, schema in objects.items()),
            _errors(),
            "</body>\n</html>\n",
        )
    )


def curl(method: str, path: str, operation: Json, parameters: Iterable[Json]) -> str:
    """A command that makes the operation's example request; GATEWAY and KEY are variables of the shell."""
    for parameter in parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["examples"][0])
    command = "curl" if method == "GET" else f"curl -X {method}"
    command += f' "$GATEWAY{path}"'
    if "security" not in operation:
        command += ' \\\n  -H "Authorization: Bearer $KEY"'
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        text = json.dumps(example, indent=2, ensure_ascii=False)
        command += f" \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(text)}"
    return command


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _is_shown(schema: Json) -> bool:
    return "properties" in schema or "anyOf" in schema  # those of `_UNLISTED` have neither


def _contents(document: Json, objects: Iterable[str]) -> str:
    links = [
        f'<li><a href="#{operation["operationId"]}">{escape(operation["summary"])}</a> <code>{method}</code></li>\n'
        for method, _, operation in _operations(document)
    ]
    links += [f'<li><a href="#object-{name}">{name}</a></li>\n' for name in objects]
    return f'<nav>\n<ul>\n{"".join(links)}<li><a href="#errors">Errors</a></li>\n</ul>\n</nav>\n'


def _operation(method: str, path: str, operation: Json, document: Json) -> str:
    parameters = [_resolved(parameter, document) for parameter in operation["parameters"]]
    rows = [
        (f"<code>{escape(one['name'])}</code>", one["in"], _type(one["schema"]), _prose(one["description"]))
        for one in parameters
    ]
    parts = [
        f'<h2 id="{operation["operationId"]}">{escape(operation["summary"])}</h2>\n',
        f"<p><code>{method} {escape(path)}</code></p>\n<p>{_prose(operation['description'])}</p>\n",
        _table(("parameter", "in", "type", ""), rows),
    ]
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"<p>The body: {_type(body)}.</p>\n")
    answers = [
        (f"<code>{status}</code>", _answer_data(answer), _prose(answer["description"]))
        for status, answer in operation["responses"].items()
        if "$ref" not in answer
    ]
    failures = ", ".join(status for status, answer in operation["responses"].items() if "$ref" in answer)
    parts += [
        f"<pre>{escape(curl(method, path, operation, parameters))}</pre>\n",
        _table(("status", "data", ""), answers),
        f'<p><a href="#errors">Failures</a>: {failures}.</p>\n',
    ]
    return "".join(parts)


def _answer_data(answer: Json) -> str:
    schema = next(iter(answer["content"].values()))["schema"]
    return _type(schema.get("properties", {}).get("data", schema))


def _object(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>{', required' if field in required else ''}",
            _type(value),
            _prose(value.get("description", "")),
        )
        for field, value in schema.get("properties", {}).items()
    ]
    head = f'<h3 id="object-{name}">{name}</h3>\n<p>{_prose(schema.get("description", ""))}</p>\n'
    if not rows:
        return f"{head}<p>{_type(schema)}</p>\n"
    return head + _table(("field", "type", ""), rows)


def _errors() -> str:
    rows = "".join(
        f'<tr id="error-{code}"><td>{codes.STATUSES[code]}</td><td><code>{code}</code></td><td>{_prose(text)}</td>'
        "</tr>\n"
        for code, text in codes.MEANINGS.items()
    )
    head = "<tr><th>status</th><th>code</th><th></th></tr>\n"
    return (
        '<h2 id="errors">Errors</h2>\n<p>A failure is a <a href="#object-Failure">Failure</a>.'
        f"</p>\n<table>\n{head}{rows}</table>\n"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["".join(f"<th>{cell}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>\n" + "".join(f"<tr>{line}</tr>\n" for line in lines) + "</table>\n"


def _resolved(value: Json, document: Json) -> Json:
    """The value, or what it refers to in the document."""
    if "$ref" not in value:
        return value
    found: Any = document
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    resolved: Json = found
    return resolved


def _type(schema: Json) -> str:
    """What a value is, in a few words of HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _UNLISTED.get(name, f'<a href="#object-{name}">{name}</a>')
    if "properties" not in schema and "anyOf" in schema and "type" not in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return ", ".join(f"<code>{escape(value)}</code>" for value in schema["enum"])
    kinds = schema.get("type", "value")
    words = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if kinds == "array":
        words = f"list of {_type(schema['items'])}"
    elif "properties" in schema:
        words = f"object of {', '.join(f'<code>{escape(name)}</code>' for name in schema['properties'])}"
    bounds = [text.format(f"{schema[name]:,}") for name, text in _BOUNDS.items() if name in schema]
    return ", ".join([words, *bounds])


def _prose(text: str) -> str:
    """Text as HTML; what stands between backticks is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
