"""CloudMails: the examples of its document, every field, every failure in its shape, batches, status."""

import base64
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.api.dialects import cloudmails, cloudmailsrequest
from gateway.api.envelope import Fault
from gateway.config import Config, Limits
from gateway.errors import Problem, Reason, Refused
from gateway.events import State
from gateway.keyterms import Limit, Unit
from gateway.message.model import Attachment, Mailbox, Submission
from gateway.policy.limits import Allowance
from gateway.runtime import rfc3339, show_id, show_uuid
from tests.api.conftest import UUID, Api, Reply, Start, principal
from tests.api.dialects.conftest import ABSENT, CONTROLS, check_table, declare, each_error, post, rows
from tests.api.test_status import AT, SHOWN, message, recipient

SEND = "/v1/send"
BATCH = "/v1/send/batch"
OTHER = "/v1/email/send"
OTHER_BATCH = "/v1/email/batch"
POSTS = (SEND, BATCH, OTHER, OTHER_BATCH)
MAIL: dict[str, Any] = {
    "to": "recipient@example.com",
    "from": "sender@yourdomain.com",
    "subject": "Test Email",
    "html": "<html><body><h1>Hello</h1><p>This is a test email.</p></body></html>",
    "text": "Hello, this is a test email.",
}
ORDER: dict[str, Any] = {
    "subject": "Hello {{name}}",
    "html": "<p>Hi {{name}},</p><p>Your order #{{order_id}} is ready.</p>",
}
MESSAGES: list[Any] = [{"to": "user1@example.com", **ORDER}, {"to": "user2@example.com", **ORDER}]
OTHER_MAIL: dict[str, Any] = {
    "from": "noreply@yourdomain.com",
    **ORDER,
    "recipients": [
        {"to": "john@example.com", "name": "John", "order_id": "12345"},
        {"to": "jane@example.com", "name": "Jane", "order_id": "12346"},
    ],
}
AT_MS = int.from_bytes(UUID[:6], "big")
PDF = base64.b64encode(b"%PDF-1.7").decode()
REQUIRED = ("to", "from", "subject", "html")


async def send(api: Api, document: Any = MAIL, *, path: str = SEND, key: str | None = "full", **headers: str) -> Reply:
    return await post(api, path, document, key=key, **headers)


async def batch(api: Api, messages: Any, *, key: str = "sender", **headers: str) -> Reply:
    return await send(api, {"messages": messages}, path=BATCH, key=key, **headers)


def batched(api: Api) -> list[Submission | Refused]:
    (asked,) = api.door.asked_for_all
    return [item if isinstance(item, Refused) else item[0] for item in asked.items]


def check_failure(reply: Reply, status: int, code: str, *fields: str) -> None:
    """The shape of a failure; `details` is of exactly these fields."""
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"success", "error"}
    assert reply.json["success"] is False
    check_error(reply.json["error"], code, *fields)


def check_error(error: dict[str, Any], code: str, *fields: str) -> None:
    assert error.keys() == {"code", "message", "details"}
    assert error["code"] == code
    assert sorted(detail["field"] for detail in error["details"]) == sorted(fields)
    assert all(detail.keys() == {"field", "message", "code"} for detail in error["details"])


async def test_the_example(api: Api) -> None:
    reply = await send(api)
    assert reply.status == 202
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "success": True,
        "message_id": show_id("msg_", UUID),
        "status": "sent",
        "timestamp": rfc3339(AT_MS),
    }
    (asked,) = api.door.asked
    assert (asked.principal.name, asked.idempotency, asked.peer) == ("full", None, "127.0.0.1")
    submission = asked.submission
    assert submission.to == (Mailbox("", "recipient@example.com"),)
    assert submission.sender == Mailbox("", "sender@yourdomain.com")
    assert (submission.subject, submission.html, submission.text) == (MAIL["subject"], MAIL["html"], MAIL["text"])
    assert submission.variables is None


async def test_the_examples_in_other_languages(api: Api) -> None:
    """Python and JavaScript leave `text` out, PHP sends null for it."""
    least = {name: value for name, value in MAIL.items() if name != "text"}
    assert (await send(api, least)).status == 202
    assert (await send(api, {**least, "text": None})).status == 202
    assert [asked.submission.text for asked in api.door.asked] == [None, None]


@pytest.mark.parametrize("path", [SEND, BATCH, OTHER, OTHER_BATCH, "/v1/emails/x"])
async def test_the_paths_under_its_name(api: Api, path: str) -> None:
    assert (await api.call("PATCH", f"/cloudmails{path}")).status == 405


async def test_every_field(api: Api) -> None:
    reply = await send(
        api,
        {
            **MAIL,
            "to": "Ann <ann@example.org>",
            "reply_to": "Help <help@yourdomain.com>",
            "cc": ["cy@example.org", "Di <di@example.org>"],
            "bcc": ["ed@example.org"],
            "attachments": [
                {"filename": "a.pdf", "content": PDF, "content_type": "application/x-a"},
                {"name": "b.pdf", "content": PDF, "note": "passed over"},
                {"filename": "c.png", "content": PDF, "content_id": "logo"},
            ],
            "custom_args": {"user_id": "12345", "n": 1},
            "variables": {"name": "Ann", "items": [{"x": 1}]},
            "campaign": {"unknown": "passed over"},
        },
    )
    assert reply.status == 202
    submission = api.door.asked[0].submission
    assert submission.to == (Mailbox("Ann", "ann@example.org"),)
    assert submission.reply_to == (Mailbox("Help", "help@yourdomain.com"),)
    assert submission.cc == (Mailbox("", "cy@example.org"), Mailbox("Di", "di@example.org"))
    assert submission.bcc == (Mailbox("", "ed@example.org"),)
    assert submission.attachments == (
        Attachment("a.pdf", b"%PDF-1.7", "application/x-a"),
        Attachment("b.pdf", b"%PDF-1.7", "application/pdf"),
        Attachment("c.png", b"%PDF-1.7", "image/png", "logo", "inline"),
    )
    assert submission.metadata == '{"n":1,"user_id":"12345"}'
    assert submission.variables == {"name": "Ann", "items": [{"x": 1}]}


async def test_a_large_request(api: Api) -> None:
    """Its long strings come to the decoder undecoded."""
    content = base64.b64encode(b"x" * 300_000).decode()
    long = "ä" * 12_000
    mail = {
        **MAIL,
        "attachments": [{"name": "a.txt", "content": content}],
        "variables": {"a": [{"b": long}], "b": long},
    }
    assert (await send(api, mail)).status == 202
    submission = api.door.asked[0].submission
    assert submission.attachments[0].content == b"x" * 300_000
    assert submission.variables == {"a": [{"b": long}], "b": long}


async def test_captured_mail_is_sent(api: Api) -> None:
    api.door.status_word = "captured"
    assert (await send(api)).json["status"] == "sent"


async def test_the_sender_of_the_key(api: Api) -> None:
    mail = {name: value for name, value in MAIL.items() if name != "from"}
    assert (await send(api, mail, key="sender")).status == 202
    assert api.door.asked[0].submission.sender is None
    check_failure(await send(api, mail), 400, "invalid_request", "from")


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["missing", *ABSENT])
async def test_required_fields(api: Api, name: str, value: Any) -> None:
    mail = {key: given for key, given in MAIL.items() if key != name}
    if value != "missing":
        mail[name] = value
    reply = await send(api, mail)
    check_failure(reply, 400, "invalid_request", name)
    assert reply.json["error"]["message"] == f"{name}: is required"
    assert reply.json["error"]["details"][0]["code"] == "missing_parameter"
    assert api.door.asked == []


async def test_null_and_empty_are_absent(api: Api) -> None:
    least = {name: MAIL[name] for name in REQUIRED}
    names = [one.name for one in cloudmailsrequest.table(Limits(), from_required=True) if one.name not in REQUIRED]
    for value in ABSENT:
        assert (await send(api, {**least, **dict.fromkeys(names, value)})).status == 202
    assert (await send(api, least)).status == 202
    assert len({repr(asked.submission) for asked in api.door.asked}) == 1


WRONG: list[tuple[str, Any]] = [
    *[(name, value) for name in ("subject", "html", "text") for value in (1, True, {"a": 1}, ["a"])],
    *[(name, value) for name in ("to", "from", "reply_to") for value in (1, {"email": "a@b.example"}, ["a@b.example"])],
    *[(name, value) for name in ("cc", "bcc") for value in (1, True)],
    *[(name, value) for name in ("attachments", "custom_args", "variables") for value in (1, "a")],
    ("attachments", {"name": "a", "content": PDF}),
    ("custom_args", ["a"]),
    ("variables", ["a"]),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
async def test_wrong_types(api: Api, name: str, value: Any) -> None:
    code = "invalid_recipient" if name in ("to", "cc", "bcc") else "invalid_request"
    check_failure(await send(api, {**MAIL, name: value}), 400, code, name)
    assert api.door.asked == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"attachments": ["a"]}, "attachments[0]"),
        ({"attachments": [{"content": PDF}]}, "attachments[0].filename"),
        ({"attachments": [{"name": "a", "filename": "b", "content": PDF}]}, "attachments[0].name"),
        ({"attachments": [{"name": 7, "content": PDF}]}, "attachments[0].filename"),
        ({"attachments": [{"name": "a"}]}, "attachments[0].content"),
        ({"attachments": [{"name": "a", "content": "not base64!"}]}, "attachments[0].content"),
        ({"attachments": [{"name": "a", "content": PDF, "content_type": "x"}]}, "attachments[0].content_type"),
        ({"attachments": [{"name": "a", "content": PDF, "url": "http://a"}]}, "attachments[0].url"),
        ({"attachments": [{"name": "a", "content": PDF}] * 4}, "attachments"),
        ({"custom_args": {"a": {"b": 1}}}, "custom_args.a"),
        ({"variables": {"a": 2**64}}, "variables.a"),
        ({"variables": {"a": [{"b": float(10**308)}], "c": json.loads("1e999")}}, "variables.c"),
        ({"variables": {"a": json.loads("[" * 16 + "]" * 16)}}, "variables.a"),
        ({"variables": {"a": "x" * 65_536}}, "variables"),
    ],
)
async def test_wrong_values(api: Api, change: dict[str, Any], field: str) -> None:
    body = json.dumps({**MAIL, **change}).replace("Infinity", "1e999").encode()
    check_failure(await send(api, body), 400, "invalid_request", field)
    assert api.door.asked == []


@pytest.mark.parametrize("name", ["to", "cc", "bcc"])
@pytest.mark.parametrize("value", ["nobody", "a@", "@b.example", "a@b.example, c@d.example", "a b@c.example"])
async def test_bad_recipients(api: Api, name: str, value: str) -> None:
    given = value if name == "to" else ["a@b.example", value]
    field = name if name == "to" else f"{name}[1]"
    check_failure(await send(api, {**MAIL, name: given}), 400, "invalid_recipient", field)


async def test_all_problems_at_once(api: Api) -> None:
    reply = await send(api, {"to": "nobody", "subject": "a\nb", "text": 7, "cc": [1]})
    check_failure(reply, 400, "invalid_request", "to", "from", "subject", "html", "text", "cc[0]")
    assert reply.json["error"]["message"] == "from: is required (5 more in details)"


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("name", ["to", "from", "subject", "html", "text", "reply_to", "cc", "bcc", "variables"])
async def test_no_control_character_passes(api: Api, name: str, control: str) -> None:
    value = f"you{control}@yourdomain.com"
    given = {"cc": [value], "bcc": [value], "variables": {"a": value}}.get(name, value)
    reply = await send(api, {**MAIL, name: given})
    if name in ("html", "text", "variables") and control != "\x00":
        assert reply.status == 202  # a body may hold them; of a value, whoever fills it in judges
        return
    field = {"cc": "cc[0]", "bcc": "bcc[0]", "variables": "variables.a"}.get(name, name)
    code = "invalid_recipient" if name in ("to", "cc", "bcc") else "invalid_request"
    check_failure(reply, 400, code, field)
    assert api.door.asked == []


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("name", ["name", "filename", "content", "content_type", "content_id", "disposition"])
async def test_no_control_character_passes_with_an_attachment(api: Api, name: str, control: str) -> None:
    given = {"filename": "a.pdf", "content": PDF, name: f"a{control}b"}
    if name == "name":
        del given["filename"]
    reply = await send(api, {**MAIL, "attachments": [given]})
    check_failure(reply, 400, "invalid_request", f"attachments[0].{name.replace('name', 'filename', name == 'name')}")


async def test_names_of_fields_are_shown_safely(api: Api) -> None:
    reply = await send(api, {**MAIL, "custom_args": {"a\u2028b": []}, "variables": {"c\u2028": 2**64}})
    check_failure(reply, 400, "invalid_request", "custom_args.a\\u2028b", "variables.c\\u2028")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic ZnVsbDpmdWxs", "full"])
async def test_every_401_is_the_same(api: Api, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = await send(api, path=path, key=None, **headers)
    expected = await send(api, key="unknown")
    check_failure(expected, 401, "invalid_api_key")
    assert (reply.status, reply.body, reply.headers["www-authenticate"]) == (401, expected.body, "Bearer")


async def test_a_key_that_may_not(api: Api) -> None:
    for path in POSTS:
        check_failure(await send(api, path=path, key="reader"), 403, "forbidden")
    check_failure(await api.call("GET", f"/v1/emails/{show_id('msg_', UUID)}", key="sender"), 403, "forbidden")


async def test_a_sender_that_is_not_verified(api: Api) -> None:
    api.door.error = Refused(Reason.SENDER_NOT_ALLOWED, "not as you", param="from")
    check_failure(await send(api), 403, "domain_not_verified", "from")


async def test_a_template_that_fails_is_told_under_our_names(api: Api) -> None:
    api.door.error = Refused(Reason.TEMPLATE_ERROR, "html_body: line 1: name has no value", param="html_body")
    reply = await send(api)
    check_failure(reply, 400, "invalid_request", "html")
    assert reply.json["error"]["message"] == "html: line 1: name has no value"
    problems = [Problem("text_body", "a"), Problem("subject", "b")]
    api.door.error = Refused(Reason.TEMPLATE_ERROR, "text_body: a (1 more)", param="text_body", problems=problems)
    check_failure(await send(api), 400, "invalid_request", "text", "subject")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff"])
async def test_bad_json(api: Api, path: str, body: bytes) -> None:
    check_failure(await send(api, body, path=path), 400, "invalid_request")


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_over_the_limit(api: Api, path: str) -> None:
    reply = await declare(api, path, 10_000_000, {"Authorization": "Bearer full"})
    check_failure(reply, 413, "payload_too_large")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods(api: Api, path: str, method: str) -> None:
    reply = await api.call(method, path)
    check_failure(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


async def test_head(api: Api) -> None:
    api.door.messages["full-account", UUID] = message(recipient(State.QUEUED))
    assert (await api.call("HEAD", SEND)).status == 405
    assert (await api.call("HEAD", f"/v1/emails/{show_id('msg_', UUID)}")).status == 200
    reply = await api.call("POST", "/v1/emails/msg_x")
    check_failure(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/v1/send/", "/v1/nothing", "/cloudmails/x", "/v1/domains", "/v1/webhooks"])
async def test_other_paths(api: Api, path: str) -> None:
    check_failure(await api.call("POST", path), 404, "not_found")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("headers", [{"Content_Type": "text/plain"}, {"Content_Encoding": "gzip"}])
async def test_other_types(api: Api, path: str, headers: dict[str, str]) -> None:
    check_failure(await send(api, path=path, **headers), 415, "unsupported_media_type")


async def test_a_slow_body(start: Start) -> None:
    api = await start(body_grace_s=0.05)
    check_failure(await declare(api, SEND, 100, {"Authorization": "Bearer full"}), 408, "request_timeout")


@each_error
@pytest.mark.parametrize("path", [SEND, BATCH])
async def test_errors_of_the_door(
    api: Api, path: str, error: Exception, status: int, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    api.door.error = error
    with caplog.at_level(logging.CRITICAL, "gateway.api"):
        reply = await send(api, MAIL if path == SEND else {"messages": [MAIL]}, path=path)
    assert (reply.status, reply.headers.get("retry-after")) == (status, retry_after)
    assert (reply.json["success"], reply.json["error"].keys()) == (False, {"code", "message", "details"})
    assert b"secret" not in reply.body
    assert b"/var" not in reply.body


async def test_what_is_left_of_a_limit(api: Api) -> None:
    api.door.keys["limited"] = principal("limited", "send", limits=(Limit(Unit.MESSAGES, 30, 60, 30),))
    api.door.left = (Allowance(Unit.MESSAGES, 30, 60, 30, remaining=29, reset_s=2),)
    reply = await send(api, key="limited")
    assert [reply.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["30", "29", "2"]


async def test_one_name_for_a_request(api: Api) -> None:
    await send(api, Idempotency_Key="k")
    await send(api, {**MAIL, "cc": []}, Idempotency_Key='"k"')
    await send(api, {**MAIL, "subject": "Another"}, Idempotency_Key="k")
    names = [asked.idempotency for asked in api.door.asked]
    assert names[0] is not None
    assert names[0] == names[1]
    assert names[2] is not None
    assert (names[2][0], names[2][1] != names[0][1]) == ("k", True)
    check_failure(await send(api, Idempotency_Key=""), 400, "invalid_request", "Idempotency-Key")


async def test_a_replay_is_marked(api: Api) -> None:
    api.door.replayed = True
    for reply in (await send(api, Idempotency_Key="k"), await batch(api, [MAIL], Idempotency_Key="k")):
        assert (reply.status, reply.headers["idempotent-replayed"]) == (202, "true")


async def test_another_request_of_the_same_name(api: Api) -> None:
    api.door.error = Refused(Reason.IDEMPOTENCY_CONFLICT, "used", param="Idempotency-Key")
    check_failure(await send(api, Idempotency_Key="k"), 409, "idempotency_conflict", "Idempotency-Key")


async def test_the_example_of_a_batch(api: Api) -> None:
    """Without variables the text stays as it is; without `from` the key's own is taken."""
    reply = await batch(api, MESSAGES)
    ids = [show_id("msg_", UUID[:-2] + index.to_bytes(2, "big")) for index in range(2)]
    results = [{"index": 0, "message_id": ids[0]}, {"index": 1, "message_id": ids[1]}]
    assert (reply.status, reply.json) == (202, {"success": True, "accepted": 2, "results": results})
    first, second = batched(api)
    assert isinstance(first, Submission)
    assert isinstance(second, Submission)
    assert (first.sender, first.variables, first.html) == (None, None, ORDER["html"])
    assert [first.to[0].address, second.to[0].address] == ["user1@example.com", "user2@example.com"]


async def test_variables_of_a_batch(api: Api) -> None:
    values = {"name": "Ann", "order_id": 7}
    assert (await batch(api, [{**MESSAGES[0], "variables": values}, MESSAGES[1]])).json["accepted"] == 2
    assert [item.variables for item in batched(api) if isinstance(item, Submission)] == [values, None]


async def test_a_bad_message_fails_alone(api: Api) -> None:
    bad = [{**MESSAGES[0], "to": "nobody", "subject": 7}, "no object", None]
    reply = await batch(api, [MESSAGES[0], *bad, MESSAGES[1]])
    assert (reply.status, reply.json["accepted"]) == (202, 2)
    results = reply.json["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4]
    assert [result.keys() for result in results] == [
        {"index", "message_id"},
        *[{"index", "error"}] * 3,
        {"index", "message_id"},
    ]
    check_error(results[1]["error"], "invalid_request", "to", "subject")
    check_error(results[2]["error"], "invalid_request")
    assert results[3]["error"]["message"] == "An entry must be an object, got null."


async def test_messages_without_a_sender(api: Api) -> None:
    reply = await batch(api, [MESSAGES[0], MAIL], key="full")
    assert reply.json["accepted"] == 1
    check_error(reply.json["results"][0]["error"], "invalid_request", "from")


async def test_a_batch_of_nothing_good(api: Api) -> None:
    reply = await batch(api, [{}, {}])
    assert (reply.status, reply.json["success"], reply.json["accepted"]) == (202, True, 0)


@pytest.mark.parametrize(("path", "name"), [(BATCH, "messages"), (OTHER_BATCH, "recipients")])
@pytest.mark.parametrize("value", ["missing", *ABSENT, {}, "a", 7, [{}] * 1001])
async def test_what_is_no_batch(api: Api, path: str, name: str, value: Any) -> None:
    document = {key: given for key, given in OTHER_MAIL.items() if key != "recipients"} if path == OTHER_BATCH else {}
    if value != "missing":
        document[name] = value
    check_failure(await send(api, document, path=path), 400, "invalid_request", name)
    assert not api.door.asked_for_all


async def test_a_thousand_messages(api: Api, config: Config, start: Start) -> None:
    assert (await batch(api, [MESSAGES[0]] * 1000)).json["accepted"] == 1000
    fewer = await start(replace(config, limits=Limits(batch=2)))
    check_failure(await batch(fewer, [MESSAGES[0]] * 3), 400, "invalid_request", "messages")
    more = await start(replace(config, limits=Limits(batch=2000)))
    check_failure(await batch(more, [MESSAGES[0]] * 1001), 400, "invalid_request", "messages")


async def test_one_name_for_a_batch(api: Api) -> None:
    for messages in (MESSAGES, [{"cc": [], **one} for one in MESSAGES], MESSAGES[:1], [*MESSAGES, "x"]):
        await batch(api, messages, Idempotency_Key="k")
    digests = [asked.request[1] for asked in api.door.asked_for_all if asked.request]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("prefix", ["msg_", "eml_", "uuid"])
async def test_status(api: Api, prefix: str) -> None:
    views = (recipient(State.DELIVERED, opens=2), recipient(State.DELIVERED, opens=1, clicks=4, updated_at=AT + 1000))
    api.door.messages["full-account", UUID] = message(*views)
    shown = show_uuid(UUID) if prefix == "uuid" else show_id(prefix, UUID)
    reply = await api.call("GET", f"/v1/emails/{shown}")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "message_id": show_id("msg_", UUID),
        "status": "delivered",
        "created_at": SHOWN,
        "delivered_at": rfc3339(AT + 1000),
        "bounce_reason": None,
        "opens": 3,
        "clicks": 4,
    }


@pytest.mark.parametrize("state", State)
async def test_every_state_has_a_word(api: Api, state: State) -> None:
    api.door.messages["full-account", UUID] = message(recipient(state))
    reply = await api.call("GET", f"/v1/emails/{show_id('msg_', UUID)}")
    words = {row[0]: row[1].strip("`") for row in rows("cloudmails", "| state here | `status` |")}
    assert reply.json["status"] == words[state]
    lost = (State.BOUNCED, State.FAILED, State.SUPPRESSED, State.CANCELLED)
    assert reply.json["bounce_reason"] == (state if state in lost else None)


async def test_a_bounce_has_its_reason(api: Api) -> None:
    bounced = recipient(State.BOUNCED, reply="550 5.1.1 no such user")
    api.door.messages["full-account", UUID] = message(recipient(State.DELIVERED), bounced)
    reply = await api.call("GET", f"/v1/emails/{show_id('msg_', UUID)}")
    assert (reply.json["status"], reply.json["delivered_at"]) == ("bounced", None)
    assert reply.json["bounce_reason"] == "550 5.1.1 no such user"


@pytest.mark.parametrize("shown", ["msg_abc123xyz", "msg_" + "z" * 24, "x", "%00", "msg_%0d%0a"])
async def test_ids_that_are_none(api: Api, shown: str) -> None:
    check_failure(await api.call("GET", f"/v1/emails/{shown}"), 404, "not_found")


async def test_messages_of_another_account(api: Api) -> None:
    api.door.messages["reader-account", UUID] = message(recipient(State.QUEUED))
    path = f"/v1/emails/{show_id('msg_', UUID)}"
    mine = await api.call("GET", path)
    check_failure(mine, 404, "not_found")
    assert mine.body == (await api.call("GET", "/v1/emails/nothing")).body
    assert (await api.call("GET", path, key="reader")).status == 200
    check_failure(await api.call("GET", path, key=None), 401, "invalid_api_key")


async def test_the_other_page(api: Api) -> None:
    mail = {**MAIL, "reply_to": "r@yourdomain.com", "attachments": [{"name": "invoice.pdf", "content": PDF}]}
    reply = await send(api, {**mail, "variables": {"user_name": "John"}}, path=OTHER)
    told = {"success": True, "message_id": show_id("msg_", UUID), "timestamp": AT_MS // 1000}
    assert (reply.status, reply.json) == (202, told)
    submission = api.door.asked[0].submission
    assert submission.attachments == (Attachment("invoice.pdf", b"%PDF-1.7", "application/pdf"),)
    assert submission.variables == {"user_name": "John"}


async def test_the_batch_of_the_other_page(api: Api) -> None:
    reply = await send(api, OTHER_MAIL, path=OTHER_BATCH)
    assert (reply.status, reply.json["accepted"]) == (202, 2)
    assert [result.keys() for result in reply.json["results"]] == [{"index", "message_id"}] * 2
    first, second = batched(api)
    assert isinstance(first, Submission)
    assert isinstance(second, Submission)
    assert first.to == (Mailbox("John", "john@example.com"),)
    assert first.variables == {"name": "John", "order_id": "12345"}
    assert second == replace(
        first, to=(Mailbox("Jane", "jane@example.com"),), variables={"name": "Jane", "order_id": "12346"}
    )


async def test_recipients_that_are_wrong_fail_alone(api: Api) -> None:
    given = [
        {"to": "ann@example.org"},
        {"name": "Bob"},
        {"to": "nobody", "n": 2**64},
        {"to": "a@b.example", "name": "x\r\nBcc: eve@example.net"},
        "cy@example.org",
        {"to": "Dee <dee@example.org>"},
    ]
    reply = await send(api, {**OTHER_MAIL, "recipients": given}, path=OTHER_BATCH)
    results = reply.json["results"]
    assert reply.json["accepted"] == 2
    check_error(results[1]["error"], "invalid_request", "to")
    check_error(results[2]["error"], "invalid_recipient", "to", "recipient.n")
    check_error(results[3]["error"], "invalid_request", "name")
    check_error(results[4]["error"], "invalid_request")
    entries = [item for item in batched(api) if isinstance(item, Submission)]
    assert [(entry.to, entry.variables) for entry in entries] == [
        ((Mailbox("", "ann@example.org"),), None),
        ((Mailbox("Dee", "dee@example.org"),), None),
    ]


async def test_what_all_recipients_share_stops_the_batch(api: Api) -> None:
    reply = await send(api, {**OTHER_MAIL, "subject": "a\nb", "cc": ["a@b.example"], "html": None}, path=OTHER_BATCH)
    check_failure(reply, 400, "invalid_request", "subject", "cc", "html")
    assert not api.door.asked_for_all


async def test_a_batch_that_is_small_but_comes_to_much(api: Api) -> None:
    mail = {**OTHER_MAIL, "html": "x" * 10_000, "recipients": [{"to": "ann@example.org"}] * 101}
    check_failure(await send(api, mail, path=OTHER_BATCH), 413, "payload_too_large", "recipients")
    mail["recipients"] = mail["recipients"][:100]
    assert (await send(api, mail, path=OTHER_BATCH)).json["accepted"] == 100


def test_the_document_has_the_fields_of_the_decoder() -> None:
    check_table("cloudmails", cloudmailsrequest.table(Limits(), from_required=True))
    shared = {one.name for one in cloudmailsrequest.shared_table(Limits(), from_required=True)} | {"recipients"}
    listed = rows("cloudmails", "| field of a batch | type | supported | what happens |")
    assert {name.strip(" `") for row in listed for name in row[0].split(",")} == shared


async def test_the_document_has_the_members_of_an_attachment(api: Api) -> None:
    documented = {row[0]: row[2] for row in rows("cloudmails", "| member | type | supported | what happens |")}
    assert documented.keys() == cloudmailsrequest.ATTACHMENT
    for name, supported in documented.items():
        given = {"content": PDF, **({} if name == "name" else {"filename": "a.pdf"})}
        samples = {"content": PDF, "content_type": "a/b", "type": "a/b", "disposition": "inline", "encoding": "base64"}
        reply = await send(api, {**MAIL, "attachments": [{**given, name: samples.get(name, "x")}]})
        assert reply.status == (400 if supported == "no" else 202), name


def test_the_document_has_every_code() -> None:
    documented = {(row[0], row[1]) for row in rows("cloudmails", "| status | `code` | when |")}
    told = {(str(fault.value[0]), code) for fault, code in cloudmails.FAULT_CODES.items()}
    for reason in Reason:
        answer = cloudmails.refusal(Refused(reason, "x", param="to"), "req_1")
        told.add((str(answer.status), json.loads(answer.body)["error"]["code"]))
        assert answer.status != 422
    assert told - {("409", "conflict")} == documented  # nothing here has a name that can be taken
    assert cloudmails.FAULT_CODES.keys() == set(Fault)
