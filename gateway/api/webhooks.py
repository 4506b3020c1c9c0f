"""/api/v1/webhooks: endpoints of an account that are told of events: made, listed, changed, tested, paused, resumed,
replayed, rotated and removed.

Guarantees: an endpoint of another account, an unknown id and a malformed one give one and the same 404. All of it needs
the scope `manage`. A secret is in the answer to the request that made it, and in no other.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.api import envelope, fields, wishes
from gateway.api.dialect import Operation, Serve
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.fields import Problems
from gateway.api.query import Query
from gateway.api.service import Document, Service
from gateway.api.table import Field, Table
from gateway.config import Limits
from gateway.manage.webhooks import MOST_FILTERS, From, WebhookManager, WebhookWish
from gateway.message import schedule
from gateway.store.webhook import Format

PATH: Final = "/api/v1/webhooks"
ONE: Final = f"{PATH}/{{}}"
MAX_BYTES: Final = 64 * 1024
_MAX_TEXT: Final = 2000
_FILTERS: Final = ("types", "keys", "tags")
_NO_LIMITS: Final = Limits()  # none of these fields has one

_WORDS: Final = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": _MAX_TEXT},
    "maxItems": MOST_FILTERS,
}


def _line(value: Any, path: str, problems: Problems) -> str | None:
    return fields.line(value, path, problems, limit=_MAX_TEXT)


def _words(value: Any, path: str, problems: Problems) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list):
        problems.add(path, f"must be a list of strings, got {fields.kind(value)}")
        return ()
    if len(value) > MOST_FILTERS:
        problems.add(path, f"has {len(value)} entries; at most {MOST_FILTERS} are taken", "validation_error")
        return ()
    found = []
    for index, item in enumerate(value):
        text = _line(item, f"{path}[{index}]", problems)
        if text == "":
            problems.add(f"{path}[{index}]", "must not be empty", "validation_error")
        elif text is not None:
            found.append(text)
    return tuple(found)


def _time(value: Any, path: str, problems: Problems) -> int | None:
    """Unix ms of an RFC 3339 time."""
    text = _line(value, path, problems)
    if text is None:
        return None
    try:
        at = schedule.start(text).at
    except ValueError:
        at = None
    if at is None:
        problems.add(path, "must be an RFC 3339 time with its offset (2026-11-21T08:30:00Z)", "validation_error")
    return at


def _duration(value: Any, path: str, problems: Problems) -> float | None:
    text = _line(value, path, problems)
    if text is None:
        return None
    try:
        return schedule.duration(text)
    except ValueError as error:
        problems.add(path, str(error), "validation_error")
        return None


_URL: Final = Field(
    "url",
    _line,
    "url",
    {"type": "string", "minLength": 1, "maxLength": _MAX_TEXT, "examples": ["https://hooks.example.com/mail"]},
    "Where events are sent by POST: https, and no address of a private network, unless the configuration allows it.",
)
_SECRET: Final = Field(
    "secret",
    _line,
    "secret",
    {"type": "string", "minLength": 16, "maxLength": 128},
    "A secret of your own: `whsec_` and 24 to 64 bytes in base64 (for other formats than native also another text)."
    " Without it one is made.",
)
_SETTINGS: Final = (
    Field(
        "format",
        _line,
        "format",
        {"type": "string", "enum": [format_.value for format_ in Format]},
        "What it is sent: `native` is that of GET /api/v1/events, the others are those of other APIs.",
    ),
    Field("types", _words, "types", _WORDS, "Only events of these types, such as `email.delivered`; absent: all."),
    Field("keys", _words, "keys", _WORDS, "Only of mail that these keys handed in, by name; absent: all."),
    Field("tags", _words, "tags", _WORDS, "Only of mail with one of these tags; absent: all."),
    Field(
        "final_only",
        wishes.flag,
        "final_only",
        {"type": "boolean"},
        "Only the final word on each recipient, and what follows it: no `email.accepted`, no `email.deferred`.",
    ),
)
CREATION: Final = Table.of((replace(_URL, required=True), *_SETTINGS, _SECRET), {})
CHANGE: Final = Table.of((_URL, *_SETTINGS), {"secret": "is changed by rotating it: POST …/rotate"})
START: Final = Table.of(
    (
        Field(
            "cursor",
            _line,
            "cursor",
            {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
            "Everything behind this place of the event log: the `cursor` of an event.",
        ),
        Field(
            "since",
            _time,
            "since",
            {"type": "string", "format": "date-time"},
            "Everything since then, an RFC 3339 time.",
        ),
        Field("dead", wishes.flag, "dead", {"type": "boolean"}, "`true`: what was given up after its last retry."),
    ),
    {},
)
ROTATION: Final = Table.of(
    (
        Field(
            "overlap",
            _duration,
            "overlap_s",
            {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,3})?(ms|s|m|h|d)$", "examples": ["24h", "0s"]},
            "So long requests are signed with the old secret, too; 24h where nothing is said, 30d at most.",
        ),
        _SECRET,
    ),
    {},
)


async def create(service: Service, call: Call) -> Answer:
    """POST. Raises Refused, HttpError, StoreError."""
    account = _account(service, call)
    values = await _read(service, call, CREATION)
    return envelope.success(await service.door.webhooks.add(account, WebhookWish(**values)), call.id, status=201)


async def listing(service: Service, call: Call) -> Answer:
    """GET. Raises Refused, StoreError."""
    account = _account(service, call)
    return envelope.success({"webhooks": await service.door.webhooks.listing(account)}, call.id)


async def show(service: Service, call: Call) -> Answer:
    """GET of one. Raises Refused, StoreError."""
    account = _account(service, call)
    return envelope.success(await service.door.webhooks.show(account, call.argument), call.id)


async def change(service: Service, call: Call) -> Answer:
    """PATCH. Raises Refused, HttpError, StoreError."""
    account = _account(service, call)
    wish = WebhookWish(**await _read(service, call, CHANGE, cleared=_FILTERS))
    return envelope.success(await service.door.webhooks.change(account, call.argument, wish), call.id)


async def replay(service: Service, call: Call) -> Answer:
    """POST …/replay. Raises Refused, HttpError, StoreError."""
    account = _account(service, call)
    start = From(**await _read(service, call, START))
    return envelope.success(await service.door.webhooks.replay(account, call.argument, start), call.id)


async def rotate(service: Service, call: Call) -> Answer:
    """POST …/rotate. Raises Refused, HttpError, StoreError."""
    account = _account(service, call)
    values = await _read(service, call, ROTATION)
    secret, overlap_s = values.get("secret"), values.get("overlap_s")
    return envelope.success(await service.door.webhooks.rotate(account, call.argument, secret, overlap_s), call.id)


async def attempts(service: Service, call: Call) -> Answer:
    """GET …/attempts. Raises Refused, StoreError."""
    account = _account(service, call)
    return envelope.success({"attempts": await service.door.webhooks.attempts(account, call.argument)}, call.id)


async def dead(service: Service, call: Call) -> Answer:
    """GET …/dead. Raises Refused, StoreError."""
    account = _account(service, call)
    return envelope.success({"dead": await service.door.webhooks.dead(account, call.argument)}, call.id)


def _verb(act: Callable[[WebhookManager], Callable[[str, str], Awaitable[dict[str, Any]]]]) -> Serve:
    """An operation without a body."""

    async def serve(service: Service, call: Call) -> Answer:
        account = _account(service, call)
        return envelope.success(await act(service.door.webhooks)(account, call.argument), call.id)

    return serve


OPERATIONS: Final = (
    Operation("POST", PATH, create),
    Operation("GET", PATH, listing),
    Operation("GET", ONE, show),
    Operation("PATCH", ONE, change),
    Operation("DELETE", ONE, _verb(lambda webhooks: webhooks.remove)),
    Operation("POST", f"{ONE}/test", _verb(lambda webhooks: webhooks.test)),
    Operation("POST", f"{ONE}/pause", _verb(lambda webhooks: webhooks.pause)),
    Operation("POST", f"{ONE}/resume", _verb(lambda webhooks: webhooks.resume)),
    Operation("POST", f"{ONE}/replay", replay),
    Operation("POST", f"{ONE}/rotate", rotate),
    Operation("GET", f"{ONE}/attempts", attempts),
    Operation("GET", f"{ONE}/dead", dead),
)


def parse(document: Document, table: Table, cleared: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """What a request says, by attribute; an empty list of those `cleared` is one. Raises Refused."""
    problems = Problems()
    given = table.given(document, problems)
    values = {one.field.attribute: one.read(problems, _NO_LIMITS) for one in given.values()}
    problems.refuse()
    return values | {name: () for name in cleared if document.get(name) == []}


def _account(service: Service, call: Call) -> str:
    account = service.principal(call, call.bearer(), "manage").account
    Query(call.query, ()).end()
    return account


async def _read(service: Service, call: Call, table: Table, cleared: tuple[str, ...] = ()) -> Mapping[str, Any]:
    async with service.body(call, max_bytes=MAX_BYTES) as body:
        return await body.decode(lambda document: parse(document, table, cleared))
