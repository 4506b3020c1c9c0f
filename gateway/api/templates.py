"""/api/v1/templates: an account's stored templates, made, listed, shown, replaced and removed.

Guarantees: a template of another account, an unknown id and a malformed one give one and the same 404; every problem of
a template is told at once, with its place in the text. Changes need the scope `manage`, reading needs `read`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from gateway import templates
from gateway.api import envelope, fields, send
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.fields import Problems
from gateway.api.service import Document, Service
from gateway.policy.templates import MAX_PART_BYTES
from gateway.templates import TemplateText

PATH: Final = "/api/v1/templates"
ONE: Final = f"{PATH}/{{}}"
MAX_BYTES: Final = 2 * 3 * MAX_PART_BYTES + 64_000  # two parts, with escapes: 12 characters for an emoji of 4 bytes
_FIELDS: Final = {
    "alias": "alias",
    "subject": "subject",
    "html_body": "html_body",
    "text_body": "text_body",
    "html": "html_body",
    "text": "text_body",
}


async def create(service: Service, call: Call) -> Answer:
    """POST. Raises Refused, HttpError, StoreError."""
    account, given = await _given(service, call)
    record = await service.door.templates.add(account, given)
    return envelope.success(templates.view(record), call.id, status=201)


async def listing(service: Service, call: Call) -> Answer:
    """GET, without bodies. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    records = await service.door.templates.listing(principal.account)
    return envelope.success({"templates": [templates.head(record) for record in records]}, call.id)


async def show(service: Service, call: Call) -> Answer:
    """GET of one. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    record = await service.door.templates.get(principal.account, call.argument)
    return envelope.success(templates.view(record), call.id)


async def put(service: Service, call: Call) -> Answer:
    """PUT. Raises Refused, HttpError, StoreError."""
    account, given = await _given(service, call)
    record = await service.door.templates.replace(account, call.argument, given)
    return envelope.success(templates.view(record), call.id)


async def remove(service: Service, call: Call) -> Answer:
    """DELETE. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "manage")
    if call.query:
        send.check_query(call.query)
    record = await service.door.templates.remove(principal.account, call.argument)
    return envelope.success({**templates.head(record), "removed": True}, call.id)


OPERATIONS: Final = (
    Operation("POST", PATH, create),
    Operation("GET", PATH, listing),
    Operation("GET", ONE, show),
    Operation("PUT", ONE, put),
    Operation("DELETE", ONE, remove),
)


def parse(document: Document) -> TemplateText:
    """A template as the request has it; `html` and `text` stand for `html_body` and `text_body`. Raises Refused."""
    problems = Problems()
    given = _fields(document, problems)

    def read(name: str, reader: Callable[[Any, str, Problems], str | None]) -> str | None:
        return reader(given[name][1], given[name][0], problems) if name in given else None

    text = TemplateText(
        alias=read("alias", fields.line) or "",
        subject=read("subject", fields.line) or "",
        html=read("html_body", fields.body),
        text=read("text_body", fields.body),
    )
    found = [
        replace(problem, path=given[problem.path][0] if problem.path in given else problem.path)
        for problem in text.problems()
        # A body that could not be read is told of already: it is not missing, too.
        if problem.code != "missing_parameter" or not given.keys() & {"html_body", "text_body"}
    ]
    templates.refuse([*problems.found, *found])
    return text


def _fields(document: Document, problems: Problems) -> dict[str, tuple[str, Any]]:
    """The fields given, by canonical name: (the name the client used, the value)."""
    given: dict[str, tuple[str, Any]] = {}
    for name, value in document.items():
        known = _FIELDS.get(name)
        if known is None:
            problems.add(fields.shown(name), f"is not a known field; a template has {', '.join(_FIELDS)}")
        elif fields.absent(value):
            continue
        elif known in given:
            problems.add(name, f"means the same as {given[known][0]}: give one of them")
        else:
            given[known] = (name, value)
    return given


async def _given(service: Service, call: Call) -> tuple[str, TemplateText]:
    """Whose template it is to be, and its text."""
    principal = service.principal(call, call.bearer(), "manage")
    if call.query:
        send.check_query(call.query)
    async with service.body(call, max_bytes=MAX_BYTES) as body:
        return principal.account, await body.decode(parse)
