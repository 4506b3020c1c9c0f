"""What every answer of the native API looks like: the success and the failure envelope, as bytes.

Guarantees: one shape for everything, framework errors too; every problem of a request is in `errors`; a
refusal of authentication never says why; the text of an unknown exception is never shown. Dialects have
envelopes of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from gateway.errors import GatewayError, Problem, Reason, Refused

RETRY_AFTER_S: Final = 30  # where a refusal names no time of its own
_AUTHENTICATION_TEXT: Final = "The key is missing, unknown, expired or revoked: send Authorization: Bearer <key>."
_RETRYABLE: Final = frozenset((408, 429, 500, 503))

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer but for what every answer has. `close` ends the connection after it."""

    status: int
    body: bytes
    headers: Headers = ()
    close: bool = False


class Fault(Enum):
    """What goes wrong with HTTP itself: (status, code)."""

    BAD_REQUEST = (400, "invalid_parameter")
    METHOD_NOT_ALLOWED = (405, "method_not_allowed")
    REQUEST_TIMEOUT = (408, "request_timeout")
    UNSUPPORTED_MEDIA_TYPE = (415, "unsupported_media_type")
    INTERNAL_ERROR = (500, "internal_error")


class HttpError(GatewayError):
    """A request that is wrong as HTTP; only this door knows of it. `text` is public."""

    def __init__(self, fault: Fault, text: str, *, headers: Headers = (), close: bool = False) -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text
        self.headers = headers
        self.close = close


def success(data: Any, request_id: str, *, status: int = 200, headers: Headers = ()) -> Answer:
    """`{"ok": true, "data": …, "meta": {"request_id": …}}`."""
    body = msgspec.json.encode({"ok": True, "data": data, "meta": {"request_id": request_id}})
    return Answer(status, body, headers)


def refusal(refused: Refused, request_id: str) -> Answer:
    """The answer to a refusal, with Retry-After or WWW-Authenticate where they belong."""
    reason = refused.reason
    status = reason.answer.http
    if reason is Reason.AUTHENTICATION_REQUIRED:  # one answer for every cause: nothing can be learnt from it
        body = _failure(status, reason.code, _AUTHENTICATION_TEXT, request_id)
        return Answer(status, body, (("WWW-Authenticate", "Bearer"),))
    body = _failure(status, reason.code, refused.text, request_id, param=refused.param, problems=refused.problems)
    headers: Headers = ()
    if status == 503 or refused.retry_after_s is not None:
        headers = (("Retry-After", str(refused.retry_after_s or RETRY_AFTER_S)),)
    too_large = reason is Reason.PAYLOAD_TOO_LARGE
    return Answer(status, body, headers, close=too_large or reason is Reason.SHUTTING_DOWN)


def http_error(error: HttpError, request_id: str) -> Answer:
    """The answer to a request that is wrong as HTTP."""
    status, code = error.fault.value
    body = _failure(status, code, error.text, request_id)
    return Answer(status, body, error.headers, close=error.close)


def _failure(
    status: int,
    code: str,
    text: str,
    request_id: str,
    *,
    param: str | None = None,
    problems: Sequence[Problem] = (),
) -> bytes:
    errors = [_error(problem.code, str(problem), problem.path) for problem in problems]
    error = {
        "code": code,
        "message": text,
        "param": param,
        "retryable": status in _RETRYABLE,
        "doc_url": None,  # no page to point at before the docs are served
        "errors": errors or [_error(code, text, param)],
    }
    return msgspec.json.encode({"ok": False, "error": error, "meta": {"request_id": request_id}})


def _error(code: str, text: str, param: str | None) -> dict[str, str | None]:
    return {"code": code, "message": text, "param": param, "field": param}  # clients of Sendmux read `field`
