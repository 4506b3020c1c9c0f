"""/api/v1/webhooks, over a real store and a real receiver."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from gateway.api import webhooks, webhookshapes
from gateway.api.server import HttpServer
from gateway.config import Config
from gateway.errors import Refused
from gateway.runtime import Clock
from tests.api.conftest import Api, RecordingDoor, Reply, principal
from tests.api.test_openapi import DOCUMENT, check_answer, validator
from tests.fakes.receiver import Receiver, status
from tests.webhooks.world import World, open_world

PATH = "/api/v1/webhooks"
NOBODYS = "whk_00k2m8v0q4x9d7c1b5n3h6j2"


class Desk(Api):
    """Documents in and out; every answer is held against its description."""

    world: World

    async def ask(self, method: str, path: str = "", document: Any = None, *, key: str = "full") -> Reply:
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        reply = await self.call(method, PATH + path, body, key=key)
        described = PATH + (f"/{{id}}/{path.split('/')[2]}" if path.count("/") > 1 else "/{id}" if path else "")
        check_answer(method.lower(), described, reply.status, reply.json, reply.headers)
        return reply

    async def data(self, method: str, path: str = "", document: Any = None, *, key: str = "full") -> Any:
        reply = await self.ask(method, path, document, key=key)
        assert reply.status == (201 if (method, path) == ("POST", "") else 200), reply.body
        return reply.json["data"]

    async def error(self, code: int, method: str, path: str = "", document: Any = None, *, key: str = "full") -> Any:
        reply = await self.ask(method, path, document, key=key)
        assert reply.status == code, reply.body
        return reply.json["error"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as one:
        yield one


@pytest.fixture
async def desk(config: Config, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Desk]:
    keys = {
        "full": principal("full", "send", "read", "manage"),
        "other": principal("other", "read", "manage"),
        "reader": principal("reader", "read"),
    }
    async with open_world(tmp_path, clock=Clock()) as world:
        door = RecordingDoor(keys, webhooks=world.manager)
        server = HttpServer(config, door)
        await server.start()
        desk = Desk(server, door)
        Desk.world = world
        yield desk
        await server.stop(2)


async def test_a_webhook_is_made_shown_listed_changed_and_removed(desk: Desk, receiver: Receiver) -> None:
    made = await desk.data("POST", "", {"url": receiver.url, "types": ["delivered", "email.bounced"], "tags": ["a"]})
    assert (made["state"], made["account"], made["types"]) == (
        "active",
        "full-account",
        ["email.delivered", "email.bounced"],
    )
    assert made["test"] | {"took_ms": 0} == {"ok": True, "status": 200, "took_ms": 0, "error": None}
    [ping] = receiver.asked
    assert Webhook(made["secret"]).verify(ping.body, ping.headers)["data"] == {"webhook_id": made["id"]}
    validator(webhookshapes.ANSWERS["WebhookPing"]).validate(ping.json)
    one = f"/{made['id']}"
    shown = await desk.data("GET", one)
    assert "secret" not in shown
    assert (await desk.data("GET"))["webhooks"] == [shown]
    changed = await desk.data("PATCH", one, {"final_only": True, "types": [], "format": "sendmux"})
    assert (changed["final_only"], changed["types"], changed["format"], changed["tags"]) == (True, [], "sendmux", ["a"])
    assert changed["state"] == "active"
    async with Receiver() as moved:
        moved.answer = lambda _request, _writer: status(500)
        changed = await desk.data("PATCH", one, {"url": moved.url})
        assert (changed["state"], changed["test"]["status"]) == ("pending", 500)
        assert (await desk.error(409, "POST", f"{one}/pause"))["code"] == "conflict"
        assert (await desk.error(409, "POST", f"{one}/resume"))["code"] == "conflict"
    tested = await desk.data("POST", f"{one}/test")
    assert tested["test"]["ok"] is False
    assert [bool(one["error"]) for one in (await desk.data("GET", f"{one}/attempts"))["attempts"]] == [
        True,
        True,
        False,
    ]
    assert (await desk.data("DELETE", one))["removed"] is True
    assert (await desk.error(404, "GET", one))["code"] == "not_found"


async def test_an_endpoint_that_answers_no_ping_is_told_nothing(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = lambda _request, _writer: status(404)
    made = await desk.data("POST", "", {"url": receiver.url})
    assert (made["state"], made["test"]["error"]) == ("pending", "it answered 404")
    await desk.world.accept("ann@example.com", account="full-account")
    await desk.world.quiet()
    assert len(receiver.asked) == 1
    receiver.answer = Receiver().answer
    tested = await desk.data("POST", f"/{made['id']}/test")
    assert (tested["state"], tested["test"]["ok"]) == ("active", True)
    await desk.world.told(receiver, 1)  # what happened since it was made


async def test_pausing_resuming_and_replaying(desk: Desk, receiver: Receiver) -> None:
    world = desk.world
    one = "/" + (await desk.data("POST", "", {"url": receiver.url}))["id"]
    assert (await desk.data("POST", f"{one}/pause"))["state"] == "paused"
    await world.accept("ann@example.com", account="full-account")
    await world.quiet()
    assert receiver.told == []
    assert (await desk.data("POST", f"{one}/resume"))["state"] == "active"
    await world.told(receiver, 1)
    await world.accept("bob@example.com", account="full-account")
    await world.told(receiver, 2)
    first = receiver.told[0]
    await desk.data("POST", f"{one}/replay", {"cursor": first.json["cursor"]})
    await world.told(receiver, 3)
    assert receiver.told[2].json == receiver.told[1].json
    await desk.data("POST", f"{one}/replay", {"since": "2020-01-01T00:00:00Z"})
    await world.told(receiver, 5)
    assert receiver.told[3].json == first.json
    assert (await desk.data("POST", f"{one}/replay", {"dead": True}))["revived"] == 0
    assert (await desk.data("GET", f"{one}/dead"))["dead"] == []
    attempts = (await desk.data("GET", f"{one}/attempts"))["attempts"]
    assert {one["status"] for one in attempts} == {200}
    assert attempts[-1]["type"] == "webhook.ping"


async def test_two_secrets_while_it_is_rotated(desk: Desk, receiver: Receiver) -> None:
    made = await desk.data("POST", "", {"url": receiver.url})
    one = f"/{made['id']}"
    rotated = await desk.data("POST", f"{one}/rotate", {"overlap": "1h"})
    assert rotated["secret"] != made["secret"]
    assert rotated["old_secret_until"] is not None
    await desk.world.accept("ann@example.com", account="full-account")
    await desk.world.told(receiver, 1)
    told = receiver.told[-1]
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(told.body, told.headers)
    assert len(told.headers["webhook-signature"].split()) == 2
    assert (await desk.data("POST", f"{one}/test"))["test"]["ok"] is True
    Webhook(made["secret"]).verify(receiver.asked[-1].body, receiver.asked[-1].headers)
    await desk.data("POST", f"{one}/rotate", {"overlap": "0s"})
    await desk.world.accept("bob@example.com", account="full-account")
    await desk.world.told(receiver, 2)
    assert len(receiver.told[-1].headers["webhook-signature"].split()) == 1


BAD: list[tuple[Any, int, str]] = [
    ({}, 400, "url"),
    ({"url": "https://10.0.0.1/x"}, 422, "url"),
    ({"url": "ftp://example.com/"}, 422, "url"),
    ({"url": "https://hooks.example.com/", "format": "xml"}, 422, "format"),
    ({"url": "https://hooks.example.com/", "types": ["email.delivered", "email.lost"]}, 422, "types[1]"),
    ({"url": "https://hooks.example.com/", "types": "email.delivered"}, 400, "types"),
    ({"url": "https://hooks.example.com/", "keys": [""]}, 422, "keys[0]"),
    ({"url": "https://hooks.example.com/", "secret": "short"}, 422, "secret"),
    ({"url": "https://hooks.example.com/", "colour": "red"}, 400, "colour"),
]


async def test_what_is_no_webhook(desk: Desk) -> None:
    for document, code, param in BAD:
        assert (await desk.error(code, "POST", "", document))["param"] == param


async def test_what_is_no_place_to_replay_from(desk: Desk, receiver: Receiver) -> None:
    made = await desk.data("POST", "", {"url": receiver.url})
    for document in ({}, {"cursor": "x" * 22}, {"since": "yesterday"}, {"dead": True, "cursor": "x"}):
        reply = await desk.ask("POST", f"/{made['id']}/replay", document)
        assert reply.status in {400, 422}, document


async def test_s17_another_accounts_webhook_is_not_there(desk: Desk, receiver: Receiver) -> None:
    made = await desk.data("POST", "", {"url": receiver.url})
    assert (await desk.data("GET", key="other"))["webhooks"] == []
    texts = set()
    for id_ in (made["id"], NOBODYS, "x"):
        for method, verb, body in (
            ("GET", "", None),
            ("PATCH", "", {"final_only": True}),
            ("DELETE", "", None),
            *(("POST", verb, None) for verb in ("/test", "/pause", "/resume")),
            ("POST", "/replay", {"dead": True}),
            ("POST", "/rotate", {}),
            ("GET", "/attempts", None),
            ("GET", "/dead", None),
        ):
            key = "other" if id_ == made["id"] else "full"
            texts.add((await desk.error(404, method, f"/{id_}{verb}", body, key=key))["message"])
    assert len(texts) == 1
    assert (await desk.data("GET", f"/{made['id']}"))["state"] == "active"
    assert len(receiver.asked) == 1


async def test_reading_needs_the_scope_too(desk: Desk) -> None:
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{NOBODYS}"), ("GET", f"/{NOBODYS}/dead")):
        assert (await desk.error(403, method, path, key="reader"))["code"] == "insufficient_permissions"


def test_the_examples_are_taken() -> None:
    for table, example in (
        (webhooks.CREATION, webhookshapes.EXAMPLE),
        (webhooks.CHANGE, webhookshapes.CHANGE_EXAMPLE),
        (webhooks.START, webhookshapes.REPLAY_EXAMPLE),
        (webhooks.ROTATION, webhookshapes.ROTATION_EXAMPLE),
    ):
        assert webhooks.parse(example, table)
    with pytest.raises(Refused, match="is changed by rotating it"):
        webhooks.parse({"secret": "whsec_x"}, webhooks.CHANGE)


def test_the_requests_are_described() -> None:
    described = DOCUMENT["webhooks"]
    assert "email.delivered" in described
    assert "webhook.ping" in described
    for request in described.values():
        assert {one["name"] for one in request["post"]["parameters"]} == {
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        }
