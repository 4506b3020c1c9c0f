"""i-as: the body, errors of HTTP and of the door, in its shape."""

import logging
from typing import Any

import pytest

from gateway.api.dialects.iassmtp import FIELDS
from gateway.keyterms import Limit, Unit
from gateway.message.model import Mailbox
from gateway.policy.limits import Allowance
from tests.api.conftest import Api, Start, principal
from tests.api.dialects.conftest import ABSENT, CONTROLS, check_table, declare, each_error
from tests.api.dialects.ias import KEY, MAIL, PATH, REQUIRED, basic, check_failure, send


@pytest.mark.parametrize("name", ["to", "cc"])
@pytest.mark.parametrize(
    "value",
    [
        "a@example.org, Bob <b@example.org>",
        ["a@example.org", "Bob <b@example.org>"],
        ["a@example.org, Bob <b@example.org>"],
        "a@example.org,,Bob <b@EXAMPLE.org>",
    ],
)
async def test_lists_of_addresses(api: Api, name: str, value: Any) -> None:
    await send(api, {**MAIL, name: value})
    found = getattr(api.door.asked[0].submission, name)
    assert found == (Mailbox("", "a@example.org"), Mailbox("Bob", "b@example.org"))


async def test_cc_may_be_absent(api: Api) -> None:
    for value in ABSENT:
        assert (await send(api, {**MAIL, "cc": value})).status == 202
    assert {asked.submission.cc for asked in api.door.asked} == {()}


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["missing", *ABSENT])
async def test_the_other_fields_are_required(api: Api, name: str, value: Any) -> None:
    mail = {key: given for key, given in MAIL.items() if key != name}
    if value != "missing":
        mail[name] = value
    check_failure(await send(api, mail), 400, f"{name}: is required")
    assert api.door.asked == []


@pytest.mark.parametrize("name", MAIL)
@pytest.mark.parametrize("value", [1, True, {"email": "a@example.org"}, [1], [["a@example.org"]], [None]])
async def test_values_of_other_types(api: Api, name: str, value: Any) -> None:
    check_failure(await send(api, {**MAIL, name: value}), 400, name, ": must be ")
    assert api.door.asked == []


@pytest.mark.parametrize("name", ["from", "to", "cc"])
@pytest.mark.parametrize("value", ["nobody", "a@", " ", "a@b.example; c@d.example", "a@b.example c@d.example"])
async def test_what_is_no_address(api: Api, name: str, value: str) -> None:
    check_failure(await send(api, {**MAIL, name: value}), 400, f"{name}: ")


async def test_recipients_are_bounded(api: Api) -> None:
    many = [f"a{n}@example.org" for n in range(5)]
    check_failure(await send(api, {**MAIL, "to": many}), 400, "6 recipients in to and cc; at most 5")
    assert (await send(api, {**MAIL, "to": many, "cc": many[0]})).status == 202
    assert (await send(api, {**MAIL, "to": "a@example.org," * 3000})).status == 400


@pytest.mark.parametrize("name", ["bcc", "replyTo", "html", "attachments"])
async def test_what_would_be_another_mail_is_refused(api: Api, name: str) -> None:
    check_failure(await send(api, {**MAIL, name: "x"}), 400, f"{name}: is not supported")
    assert (await send(api, {**MAIL, name: ""})).status == 202


async def test_unknown_fields_are_passed_over(api: Api) -> None:
    assert (await send(api, {**MAIL, "campaign": {"id": 7}})).status == 202


@pytest.mark.parametrize("name", MAIL)
@pytest.mark.parametrize("control", CONTROLS)
async def test_no_control_character_passes(api: Api, name: str, control: str) -> None:
    value = f"you{control}@example.com"
    reply = await send(api, {**MAIL, name: value})
    if name == "text" and control != "\x00":
        assert (reply.status, api.door.asked[0].submission.text) == (202, value)
        return
    check_failure(reply, 400, f"{name}: must not hold")
    assert api.door.asked == []


async def test_an_encoded_name_brings_no_line_break(api: Api) -> None:
    await send(api, {**MAIL, "to": "=?utf-8?q?Ann=0D=0ABcc=3A_eve?= <ann@example.org>"})
    (box,) = api.door.asked[0].submission.to
    assert "\r" not in box.name
    assert "\n" not in box.name


# HTTP


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff"])
async def test_bad_json(api: Api, body: bytes) -> None:
    check_failure(await send(api, body), 400)


async def test_a_body_over_the_limit(api: Api) -> None:
    check_failure(await declare(api, PATH, 10_000_000, {"Authorization": KEY}), 413)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(api: Api, method: str) -> None:
    reply = await api.call(method, PATH, key=None)
    check_failure(reply, 405, "POST")
    assert reply.headers["allow"] == "POST"


async def test_head(api: Api) -> None:
    assert (await api.call("HEAD", PATH, key=None)).status == 405


@pytest.mark.parametrize("path", [f"{PATH}/", f"{PATH}/x", "/iassmtp/x"])
async def test_paths_below(api: Api, path: str) -> None:
    check_failure(await api.call("POST", path), 404)


@pytest.mark.parametrize("headers", [{"Content_Type": "text/plain"}, {"Content_Encoding": "gzip"}])
async def test_other_types(api: Api, headers: dict[str, str]) -> None:
    check_failure(await send(api, MAIL, {"Authorization": KEY, **headers}), 415)


async def test_a_slow_body(start: Start) -> None:
    api = await start(body_grace_s=0.05)
    check_failure(await declare(api, PATH, 100, {"Authorization": KEY}), 408)


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
    api.door.keys["limited"] = principal("limited", "send", limits=(Limit(Unit.MESSAGES, 30, 60, 30),))
    api.door.left = (Allowance(Unit.MESSAGES, 30, 60, 30, remaining=29, reset_s=2),)
    reply = await send(api, MAIL, {"Authorization": basic("you", "limited")})
    assert [reply.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["30", "29", "2"]


# The document


def test_the_document_has_the_fields_of_the_decoder() -> None:
    check_table("iassmtp", FIELDS)


async def test_how_many_addresses_are_read(api: Api) -> None:
    """Of memory each takes fifty times what it takes in the request."""
    answer = await send(api, {**MAIL, "to": ["a@b.test," * 3000] * 3})
    assert answer.status == 202
    answer = await send(api, {**MAIL, "to": ["a@b.test," * 3000] * 4})
    assert answer.status == 400
    assert "to: holds more than 10000 addresses" in answer.json["message"]
