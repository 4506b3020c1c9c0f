"""The client's own name for a request, and the fingerprint of what it asked for.

Guarantees: two requests have one fingerprint where they ask for the same, however they are written: absent fields,
aliases, spaces and the order of names do not count.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.errors import Reason, Refused
from gateway.message.model import Submission

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = (("Idempotent-Replayed", "true"),)
_KEY: Final = re.compile(r"[ -~]{1,255}")


def key(request: web.BaseRequest) -> str | None:
    """The header's text, bare or quoted (a Structured Field string). Raises Refused."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    text = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if _KEY.fullmatch(text) is None:
        problem = f"{HEADER}: must be 1 to 255 printable ASCII characters."
        raise Refused(Reason.INVALID_PARAMETER, problem, param=HEADER)
    return text


def fingerprint(submission: Submission) -> bytes:
    """SHA-256 of what is asked for."""
    asked: dict[str, Any] = msgspec.to_builtins(replace(submission, attachments=()))
    # A `track` of 0 is not the key's default.
    said = {name: value for name, value in asked.items() if value or (name == "track" and value is not None)}
    hasher = hashlib.sha256(msgspec.json.encode(said))
    for item in submission.attachments:
        head = (item.filename, item.content_type, item.content_id, item.disposition, len(item.content))
        hasher.update(msgspec.json.encode(head))
        hasher.update(item.content)
    return hasher.digest()


def fingerprint_all(items: Iterable[Submission | Refused]) -> bytes:
    """SHA-256 of a request for several: of each in turn, a refused one by why it was refused."""
    hasher = hashlib.sha256()
    for item in items:
        hasher.update(item.text.encode() if isinstance(item, Refused) else fingerprint(item))
        hasher.update(b"\n")
    return hasher.digest()
