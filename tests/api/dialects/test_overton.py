"""Overton: the document's example, every failure in its shape, pass-through."""

import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.api.dialects.overton import FIELDS
from gateway.config import MB, Config, Secret
from gateway.delivery.passthrough import Ending, NamedRelay, Passed
from gateway.keyterms import Limit, Unit
from gateway.message.model import Mailbox
from gateway.policy.limits import Allowance
from gateway.store.queue import Attempt
from tests.api.conftest import UUID, Api, Client, Reply, Start, principal
from tests.api.dialects.conftest import ABSENT, CONTROLS, check_table, declare, each_error, post

MAIL: dict[str, Any] = {
    "server": "mail.example.com",
    "username": "you@yourdomain.com",
    "password": "full",
    "from": "you@yourdomain.com",
    "to": "recipient@example.com",
    "subject": "Hello from the API",
    "body": "<p>This message was sent over HTTPS.</p>",
}
REQUIRED = tuple(MAIL)
RELAY = "mail.yourdomain.com"


async def send(api: Api, document: Any = MAIL, **headers: str) -> Reply:
    return await post(api, "/", document, **headers)


def check_failure(reply: Reply, status: int, *words: str) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"success", "error", "message"}
    assert reply.json["success"] is False
    assert reply.json["error"] == reply.json["message"]
    for word in words:
        assert word in reply.json["error"]


async def test_the_example(api: Api) -> None:
    reply = await send(api)
    assert (reply.status, reply.json) == (200, {"success": True, "message": "Email sent successfully."})
    assert reply.headers["content-type"] == "application/json"
    (asked,) = api.door.asked
    assert asked.principal.name == "full"
    assert (asked.idempotency, asked.peer) == (None, "127.0.0.1")
    submission = asked.submission
    assert submission.sender == Mailbox("", "you@yourdomain.com")
    assert submission.to == (Mailbox("", "recipient@example.com"),)
    assert submission.subject == "Hello from the API"
    assert (submission.html, submission.text) == ("<p>This message was sent over HTTPS.</p>", None)
    assert (submission.cc, submission.bcc, submission.attachments, submission.variables) == ((), (), (), None)


async def test_the_path_under_its_name(api: Api) -> None:
    assert (await post(api, "/overton/", MAIL)).status == 200
    check_failure(await post(api, "/overton/nowhere", MAIL), 404)


async def test_a_plain_body_stays_plain(api: Api) -> None:
    text = "1 < 2, <a@b.example> and\r\n{{name}}\u2028"
    assert (await send(api, {**MAIL, "body": text})).status == 200
    submission = api.door.asked[0].submission
    assert (submission.html, submission.text) == (None, text)


async def test_a_large_body(api: Api) -> None:
    body = "<p>" + "grün " * 60_000
    assert (await send(api, {**MAIL, "body": body})).status == 200
    assert api.door.asked[0].submission.html == body


async def test_names_of_people(api: Api) -> None:
    mail = {**MAIL, "from": "You <you@yourdomain.com>", "to": '"Doe, Jane" <jane@EXAMPLE.com>'}
    assert (await send(api, mail)).status == 200
    submission = api.door.asked[0].submission
    assert submission.sender == Mailbox("You", "you@yourdomain.com")
    assert submission.to == (Mailbox("Doe, Jane", "jane@example.com"),)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["missing", *ABSENT])
async def test_every_field_is_required(api: Api, name: str, value: Any) -> None:
    mail = {key: given for key, given in MAIL.items() if key != name}
    if value != "missing":
        mail[name] = value
    check_failure(await send(api, mail), 400, f"{name}: is required")
    assert api.door.asked == []


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [1, 1.5, True, {"email": "a@example.org"}, ["a@example.org"]])
async def test_every_field_is_text(api: Api, name: str, value: Any) -> None:
    check_failure(await send(api, {**MAIL, name: value}), 400, f"{name}: must be ")
    assert api.door.asked == []


async def test_all_problems_are_in_one_text(api: Api) -> None:
    reply = await send(api, {"to": 1, "subject": "a\nb", "x": 1})
    check_failure(reply, 400, "server: is required", "to: must be", "subject: must not", "x: is not a known field")


async def test_very_many_problems_are_bounded(api: Api) -> None:
    check_failure(await send(api, {**MAIL, **{f"x{n}": 1 for n in range(500)}}), 400, "; and 90 more")


@pytest.mark.parametrize(
    "to", [["a@example.org"], ["a@example.org", "b@example.org"], "a@example.org, b@example.org", "a@example.org,"]
)
async def test_one_recipient_only(api: Api, to: Any) -> None:
    check_failure(await send(api, {**MAIL, "to": to}), 400, "to: ")
    assert api.door.asked == []


@pytest.mark.parametrize("name", ["attachments", "cc", "bcc", "Subject", "html", "x\r\ny"])
async def test_unknown_fields_are_refused(api: Api, name: str) -> None:
    reply = await send(api, {**MAIL, name: ["x"]})
    check_failure(reply, 400)
    assert b"\r" not in reply.body
    assert (await send(api, {**MAIL, name: None})).status == 200


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("control", CONTROLS)
async def test_no_control_character_passes(api: Api, name: str, control: str) -> None:
    value = f"you{control}@yourdomain.com"
    reply = await send(api, {**MAIL, name: value})
    if name == "body" and control != "\x00":
        assert (reply.status, api.door.asked[0].submission.text) == (200, value)
        return
    check_failure(reply, 400, f"{name}: must not hold")
    assert api.door.asked == []


@pytest.mark.parametrize("name", [name for name in REQUIRED if name != "body"])
async def test_fields_of_one_line_are_bounded(api: Api, name: str) -> None:
    for size in (9000, 200_000):
        check_failure(await send(api, {**MAIL, name: "a" * size}), 400, f"{name}: must be at most")


async def test_wrong_credentials(api: Api) -> None:
    expected = await send(api, {**MAIL, "password": "wrong"})
    check_failure(expected, 401)
    assert expected.json["error"] == "Authentication failed"
    for changes in ({"password": "wrong-and-longer"}, {"username": "reader"}, {"password": "Full"}):
        reply = await send(api, {**MAIL, **changes})
        assert (reply.status, reply.body) == (401, expected.body)
    assert (await send(api, {**MAIL, "username": "full"})).status == 200


async def test_the_key_is_taken_from_the_body_only(api: Api) -> None:
    mail = {**MAIL, "password": "wrong"}
    assert (await send(api, mail, Authorization="Bearer full")).status == 401


async def test_a_key_that_may_not_send(api: Api) -> None:
    check_failure(await send(api, {**MAIL, "password": "reader"}), 403)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff"])
async def test_bad_json(api: Api, body: bytes) -> None:
    check_failure(await send(api, body), 400)


async def test_over_10_mb(start: Start, config: Config) -> None:
    api = await start(replace(config, max_message=35 * MB))
    reply = await declare(api, "/", 10 * MB + 1, {})
    check_failure(reply, 413, "10000000")
    assert reply.headers["connection"] == "close"


async def test_a_chunked_body_over_the_limit(api: Api) -> None:
    client = await Client.connect(api.server)
    client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(40):  # 2.6 MB where the gateway takes 2.47 at most
        client.writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    check_failure(await client.read(), 413)
    await client.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(api: Api, method: str) -> None:
    reply = await api.call(method, "/", key=None)
    check_failure(reply, 405, "POST")
    assert reply.headers["allow"] == "POST"


async def test_head(api: Api) -> None:
    assert (await api.call("HEAD", "/", key=None)).status == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Encoding": "gzip"},
    ],
)
async def test_other_types(api: Api, headers: dict[str, str]) -> None:
    check_failure(await send(api, **headers), 415)


async def test_a_slow_body(start: Start) -> None:
    api = await start(body_grace_s=0.05)
    check_failure(await declare(api, "/", 100, {}), 408)


@each_error
async def test_errors_of_the_door(
    api: Api, error: Exception, status: int, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    api.door.error = error
    with caplog.at_level(logging.CRITICAL, "gateway.api"):
        reply = await send(api)
    check_failure(reply, status)
    assert reply.headers.get("retry-after") == retry_after
    assert b"secret" not in reply.body
    assert b"/var" not in reply.body


async def test_what_is_left_of_a_limit(api: Api) -> None:
    api.door.keys["limited"] = principal("limited", "send", limits=(Limit(Unit.MESSAGES, 30, 60, 40),))
    api.door.left = (
        Allowance(Unit.MESSAGES, 30, 60, 40, remaining=4, reset_s=9),
        Allowance(Unit.RECIPIENTS, 9, 60, 9, remaining=9, reset_s=0),
    )
    reply = await send(api, {**MAIL, "password": "limited"})
    found = [reply.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")]
    assert (reply.status, found) == (200, ["30", "4", "9"])


@pytest.mark.parametrize("server", ["MAIL.example.com", "mail.example.com."])
async def test_our_own_name_is_compared_without_case(api: Api, server: str) -> None:
    assert (await send(api, {**MAIL, "server": server})).status == 200
    assert len(api.door.asked) == 1


def passed(ending: Ending) -> Passed:
    attempt = Attempt(1, UUID, 0, "", 0, 1, ())
    return Passed(UUID, "id@yourdomain.com", "you@yourdomain.com", ending, attempt)


async def test_a_listed_relay_takes_it(api: Api) -> None:
    api.door.relays = frozenset({(RELAY, None)})
    api.door.passed = passed(Ending.ACCEPTED)
    reply = await send(api, {**MAIL, "server": RELAY, "password": "not a key"})
    assert (reply.status, reply.json) == (200, {"success": True, "message": "Email sent successfully."})
    ((relay, submission, peer),) = api.door.named
    assert relay == NamedRelay(RELAY, None, True, "you@yourdomain.com", Secret("not a key"))
    assert submission.html == MAIL["body"]
    assert (api.door.asked, peer) == ([], "127.0.0.1")


@pytest.mark.parametrize(
    ("server", "secure"),
    [("127.0.0.1", False), ("[::1]", False), ("localhost", False), ("10.0.0.1", True), ("localhost.example", True)],
)
async def test_only_a_relay_of_this_machine_needs_no_tls(api: Api, server: str, secure: bool) -> None:
    api.door.relays = frozenset({(server, None)})
    api.door.passed = passed(Ending.ACCEPTED)
    assert (await send(api, {**MAIL, "server": server})).status == 200
    assert api.door.named[0][0].secure is secure


@pytest.mark.parametrize(
    ("ending", "status", "text"),
    [
        (Ending.AUTHENTICATION_FAILED, 401, "Authentication failed"),
        (Ending.REFUSED, 502, "The server named in the request did not take the message."),
        (Ending.UNREACHABLE, 502, "The server named in the request did not take the message."),
        (Ending.UNCERTAIN, 504, "The server named in the request did not confirm the message: it may have been sent."),
    ],
)
async def test_a_listed_relay_does_not(api: Api, ending: Ending, status: int, text: str) -> None:
    api.door.relays = frozenset({(RELAY, None)})
    api.door.passed = passed(ending)
    reply = await send(api, {**MAIL, "server": RELAY})
    check_failure(reply, status)
    assert reply.json["error"] == text


async def test_an_unlisted_relay(api: Api) -> None:
    api.door.relays = frozenset({(RELAY, None)})
    bodies = {(await send(api, {**MAIL, "server": server})).body for server in ("smtp.example.net", "10.0.0.1", "-")}
    assert len(bodies) == 1
    check_failure(await send(api, {**MAIL, "server": "smtp.example.net"}), 403, "not taken here")
    assert (api.door.named, api.door.asked) == ([], [])


@each_error
async def test_errors_of_pass_through(
    api: Api, error: Exception, status: int, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    api.door.relays = frozenset({(RELAY, None)})
    api.door.error = error
    with caplog.at_level(logging.DEBUG):
        reply = await send(api, {**MAIL, "server": RELAY, "password": "hunter-22"})
    check_failure(reply, status)
    assert reply.headers.get("retry-after") == retry_after
    assert "hunter-22" not in caplog.text + reply.body.decode()


def test_the_document_has_the_fields_of_the_decoder() -> None:
    check_table("overton", FIELDS)
