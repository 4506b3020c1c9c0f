"""errors.md: every reason to refuse, with its words on both doors."""

from typing import Final

from docs.generate import markdown
from gateway.api import codes
from gateway.api.envelope import Fault
from gateway.errors import Reason

_MEANINGS: Final = {
    Reason.INVALID_JSON: "the body is no strict JSON",
    Reason.INVALID_PARAMETER: "a field has the wrong form or is not known",
    Reason.MISSING_PARAMETER: "a field that is required is absent",
    Reason.AUTHENTICATION_REQUIRED: "the key is missing, unknown, expired, revoked or used from the wrong address",
    Reason.INSUFFICIENT_PERMISSIONS: "the key lacks the scope",
    Reason.SENDER_NOT_ALLOWED: "the key may not send from this address",
    Reason.NOT_FOUND: "nothing is there, or it is another account's",
    Reason.CONFLICT: "it is there already, or cannot be changed now",
    Reason.IDEMPOTENCY_CONFLICT: "the idempotency key was used for another message",
    Reason.PAYLOAD_TOO_LARGE: "larger than `max_message`",
    Reason.MALFORMED_MESSAGE: "bare CR, LF or NUL, a long line that cannot be mended, two From fields",
    Reason.VALIDATION_ERROR: "the right form, and a value that cannot be used",
    Reason.NOT_SUPPORTED: "known, and not served by this version",
    Reason.RECIPIENT_SUPPRESSED: "the recipient, or every recipient of a message by HTTP, is suppressed",
    Reason.TEMPLATE_ERROR: "a template is unknown or malformed, or a name in it has no value",
    Reason.LOOP: "more Received fields than `delivery.max_hops`",
    Reason.TOO_MANY_RECIPIENTS: "more than `limits.recipients_per_message`",
    Reason.THROTTLED: "too many wrong keys from this address or with this user name (`limits.auth_failures`)",
    Reason.UNQUALIFIED: "an address without a domain that the key could add",
    Reason.RATE_LIMITED: "a limit of the key is reached",
    Reason.NO_ROUTE: "the key's route cannot take mail",
    Reason.BACKLOG_FULL: "no room: `limits.backlog`, `limits.free_disk`, `limits.buffers` or the disk itself",
    Reason.STORAGE_UNAVAILABLE: "the store cannot be written now",
    Reason.SHUTTING_DOWN: "the daemon is about to stop",
}


def page() -> str:
    """The page."""
    rows = [
        (
            reason.name.lower(),
            _MEANINGS[reason],
            str(reason.answer.http),
            markdown.code(reason.code),
            f"{reason.answer.smtp} {reason.answer.enhanced}",
        )
        for reason in Reason
    ]
    http = sorted((status, code) for code, status in codes.STATUSES.items())
    alone = {code for _, code in (fault.value for fault in Fault)} - {reason.code for reason in Reason}
    return markdown.page(
        "Errors",
        "One reason, two doors. A reply of 4xx and a status of 429, 500 or 503 mean: try the same again later. The"
        " enhanced code is RFC 3463's.",
        markdown.table(("reason", "because", "HTTP", "code", "SMTP"), rows),
        "What the SMTP listener says of commands and sessions by itself: [smtp.md](../smtp.md).",
        "## Codes of the HTTP API",
        "What is marked is said by HTTP alone.",
        markdown.table(
            ("HTTP", "code", "means"),
            [
                (str(status), markdown.code(code) + (" *" if code in alone else ""), codes.MEANINGS[code])
                for status, code in http
            ],
        ),
    )
