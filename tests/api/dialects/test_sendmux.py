"""Sendmux: its examples at the root and on the vendor's strict paths, every field, limit and failure."""

import base64
import json
import logging
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.api.dialects import sendmux
from gateway.api.envelope import Fault, HttpError
from gateway.config import Config, Dialects, Limits
from gateway.errors import Reason, Refused
from gateway.keyterms import Limit, Unit
from gateway.message.model import Attachment, Mailbox, Submission
from gateway.policy.limits import Allowance
from gateway.runtime import show_id
from tests.api.conftest import UUID, Api, Reply, Start, principal
from tests.api.dialects.conftest import ABSENT, CONTROLS, DOCS, declare, post, rows

ROOT = "/api/v1/emails/send"
SEND = f"/sendmux{ROOT}"
BATCH = f"{SEND}/batch"
MAIL: dict[str, Any] = {
    "from": {"email": "hello@example.com", "name": "Your App"},
    "to": {"email": "user@example.com", "name": "Jane Doe"},
    "subject": "Welcome",
    "html_body": "<p>Thanks for signing up.</p>",
    "text_body": "Thanks for signing up.",
}
MESSAGES: list[Any] = [
    {
        "from": {"email": "hello@example.com"},
        "to": {"email": "alice@example.com"},
        "subject": "Hello Alice",
        "html_body": "<p>Hi Alice.</p>",
    },
    {
        "from": {"email": "hello@example.com"},
        "to": {"email": "bob@example.com"},
        "subject": "Hello Bob",
        "html_body": "<p>Hi Bob.</p>",
    },
]
PDF = base64.b64encode(b"%PDF-1.7").decode()
FILE = {"filename": "a.pdf", "content": PDF}
REQUIRED = ("from", "to", "subject", "html_body")


@pytest.fixture
def config(config: Config) -> Config:
    return replace(config, limits=Limits())


async def send(api: Api, document: Any = MAIL, *, path: str = SEND, key: str | None = "full", **headers: str) -> Reply:
    return await post(api, path, document, key=key, **headers)


async def batch(api: Api, messages: Any, *, path: str = BATCH, key: str = "full", **headers: str) -> Reply:
    return await send(api, {"messages": messages}, path=path, key=key, **headers)


def sent(api: Api) -> Submission:
    return api.door.asked[-1].submission


def check_failure(reply: Reply, status: int, code: str, *fields: str) -> None:
    """The shape of a failure; `errors` is of exactly these fields."""
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json.keys() == {"ok", "error", "meta"}
    assert (reply.json["ok"], reply.json["meta"]) == (False, {"request_id": reply.headers["x-request-id"]})
    check_error(reply.json["error"], code, *fields)
    assert reply.json["error"]["retryable"] is (status in (408, 429, 500, 503))


def check_error(error: dict[str, Any], code: str, *fields: str) -> None:
    assert error.keys() == {"code", "message", "param", "retryable", "doc_url", "errors"}
    assert error["code"] == code
    assert sorted(problem["field"] for problem in error["errors"]) == sorted(fields)
    assert error["doc_url"].endswith(f"#error-{code}")


@pytest.mark.parametrize("path", [ROOT, SEND])
async def test_the_example(api: Api, path: str) -> None:
    reply = await send(api, path=path)
    assert (reply.status, reply.headers["content-type"]) == (201, "application/json")
    assert reply.json["ok"] is True
    assert reply.json["data"]["message_id"] == show_id("eml_", UUID)
    assert re.fullmatch(r"eml_[a-z0-9]{24}", reply.json["data"]["message_id"])
    assert reply.json["data"]["status"] == "queued"
    assert reply.json["meta"] == {"request_id": reply.headers["x-request-id"]}
    submission = sent(api)
    assert submission.sender == Mailbox("Your App", "hello@example.com")
    assert submission.to == (Mailbox("Jane Doe", "user@example.com"),)
    assert (submission.subject, submission.html) == ("Welcome", "<p>Thanks for signing up.</p>")
    assert submission.text == "Thanks for signing up."


@pytest.mark.parametrize("path", [f"{ROOT}/batch", BATCH])
async def test_the_example_of_a_batch(api: Api, path: str) -> None:
    reply = await batch(api, MESSAGES, path=path)
    ids = [show_id("eml_", UUID[:-2] + index.to_bytes(2, "big")) for index in range(2)]
    assert (reply.status, reply.json["ok"]) == (201, True)
    assert reply.json["data"] == {
        "results": [{"index": index, "message_id": shown, "status": "queued"} for index, shown in enumerate(ids)],
        "summary": {"total": 2, "queued": 2, "failed": 0},
    }


async def test_the_status_that_generated_clients_read(config: Config, start: Start) -> None:
    api = await start(replace(config, dialects=Dialects(sendmux_success_status=200)))
    assert (await send(api)).status == 200
    assert (await batch(api, MESSAGES)).status == 200


async def test_no_answer_is_kept(api: Api) -> None:
    for reply in (await send(api), await batch(api, MESSAGES), await send(api, b"{")):
        assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("word", ["captured", "scheduled"])
async def test_what_was_taken_is_queued(api: Api, word: str) -> None:
    api.door.status_word = word
    assert (await send(api)).json["data"]["status"] == "queued"
    assert (await batch(api, MESSAGES[:1])).json["data"]["results"][0]["status"] == "queued"


FIELDS: dict[str, tuple[Any, str, Any]] = {
    "from": ({"email": "a@example.com"}, "sender", Mailbox("", "a@example.com")),
    "to": ({"email": "a@example.com"}, "to", (Mailbox("", "a@example.com"),)),
    "subject": ("Grüße", "subject", "Grüße"),
    "html_body": ("<b>a</b>", "html", "<b>a</b>"),
    "text_body": ("a", "text", "a"),
    "reply_to": ({"email": "a@example.com", "name": "A"}, "reply_to", (Mailbox("A", "a@example.com"),)),
    "return_path": ("bounce@example.com", "return_path", "bounce@example.com"),
    "cc": ([{"email": "a@example.com"}], "cc", (Mailbox("", "a@example.com"),)),
    "bcc": ([{"email": "a@example.com"}], "bcc", (Mailbox("", "a@example.com"),)),
    "custom_headers": ({"X-Campaign": "spring"}, "headers", (("X-Campaign", "spring"),)),
    "attachments": ([FILE], "attachments", (Attachment("a.pdf", b"%PDF-1.7", "application/pdf"),)),
}


@pytest.mark.parametrize("name", FIELDS)
async def test_every_field(api: Api, name: str) -> None:
    given, attribute, meant = FIELDS[name]
    assert (await send(api, {**MAIL, name: given})).status == 201
    assert getattr(sent(api), attribute) == meant


async def test_every_member_of_an_attachment(api: Api) -> None:
    given = {**FILE, "type": "text/plain", "encoding": "base64"}
    assert (await send(api, {**MAIL, "attachments": [given]})).status == 201
    assert sent(api).attachments == (Attachment("a.pdf", b"%PDF-1.7", "text/plain"),)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["missing", *ABSENT])
async def test_required_fields(api: Api, name: str, value: Any) -> None:
    mail = {key: given for key, given in MAIL.items() if key != name}
    if value != "missing":
        mail[name] = value
    reply = await send(api, mail)
    assert reply.json["error"]["code"] == "missing_parameter"
    assert (reply.status, reply.json["error"]["param"]) == (400, name)
    assert api.door.asked == []


async def test_the_native_path_takes_more(api: Api) -> None:
    mail = {"to": ["a@example.org", "b@example.org"], "text": "x", "headers": {"List-Id": "<a.example.com>"}}
    assert (await send(api, mail, path=ROOT, key="sender")).status == 201
    reply = await send(api, mail, key="sender")
    check_failure(reply, 400, "missing_parameter", "from", "subject", "html_body", "to", "headers.List-Id")


BOX = {"email": "a@example.org"}
OVER: list[tuple[dict[str, Any], str]] = [
    ({"to": [BOX] * 2}, "to"),
    ({"cc": [BOX] * 101}, "cc"),
    ({"bcc": [BOX] * 101}, "bcc"),
    ({"reply_to": [BOX] * 2}, "reply_to"),
    ({"from": {**BOX, "name": "x" * 101}}, "from"),
    ({"to": {**BOX, "name": "x" * 101}}, "to"),
    ({"cc": [BOX, {**BOX, "name": "x" * 101}]}, "cc[1]"),
    ({"subject": "x" * 999}, "subject"),
    ({"custom_headers": {"List-Id": "a"}}, "custom_headers.List-Id"),
    ({"custom_headers": {"X-A": "x" * 501}}, "custom_headers.X-A"),
    ({"attachments": [FILE] * 11}, "attachments"),
    ({"attachments": [FILE, {**FILE, "filename": "a.exe"}]}, "attachments[1].filename"),
    ({"attachments": [{**FILE, "filename": "a.pdf.zip"}]}, "attachments[0].filename"),
    ({"attachments": [{**FILE, "filename": "x" * 252 + ".pdf"}]}, "attachments[0].filename"),
    ({"from": {"email": "a" * 250 + "@example.org"}}, "from.email"),
    ({"idempotency_key": "x" * 256}, "idempotency_key"),
    ({"idempotency_key": "not this"}, "idempotency_key"),
]


@pytest.mark.parametrize(("change", "field"), OVER, ids=range(len(OVER)))
async def test_over_the_limits_of_the_vendor(api: Api, change: dict[str, Any], field: str) -> None:
    check_failure(await send(api, {**MAIL, **change}), 422, "validation_error", field)
    assert api.door.asked == []


AT_MOST: list[dict[str, Any]] = [
    {"to": [BOX]},
    {"cc": [BOX] * 100, "bcc": [BOX] * 100},
    {"from": {**BOX, "name": "x" * 100}},
    {"subject": "x" * 998},
    {"custom_headers": {"x-a": "x" * 500}},
    {"attachments": [{**FILE, "filename": "A.PDF"}] * 10},
]


@pytest.mark.parametrize("change", AT_MOST, ids=range(len(AT_MOST)))
async def test_at_the_limits_of_the_vendor(api: Api, change: dict[str, Any]) -> None:
    assert (await send(api, {**MAIL, **change})).status == 201


@pytest.mark.parametrize("name", [*FIELDS, "idempotency_key"])
@pytest.mark.parametrize("value", [7, True, [7], {"a": 7}])
async def test_wrong_types(api: Api, name: str, value: Any) -> None:
    reply = await send(api, {**MAIL, name: value})
    assert (reply.status, reply.json["error"]["code"]) in (
        (400, "invalid_parameter"),
        (400, "missing_parameter"),
        (422, "validation_error"),
    )
    assert reply.json["error"]["param"].startswith(name)
    assert api.door.asked == []


@pytest.mark.parametrize("group", ["eu", ["eu", "us"]])
async def test_the_way_cannot_be_chosen(api: Api, group: Any) -> None:
    check_failure(await send(api, {**MAIL, "delivery_group": group}), 422, "not_supported", "delivery_group")
    assert (await send(api, {**MAIL, "delivery_group": None})).status == 201


async def test_what_cannot_be_attached(api: Api) -> None:
    given = {"attachment_id": "att_" + "a" * 24}
    reply = await send(api, {**MAIL, "attachments": [given]})
    assert "not_supported" in {problem["code"] for problem in reply.json["error"]["errors"]}
    for path in ("/sendmux/api/v1/emails/attachments", "/sendmux/api/v1/emails/attachment-uploads"):
        check_failure(await send(api, {}, path=path), 404, "not_found")


async def test_unknown_fields_are_named(api: Api) -> None:
    reply = await send(api, {**MAIL, "subjct": "x"})
    check_failure(reply, 400, "invalid_parameter", "subjct")
    assert "did you mean subject?" in reply.json["error"]["message"]


async def test_all_problems_at_once(api: Api) -> None:
    reply = await send(api, {"from": {"email": 7}, "to": {"email": "nobody"}, "subject": "a\nb", "cc": "x"})
    check_failure(
        reply, 400, "invalid_parameter", *("from.email", "to.email", "subject", "cc", "html_body", "text_body")
    )


@pytest.mark.parametrize("control", CONTROLS)
async def test_no_control_character_passes(api: Api, control: str) -> None:
    value = f"you{control}@example.org"
    given: dict[str, Any] = {
        "from": {"email": value},
        "to": {"email": "a@example.org", "name": value},
        "cc": [{"email": value}],
        "bcc": [value],
        "reply_to": {"email": "a@example.org", "name": value},
        "subject": value,
        "return_path": value,
        "custom_headers": {"X-A": value},
        "attachments": [{**FILE, "filename": f"{value}.pdf"}, {**FILE, "type": value}],
        "idempotency_key": value,
    }
    fields = {
        *("from.email", "to.name", "cc[0].email", "bcc[0]", "reply_to.name", "subject", "return_path"),
        *("custom_headers.X-A", "attachments[0].filename", "attachments[1].type", "idempotency_key"),
    }
    reply = await send(api, {**MAIL, **given})
    assert reply.status == 422
    assert {problem["field"] for problem in reply.json["error"]["errors"]} == fields
    header = await send(api, {**MAIL, "custom_headers": {f"X-A{control}B": "x"}})
    assert header.status == 422
    assert api.door.asked == []


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("name", ["html_body", "text_body"])
async def test_bodies_have_many_lines(api: Api, name: str, control: str) -> None:
    reply = await send(api, {**MAIL, name: f"a{control}b"})
    if control == "\x00":
        check_failure(reply, 422, "validation_error", name)
    else:
        assert reply.status == 201


@pytest.mark.parametrize("path", [SEND, BATCH])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic ZnVsbDpmdWxs", "full"])
async def test_every_401_is_the_same(api: Api, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = await send(api, path=path, key=None, X_Request_Id="req_1", **headers)
    expected = await send(api, key="unknown", X_Request_Id="req_1")
    check_failure(expected, 401, "authentication_required")
    assert (reply.status, reply.body, reply.headers["www-authenticate"]) == (401, expected.body, "Bearer")


async def test_a_key_that_may_not_send(api: Api) -> None:
    for path in (SEND, BATCH):
        check_failure(await send(api, path=path, key="reader"), 403, "insufficient_permissions")


@pytest.mark.parametrize("path", [SEND, BATCH])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff"])
async def test_bad_json(api: Api, path: str, body: bytes) -> None:
    check_failure(await send(api, body, path=path), 400, "invalid_json")


@pytest.mark.parametrize("path", [SEND, BATCH])
async def test_a_body_over_the_limit(api: Api, path: str) -> None:
    reply = await declare(api, path, 10_000_000, {"Authorization": "Bearer full"})
    check_failure(reply, 413, "payload_too_large")


@pytest.mark.parametrize("path", [SEND, BATCH])
async def test_other_methods(api: Api, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        reply = await api.call(method, path)
        check_failure(reply, 405, "method_not_allowed")
        assert reply.headers["allow"] == "POST"
    assert (await api.call("HEAD", path)).status == 405


@pytest.mark.parametrize("path", ["/sendmux/x", f"{SEND}/", "/sendmux/api/v1/openapi.json"])
async def test_other_paths(api: Api, path: str) -> None:
    check_failure(await api.call("GET", path), 404, "not_found")


@pytest.mark.parametrize("path", [SEND, BATCH])
@pytest.mark.parametrize("headers", [{"Content_Type": "text/plain"}, {"Content_Encoding": "gzip"}])
async def test_other_types(api: Api, path: str, headers: dict[str, str]) -> None:
    check_failure(await send(api, path=path, **headers), 415, "unsupported_media_type")


async def test_a_slow_body(start: Start) -> None:
    api = await start(body_grace_s=0.05)
    check_failure(await declare(api, SEND, 100, {"Authorization": "Bearer full"}), 408, "request_timeout")


@pytest.mark.parametrize("path", [SEND, BATCH])
@pytest.mark.parametrize("reason", Reason)
async def test_what_the_door_refuses(api: Api, path: str, reason: Reason) -> None:
    api.door.error = Refused(
        reason, "for a reason", param="from", retry_after_s=7 if reason.answer.http >= 429 else None
    )
    reply = await send(api, MAIL if path == SEND else {"messages": [MAIL]}, path=path)
    fields = () if reason is Reason.AUTHENTICATION_REQUIRED else ("from",)
    check_failure(reply, reason.answer.http, reason.code, *fields)
    assert reply.headers.get("retry-after") == ("7" if reason.answer.http >= 429 else None)


async def test_a_failure_inside(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.door.error = RuntimeError("secret detail")
    with caplog.at_level(logging.CRITICAL, "gateway.api"):
        reply = await send(api)
    check_failure(reply, 500, "internal_error")
    assert b"secret" not in reply.body


async def test_what_is_left_of_a_limit(api: Api) -> None:
    api.door.keys["limited"] = principal("limited", "send", limits=(Limit(Unit.REQUESTS, 1800, 60, 1800),))
    api.door.left = (
        Allowance(Unit.MESSAGES, 30, 60, 30, remaining=29, reset_s=2),
        Allowance(Unit.REQUESTS, 1800, 60, 1800, remaining=900, reset_s=30),
    )
    before = int(time.time())
    reply = await send(api, key="limited")
    assert (reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"]) == ("1800", "900")
    assert before + 30 <= int(reply.headers["x-ratelimit-reset"]) <= time.time() + 30


async def test_a_bad_message_fails_alone(api: Api) -> None:
    bad = [{**MESSAGES[0], "to": {"email": "nobody"}, "subject": "x" * 999}, "no object", {}]
    reply = await batch(api, [MESSAGES[0], *bad, MESSAGES[1]])
    data = reply.json["data"]
    assert (reply.status, data["summary"]) == (201, {"total": 5, "queued": 2, "failed": 3})
    assert [result["index"] for result in data["results"]] == [0, 1, 2, 3, 4]
    assert [result["status"] for result in data["results"]] == ["queued", *["failed"] * 3, "queued"]
    assert [result["message_id"] is None for result in data["results"]] == [False, True, True, True, False]
    check_error(data["results"][1]["error"], "validation_error", "to.email", "subject")
    check_error(data["results"][2]["error"], "invalid_parameter")
    assert "error" not in data["results"][0]


@pytest.mark.parametrize(
    ("messages", "status", "code"),
    [
        ([], 400, "missing_parameter"),
        (None, 400, "missing_parameter"),
        ({}, 400, "invalid_parameter"),
        ("a", 400, "invalid_parameter"),
        ([MAIL] * 101, 422, "validation_error"),
    ],
)
async def test_what_is_no_batch(api: Api, messages: Any, status: int, code: str) -> None:
    check_failure(await batch(api, messages), status, code, "messages")
    assert not api.door.asked_for_all


async def test_a_hundred_messages(api: Api, config: Config, start: Start) -> None:
    assert (await batch(api, [MAIL] * 100)).json["data"]["summary"]["queued"] == 100
    fewer = await start(replace(config, limits=Limits(batch=2)))
    check_failure(await batch(fewer, [MAIL] * 3), 422, "validation_error", "messages")


async def test_one_name_for_a_request(api: Api) -> None:
    await send(api, Idempotency_Key="k")
    await send(api, {**MAIL, "cc": []}, Idempotency_Key='"k"')
    await send(api, {**MAIL, "idempotency_key": "k"})
    await send(api, {**MAIL, "subject": "Another"}, Idempotency_Key="k")
    names = [asked.idempotency for asked in api.door.asked]
    assert names[0] is not None
    assert names[0] == names[1] == names[2] != names[3]
    other = await send(api, {**MAIL, "idempotency_key": "j"}, Idempotency_Key="k")
    check_failure(other, 400, "invalid_parameter", "idempotency_key")
    check_failure(await send(api, Idempotency_Key="x" * 256), 400, "invalid_parameter", "Idempotency-Key")


async def test_replays_are_marked(api: Api) -> None:
    api.door.replayed = True
    by_header = await send(api, Idempotency_Key="k")
    assert (by_header.status, by_header.headers["idempotent-replayed"]) == (201, "true")
    assert (await send(api, {**MAIL, "idempotency_key": "k"})).json["data"]["idempotent"] is True
    named = await batch(api, [{**MESSAGES[0], "idempotency_key": "a"}])
    assert named.json["data"]["results"][0]["idempotent"] is True
    whole = await batch(api, MESSAGES, Idempotency_Key="k")
    assert (whole.status, whole.headers["idempotent-replayed"]) == (201, "true")


async def test_names_of_single_messages(api: Api) -> None:
    await batch(api, [{**MESSAGES[0], "idempotency_key": "a"}, MESSAGES[1]])
    (asked,) = api.door.asked_for_all
    names = [item[1][0] if not isinstance(item, Refused) and item[1] else None for item in asked.items]
    assert (names, asked.request) == (["a", None], None)


async def test_the_document_has_the_fields_of_the_decoder(api: Api) -> None:
    documented = {row[0]: row[2] for row in rows("sendmux", "| field | type | supported | what happens |")}
    samples = {**{name: sample[0] for name, sample in FIELDS.items()}, "idempotency_key": "k", "delivery_group": "eu"}
    assert documented.keys() == samples.keys()
    for name, supported in documented.items():
        status = (await send(api, {**MAIL, name: samples[name]})).status
        assert (supported, status) in (("yes", 201), ("no", 422)), name


async def test_the_document_has_what_is_required(api: Api) -> None:
    texts = {row[0]: row[3] for row in rows("sendmux", "| field | type | supported | what happens |")}
    assert {name for name, text in texts.items() if text.startswith("required")} == set(REQUIRED)


async def test_the_document_has_the_members_of_an_attachment(api: Api) -> None:
    documented = {row[0]: row[2] for row in rows("sendmux", "| member | type | supported | what happens |")}
    samples = {**FILE, "type": "text/plain", "encoding": "base64", "attachment_id": "att_" + "a" * 24}
    assert documented.keys() == samples.keys()
    for name, supported in documented.items():
        status = (await send(api, {**MAIL, "attachments": [{**FILE, name: samples[name]}]})).status
        assert status == (422 if supported == "no" else 201), name


def test_the_document_has_every_code() -> None:
    listed = rows("sendmux", "| status | `code` | supported | when |")
    documented = {(row[0], row[1]) for row in listed if row[2] == "yes"}
    told = set()
    for reason in Reason:
        answer = sendmux.refusal(Refused(reason, "x"), "req_1")
        told.add((str(answer.status), json.loads(answer.body)["error"]["code"]))
    for fault in Fault:
        answer = sendmux.http_error(HttpError(fault, "x"), "req_1")
        told.add((str(answer.status), json.loads(answer.body)["error"]["code"]))
    assert told - {("409", "conflict")} == documented  # nothing here has a name that can be taken
    assert [row[1] for row in listed if row[2] == "no"] == ["insufficient_credits"]


def test_the_document_has_the_types_of_files() -> None:
    text = (DOCS / "sendmux.md").read_text()
    listed = re.search(r"^Taken are ([^.]*)\.", text, re.MULTILINE)
    assert listed is not None
    assert set(re.split(r",\s+|\s+and\s+", listed[1])) == sendmux.BOUNDS.extensions
