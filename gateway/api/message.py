"""A message as the native API takes it: the fields of the request to a Submission.

Guarantees: pure; every problem of a request is reported at once, each with its field; null, "" and [] are
absent; a field of a later version is refused as `not_supported`, an unknown one with the nearest known
name. It checks form only: whether the key may send it is intake's business.
"""

import difflib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from gateway.api import attachment, fields
from gateway.api.fields import Problems, kind
from gateway.config import Limits
from gateway.message import header
from gateway.message.header import HeaderError
from gateway.message.model import Attachment, Mailbox, Submission

MAX_HEADERS: Final = 100
_MAX_SUGGESTIONS: Final = 10  # looking for the nearest name costs 0.1 ms each

ALIASES: Final = {
    "html": "html_body",
    "text": "text_body",
    "custom_headers": "headers",
    "custom_args": "metadata",
}
_NAMES: Final = (
    "from",
    "to",
    "cc",
    "bcc",
    "reply_to",
    "subject",
    "html_body",
    "text_body",
    "attachments",
    "headers",
    "tags",
    "metadata",
    "return_path",
)
FIELDS: Final = {**{name: name for name in _NAMES}, **ALIASES}
LATER_FIELDS: Final = frozenset(
    (
        "variables",
        "recipient_variables",
        "template",
        "send_at",
        "ttl",
        "priority",
        "track",
        "unsubscribe",
        "wait",
        "dsn",
        "require_tls",
        "delivery_group",
    )
)
Value = TypeVar("Value")


def parse(document: dict[str, Any], limits: Limits, *, from_required: bool = False) -> Submission:
    """What the request asks for. Raises Refused with every problem.

    `from_required`: the key has no `default_from`.
    """
    problems = Problems()
    given = _fields(document, problems)
    reader = _Reader(given, problems, limits.recipients_per_message)
    sender = reader.read("from", fields.mailbox, None)
    to = reader.mailboxes("to")
    submission = Submission(
        sender=sender,
        to=to,
        cc=reader.mailboxes("cc"),
        bcc=reader.mailboxes("bcc"),
        reply_to=reader.mailboxes("reply_to"),
        subject=reader.read("subject", fields.line, None) or "",
        html=reader.read("html_body", fields.body, None),
        text=reader.read("text_body", fields.body, None),
        attachments=reader.attachments(limits.attachments),
        headers=reader.read("headers", _headers, ()),
        tags=reader.read("tags", fields.tags, ()),
        metadata=reader.read("metadata", fields.metadata, "{}"),
        return_path=reader.read("return_path", fields.path_address, None),
    )
    _require(given, problems, from_required=from_required)
    _check_recipients(submission, problems, limits.recipients_per_message)
    problems.refuse()
    return submission


class _Reader:
    """Reads the given fields by their canonical names, reporting under the names the client used."""

    __slots__ = ("_given", "_limit", "_problems")

    def __init__(self, given: dict[str, tuple[str, Any]], problems: Problems, limit: int) -> None:
        self._given = given
        self._problems = problems
        self._limit = limit

    def read(self, name: str, reader: Callable[[Any, str, Problems], Value], absent: Value) -> Value:
        found = self._given.get(name)
        return absent if found is None else reader(found[1], found[0], self._problems)

    def mailboxes(self, name: str) -> tuple[Mailbox, ...]:
        found = self._given.get(name)
        if found is None:
            return ()
        return fields.mailboxes(found[1], found[0], self._problems, limit=self._limit)

    def attachments(self, limit: int) -> tuple[Attachment, ...]:
        found = self._given.get("attachments")
        if found is None:
            return ()
        return attachment.read_all(found[1], found[0], self._problems, limit=limit)


def _fields(document: dict[str, Any], problems: Problems) -> dict[str, tuple[str, Any]]:
    """The fields given, by canonical name: (the name the client used, the value)."""
    given: dict[str, tuple[str, Any]] = {}
    suggestions = 0
    for name, value in document.items():
        known = FIELDS.get(name)
        if known is None:
            if problems.full:
                break
            suggestions += 1
            _unknown(name, value, problems, suggest=suggestions <= _MAX_SUGGESTIONS)
        elif fields.absent(value):
            continue
        elif known in given:
            problems.add(name, f"means the same as {given[known][0]}: give one of them")
        else:
            given[known] = (name, value)
    return given


def _unknown(name: str, value: Any, problems: Problems, *, suggest: bool) -> None:
    if name in LATER_FIELDS:
        if not fields.absent(value):
            problems.add(name, "is not available in this version", "not_supported")
        return
    near = difflib.get_close_matches(name[:40], (*FIELDS, *LATER_FIELDS), n=1) if suggest else []
    hint = f"; did you mean {near[0]}?" if near else ""
    problems.add(fields.shown(name), f"is not a known field{hint}")


def _require(given: dict[str, tuple[str, Any]], problems: Problems, *, from_required: bool) -> None:
    if from_required and "from" not in given:
        problems.add("from", "is required (this key has no default_from)", "missing_parameter")
    if "to" not in given:
        problems.add("to", "is required", "missing_parameter")
    if not given.keys() & {"html_body", "text_body", "attachments"}:
        problems.add("text_body", "is required unless html_body or attachments is given", "missing_parameter")


def _check_recipients(submission: Submission, problems: Problems, limit: int) -> None:
    listed = (*submission.to, *submission.cc, *submission.bcc)
    if len(listed) <= limit:
        return
    count = len({mailbox.address for mailbox in listed})
    if count > limit:
        problems.add("to", f"{count} recipients in to, cc and bcc; at most {limit} a message", "validation_error")


def _headers(value: Any, path: str, problems: Problems) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        problems.add(path, f"must be an object of names and strings, got {kind(value)}")
        return ()
    if len(value) > MAX_HEADERS:
        problems.add(path, f"has {len(value)} entries; at most {MAX_HEADERS} are taken", "validation_error")
        return ()
    found: dict[str, tuple[str, str]] = {}
    for name, item in value.items():
        where = f"{path}.{fields.shown(name)}"
        text = fields.line(item, where, problems)
        if text is None:
            continue
        if name.lower() in found:
            problems.add(where, "is given twice", "validation_error")
            continue
        try:
            # The composer's own rules, asked now so that all problems come at once.
            header.client_fields(((name, text),))
        except HeaderError as error:
            problems.add(where, error.text, "validation_error")
        found[name.lower()] = (name, text)
    return tuple(found.values())
