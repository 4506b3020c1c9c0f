"""/api/v1/suppressions: an account's own list, over a real store."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from gateway.api import suppressionshapes
from gateway.manage.suppressionlist import SuppressionList
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from gateway.store.suppression import EVERYBODY, Entry, Kind, Reason
from gateway.tokens import Tokens
from tests.api.conftest import Api, Reply
from tests.api.test_openapi import check_answer

PATH = "/api/v1/suppressions"
ACCOUNT = "manager-account"
TOKENS = Tokens(bytes(32))
ANN = Entry(ACCOUNT, "", Kind.ADDRESS, "ann@example.com", Reason.BOUNCE, "", 1_700_000_000_000, None, 7)


@pytest.fixture
async def api(api: Api, store: SqliteStore) -> Api:
    api.door.suppressions = SuppressionList(store.suppressed, TOKENS, Clock())
    return api


async def ask(api: Api, method: str, path: str = PATH, body: Any = None, *, key: str | None = "manager") -> Reply:
    """A request, its answer held against the description of the operation."""
    encoded = b"" if body is None else json.dumps(body).encode()
    reply = await api.call(method, path, encoded, key=key, Content_Type="application/json")
    described = PATH if path.partition("?")[0] == PATH else f"{PATH}/{{id}}"
    check_answer(method.lower(), described, reply.status, reply.json, reply.headers)
    return reply


async def listed(api: Api, query: str = "", *, key: str = "manager") -> list[str]:
    reply = await ask(api, "GET", PATH + query, key=key)
    assert reply.status == 200, reply.json
    return [one["address"] for one in reply.json["data"]]


async def test_one_is_added_shown_and_removed(api: Api) -> None:
    given = {"address": "Ann@Example.com", "note": "by telephone", "expires_at": "2090-01-02T03:04:05Z"}
    added = await ask(api, "POST", body=given)
    assert added.status == 201
    entry = added.json["data"]
    assert entry["address"] == "ann@example.com"
    assert (entry["kind"], entry["reason"], entry["note"]) == ("address", "operator", "by telephone")
    assert (entry["tag"], entry["expires_at"], entry["event_id"]) == (None, "2090-01-02T03:04:05.000Z", None)
    assert (await ask(api, "GET")).json["data"] == [entry]
    removed = await ask(api, "DELETE", f"{PATH}/{quote('ANN@example.com')}")
    assert (removed.status, removed.json["data"]["removed"]) == (200, 1)
    assert await listed(api) == []
    assert (await ask(api, "DELETE", f"{PATH}/ann@example.com")).status == 404


async def test_the_examples_of_the_documentation_work(api: Api) -> None:
    assert (await ask(api, "POST", body=suppressionshapes.EXAMPLE)).status == 201
    assert (await ask(api, "DELETE", body=suppressionshapes.REMOVAL_EXAMPLE)).json["data"]["removed"] == 1


async def test_a_weaker_reason_leaves_the_stronger_one(api: Api) -> None:
    await ask(api, "POST", body={"address": "ann@example.com", "reason": "complaint"})
    again = await ask(api, "POST", body={"address": "ann@example.com", "reason": "bounce"})
    assert again.json["data"]["reason"] == "complaint"


async def test_a_domain_is_one_entry(api: Api) -> None:
    added = await ask(api, "POST", body={"address": "@Example.net"})
    assert (added.json["data"]["address"], added.json["data"]["kind"]) == ("example.net", "domain")
    assert (await ask(api, "DELETE", f"{PATH}/example.net")).status == 200


async def test_many_are_each_taken_or_refused(api: Api) -> None:
    many = [{"address": f"p{n}@example.com"} for n in range(300)]
    many[7] = {"address": "nobody"}
    many[299] = {"address": "p@example.com", "expires_at": "1999-01-01T00:00:00Z"}
    reply = await ask(api, "POST", body={"suppressions": many})
    assert reply.status == 200
    data = reply.json["data"]
    assert data["added"] == 298
    assert [(one["index"], one["error"]["param"]) for one in data["failed"]] == [(7, "address"), (299, "expires_at")]
    gone = await ask(api, "DELETE", body={"addresses": ["p0@example.com", "P1@example.com", "other@example.com"]})
    assert gone.json["data"] == {"removed": 2, "not_found": ["other@example.com"]}


async def test_a_tag_is_a_scope(api: Api) -> None:
    await ask(api, "POST", body={"address": "ann@example.com"})
    await ask(api, "POST", body={"address": "ann@example.com", "tag": "news", "reason": "unsubscribe"})
    assert (await ask(api, "DELETE", f"{PATH}/ann@example.com?tag=news")).json["data"]["removed"] == 1
    assert [one["tag"] for one in (await ask(api, "GET")).json["data"]] == [None]
    await ask(api, "POST", body={"address": "ann@example.com", "tag": "news"})
    assert (await ask(api, "DELETE", body={"addresses": ["ann@example.com"]})).json["data"]["removed"] == 2


async def test_the_list_has_pages_and_conditions(api: Api, store: SqliteStore) -> None:
    await store.suppressed.add([replace(ANN, value=f"p{n}@example.com") for n in range(5)])
    await store.suppressed.add([replace(ANN, value="t@example.com", tag="news", reason=Reason.UNSUBSCRIBE)])
    assert await listed(api, "?reason=unsubscribe") == ["t@example.com"]
    assert await listed(api, "?tag=news") == ["t@example.com"]
    assert await listed(api, "?address=P3@example.com") == ["p3@example.com"]
    first = await ask(api, "GET", f"{PATH}?limit=4")
    assert first.json["has_more"] is True
    second = await ask(api, "GET", f"{PATH}?limit=4&after={first.json['next_cursor']}")
    assert (second.json["has_more"], second.json["next_cursor"]) == (False, None)
    both = [one["address"][0] for one in first.json["data"] + second.json["data"]]
    assert both == ["t", "p", "p", "p", "p", "p"]


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.9999Z"])
async def test_a_time_that_could_not_be_shown_again(api: Api, time: str) -> None:
    refused = await ask(api, "POST", body={"address": "ann@example.com", "expires_at": time})
    assert (refused.status, refused.json["error"]["param"]) == (422, "expires_at")
    assert await listed(api) == []


async def test_the_event_that_caused_it_has_its_id(api: Api, store: SqliteStore) -> None:
    await store.suppressed.add([ANN])
    (one,) = (await ask(api, "GET")).json["data"]
    assert one["event_id"].startswith("evt_")


async def test_an_account_sees_and_changes_its_own_entries_only(api: Api, store: SqliteStore) -> None:
    others = [replace(ANN, account="reader-account"), replace(ANN, account=EVERYBODY)]
    await store.suppressed.add(others)
    assert await listed(api) == []
    assert await listed(api, "?address=ann@example.com") == []
    assert (await ask(api, "DELETE", f"{PATH}/ann@example.com")).status == 404
    assert (await ask(api, "DELETE", body={"addresses": ["ann@example.com"]})).json["data"]["removed"] == 0
    assert await listed(api, key="reader") == ["ann@example.com"]


async def test_an_erased_persons_entry_is_removed_by_the_address(api: Api, store: SqliteStore) -> None:
    await store.suppressed.add([replace(ANN, value=TOKENS.hashed("ann@example.com"))])
    (hashed,) = await listed(api)
    assert hashed.startswith("hash:")
    assert await listed(api, "?address=ann@example.com") == [hashed]
    assert (await ask(api, "DELETE", f"{PATH}/ann@example.com")).status == 200
    assert await listed(api) == []


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_changes_need_the_scope_manage(api: Api, method: str) -> None:
    assert (await ask(api, method, body={"address": "ann@example.com"}, key="full")).status == 403
    assert (await ask(api, method, body={"address": "ann@example.com"}, key=None)).status == 401
    assert (await ask(api, "GET", key="sender")).status == 403


@pytest.mark.parametrize(
    ("method", "body", "status", "param"),
    [
        ("POST", {}, 400, "address"),
        ("POST", {"address": "ann@example.com", "colour": "red"}, 400, "colour"),
        ("POST", {"address": 7}, 400, "address"),
        ("POST", {"address": "ann@"}, 422, "address"),
        ("POST", {"address": "localhost"}, 422, "address"),
        ("POST", {"address": "ann@example.com", "reason": "dislike"}, 422, "reason"),
        ("POST", {"address": "ann@example.com", "expires_at": "tomorrow"}, 422, "expires_at"),
        ("POST", {"address": "ann@example.com", "note": "x" * 501}, 422, "note"),
        ("POST", {"address": "ann@example.com", "tag": "a\nb"}, 422, "tag"),
        ("POST", {"suppressions": []}, 400, "suppressions"),
        ("POST", {"suppressions": "ann@example.com"}, 400, "suppressions"),
        ("POST", {"suppressions": [7]}, 400, "suppressions[0]"),
        ("POST", {"suppressions": [{}]}, 400, "suppressions[0].address"),
        ("POST", {"suppressions": [{"address": "a@b.example"}] * 1001}, 422, "suppressions"),
        ("POST", {"suppressions": [{"address": "a@b.example"}], "tag": "x"}, 400, "tag"),
        ("DELETE", {}, 400, "addresses"),
        ("DELETE", {"addresses": ["a@b.example"], "reason": "bounce"}, 400, "reason"),
        ("DELETE", {"addresses": ["@"]}, 422, "address"),
    ],
)
async def test_what_is_wrong_is_named(api: Api, method: str, body: Any, status: int, param: str) -> None:
    reply = await ask(api, method, body=body)
    assert (reply.status, reply.json["error"]["param"]) == (status, param), reply.json


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?after=x", "?reason=dislike", "?colour=red", "?tag=%00"])
async def test_a_wrong_query_is_named(api: Api, query: str) -> None:
    assert (await ask(api, "GET", PATH + query)).status == 400


async def test_a_cursor_of_another_list_is_none_of_this(api: Api) -> None:
    assert (await ask(api, "GET", f"{PATH}?after={TOKENS.cursor(5)}")).status == 400
    assert (await ask(api, "GET", f"{PATH}?after={TOKENS.cursor(5 | 1 << 63)}")).status == 400
