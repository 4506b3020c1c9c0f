"""/api/v1/templates, over a real store."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.api.server import HttpServer
from gateway.api.templates import MAX_BYTES
from gateway.config import Config
from gateway.policy.templates import MAX_PART_BYTES, Templates
from gateway.runtime import Clock, show_id
from gateway.store.sqlite import SqliteStore
from gateway.templates import TemplateManager
from tests.api.conftest import Api, RecordingDoor, Reply, principal

PATH = "/api/v1/templates"
WELCOME = {"alias": "welcome", "subject": "Hi {{name}}", "html_body": "<p>{{name}}</p>", "text_body": "Hi {{name}}"}
NOW = 1_800_000_000_000
SHOWN = "2027-01-15T08:00:00.000Z"


class Desk(Api):
    """Documents in and out."""

    async def ask(self, method: str, path: str = "", document: Any = None, *, key: str | None = "full") -> Reply:
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        return await self.call(method, PATH + path, body, key=key)

    async def data(self, method: str, path: str = "", document: Any = None, *, key: str = "full") -> Any:
        reply = await self.ask(method, path, document, key=key)
        assert reply.status == (201 if method == "POST" else 200), reply.body
        assert reply.json["ok"] is True
        return reply.json["data"]

    async def error(self, status: int, method: str, path: str = "", document: Any = None, *, key: str = "full") -> Any:
        reply = await self.ask(method, path, document, key=key)
        assert reply.status == status, reply.body
        assert reply.json["ok"] is False
        return reply.json["error"]


@pytest.fixture
async def desk(config: Config, tmp_path: Path) -> AsyncIterator[Desk]:
    shared = tmp_path / "templates" / "shared"
    shared.mkdir(parents=True)
    (shared / "body.txt").write_text("x")
    store = await SqliteStore.open(tmp_path / "gateway.db")
    templates = Templates(store.records, shared.parent)
    keys = {
        "full": principal("full", "send", "read", "manage"),
        "other": principal("other", "read", "manage"),
        "reader": principal("reader", "read"),
        "manager": principal("manager", "manage"),
    }
    manager = TemplateManager(store.records, templates, clock=Clock(now_ms=lambda: NOW))
    door = RecordingDoor(keys, templates=manager)
    server = HttpServer(config, door)
    await server.start()
    yield Desk(server, door)
    await server.stop(2)
    await store.close()


async def test_a_template_is_made_shown_listed_replaced_and_removed(desk: Desk) -> None:
    made = await desk.data("POST", "", WELCOME)
    id_ = made["id"]
    assert made == {"id": id_, **WELCOME, "source": "store", "created_at": SHOWN, "updated_at": SHOWN}
    assert await desk.data("GET", f"/{id_}") == await desk.data("GET", "/welcome") == made
    listed = await desk.data("GET")
    assert [one["alias"] for one in listed["templates"]] == ["welcome", "shared"]
    assert listed["templates"][0] == {name: value for name, value in made.items() if not name.endswith("_body")}
    changed = await desk.data("PUT", "/welcome", {"subject": "Hello", "text": "x"})
    assert changed == {**made, "subject": "Hello", "html_body": None, "text_body": "x"}
    assert (await desk.data("PUT", f"/{id_}", {"alias": "hello", "html": "y"}))["alias"] == "hello"
    assert (await desk.data("DELETE", "/hello"))["removed"] is True
    await desk.error(404, "GET", f"/{id_}")


async def test_what_is_optional(desk: Desk) -> None:
    made = await desk.data("POST", "", {"alias": None, "subject": "", "html": "", "text": "x"})
    assert (made["alias"], made["subject"], made["html_body"], made["text_body"]) == (None, "", None, "x")


async def test_one_of_the_directory(desk: Desk) -> None:
    for key in ("full", "other"):
        shown = await desk.data("GET", "/shared", key=key)
        assert (shown["id"], shown["source"], shown["text_body"]) == (None, "directory", "x")
    for method, document in (("PUT", WELCOME), ("DELETE", None)):
        assert (await desk.error(409, method, "/shared", document))["code"] == "conflict"


async def test_what_is_unknown_malformed_or_not_yours_is_one_404(desk: Desk) -> None:
    id_ = (await desk.data("POST", "", WELCOME))["id"]
    for method, document in (("GET", None), ("PUT", WELCOME), ("DELETE", None)):
        answers = [
            await desk.error(404, method, f"/{reference}", document, key="other")
            for reference in ("welcome", id_, show_id("tpl_", bytes(16)), "tpl_x", "Welcome", "%2e%2e", "x" * 2000)
        ]
        assert answers == [answers[0]] * len(answers)
    assert (await desk.data("GET", key="other"))["templates"][0]["alias"] == "shared"
    assert (await desk.data("GET", "/welcome"))["id"] == id_


async def test_scopes(desk: Desk) -> None:
    for method, path, document in (("POST", "", WELCOME), ("PUT", "/welcome", WELCOME), ("DELETE", "/welcome", None)):
        error = await desk.error(403, method, path, document, key="reader")
        assert error["code"] == "insufficient_permissions"
    for path in ("", "/welcome"):
        assert (await desk.error(403, "GET", path, key="manager"))["code"] == "insufficient_permissions"
        assert (await desk.ask("GET", path, key=None)).status == 401
    assert (await desk.ask("POST", "", WELCOME, key="nobody")).status == 401


async def test_an_alias_is_taken_once(desk: Desk) -> None:
    await desk.data("POST", "", WELCOME)
    await desk.data("POST", "", {**WELCOME, "alias": "other"})
    for method, path in (("POST", ""), ("PUT", "/other")):
        error = await desk.error(409, method, path, WELCOME)
        assert (error["code"], error["param"]) == ("conflict", "alias")
    await desk.data("POST", "", WELCOME, key="other")


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_every_problem_is_told_at_once(desk: Desk, method: str) -> None:
    await desk.data("POST", "", WELCOME)
    path = "/welcome" if method == "PUT" else ""
    broken = {"alias": "Ä", "subject": "{{a b}}", "html": "<p>\n{{#x}}", "text_body": 7, "name": "x"}
    error = await desk.error(400, method, path, broken)
    assert [(one["param"], one["code"]) for one in error["errors"]] == [
        ("name", "invalid_parameter"),
        ("text_body", "invalid_parameter"),
        ("alias", "validation_error"),
        ("subject", "template_error"),
        ("html", "template_error"),
    ]
    error = await desk.error(422, method, path, {"subject": "{{a b}}", "html": "<p>\n{{#x}}"})
    assert (error["code"], error["param"]) == ("template_error", "subject")
    assert [one["message"].partition(": ")[2][:16] for one in error["errors"]] == [
        "line 1, column 1",
        "line 2, column 1",
    ]
    assert (await desk.data("GET", "/welcome"))["subject"] == WELCOME["subject"]


@pytest.mark.parametrize(
    ("document", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b"[]", 400, "invalid_json", None),
        ({}, 400, "missing_parameter", "html_body"),
        ({"subject": "x", "html": None, "text": ""}, 400, "missing_parameter", "html_body"),
        ({"text": ["x"]}, 400, "invalid_parameter", "text"),
        ({"text": "x", "text_body": "y"}, 400, "invalid_parameter", "text_body"),
        ({"text": "x", "variables": {}}, 400, "invalid_parameter", "variables"),
        ({"text": "x", "alias": 1}, 400, "invalid_parameter", "alias"),
        ({"text": "x", "alias": "a b"}, 422, "validation_error", "alias"),
        ({"text": "x", "alias": "a\r\nb"}, 422, "validation_error", "alias"),
        ({"text": "x", "alias": "tpl_" + "0" * 24}, 422, "validation_error", "alias"),
        ({"text": "x", "subject": {"a": 1}}, 400, "invalid_parameter", "subject"),
        *(({"text": "x", "subject": f"a{c}b"}, 422, "validation_error", "subject") for c in "\r\n\0\u2028\x85\x9b"),
        ({"text": "x", "subject": "s" * 8001}, 422, "validation_error", "subject"),
        ({"text": "a\0b"}, 422, "validation_error", "text"),
        ({"html": "x" * (MAX_PART_BYTES + 1)}, 422, "validation_error", "html"),
        ({"text": "{{" * 100_000}, 422, "template_error", "text"),
        ({"text": "x\x1b{{\x1b}}"}, 422, "template_error", "text"),
        (b" " * (MAX_BYTES + 1), 413, "payload_too_large", None),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_is_refused(desk: Desk, document: Any, status: int, code: str, param: str | None) -> None:
    error = await desk.error(status, "POST", "", document)
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"].isprintable()
    assert (await desk.data("GET"))["templates"][0]["alias"] == "shared"


async def test_a_large_template_is_kept_whole(desk: Desk) -> None:
    html = "<p>ü😀\n</p>" * (MAX_PART_BYTES // 16) + "{{name}}"
    made = await desk.data("POST", "", {"alias": "large", "html": html, "text": html})
    assert made["html_body"] == made["text_body"] == html


async def test_the_query_takes_nothing(desk: Desk) -> None:
    for method, path, document in (("POST", "", WELCOME), ("PUT", "/a", WELCOME), ("DELETE", "/a", None)):
        assert (await desk.error(422, method, f"{path}?dry_run=true", document))["param"] == "dry_run"
    assert [one["alias"] for one in (await desk.data("GET"))["templates"]] == ["shared"]


async def test_other_methods(desk: Desk) -> None:
    for method, path in (("PATCH", "/welcome"), ("DELETE", ""), ("PUT", ""), ("POST", "/welcome")):
        assert (await desk.error(405, method, path, {}))["code"] == "method_not_allowed"
