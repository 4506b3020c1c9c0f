"""What APIs without an error list say of a failure: one status, one text.

Guarantees: never 422, which their documents do not have: what is wrong with a request is 400; all problems of a
request are in the one text; a refusal of authentication is one answer for every cause. The shape is the dialect's.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.api.envelope import RETRY_AFTER_S, Answer, Headers, HttpError
from gateway.errors import Reason, Refused
from gateway.policy.limits import Allowance

MAX_TOLD: Final = 10  # problems in one text

Shape = Callable[[str, str], Any]  # of a failure's code and text


def refusal(refused: Refused, shape: Shape, *, unauthenticated: str, challenge: Headers = ()) -> Answer:
    """The answer to a refusal. `unauthenticated` is the text of a 401, `challenge` its WWW-Authenticate."""
    reason = refused.reason
    status = 400 if reason.answer.http == 422 else reason.answer.http
    if reason is Reason.AUTHENTICATION_REQUIRED:
        return Answer(status, msgspec.json.encode(shape(reason.code, unauthenticated)), challenge)
    body = msgspec.json.encode(shape(reason.code, told(refused)))
    closes = reason in (Reason.PAYLOAD_TOO_LARGE, Reason.SHUTTING_DOWN)
    return Answer(status, body, retry_after(status, refused.retry_after_s), close=closes)


def http_error(error: HttpError, shape: Shape) -> Answer:
    """The answer to a request that is wrong as HTTP."""
    status, code = error.fault.value
    body = msgspec.json.encode(shape(code, error.text))
    return Answer(status, body, (*error.headers, *retry_after(status, None)), close=error.close)


def told(refused: Refused) -> str:
    """Everything that is wrong, in one line."""
    if not refused.problems:
        return refused.text
    more = len(refused.problems) - MAX_TOLD
    return "; ".join(map(str, refused.problems[:MAX_TOLD])) + (f"; and {more} more" if more > 0 else "")


def retry_after(status: int, seconds: int | None) -> Headers:
    """Retry-After where another try may do better; a failure that names no time of its own has the usual one."""
    if seconds is None and status not in (500, 503):
        return ()
    return (("Retry-After", str(seconds if seconds is not None else RETRY_AFTER_S)),)


def limit_headers(allowances: tuple[Allowance, ...]) -> Headers:
    """The three fields of draft-ietf-httpapi-ratelimit-headers-06, for the limit that is nearest to its end."""
    if not allowances:
        return ()
    nearest = min(allowances, key=lambda one: one.remaining / one.burst)
    return (
        ("ratelimit-limit", str(nearest.count)),
        ("ratelimit-remaining", str(nearest.remaining)),
        ("ratelimit-reset", str(nearest.reset_s)),
    )
