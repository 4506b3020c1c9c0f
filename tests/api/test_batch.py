"""POST /api/v1/emails/send/batch: results by index, items that fail alone, idempotency."""

import json
from typing import Any

import pytest

from gateway.errors import Reason, Refused
from gateway.runtime import show_id
from tests.api.conftest import MAIL, UUID, Api, Reply

BATCH = "/api/v1/emails/send/batch"


async def batch(api: Api, messages: Any, *, key: str | None = "full", **headers: str) -> Reply:
    headers.setdefault("Content_Type", "application/json")
    return await api.call("POST", BATCH, json.dumps({"messages": messages}).encode(), key=key, **headers)


async def test_results_are_in_the_order_of_the_request(api: Api) -> None:
    reply = await batch(api, [MAIL, {**MAIL, "subject": "Second"}])
    assert reply.status == 201
    data = reply.json["data"]
    assert [result["index"] for result in data["results"]] == [0, 1]
    assert [result["status"] for result in data["results"]] == ["queued", "queued"]
    assert data["results"][0]["message_id"] == show_id("eml_", UUID[:-2] + b"\0\0")
    assert data["summary"] == {"total": 2, "queued": 2, "failed": 0}
    (asked,) = api.door.asked_for_all
    assert [item[0].subject for item in asked.items if not isinstance(item, Refused)] == ["Hi", "Second"]


async def test_a_bad_item_fails_alone(api: Api) -> None:
    bad = {**MAIL, "to": "nobody", "subject": 7}
    reply = await batch(api, [MAIL, bad, "no object", MAIL])
    results = reply.json["data"]["results"]
    assert [result["status"] for result in results] == ["queued", "failed", "failed", "queued"]
    assert reply.json["data"]["summary"] == {"total": 4, "queued": 2, "failed": 2}
    error = results[1]["error"]
    assert results[1]["message_id"] is None
    assert {problem["param"] for problem in error["errors"]} == {"to", "subject"}
    assert error["retryable"] is False
    assert results[2]["error"]["code"] == "invalid_parameter"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "missing_parameter"),
        ({"messages": []}, 400, "missing_parameter"),
        ({"messages": {}}, 400, "invalid_parameter"),
        ({"messages": [MAIL], "from": "a@example.com"}, 400, "invalid_parameter"),
        ({"messages": [MAIL] * 1001}, 422, "validation_error"),
    ],
)
async def test_a_batch_that_is_none(api: Api, body: Any, status: int, code: str) -> None:
    reply = await api.call("POST", BATCH, json.dumps(body).encode(), Content_Type="application/json")
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert not api.door.asked_for_all


async def test_a_thousand_messages(api: Api) -> None:
    reply = await batch(api, [MAIL] * 1000)
    assert reply.json["data"]["summary"]["queued"] == 1000


async def test_one_name_for_the_whole_request(api: Api) -> None:
    await batch(api, [MAIL, {**MAIL, "to": "nobody"}], Idempotency_Key="k")
    await batch(api, [{"subject": "Hi", **MAIL, "cc": []}, {**MAIL, "to": "nobody"}], Idempotency_Key="k")
    await batch(api, [MAIL, {**MAIL, "to": "bob@example.org"}], Idempotency_Key="k")
    await batch(api, [MAIL], Idempotency_Key="k")
    digests = [asked.request[1] for asked in api.door.asked_for_all if asked.request]
    assert digests[0] == digests[1]
    assert len({digests[0], digests[2], digests[3]}) == 3


async def test_a_replay_is_marked(api: Api) -> None:
    api.door.replayed = True
    reply = await batch(api, [MAIL], Idempotency_Key="k")
    assert (reply.status, reply.headers["idempotent-replayed"]) == (201, "true")


async def test_names_of_single_messages(api: Api) -> None:
    api.door.replayed = True
    reply = await batch(api, [{**MAIL, "idempotency_key": "one"}, MAIL])
    (asked,) = api.door.asked_for_all
    assert [item[1][0] if not isinstance(item, Refused) and item[1] else None for item in asked.items] == ["one", None]
    assert reply.json["data"]["results"][0]["idempotent"] is True


async def test_one_name_or_the_other(api: Api) -> None:
    reply = await batch(api, [{**MAIL, "idempotency_key": "one"}, MAIL], Idempotency_Key="k")
    assert [result["status"] for result in reply.json["data"]["results"]] == ["failed", "queued"]


async def test_a_batch_does_not_wait(api: Api) -> None:
    reply = await batch(api, [{**MAIL, "wait": "5s"}])
    assert reply.json["data"]["results"][0]["error"]["param"] == "wait"


async def test_what_stops_the_whole_request(api: Api) -> None:
    api.door.error = Refused(Reason.RATE_LIMITED, "Too many.", retry_after_s=7)
    reply = await batch(api, [MAIL])
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    assert reply.json["error"]["retryable"] is True
    assert (await batch(api, [MAIL], key="reader")).status == 403
    assert (await batch(api, [MAIL], key=None)).status == 401
