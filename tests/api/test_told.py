"""Mail that this side of the door refuses is told of to the other, once, where it is known whose it is."""

from typing import Any

import pytest

from gateway.api.send import PATH
from gateway.errors import Reason, Refused
from tests.api.conftest import Api

GOOD = {"from": {"email": "a@example.com"}, "to": {"email": "b@example.net"}, "subject": "x", "text_body": "x"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "invalid_json"),
        (b"{}", {}, 400, "missing_parameter"),
        (b"{}", {"Content_Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Idempotency_Key": "x" * 1000}, 400, "invalid_parameter"),
    ],
)
async def test_what_is_refused_before_the_door_is_told(
    api: Api, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    reply = await api.call("POST", PATH, body, **headers)
    assert reply.status == status
    ((key, told, text, peer),) = api.door.refusals
    assert (key, told, peer) == ("full", reason, "127.0.0.1")
    assert text


async def test_a_bad_address_is_told(api: Api) -> None:
    assert (await api.send(GOOD | {"to": {"email": "nobody"}})).status == 422
    assert [one[1] for one in api.door.refusals] == ["validation_error"]


async def test_what_the_door_told_is_not_told_again(api: Api) -> None:
    refusal = Refused(Reason.RATE_LIMITED, "no")
    refusal.told = True
    api.door.error = refusal
    assert (await api.send(GOOD)).status == 429
    assert api.door.refusals == []


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [("GET", "/api/v1/emails/eml_0", "full"), ("GET", "/nothing", "full"), ("POST", PATH, None)],
)
async def test_what_is_no_mail_of_a_known_client_is_not(api: Api, method: str, path: str, key: Any) -> None:
    assert (await api.call(method, path, b"{}" if method == "POST" else b"", key=key)).status >= 400
    assert api.door.refusals == []
