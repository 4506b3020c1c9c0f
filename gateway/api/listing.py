"""Lists of the native API: pages with a cursor to the next.

Guarantees: `has_more` false means that there is nothing else now; the Link field leads to the next page of the same
question (RFC 8288, 3), on the path that was asked.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from gateway.api.door import Call
from gateway.api.envelope import Answer, Headers


def page(data: Sequence[Any], call: Call, *, next_cursor: str | None, has_more: bool) -> Answer:
    """`{"ok": true, "data": […], "has_more", "next_cursor", "meta"}`."""
    body = {
        "ok": True,
        "data": data,
        "has_more": has_more,
        "next_cursor": next_cursor,
        "meta": {"request_id": call.id},
    }
    headers: Headers = (("Link", _next(call, next_cursor)),) if has_more and next_cursor is not None else ()
    return Answer(200, msgspec.json.encode(body), headers)


def _next(call: Call, cursor: str) -> str:
    """Relative: what this gateway is called outside is not known here."""
    kept = [(name, value) for name, value in parse_qsl(call.query) if name != "after"]
    path = quote(call.request.path, safe="/")
    return f'<{path}?{urlencode([*kept, ("after", cursor)])}>; rel="next"'
