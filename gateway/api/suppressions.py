"""/api/v1/suppressions: who an account does not send to, listed, added and removed.

Guarantees: a key sees and changes the entries of its own account; those for everybody apply, and are the operator's.
What is wrong with one of many is said of that one. Changes need the scope `manage`, reading needs `read`.
"""

from typing import Any, Final

from gateway.api import envelope, fields, listing
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.fields import Problems
from gateway.api.query import Query
from gateway.api.service import Document, Service
from gateway.errors import Reason as Refusal
from gateway.errors import Refused
from gateway.manage.suppressionlist import Given
from gateway.store.db import NEVER
from gateway.store.suppression import Reason
from gateway.tokens import Tokens

PATH: Final = "/api/v1/suppressions"
ONE: Final = f"{PATH}/{{}}"
MOST: Final = 1000  # of one request
MAX_BYTES: Final = 2 * 1024 * 1024
USUAL_PAGE: Final = 100
FILTERS: Final = ("after", "limit", "address", "reason", "tag")
FIELDS: Final = ("address", "reason", "tag", "note", "expires_at")
_MANY: Final = "suppressions"
_PLACE: Final = 1 << 62  # set in the cursors of this list: no place of the event log is that high, and no message's id


async def show(service: Service, call: Call) -> Answer:
    """GET, newest first. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    entries = service.door.suppressions
    query = Query(call.query, FILTERS)
    limit = query.number("limit", default=USUAL_PAGE, most=MOST)
    reason = query.choice("reason", _reason, tuple(Reason))
    before = _place(query, entries.tokens)
    address, tag = query.text("address") or "", query.text("tag") or ""
    query.end()
    found = await entries.page(
        principal.account, address=address, reason=reason or "", tag=tag, before=before, limit=limit + 1
    )
    more = len(found) > limit
    cursor = entries.tokens.cursor(found[limit - 1].id | _PLACE) if more else None
    return listing.page([entries.view(one) for one in found[:limit]], call, next_cursor=cursor, has_more=more)


async def add(service: Service, call: Call) -> Answer:
    """POST of one or of many. Raises Refused, HttpError, StoreError."""
    account = _account(service, call)
    async with service.body(call, max_bytes=MAX_BYTES) as body:
        given = await body.decode(parse)
    entries = service.door.suppressions
    if isinstance(given, Given):
        added = await entries.add(entries.read(given, account))
        return envelope.success(entries.view(added), call.id, status=201)
    count, faults = await entries.add_all(given, account, Reason.OPERATOR)
    failed = [{"index": fault.place, "error": envelope.error_of(fault.error)} for fault in faults]
    return envelope.success({"added": count, "failed": failed}, call.id)


async def remove(service: Service, call: Call) -> Answer:
    """DELETE of one. Raises Refused, StoreError."""
    account = _account(service, call, "tag")
    query = Query(call.query, ("tag",))
    tag = query.text("tag")
    query.end()
    (count,) = await service.door.suppressions.remove(account, (call.argument,), tag)
    if not count:
        raise Refused(Refusal.NOT_FOUND, "There is no such suppression.", param="id")
    return envelope.success({"address": call.argument, "removed": count}, call.id)


async def remove_all(service: Service, call: Call) -> Answer:
    """DELETE of many. Raises Refused, HttpError, StoreError."""
    account = _account(service, call)
    async with service.body(call, max_bytes=MAX_BYTES) as body:
        values, tag = await body.decode(parse_removal)
    counts = await service.door.suppressions.remove(account, values, tag)
    unknown = [value for value, count in zip(values, counts, strict=True) if not count]
    return envelope.success({"removed": sum(counts), "not_found": unknown}, call.id)


OPERATIONS: Final = (
    Operation("GET", PATH, show),
    Operation("POST", PATH, add),
    Operation("DELETE", PATH, remove_all),
    Operation("DELETE", ONE, remove),
)


def parse(document: Document) -> Given | list[Given]:
    """One entry, or those of the list `suppressions`. Raises Refused."""
    problems = Problems()
    if _MANY not in document:
        one = _given(document, "", problems)
        problems.refuse()
        return one
    for name in document:
        if name != _MANY:
            problems.add(fields.shown(name), f"does not stand beside {_MANY}")
    items = _list(document[_MANY], _MANY, problems)
    many = [_given(item, f"{_MANY}[{index}].", problems) for index, item in enumerate(items)]
    problems.refuse()
    return many


def parse_removal(document: Document) -> tuple[list[str], str | None]:
    """Addresses and the tag, None for whatever tag. Raises Refused."""
    problems = Problems()
    for name in document:
        if name not in {"addresses", "tag"}:
            problems.add(fields.shown(name), "is not a known field; there are addresses, tag")
    items = _list(document.get("addresses"), "addresses", problems)
    values = [_line(item, f"addresses[{index}]", problems) for index, item in enumerate(items)]
    tag = document.get("tag")
    tag = None if fields.absent(tag) else _line(tag, "tag", problems)
    problems.refuse()
    return values, tag


def _given(item: Any, path: str, problems: Problems) -> Given:
    """What is not said is ""."""
    if not isinstance(item, dict):
        problems.add(path.rstrip("."), f"must be an object, got {fields.kind(item)}")
        return Given("")
    for name in item:
        if name not in FIELDS:
            problems.add(path + fields.shown(name), f"is not a known field; there are {', '.join(FIELDS)}")
    texts = {name: _line(item[name], path + name, problems) for name in FIELDS if not fields.absent(item.get(name))}
    if "address" not in texts:
        problems.add(f"{path}address", "is required", "missing_parameter")
    return Given(texts.pop("address", ""), **texts)


def _line(value: Any, path: str, problems: Problems) -> str:
    return fields.line(value, path, problems) or ""


def _list(value: Any, path: str, problems: Problems) -> list[Any]:
    if fields.absent(value):
        problems.add(path, "is required", "missing_parameter")
    elif not isinstance(value, list):
        problems.add(path, f"must be a list, got {fields.kind(value)}")
    elif len(value) > MOST:
        problems.add(path, f"has {len(value)} entries; at most {MOST} are taken", "validation_error")
    else:
        return value
    return []


def _account(service: Service, call: Call, *known: str) -> str:
    """Whose list is changed. Raises Refused."""
    principal = service.principal(call, call.bearer(), "manage")
    Query(call.query, known).end()
    return principal.account


def _reason(text: str) -> Reason | None:
    return next((reason for reason in Reason if reason == text), None)


def _place(query: Query, tokens: Tokens) -> int:
    """The id of the last entry of the page before."""
    text = query.text("after")
    if text is None:
        return NEVER
    place = tokens.read_cursor(text)
    if place is None or not place & _PLACE or place >> 63:
        query.problems.add("after", "must be the next_cursor of an answer")
        return NEVER
    return place ^ _PLACE
