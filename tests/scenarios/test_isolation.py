"""Whose mail, whose templates: every path of the API, asked by every kind of key (trust.md, S17).

A golden table: what each key is told at each path. A path that is served and not in the table fails the test.
"""

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest

from gateway.api import foreign, native
from tests.peers.daemon import Daemon

KEYS = {
    "own": {"account": "one", "scopes": ["send", "read", "manage"]},
    "sister": {"account": "one", "scopes": ["send", "read", "manage"]},
    "other": {"account": "two", "scopes": ["send", "read", "manage"]},
    "reader": {"account": "one", "scopes": ["read"]},
    "sender": {"account": "one", "scopes": ["send"]},
}
ASKING = (*KEYS, "revoked", "none")

MAIL = {"from": "a@example.com", "to": "b@example.net", "subject": "Hi", "text": "x"}
VENDORS_MAIL = {**MAIL, "html_body": "<p>x</p>", "text": None}
CLOUD_MAIL = {"from": "a@example.com", "to": "b@example.net", "subject": "Hi", "html": "<p>x</p>"}
TEMPLATE = {"subject": "Hi", "text_body": "x"}
WEBHOOK = {"url": "https://127.0.0.1:1234/"}
SUPPRESSION = {"address": "no@example.com"}
SECRET_IN_BODY = object()

# (path, method): the body, and the status for each of ASKING. `{}` stands for what `own` has.
TABLE: dict[tuple[str, str], tuple[Any, str]] = {
    ("/api/v1/emails/send", "POST"): (MAIL, "201 201 201 403 201 401 401"),
    ("/api/v1/emails/send/batch", "POST"): ({"messages": [MAIL]}, "201 201 201 403 201 401 401"),
    ("/api/v1/emails/{}", "GET"): (None, "200 200 404 200 403 401 401"),
    ("/api/v1/emails/{}", "PATCH"): ({"send_at": "in 2h"}, "200 200 404 403 200 401 401"),
    ("/api/v1/emails", "GET"): (None, "200 200 200 200 403 401 401"),
    ("/api/v1/emails/{}/content", "GET"): (None, "200 200 404 200 403 401 401"),
    ("/api/v1/emails/{}/events", "GET"): (None, "200 200 404 200 403 401 401"),
    ("/api/v1/emails/{}/cancel", "POST"): (None, "200 409 404 403 409 401 401"),  # own cancels it
    ("/api/v1/emails/{}/retry", "POST"): (None, "409 409 404 403 409 401 401"),  # it waits for its time
    ("/api/v1/emails/{}/release", "POST"): (None, "409 409 404 403 403 401 401"),  # it is not held
    ("/api/v1/events", "GET"): (None, "200 200 200 200 403 401 401"),
    ("/api/v1/me", "GET"): (None, "200 200 200 200 200 401 401"),
    ("/api/v1/templates", "POST"): (TEMPLATE, "201 201 201 403 403 401 401"),
    ("/api/v1/templates", "GET"): (None, "200 200 200 200 403 401 401"),
    ("/api/v1/templates/{}", "GET"): (None, "200 200 404 200 403 401 401"),
    ("/api/v1/templates/{}", "PUT"): (TEMPLATE, "200 200 404 403 403 401 401"),
    ("/api/v1/templates/{}", "DELETE"): (None, "200 404 404 403 403 401 401"),  # asked in this order: own removes it
    ("/api/v1/suppressions", "POST"): (SUPPRESSION, "201 201 201 403 403 401 401"),
    ("/api/v1/suppressions", "GET"): (None, "200 200 200 200 403 401 401"),
    ("/api/v1/suppressions/{}", "DELETE"): (None, "200 404 404 403 403 401 401"),  # own removes it
    ("/api/v1/suppressions", "DELETE"): ({"addresses": ["no@example.com"]}, "200 200 200 403 403 401 401"),
    ("/api/v1/webhooks", "POST"): (WEBHOOK, "201 201 201 403 403 401 401"),
    ("/api/v1/webhooks", "GET"): (None, "200 200 200 403 403 401 401"),
    ("/api/v1/webhooks/{}", "GET"): (None, "200 200 404 403 403 401 401"),
    ("/api/v1/webhooks/{}", "PATCH"): ({"final_only": True}, "200 200 404 403 403 401 401"),
    ("/api/v1/webhooks/{}", "DELETE"): (None, "200 404 404 403 403 401 401"),
    ("/api/v1/webhooks/{}/test", "POST"): (None, "200 200 404 403 403 401 401"),
    ("/api/v1/webhooks/{}/pause", "POST"): (None, "409 409 404 403 403 401 401"),  # it has answered no ping
    ("/api/v1/webhooks/{}/resume", "POST"): (None, "409 409 404 403 403 401 401"),
    ("/api/v1/webhooks/{}/replay", "POST"): ({"dead": True}, "200 200 404 403 403 401 401"),
    ("/api/v1/webhooks/{}/rotate", "POST"): ({}, "200 200 404 403 403 401 401"),
    ("/api/v1/webhooks/{}/attempts", "GET"): (None, "200 200 404 403 403 401 401"),
    ("/api/v1/webhooks/{}/dead", "GET"): (None, "200 200 404 403 403 401 401"),
    ("/api/v1/openapi.json", "GET"): (None, "200 200 200 200 200 200 200"),
    ("/api/v1/docs", "GET"): (None, "200 200 200 200 200 200 200"),
    ("/health/live", "GET"): (None, "200 200 200 200 200 200 200"),
    ("/health/ready", "GET"): (None, "200 200 200 200 200 200 200"),
    ("/", "POST"): (SECRET_IN_BODY, "200 200 200 403 200 401 401"),
    ("/send-email", "POST"): ({**MAIL, "text": None, "body": "x"}, "202 202 202 403 202 401 401"),
    ("/api/smtp", "POST"): (MAIL, "200 200 200 403 200 401 401"),
    ("/v1/send", "POST"): (CLOUD_MAIL, "202 202 202 403 202 401 401"),
    ("/v1/send/batch", "POST"): ({"messages": [CLOUD_MAIL]}, "202 202 202 403 202 401 401"),
    ("/v1/emails/{}", "GET"): (None, "200 200 404 200 403 401 401"),
    ("/v1/email/send", "POST"): (CLOUD_MAIL, "202 202 202 403 202 401 401"),
    ("/v1/email/batch", "POST"): (
        {**CLOUD_MAIL, "to": None, "recipients": [{"to": "b@example.net"}]},
        "202 202 202 403 202 401 401",
    ),
    ("/sendmux/api/v1/emails/send", "POST"): (VENDORS_MAIL, "201 201 201 403 201 401 401"),
    ("/sendmux/api/v1/emails/send/batch", "POST"): ({"messages": [VENDORS_MAIL]}, "201 201 201 403 201 401 401"),
    ("/sendmux/api/v1/me", "GET"): (None, "200 200 200 200 200 401 401"),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("isolation")
    keys = {}
    for name, rights in KEYS.items():
        secret = directory / f"{name}.secret"
        secret.write_text(_text(name))
        secret.chmod(0o600)
        keys[name] = {"secret": {"file": str(secret)}, **rights}
    settings = {"routes": {"inbox": {"type": "capture"}}, "default_route": "inbox", "keys": keys}
    settings["webhooks"] = {"allow_networks": ["127.0.0.0/8"]}
    settings["limits"] = {"auth_failures": "1000/min"}  # half of the keys here are wrong ones
    with Daemon(directory / "gateway", settings) as running:
        running.cli("key", "create", "revoked", "--account", "one", "--secret-stdin", stdin=_text("revoked"))
        running.cli("key", "revoke", "revoked")
        yield running


def _text(name: str) -> str:
    return f"the-secret-text-of-the-key-{name}"


def _ask(daemon: Daemon, method: str, path: str, body: Any, name: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    secret = "" if name == "none" else _text(name)
    if body is SECRET_IN_BODY:
        letter = {"from": "a@example.com", "to": "b@example.net", "subject": "Hi", "body": "x"}
        body = {"server": "gateway.test", "username": "any", "password": secret or "nothing", **letter}
    elif path == "/api/smtp" and secret:
        headers["Authorization"] = "Basic " + base64.b64encode(f"any:{secret}".encode()).decode()
    elif secret:
        headers["Authorization"] = f"Bearer {secret}"
    data = None if body is None else json.dumps(body).encode()
    url = f"http://127.0.0.1:{daemon.http_port}{path}"
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def _owned(daemon: Daemon, path: str, method: str) -> str:
    """The path with the id of something that `own` has, made for this."""
    if "templates" in path:
        _, answer = _ask(daemon, "POST", "/api/v1/templates", TEMPLATE, "own")
        return path.replace("{}", json.loads(answer)["data"]["id"])
    if "webhooks" in path:
        _, answer = _ask(daemon, "POST", "/api/v1/webhooks", WEBHOOK, "own")
        return path.replace("{}", json.loads(answer)["data"]["id"])
    if "suppressions" in path:
        _ask(daemon, "POST", "/api/v1/suppressions", {"address": "mine@example.com"}, "own")
        return path.replace("{}", "mine@example.com")
    later = {"send_at": "in 1h"} if path.startswith("/api/v1/") else {}
    _, answer = _ask(daemon, "POST", "/api/v1/emails/send", MAIL | later, "own")
    return path.replace("{}", json.loads(answer)["data"]["message_id"])


@pytest.mark.parametrize(("path", "method"), TABLE, ids=[f"{method} {path}" for path, method in TABLE])
def test_what_each_key_is_told(path: str, method: str, daemon: Daemon) -> None:
    body, expected = TABLE[path, method]
    where = _owned(daemon, path, method) if "{}" in path else path
    told = {name: _ask(daemon, method, where, body, name) for name in ASKING}
    assert {name: status for name, (status, _) in told.items()} == dict(
        zip(ASKING, map(int, expected.split()), strict=True)
    )
    refused = {name: answer for name, (status, answer) in told.items() if status == 404}
    if refused:
        given = where.removeprefix(path.partition("{}")[0]).partition("/")[0]
        unknown = where.replace(given, given[:-4] + "zzzz")
        shape = _without_id(_ask(daemon, method, unknown, body, "other")[1])
        assert all(_without_id(answer) == shape for answer in refused.values()), "another's and nobody's look the same"


def _without_id(answer: bytes) -> Any:
    document = json.loads(answer)
    document.pop("meta", None)
    return document


def test_the_table_has_every_path() -> None:
    served = {
        (operation.path, operation.method)
        for dialect in (native.DIALECT, *foreign.DIALECTS)
        for operation in dialect.operations
    }
    assert served == set(TABLE)


def test_names_of_requests_are_an_accounts_own(daemon: Daemon) -> None:
    def send(name: str, subject: str) -> tuple[int, Any]:
        body = json.dumps({**MAIL, "subject": subject}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{daemon.http_port}/api/v1/emails/send",
            data=body,
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {_text(name)}",
                "Idempotency-Key": "k",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)["data"]["message_id"]
        except HTTPError as error:
            with error:
                return error.code, None

    first = send("own", "a")
    assert send("sister", "a") == first, "keys of one account share the name"
    assert send("own", "b")[0] == 409
    assert send("other", "b")[0] == 201, "another account has names of its own"


def test_lists_show_an_accounts_own_only(daemon: Daemon) -> None:
    _ask(daemon, "POST", "/api/v1/templates", {**TEMPLATE, "alias": "mine"}, "own")
    seen = {name: _ask(daemon, "GET", "/api/v1/templates", None, name)[1] for name in ("own", "other")}
    assert b'"mine"' in seen["own"]
    assert b'"mine"' not in seen["other"]
    _, sent = _ask(daemon, "POST", "/api/v1/emails/send", MAIL, "own")
    mine = json.loads(sent)["data"]["message_id"]
    for path in ("/api/v1/emails?limit=100", "/api/v1/events?limit=1000"):
        seen = {name: _ask(daemon, "GET", path, None, name)[1].decode() for name in ("own", "sister", "other")}
        assert mine in seen["own"]
        assert mine in seen["sister"]
        assert mine not in seen["other"]
    used = {**MAIL, "text": None, "template": "mine"}
    assert _ask(daemon, "POST", "/api/v1/emails/send", used, "own")[0] == 201
    assert _ask(daemon, "POST", "/api/v1/emails/send", used, "other")[0] == 422
