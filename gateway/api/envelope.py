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

DOCS: Final = "/api/v1/docs"  # of this server, whatever its public name is
RETRY_AFTER_S: Final = 30  # where a refusal names no time of its own
SHUTTING_DOWN: Final = "The gateway is shutting down."
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
    content_type: str = "application/json"  # without charset: clients compare the whole field


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
    body = _failure(error_of(refused), request_id)
    too_large = reason is Reason.PAYLOAD_TOO_LARGE
    return Answer(reason.answer.http, body, refusal_headers(refused), close=too_large or reason is Reason.SHUTTING_DOWN)


def refusal_headers(refused: Refused) -> Headers:
    """The fields that say when to come again, or how to say who one is."""
    if refused.reason is Reason.AUTHENTICATION_REQUIRED:
        return (("WWW-Authenticate", "Bearer"),)
    if refused.reason.answer.http == 503 or refused.retry_after_s is not None:
        return (("Retry-After", str(refused.retry_after_s or RETRY_AFTER_S)),)
    return ()


def http_error(error: HttpError, request_id: str) -> Answer:
    """The answer to a request that is wrong as HTTP."""
    status, code = error.fault.value
    return Answer(status, _failure(_error(status, code, error.text), request_id), error.headers, close=error.close)


def error_of(refused: Refused) -> dict[str, Any]:
    """A refusal as the member `error` of an answer, or of an item of a batch."""
    reason = refused.reason
    if reason is Reason.AUTHENTICATION_REQUIRED:  # one answer for every cause: nothing can be learnt from it
        return _error(reason.answer.http, reason.code, _AUTHENTICATION_TEXT)
    return _error(reason.answer.http, reason.code, refused.text, param=refused.param, problems=refused.problems)


def _error(
    status: int, code: str, text: str, *, param: str | None = None, problems: Sequence[Problem] = ()
) -> dict[str, Any]:
    errors = [_part(problem.code, str(problem), problem.path) for problem in problems]
    return {
        "code": code,
        "message": text,
        "param": param,
        "retryable": status in _RETRYABLE,
        "doc_url": f"{DOCS}#error-{code}",
        "errors": errors or ([_part(code, text, param)] if param is not None else []),
    }


def _part(code: str, text: str, param: str) -> dict[str, str]:
    return {"code": code, "message": text, "param": param, "field": param}  # clients of Sendmux read `field`


def _failure(error: dict[str, Any], request_id: str) -> bytes:
    return msgspec.json.encode({"ok": False, "error": error, "meta": {"request_id": request_id}})
