"""Where the body of a request is read: in the loop, or in a thread."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.api.document import LARGE_BYTES
from gateway.api.service import Body


@pytest.mark.parametrize(
    ("given", "apart"),
    [
        ({"to": ["a@example.test"] * 50}, False),
        ({"to": ["a@example.test"] * 51}, True),  # an address in another script takes 0.1 ms
        ({"suppressions": [{"address": "a@example.test"}] * 51}, True),
        ({"messages": [{"to": ["a@example.test"] * 30}] * 2}, True),
        ({"to": ",".join(["a@example.test"] * 51)}, True),
        ({"text_body": "x" * 100_000}, False),
        ({"text_body": "x" * LARGE_BYTES}, True),
    ],
)
async def test_what_takes_long_is_read_in_a_thread(given: dict[str, Any], apart: bool) -> None:
    with ThreadPoolExecutor(1) as pool:
        body = Body(json.dumps(given).encode(), pool)
        assert (await body.decode(lambda _: threading.get_ident()) != threading.get_ident()) is apart
