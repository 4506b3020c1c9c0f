"""The error codes of the native API: what each means, for its documentation.

Guarantees: every code that an answer can have is here, with the status it comes with.
"""

from typing import Final

from gateway.api.envelope import Fault
from gateway.errors import Reason

MEANINGS: Final[dict[str, str]] = {
    "invalid_json": "The body is not JSON, or not strict JSON: a name twice, NaN, half a character. The message says"
    " where.",
    "invalid_parameter": "A field has the wrong type or form, or is not known; or the request is not valid HTTP.",
    "missing_parameter": "A field that is required is not there; null, an empty text and an empty list count as not"
    " there.",
    "authentication_required": "The key is missing, unknown, expired or revoked: one answer for all of them.",
    "insufficient_permissions": "The key lacks the scope that the operation needs.",
    "sender_not_allowed": "The key may not send from this address, or the domain belongs to another account.",
    "not_found": "There is nothing at this path or with this id; also what belongs to another account.",
    "method_not_allowed": "The path is served, but not by this method; the header Allow has those that are.",
    "request_timeout": "The body came too slowly.",
    "conflict": "It is there already, or cannot be changed here.",
    "idempotency_conflict": "The idempotency key was used for another message within 24 hours.",
    "payload_too_large": "The body, or the message made of it, is larger than the gateway takes.",
    "unsupported_media_type": "Content-Type must be application/json in UTF-8, without Content-Encoding.",
    "validation_error": "A field has the right type and a value that cannot be used: no address, a control character,"
    " too many, too long.",
    "recipient_suppressed": "No recipient may be sent to: each has bounced, complained, unsubscribed, or was suppressed"
    " by an operator.",
    "not_supported": "A field that is known and not served by this version, or not in a request.",
    "template_error": "A template is unknown or malformed, or a name in it has no value.",
    "rate_limit_exceeded": "The key has used up one of its limits, or too many wrong keys came from this address;"
    " Retry-After says when there is room again.",
    "internal_error": "The gateway failed. Nothing was queued.",
    "no_active_providers": "The key's route cannot take mail now.",
    "backlog_full": "The gateway has no room for more mail now.",
    "storage_unavailable": "The store is away, or the gateway is shutting down.",
}
STATUSES: Final[dict[str, int]] = {
    **{reason.code: reason.answer.http for reason in Reason},
    **{code: status for status, code in (fault.value for fault in Fault)},
}


def of(status: int) -> list[str]:
    """The error codes that come with a status."""
    return [code for code in MEANINGS if STATUSES[code] == status]
