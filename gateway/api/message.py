"""A message as the native API takes it: the table of its fields, and from a request to a Submission.

Guarantees: pure; every problem of a request is reported at once, each with its field; null, "" and [] are absent; a
field of a later version is refused as `not_supported`, an unknown one with the nearest known name. It checks form only:
whether the key may send it is intake's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.api import attachment, fields, schema, timing, variables, wishes
from gateway.api.bounds import Bounds
from gateway.api.fields import Problems
from gateway.api.table import Field, Given, Table
from gateway.config import Limits
from gateway.message import labels
from gateway.message.model import Submission
from gateway.message.schedule import Start

__all__ = ["TABLE", "Bounds", "Request", "parse", "parse_request"]

_LATER: Final = "is not available in this version"
_BODIES: Final = ("html_body", "text_body", "attachments", "template")  # one of them makes a message
_RECIPIENTS: Final = "recipients_per_message"  # the limit

TABLE: Final = Table.of(
    (
        Field("from", fields.mailbox, "sender", schema.ONE, "Author; may be absent where the key has a default."),
        Field(
            "to",
            fields.mailboxes,
            "to",
            schema.SEVERAL,
            "Recipients, one or a list; an address that stands twice is one recipient.",
            required=True,
            limit=_RECIPIENTS,
        ),
        Field("cc", fields.mailboxes, "cc", schema.SEVERAL, "Recipients of a copy.", limit=_RECIPIENTS),
        Field("bcc", fields.mailboxes, "bcc", schema.SEVERAL, "Recipients whom no other one sees.", limit=_RECIPIENTS),
        Field("reply_to", fields.mailboxes, "reply_to", schema.SEVERAL, "Where replies go.", limit=_RECIPIENTS),
        Field("subject", fields.line, "subject", schema.LINE, "One line, without control characters."),
        Field("html_body", fields.body, "html", schema.BODY, "The message as HTML.", aliases=("html",)),
        Field(
            "text_body",
            fields.body,
            "text",
            schema.BODY,
            "The message as plain text; derived from the HTML where it is absent.",
            aliases=("text",),
        ),
        Field(
            "attachments",
            attachment.read_all,
            "attachments",
            schema.ATTACHMENTS,
            "Files, and the images that the HTML shows.",
            limit="attachments",
        ),
        Field(
            "headers",
            fields.header_fields,
            "headers",
            schema.HEADERS,
            "More header fields and their values; not those that the gateway writes itself.",
            aliases=("custom_headers",),
        ),
        Field("tags", fields.tags, "tags", schema.TAGS, "Words to find the message by."),
        Field(
            "metadata",
            fields.metadata,
            "metadata",
            schema.METADATA,
            f"Values of your own, told with the message's status; at most {labels.MAX_METADATA_BYTES} bytes of JSON.",
            aliases=("custom_args",),
        ),
        Field(
            "return_path",
            fields.path_address,
            "return_path",
            schema.ADDRESS,
            "Envelope sender, where bounces go; else the address of `from`.",
        ),
        Field(
            "template",
            fields.reference,
            "template",
            schema.REFERENCE,
            "Id or alias of a stored template, which gives the bodies, and the subject where the request has none.",
        ),
        Field(
            "variables",
            variables.read,
            "variables",
            schema.VARIABLES,
            "What `{{name}}` stands for in subject and bodies; nothing is substituted unless this field or `template`"
            f" is given; null is a missing value; at most {variables.MAX_DEPTH} levels and"
            f" {variables.MAX_BYTES // 1024} KB of JSON.",
        ),
        Field(
            "send_at",
            timing.send_at,
            "start",
            schema.SEND_AT,
            "When to send: an RFC 3339 time with its offset, or `in 10m`; within a year; what is past means now.",
        ),
        Field(
            "ttl",
            timing.ttl,
            "ttl_s",
            schema.TTL,
            "How long delivery is tried: a duration such as `4h`, or whole seconds; 1 s to 30 days.",
        ),
        Field(
            "priority",
            wishes.priority,
            "priority",
            schema.PRIORITY,
            "How soon it goes when much is waiting: `high`, `normal` or `low`.",
        ),
        Field(
            "dsn",
            wishes.dsn,
            "notify",
            schema.DSN,
            "Which notifications are mailed to the envelope sender: one or a list; else as the key has it. Events and"
            " status tell the same.",
        ),
        Field(
            "require_tls",
            wishes.flag,
            "require_tls",
            schema.REQUIRE_TLS,
            "Send it over verified TLS only, and to hosts that promise the same (REQUIRETLS, RFC 8689), or not at all.",
        ),
        Field(
            "track",
            wishes.track,
            "track",
            schema.TRACK,
            "Whether openings and clicks are told: an object of `opens`, `clicks` (links of the HTML) and `text` (those"
            " of the plain text, too); `true` is the first two; else as the key has it. Needs `http.public_url`.",
        ),
        Field(
            "unsubscribe",
            wishes.unsubscribe,
            "unsubscribe",
            schema.UNSUBSCRIBE,
            "Offers recipients to unsubscribe by one click (RFC 8058): `true` from all mail of the account, a tag from"
            " mail with that tag, which this message gets. Needs `http.public_url`.",
        ),
        Field(
            "wait",
            timing.wait,
            "wait_s",
            schema.WAIT,
            "How long the answer may wait for the final result: a duration such as `10s`, or seconds; at most"
            f" {timing.MAX_WAIT_S} s. Not in a batch.",
        ),
        Field(
            "idempotency_key",
            fields.request_key,
            "idempotency_key",
            schema.REQUEST_KEY,
            "As the header Idempotency-Key, for a message of a batch and for older clients.",
        ),
    ),
    refused={
        "recipient_variables": _LATER,
        "delivery_group": "cannot be chosen in a request: the key decides the route",
    },
)
_ABSENT: Final[Mapping[str, Any]] = {
    "sender": None,
    "to": (),
    "cc": (),
    "bcc": (),
    "reply_to": (),
    "subject": "",
    "html": None,
    "text": None,
    "attachments": (),
    "headers": (),
    "tags": (),
    "metadata": "{}",
    "return_path": None,
    "unsubscribe": "",
    "start": Start(),
    "wait_s": None,
    "idempotency_key": None,
}


@dataclass(frozen=True, slots=True)
class Request:
    """A message, and what is asked of this request: how long the answer may wait, and the client's own name for it."""

    submission: Submission
    wait_s: float | None
    idempotency_key: str | None


def parse(document: Mapping[str, Any], limits: Limits, *, from_required: bool = False) -> Submission:
    """The message alone. Raises Refused with every problem."""
    return parse_request(document, limits, from_required=from_required).submission


def parse_request(
    document: Mapping[str, Any], limits: Limits, *, from_required: bool, bounds: Bounds | None = None
) -> Request:
    """What the request asks for. Raises Refused with every problem.

    `from_required`: the key has no `default_from`. `bounds`: a vendor's own, beside ours.
    """
    problems = Problems()
    given = TABLE.given(document, problems)
    values = dict(_ABSENT)
    for one in given.values():
        values[one.field.attribute] = one.read(problems, limits)
    _require(given, problems, from_required=from_required)
    _check_recipients(values, problems, limits.recipients_per_message)
    if bounds is not None:
        bounds.check(given, values, problems)
    problems.refuse()
    values["tags"] = labels.with_offered(values["tags"], values["unsubscribe"])
    start: Start = values.pop("start")
    wait_s, key = values.pop("wait_s"), values.pop("idempotency_key")
    return Request(Submission(**values, send_at=start.at, delay_s=start.delay_s), wait_s, key)


def _require(given: Mapping[str, Given], problems: Problems, *, from_required: bool) -> None:
    if from_required and "from" not in given:
        problems.add("from", "is required (this key has no default_from)", "missing_parameter")
    if given.keys().isdisjoint(_BODIES):
        text = "is required unless html_body, attachments or template is given"
        problems.add("text_body", text, "missing_parameter")


def _check_recipients(values: Mapping[str, Any], problems: Problems, limit: int) -> None:
    listed = (*values["to"], *values["cc"], *values["bcc"])
    if len(listed) <= limit:
        return
    count = len({mailbox.address for mailbox in listed})
    if count > limit:
        problems.add("to", f"{count} recipients in to, cc and bcc; at most {limit} a message", "validation_error")
