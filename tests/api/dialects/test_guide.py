"""The guide's API: its example with straight quotes and as printed, every failure in its shape."""

import logging
from typing import Any

import pytest

from gateway.api.dialects.guide import FIELDS
from gateway.keyterms import Limit, Unit
from gateway.message.model import Mailbox
from gateway.policy.limits import Allowance
from gateway.runtime import show_id
from tests.api.conftest import UUID, Api, Reply, Start, principal
from tests.api.dialects.conftest import ABSENT, CONTROLS, check_table, declare, each_error, post

PATH = "/send-email"
MAIL: dict[str, Any] = {
    "to": "user@example.com",
    "from": "you@yourdomain.com",
    "subject": "Welcome!",
    "body": "Hello from [SMTP REST API]",
}
REQUIRED = tuple(MAIL)
AS_PRINTED = """{

  “to”: “user@example.com”,

  “from”: “you@yourdomain.com”,

  “subject”: “Welcome!”,

  “body”: “Hello from [SMTP REST API]”

}"""


async def send(api: Api, document: Any = MAIL, *, key: str | None = "full", **headers: str) -> Reply:
    return await post(api, PATH, document, key=key, **headers)


def check_failure(reply: Reply, status: int, code: str, *words: str) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"error", "message"}
    assert reply.json["error"] == code
    for word in words:
        assert word in reply.json["message"]


async def test_the_example(api: Api) -> None:
    reply = await send(api)
    shown = show_id("eml_", UUID)
    assert (reply.status, reply.json) == (202, {"id": shown, "message_id": shown, "status": "accepted"})
    assert reply.headers["content-type"] == "application/json"
    (asked,) = api.door.asked
    assert (asked.principal.name, asked.idempotency, asked.peer) == ("full", None, "127.0.0.1")
    assert asked.submission.to == (Mailbox("", "user@example.com"),)
    assert asked.submission.sender == Mailbox("", "you@yourdomain.com")
    assert asked.submission.subject == "Welcome!"
    assert (asked.submission.html, asked.submission.text) == (None, "Hello from [SMTP REST API]")


async def test_the_example_as_printed(api: Api) -> None:
    reply = await send(api, AS_PRINTED.encode())
    check_failure(reply, 400, "invalid_json", "typographic quotes")
    assert api.door.asked == []


async def test_the_path_under_its_name(api: Api) -> None:
    assert (await post(api, f"/guide{PATH}", MAIL, key="full")).status == 202


async def test_a_body_of_html(api: Api) -> None:
    assert (await send(api, {**MAIL, "body": "Hello<br>you"})).status == 202
    submission = api.door.asked[0].submission
    assert (submission.html, submission.text) == ("Hello<br>you", None)


async def test_captured_mail_is_accepted_mail(api: Api) -> None:
    api.door.status_word = "captured"
    assert (await send(api)).json["status"] == "accepted"


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["missing", *ABSENT])
async def test_every_field_is_required(api: Api, name: str, value: Any) -> None:
    mail = {key: given for key, given in MAIL.items() if key != name}
    if value != "missing":
        mail[name] = value
    check_failure(await send(api, mail), 400, "missing_parameter", f"{name}: is required")
    assert api.door.asked == []


async def test_the_default_sender_of_a_key_does_not_stand_in(api: Api) -> None:
    reply = await send(api, {**MAIL, "from": None}, key="sender")
    check_failure(reply, 400, "missing_parameter", "from: is required")


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [1, 1.5, True, {"email": "a@example.org"}, ["a@example.org"]])
async def test_every_field_is_text(api: Api, name: str, value: Any) -> None:
    check_failure(await send(api, {**MAIL, name: value}), 400, "invalid_parameter", f"{name}: must be ")
    assert api.door.asked == []


@pytest.mark.parametrize("name", ["to", "from"])
@pytest.mark.parametrize("value", ["nobody", "a@", "@b.example", "a@b.example, c@d.example", "a b@c.example"])
async def test_what_is_no_address_is_400(api: Api, name: str, value: str) -> None:
    check_failure(await send(api, {**MAIL, name: value}), 400, "validation_error", f"{name}: ")


async def test_all_problems_are_in_one_text(api: Api) -> None:
    reply = await send(api, {"to": 1, "subject": "a\nb"})
    check_failure(reply, 400, "invalid_parameter", "to: must be", "from: is required", "subject: must not")


@pytest.mark.parametrize("name", ["cc", "bcc", "reply_to", "html", "text", "attachments"])
async def test_what_would_be_another_mail_is_refused(api: Api, name: str) -> None:
    check_failure(await send(api, {**MAIL, name: "x"}), 400, "not_supported", f"{name}: ")
    assert (await send(api, {**MAIL, name: None})).status == 202


async def test_unknown_fields_are_passed_over(api: Api) -> None:
    assert (await send(api, {**MAIL, "campaign": {"id": 7}})).status == 202


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("control", CONTROLS)
async def test_no_control_character_passes(api: Api, name: str, control: str) -> None:
    value = f"you{control}@yourdomain.com"
    reply = await send(api, {**MAIL, name: value})
    if name == "body" and control != "\x00":
        assert (reply.status, api.door.asked[0].submission.text) == (202, value)
        return
    check_failure(reply, 400, "validation_error", f"{name}: must not hold")
    assert api.door.asked == []


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", "Basic ZnVsbDpmdWxs", "full", "Bearer full extra"]
)
async def test_every_401_is_the_same(api: Api, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = await send(api, key=None, **headers)
    expected = await send(api, key="unknown")
    check_failure(expected, 401, "authentication_required")
    assert (reply.status, reply.body, reply.headers["www-authenticate"]) == (401, expected.body, "Bearer")


async def test_a_key_that_may_not_send(api: Api) -> None:
    check_failure(await send(api, key="reader"), 403, "insufficient_permissions")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff"])
async def test_bad_json(api: Api, body: bytes) -> None:
    check_failure(await send(api, body), 400, "invalid_json")


async def test_a_body_over_the_limit(api: Api) -> None:
    reply = await declare(api, PATH, 10_000_000, {"Authorization": "Bearer full"})
    check_failure(reply, 413, "payload_too_large")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(api: Api, method: str) -> None:
    reply = await api.call(method, PATH)
    check_failure(reply, 405, "method_not_allowed", "POST")
    assert reply.headers["allow"] == "POST"


async def test_head(api: Api) -> None:
    assert (await api.call("HEAD", PATH)).status == 405


@pytest.mark.parametrize("path", [f"{PATH}/", f"{PATH}/x", "/guide/x"])
async def test_paths_below(api: Api, path: str) -> None:
    check_failure(await api.call("POST", path), 404, "not_found")


@pytest.mark.parametrize("headers", [{"Content_Type": "text/plain"}, {"Content_Encoding": "gzip"}])
async def test_other_types(api: Api, headers: dict[str, str]) -> None:
    check_failure(await send(api, **headers), 415, "unsupported_media_type")


async def test_a_slow_body(start: Start) -> None:
    api = await start(body_grace_s=0.05)
    reply = await declare(api, PATH, 100, {"Authorization": "Bearer full"})
    check_failure(reply, 408, "request_timeout")


@each_error
async def test_errors_of_the_door(
    api: Api, error: Exception, status: int, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    api.door.error = error
    with caplog.at_level(logging.CRITICAL, "gateway.api"):
        reply = await send(api)
    assert reply.json.keys() == {"error", "message"}
    assert (reply.status, reply.headers.get("retry-after")) == (status, retry_after)
    assert b"secret" not in reply.body
    assert b"/var" not in reply.body


async def test_what_is_left_of_a_limit(api: Api) -> None:
    api.door.keys["limited"] = principal("limited", "send", limits=(Limit(Unit.MESSAGES, 30, 60, 30),))
    api.door.left = (Allowance(Unit.MESSAGES, 30, 60, 30, remaining=29, reset_s=2),)
    reply = await send(api, key="limited")
    assert [reply.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["30", "29", "2"]


def test_the_document_has_the_fields_of_the_decoder() -> None:
    check_table("guide", FIELDS)
