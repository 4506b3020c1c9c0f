"""What the tests of the small dialects share: requests, refusals of the door, and the tables of their documents."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.api.dialects import fieldtable
from gateway.api.dialects.fieldtable import Field
from gateway.errors import Reason, Refused, StoreError, StoreFull
from tests.api.conftest import Api, Client, Reply

DOCS: Final = Path(__file__).parents[3] / "docs" / "dialects"
CONTROLS: Final = ("\r", "\n", "\r\nBcc: eve@example.net", "\x00", "\x85", "\u2028", "\u2029")
ABSENT: Final[tuple[Any, ...]] = (None, "", [])

# What the door may raise, and what every one of these APIs makes of it: status, Retry-After.
ERRORS: Final[list[tuple[Exception, int, str | None]]] = [
    (Refused(Reason.SENDER_NOT_ALLOWED, "from: not you", param="from"), 403, None),
    (Refused(Reason.PAYLOAD_TOO_LARGE, "large"), 413, None),
    (Refused(Reason.VALIDATION_ERROR, "odd"), 400, None),
    (Refused(Reason.MALFORMED_MESSAGE, "odd"), 400, None),
    (Refused(Reason.TOO_MANY_RECIPIENTS, "many"), 400, None),
    (Refused(Reason.NOT_SUPPORTED, "later"), 400, None),
    (Refused(Reason.RATE_LIMITED, "slowly", retry_after_s=7), 429, "7"),
    (Refused(Reason.NO_ROUTE, "none", retry_after_s=60), 503, "60"),
    (Refused(Reason.BACKLOG_FULL, "full"), 503, "30"),
    (StoreFull("disk /var full"), 503, "30"),
    (StoreError("/var/lib is away"), 503, "30"),
    (RuntimeError("secret detail"), 500, "30"),
]
each_error = pytest.mark.parametrize(("error", "status", "retry_after"), ERRORS, ids=range(len(ERRORS)))


async def post(api: Api, path: str, document: Any, *, key: str | None = None, **headers: str) -> Reply:
    """A request with JSON; `document` in bytes goes as it is."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers.setdefault("Content_Type", "application/json")
    return await api.call("POST", path, body, key=key, **headers)


async def declare(api: Api, path: str, size: int, headers: dict[str, str]) -> Reply:
    """A request that only says how large it would be."""
    client = await Client.connect(api.server)
    try:
        client.write("POST", path, b"", {**headers, "Content-Length": str(size)})
        return await client.read()
    finally:
        await client.close()


def rows(name: str, heading: str) -> list[list[str]]:
    """The rows of the table of docs/dialects that begins with this heading, their cells without backticks."""
    text = (DOCS / f"{name}.md").read_text()
    found = re.search(rf"^{re.escape(heading)}\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found is not None
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def check_table(name: str, table: Iterable[Field]) -> None:
    """Fail unless the document and the decoder have the same fields, and agree on which are supported and required."""
    documented = {row[0]: row for row in rows(name, "| field | type | supported | what happens |")}
    decoded = {field.name: field for field in table}
    assert documented.keys() == decoded.keys()
    for field in decoded.values():
        _, _, supported, what = documented[field.name]
        assert (supported == "no") is (field.read is fieldtable.unsupported), field.name
        assert what.startswith("required") is field.required, field.name
