"""Fields of the request: every one, right and wrong, without a server."""

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.api import document, fields, message, variables
from gateway.config import Limits
from gateway.errors import Problem, Reason, Refused
from gateway.message.model import Attachment, Mailbox

LIMITS = Limits(recipients_per_message=5, attachments=3)
MAIL: dict[str, Any] = {"from": "shop@example.com", "to": "ann@example.org", "subject": "Hi", "text": "Hello"}
PDF = {"filename": "a.pdf", "content": base64.b64encode(b"%PDF-1.7").decode()}


def refused(changes: dict[str, Any], **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        message.parse({**MAIL, **changes}, LIMITS, **options)
    return caught.value


def problems(changes: dict[str, Any]) -> dict[str, Problem]:
    return {problem.path: problem for problem in refused(changes).problems}


def test_every_field() -> None:
    submission = message.parse(
        {
            "from": "Shop <shop@example.com>",
            "to": ["ann@example.org", {"email": "bob@EXAMPLE.org", "name": "Bob, the Builder"}],
            "cc": "Cy <cy@example.org>",
            "bcc": {"email": "dee@example.org"},
            "reply_to": ["help@example.com", "Boss <boss@example.com>"],
            "subject": "Grüße",
            "html_body": "<p>line\r\nline</p>",
            "text_body": "line\nline\ttab",
            "attachments": [
                PDF,
                {
                    "filename": "x",
                    "content": "AAEC\r\nAwQ=\n",
                    "content_type": "text/plain; charset=utf-8",
                    "content_id": "<logo@x>",
                    "encoding": "base64",
                },
                {"filename": "y.bin", "content": "AA==", "type": "image/png", "disposition": "inline"},
            ],
            "headers": {"X-Campaign": "spring", "List-Id": "news <news.example.com>"},
            "tags": ["a", "b", "a"],
            "metadata": {"order": 7, "b": True, "a": None, "price": 1.5, "s": "two\nlines"},
            "return_path": "bounce@example.com",
            "template": "welcome",
            "variables": {"name": "Ann", "items": [{"price": 1.5}]},
            "send_at": "in 10m",
            "ttl": "4h",
            "priority": "high",
            "dsn": ["success", "delay"],
            "require_tls": True,
            "track": {"opens": True, "clicks": True, "text": True},
            "unsubscribe": {"tag": "c"},
        },
        LIMITS,
    )
    assert submission.sender == Mailbox("Shop", "shop@example.com")
    assert submission.to == (
        Mailbox("", "ann@example.org"),
        Mailbox("Bob, the Builder", "bob@example.org"),
    )
    assert submission.cc == (Mailbox("Cy", "cy@example.org"),)
    assert submission.bcc == (Mailbox("", "dee@example.org"),)
    assert submission.reply_to == (Mailbox("", "help@example.com"), Mailbox("Boss", "boss@example.com"))
    assert submission.subject == "Grüße"
    assert submission.html == "<p>line\r\nline</p>"
    assert submission.text == "line\nline\ttab"
    assert submission.attachments == (
        Attachment("a.pdf", b"%PDF-1.7", "application/pdf", None, "attachment"),
        Attachment("x", bytes(range(5)), "text/plain; charset=utf-8", "logo@x", "inline"),
        Attachment("y.bin", b"\0", "image/png", None, "inline"),
    )
    assert submission.headers == (("X-Campaign", "spring"), ("List-Id", "news <news.example.com>"))
    assert submission.tags == ("a", "b", "c")
    assert (submission.track, submission.unsubscribe) == (7, "c")
    assert submission.metadata == '{"a":null,"b":true,"order":7,"price":1.5,"s":"two\\nlines"}'
    assert submission.return_path == "bounce@example.com"
    assert submission.template == "welcome"
    assert submission.variables == {"items": [{"price": 1.5}], "name": "Ann"}
    assert (submission.send_at, submission.delay_s, submission.ttl_s) == (None, 600, 14_400)
    assert (submission.priority, submission.notify, submission.require_tls) == (0, 13, True)


@pytest.mark.parametrize(
    ("alias", "name", "value", "attribute"),
    [
        ("html", "html_body", "<p>x</p>", "html"),
        ("text", "text_body", "x", "text"),
        ("custom_headers", "headers", {"X-A": "b"}, "headers"),
        ("custom_args", "metadata", {"a": "b"}, "metadata"),
    ],
)
def test_an_alias_means_the_same_and_both_are_an_error(alias: str, name: str, value: Any, attribute: str) -> None:
    least = {"from": "a@example.com", "to": "b@example.com", "attachments": [PDF]}
    by_alias = message.parse({**least, alias: value}, LIMITS)
    by_name = message.parse({**least, name: value}, LIMITS)
    assert getattr(by_alias, attribute) == getattr(by_name, attribute)
    assert getattr(by_alias, attribute) != getattr(message.parse(least, LIMITS), attribute)
    with pytest.raises(Refused, match=f"{alias}: means the same as {name}"):
        message.parse({**least, name: value, alias: value}, LIMITS)


def test_null_and_empty_are_absent() -> None:
    empty: list[Any] = [None, "", []]
    for value in empty:
        given = {name: value for name in message.TABLE.names if name not in {"to", "text"}}
        given |= dict.fromkeys(message.TABLE.refused, value)
        assert message.parse({**given, "to": MAIL["to"], "text": "x"}, LIMITS) == message.parse(
            {"to": MAIL["to"], "text": "x"}, LIMITS
        )


def test_what_is_required_is_named_all_at_once() -> None:
    with pytest.raises(Refused) as caught:
        message.parse({}, LIMITS, from_required=True)
    assert caught.value.reason is Reason.MISSING_PARAMETER
    assert [(p.path, p.code) for p in caught.value.problems] == [
        ("to", "missing_parameter"),
        ("from", "missing_parameter"),
        ("text_body", "missing_parameter"),
    ]
    assert message.parse({"to": "b@example.com", "html": "x"}, LIMITS).sender is None
    assert message.parse({"to": "b@example.com", "template": "welcome"}, LIMITS).template == "welcome"


WRONG: list[tuple[str, Any, str]] = [
    ("from", 1, "from: must be a string or an object with email, got a number"),
    ("from", True, "from: must be a string or an object with email, got a boolean"),
    ("from", ["a@example.com"], "from: must be a string or an object with email, got a list"),
    ("to", 1, "to: must be a string, an object with email or a list, got a number"),
    ("to", ["a@example.com", 1], "to[1]: must be a string or an object with email, got a number"),
    ("to", ["a@example.com", None], "to[1]: must be a string or an object with email, got null"),
    ("to", [["a@example.com"]], "to[0]: must be a string or an object with email, got a list"),
    ("to", {"name": "x"}, "to.email: is required"),
    ("to", [{"email": 5}], "to[0].email: must be a string, got a number"),
    ("to", [{"email": "a@example.com", "name": 5}], "to[0].name: must be a string, got a number"),
    ("to", [{"email": "a@example.com", "mail": 5}], "to[0].mail: is not known here"),
    ("cc", False, "cc: must be a string, an object with email or a list, got a boolean"),
    ("bcc", 1.5, "bcc: must be a string, an object with email or a list, got a number"),
    ("reply_to", 1, "reply_to: must be a string, an object with email or a list, got a number"),
    ("subject", 1, "subject: must be a string, got a number"),
    ("subject", {}, "subject: must be a string, got an object"),
    ("html_body", ["x"], "html_body: must be a string, got a list"),
    ("text", 7, "text: must be a string, got a number"),
    ("attachments", {}, "attachments: must be a list of objects, got an object"),
    ("attachments", ["x"], "attachments[0]: must be an object with filename and content, got a string"),
    ("attachments", [{**PDF, "filename": 1}], "attachments[0].filename: must be a string, got a number"),
    (
        "attachments",
        [{**PDF, "content": 1}],
        "attachments[0].content: must be a string of base64, got a number",
    ),
    (
        "attachments",
        [{**PDF, "content_type": 1}],
        "attachments[0].content_type: must be a string, got a number",
    ),
    (
        "attachments",
        [{**PDF, "content_id": {}}],
        "attachments[0].content_id: must be a string, got an object",
    ),
    ("attachments", [{**PDF, "disposition": 1}], "attachments[0].disposition: must be attachment or inline"),
    (
        "attachments",
        [{**PDF, "disposition": [{}]}],
        "attachments[0].disposition: must be attachment or inline",
    ),
    (
        "attachments",
        [{**PDF, "name": "x"}],
        "attachments[0].name: is not a known field; did you mean filename?",
    ),
    ("headers", ["x"], "headers: must be an object of names and strings, got a list"),
    ("headers", {"X-A": 1}, "headers.X-A: must be a string, got a number"),
    ("tags", "x", "tags: must be a list of strings, got a string"),
    ("tags", [1], "tags[0]: must be a string, got a number"),
    ("metadata", "x", "metadata: must be an object, got a string"),
    ("metadata", {"a": [1]}, "metadata.a: must be a string, a number, a boolean or null, got a list"),
    ("metadata", {"a": {}}, "metadata.a: must be a string, a number, a boolean or null, got an object"),
    ("return_path", 1, "return_path: must be a string, got a number"),
    ("return_path", {"email": "a@example.com"}, "return_path: must be a string, got an object"),
    ("template", 1, "template: must be a string, got a number"),
    ("template", {"id": "tpl_1"}, "template: must be a string, got an object"),
    ("variables", "x", "variables: must be an object, got a string"),
    ("variables", [{"a": 1}], "variables: must be an object, got a list"),
    ("send_at", 1_800_000_000, "send_at: must be a string, got a number"),
    ("ttl", True, "ttl: must be a duration such as 4h, or a whole number of seconds, got a boolean"),
    ("ttl", 1.5, "ttl: must be a duration such as 4h, or a whole number of seconds, got a number"),
    ("ttl", ["4h"], "ttl: must be a duration such as 4h, or a whole number of seconds, got a list"),
    ("priority", 1, "priority: must be high, normal or low, got a number"),
    ("priority", ["high"], "priority: must be high, normal or low, got a list"),
    ("dsn", True, "dsn: must be never, success, failure or delay, or a list of them, got a boolean"),
    ("dsn", ["never", 1], "dsn: must be never, success, failure or delay, or a list of them, got a list"),
    ("require_tls", "true", "require_tls: must be true or false, got a string"),
    ("require_tls", 1, "require_tls: must be true or false, got a number"),
    ("track", "opens", "track: must be true, false or an object of opens, clicks or text, got a string"),
    ("track", ["opens"], "track: must be true, false or an object of opens, clicks or text, got a list"),
    ("track", 1, "track: must be true, false or an object of opens, clicks or text, got a number"),
    ("track", {"opens": 1}, "track.opens: must be true or false, got a number"),
    ("track", {"open": True}, "track.open: is not known here; it has opens, clicks or text"),
    ("unsubscribe", 1, "unsubscribe: must be true, false, a tag or an object with tag, got a number"),
    ("unsubscribe", ["news"], "unsubscribe: must be true, false, a tag or an object with tag, got a list"),
    ("unsubscribe", {}, "unsubscribe.tag: is required"),
    ("unsubscribe", {"tag": ""}, "unsubscribe.tag: is required"),
    ("unsubscribe", {"tag": True}, "unsubscribe.tag: must be a string, got a boolean"),
    ("unsubscribe", {"tag": "a", "all": True}, "unsubscribe.all: is not known here; it has tag"),
    ("wait", True, "wait: must be a duration such as 10s, or a number of seconds, got a boolean"),
    ("wait", {}, "wait: must be a duration such as 10s, or a number of seconds, got an object"),
    ("idempotency_key", 1, "idempotency_key: must be a string, got a number"),
]


@pytest.mark.parametrize(("name", "value", "text"), WRONG)
def test_wrong_types(name: str, value: Any, text: str) -> None:
    error = refused({name: value})
    assert error.reason in {Reason.INVALID_PARAMETER, Reason.MISSING_PARAMETER}
    assert len(error.problems) == 1
    assert str(error.problems[0]).startswith(text)
    assert error.text.startswith(text)
    assert error.param == error.problems[0].path


def test_every_field_has_a_wrong_type_in_the_table() -> None:
    tested = {message.TABLE.names[name].name for name, _, _ in WRONG}
    assert tested == {field.name for field in message.TABLE.fields}


def test_all_problems_at_once_those_of_form_first() -> None:
    error = refused(
        {"from": "nobody", "to": ["a@example.com", 3], "subject": 9, "delivery_group": {}, "colour": "red", "cc": "x@"}
    )
    assert error.reason is Reason.INVALID_PARAMETER
    assert [p.path for p in error.problems] == ["colour", "to[1]", "subject", "delivery_group", "from", "cc"]
    assert error.text == "colour: is not a known field (5 more in errors)"


@pytest.mark.parametrize(
    ("name", "near"),
    [("recipient", None), ("subjct", "subject"), ("attachment", "attachments"), ("replyTo", "reply_to")],
)
def test_an_unknown_field_names_the_nearest(name: str, near: str | None) -> None:
    text = str(problems({name: "x"})[name])
    assert (f"did you mean {near}?" in text) if near else ("is not a known field" in text)


def test_a_flood_of_unknown_fields_is_bounded() -> None:
    error = refused({f"subject{n}": n for n in range(20_000)})
    assert len(error.problems) == fields.MAX_PROBLEMS


@pytest.mark.parametrize("name", sorted(message.TABLE.refused))
def test_known_fields_that_are_not_served(name: str) -> None:
    error = refused({name: {}})
    assert error.reason is Reason.NOT_SUPPORTED
    assert error.param == name


def test_nobody_chooses_the_route_in_a_request() -> None:
    text = "delivery_group: cannot be chosen in a request: the key decides the route"
    assert refused({"delivery_group": "grp_1"}).text == text


CONTROLS = ["\r", "\n", "\r\nBcc: x@example.com", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]
LINES: dict[str, Any] = {
    "from": lambda s: {"from": f"a{s}@example.com"},
    "from name": lambda s: {"from": f"Na{s}me <a@example.com>"},
    "to": lambda s: {"to": f"a@exa{s}mple.com"},
    "to email": lambda s: {"to": {"email": f"a@exam{s}ple.com"}},
    "to name": lambda s: {"to": [{"email": "a@example.com", "name": f"x{s}y"}]},
    "cc": lambda s: {"cc": [f"x{s}y <a@example.com>"]},
    "bcc": lambda s: {"bcc": f"a@example.com{s}"},
    "reply_to": lambda s: {"reply_to": f"{s}a@example.com"},
    "subject": lambda s: {"subject": f"Hi{s}Bcc: x"},
    "filename": lambda s: {"attachments": [{**PDF, "filename": f"a{s}.pdf"}]},
    "content_type": lambda s: {"attachments": [{**PDF, "content_type": f"text/plain{s}"}]},
    "content_id": lambda s: {"attachments": [{**PDF, "content_id": f"a{s}b"}]},
    "header name": lambda s: {"headers": {f"X-A{s}B": "c"}},
    "header value": lambda s: {"headers": {"X-A": f"b{s}c"}},
    "tag": lambda s: {"tags": [f"a{s}b"]},
    "return_path": lambda s: {"return_path": f"a@example.com{s}"},
    "template": lambda s: {"template": f"wel{s}come"},
    "send_at": lambda s: {"send_at": f"in{s} 10m"},
    "ttl": lambda s: {"ttl": f"10m{s}"},
    "wait": lambda s: {"wait": f"10{s}s"},
    "idempotency_key": lambda s: {"idempotency_key": f"order{s}1"},
}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("place", LINES)
def test_no_control_character_passes(place: str, control: str) -> None:
    assert refused(LINES[place](control)).reason.answer.http == 422


@pytest.mark.parametrize("name", ["html", "text"])
def test_bodies_take_lines_but_no_nul(name: str) -> None:
    for control in CONTROLS:
        if control != "\0":
            message.parse({**MAIL, name: f"a{control}b"}, LIMITS)
    assert refused({name: "a\0b"}).reason is Reason.VALIDATION_ERROR
    assert refused({"metadata": {"a": "b\0"}}).reason is Reason.VALIDATION_ERROR
    assert refused({"metadata": {"a\0": "b"}}).reason is Reason.VALIDATION_ERROR


@pytest.mark.parametrize(
    "name",
    ["From", "bcc", "Received", "DKIM-Signature", "Return-Path", "Content-Type", "MIME-Version", "Date"],
)
def test_reserved_headers_are_refused_by_name(name: str) -> None:
    assert "cannot be set" in problems({"headers": {name: "x"}})[f"headers.{name}"].message


@pytest.mark.parametrize("name", ["X A", "X:A", "X-Ä", "", "X" * 200])
def test_bad_header_names(name: str) -> None:
    assert refused({"headers": {name: "x"}}).reason is Reason.VALIDATION_ERROR


def test_a_header_twice_in_another_case() -> None:
    assert problems({"headers": {"X-A": "1", "x-a": "2"}}).keys() == {"headers.x-a"}


BAD_CONTENT: list[tuple[dict[str, Any], str, int]] = [
    ({"to": "nobody"}, "to", 422),
    ({"to": ["a@example.com", "b@", "@c"]}, "to[1]", 422),
    ({"to": "a@example.com, b@example.com"}, "to", 422),
    ({"to": {"email": "Name <a@example.com>"}}, "to.email", 422),
    ({"to": [f"a{n}@example.com" for n in range(6)]}, "to", 422),
    ({"to": [f"a{n}@example.com" for n in range(4)], "bcc": ["x@y.org", "z@y.org"]}, "to", 422),
    ({"return_path": "Name <a@example.com>"}, "return_path", 422),
    ({"subject": "x" * 8001}, "subject", 422),
    ({"attachments": [PDF] * 4}, "attachments", 422),
    ({"attachments": [{"content": "AA=="}]}, "attachments[0].filename", 400),
    ({"attachments": [{"filename": "a"}]}, "attachments[0].content", 400),
    ({"attachments": [{"filename": "a", "attachment_id": "att_1"}]}, "attachments[0].content", 400),
    ({"attachments": [{**PDF, "content": "A"}]}, "attachments[0].content", 400),
    ({"attachments": [{**PDF, "content": "AA==AA=="}]}, "attachments[0].content", 400),
    ({"attachments": [{**PDF, "content": "A A="}]}, "attachments[0].content", 400),
    ({"attachments": [{**PDF, "content": "_-_-"}]}, "attachments[0].content", 400),
    ({"attachments": [{**PDF, "content": "ÄÄÄÄ"}]}, "attachments[0].content", 400),
    ({"attachments": [{**PDF, "content_type": "text"}]}, "attachments[0].content_type", 422),
    ({"attachments": [{**PDF, "content_type": "text/plain; name=x"}]}, "attachments[0].content_type", 422),
    ({"headers": {"In-Reply-To": "é"}}, "headers.In-Reply-To", 422),
    ({"headers": {"X-Long": "x" * 999}}, "headers.X-Long", 422),
    ({"attachments": [{**PDF, "content_type": "text/x", "type": "text/y"}]}, "attachments[0].type", 400),
    ({"attachments": [{**PDF, "content_id": "a b"}]}, "attachments[0].content_id", 422),
    ({"attachments": [{**PDF, "disposition": "form-data"}]}, "attachments[0].disposition", 400),
    ({"attachments": [{**PDF, "encoding": "hex"}]}, "attachments[0].encoding", 422),
    ({"tags": ["x"] * 51}, "tags", 422),
    ({"tags": ["x" * 129]}, "tags[0]", 422),
    ({"tags": [""]}, "tags[0]", 422),
    ({"headers": {f"X-{n}": "x" for n in range(101)}}, "headers", 422),
    ({"metadata": {"a": "x" * 16_384}}, "metadata", 422),
    ({"metadata": {"a": "\x01" * 3000}}, "metadata", 422),
    ({"metadata": {"a": 2**64}}, "metadata.a", 400),
    ({"metadata": {"a": float("inf")}}, "metadata.a", 400),
]


@pytest.mark.parametrize(("changes", "param", "status"), BAD_CONTENT)
def test_bad_content(changes: dict[str, Any], param: str, status: int) -> None:
    error = refused(changes)
    assert (error.param, error.reason.answer.http) == (param, status)


TIMES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"send_at": "2026-11-21T08:30:00Z"}, {"send_at": 1_795_249_800_000}),
    ({"send_at": "2026-11-21T08:30:00.5+01:00"}, {"send_at": 1_795_246_200_500}),
    ({"send_at": "in 90s"}, {"delay_s": 90}),
    ({"send_at": "in 365d"}, {"delay_s": 365 * 86_400}),
    ({"ttl": "30m"}, {"ttl_s": 1800}),
    ({"ttl": "1s"}, {"ttl_s": 1}),
    ({"ttl": 60}, {"ttl_s": 60}),
    ({"ttl": 60.0}, {"ttl_s": 60}),
    ({"ttl": 30 * 86_400}, {"ttl_s": 2_592_000}),
]


@pytest.mark.parametrize(("changes", "expected"), TIMES)
def test_times(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    submission = message.parse({**MAIL, **changes}, LIMITS)
    assert {name: getattr(submission, name) for name in ("send_at", "delay_s", "ttl_s")} == {
        "send_at": None,
        "delay_s": None,
        "ttl_s": None,
        **expected,
    }


BAD_TIMES: list[tuple[str, Any]] = [
    ("send_at", "tomorrow"),
    ("send_at", "2026-11-21T08:30:00"),  # no offset: nobody knows when
    ("send_at", "2026-02-30T08:30:00Z"),
    ("send_at", "in 366d"),
    ("send_at", "in -5m"),
    ("send_at", "x" * 100),
    ("ttl", "soon"),
    ("ttl", "0s"),
    ("ttl", "31d"),
    ("ttl", 0),
    ("ttl", -1),
    ("ttl", 30 * 86_400 + 1),
    ("ttl", 10**30),
    ("wait", "0s"),
    ("wait", "61s"),
    ("wait", 0),
    ("wait", -1),
    ("wait", 60.1),
    ("wait", float("inf")),
    ("wait", "x"),
    ("idempotency_key", "a b"),
    ("idempotency_key", "x" * 256),
    ("template", "x" * 65),
]


@pytest.mark.parametrize(("name", "value"), BAD_TIMES)
def test_what_is_no_time_key_or_reference(name: str, value: Any) -> None:
    error = refused({name: value})
    assert (error.param, error.reason.answer.http) == (name, 422)


def test_what_is_asked_of_the_request_itself() -> None:
    def request(changes: dict[str, Any]) -> message.Request:
        return message.parse_request({**MAIL, **changes}, LIMITS, from_required=True)

    assert (request({}).wait_s, request({}).idempotency_key) == (None, None)
    assert request({"wait": "500ms"}).wait_s == 0.5
    assert request({"wait": 60}).wait_s == 60
    assert request({"idempotency_key": "order-1_B"}).idempotency_key == "order-1_B"
    assert request({"wait": "10s", "idempotency_key": "a"}).submission == request({}).submission


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_variables() -> None:
    values = {"b": None, "a": {"d": True, "c": [1, -2.5, 2**63 - 1, "é"]}, "deep": nested(variables.MAX_DEPTH - 1)}
    read = message.parse({**MAIL, "variables": values}, LIMITS).variables
    assert read == values
    assert list(read) == ["a", "b", "deep"]  # in one order: equal requests are told by their fingerprint
    assert list(read["a"]) == ["c", "d"]
    assert message.parse({**MAIL, "variables": {}}, LIMITS).variables == {}
    assert message.parse({**MAIL, "text": "{{name}}"}, LIMITS).variables is None


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"a": nested(variables.MAX_DEPTH)}, "variables.a"),
        ({"a": {"b": nested(variables.MAX_DEPTH - 1)}}, "variables.a"),
        ({"a": nested(900)}, "variables.a"),
        ({"a": 2**63}, "variables.a"),
        ({"a": [-(2**63) - 1]}, "variables.a"),
        ({"a": [{"b": float("inf")}]}, "variables.a"),
        ({"a": "x\0"}, "variables.a"),
        ({"a": [{"b\0": 1}]}, "variables.a"),
        ({"a\0": 1}, "variables.a\\x00"),
        ({"a": "x" * variables.MAX_BYTES}, "variables"),
        ({"a": "é" * (variables.MAX_BYTES // 2)}, "variables"),
        ({"a": ["x" * 1000] * 66}, "variables"),
        ({f"{n:05}": "" for n in range(9000)}, "variables"),
        ({"a": [[[]] * 20_000] * 20_000}, "variables"),
    ],
)
def test_bad_variables(values: dict[str, Any], path: str) -> None:
    error = refused({"variables": values})
    assert (error.param, error.reason) == (path, Reason.VALIDATION_ERROR)


def test_variables_just_small_enough() -> None:
    room = variables.MAX_BYTES - len('{"a":""}')
    assert message.parse({**MAIL, "variables": {"a": "x" * room}}, LIMITS).variables == {"a": "x" * room}
    assert refused({"variables": {"a": "x" * (room + 1)}}).param == "variables"


SENDMUX = message.Bounds(
    required=("subject", "html_body"),
    entries=(("to", 1), ("cc", 2), ("attachments", 1)),
    name_characters=5,
    subject_characters=10,
    header_prefix="x-",
    header_characters=8,
    extensions=frozenset({"pdf", "txt"}),
)
BOUNDED: list[tuple[dict[str, Any], str | None, str]] = [
    ({}, None, ""),
    ({"to": "Ann <a@example.com>", "from": "Shop <a@example.com>"}, None, ""),
    ({"cc": ["a@example.com", "b@example.com"], "headers": {"X-A": "12345678"}}, None, ""),
    ({"attachments": [{**PDF, "filename": "A.PDF"}]}, None, ""),
    ({"subject": ""}, "subject", "missing_parameter"),
    ({"html": None}, "html_body", "missing_parameter"),
    ({"subject": "x" * 11}, "subject", "validation_error"),
    ({"to": ["a@example.com", "b@example.com"]}, "to", "validation_error"),
    ({"cc": ["a@example.com"] * 3}, "cc", "validation_error"),
    ({"from": "Shopper <a@example.com>"}, "from", "validation_error"),
    ({"cc": ["a@example.com", "Shopper <b@example.com>"]}, "cc[1]", "validation_error"),
    ({"reply_to": {"email": "a@example.com", "name": "Shopper"}}, "reply_to", "validation_error"),
    ({"custom_headers": {"List-Id": "a"}}, "custom_headers.List-Id", "validation_error"),
    ({"headers": {"x-a": "123456789"}}, "headers.x-a", "validation_error"),
    ({"attachments": [PDF, PDF]}, "attachments", "validation_error"),
    ({"attachments": [{**PDF, "filename": "a.exe"}]}, "attachments[0].filename", "validation_error"),
    ({"attachments": [{**PDF, "filename": "noextension"}]}, "attachments[0].filename", "validation_error"),
]


@pytest.mark.parametrize(("changes", "path", "code"), BOUNDED)
def test_bounds_of_a_vendor(changes: dict[str, Any], path: str | None, code: str) -> None:
    mail = {**MAIL, "html": "x", **changes}
    message.parse_request(mail, LIMITS, from_required=True)  # all of it is right but for the vendor
    if path is None:
        message.parse_request(mail, LIMITS, from_required=True, bounds=SENDMUX)
        return
    with pytest.raises(Refused) as caught:
        message.parse_request(mail, LIMITS, from_required=True, bounds=SENDMUX)
    assert [(problem.path, problem.code) for problem in caught.value.problems] == [(path, code)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
PLAUSIBLE = st.sampled_from(
    [*(value for value in MAIL.values()), PDF, [PDF], "in 5m", "10s", 5, {"email": "a@example.com"}, ["a@example.com"]]
)


@given(st.dictionaries(st.sampled_from([*message.TABLE.names, *message.TABLE.refused, "odd"]), JSON | PLAUSIBLE))
@example({"from": "shop@example.com", "headers": {"\U00018cd6": ""}})  # no character of this code point is known
def test_whatever_is_sent_is_taken_or_refused_with_reasons(document: dict[str, Any]) -> None:
    refusal: Refused | None = None
    try:
        message.parse_request(document, LIMITS, from_required=False, bounds=SENDMUX)
    except Refused as error:
        refusal = error
    if refusal is not None:
        assert refusal.reason.answer.http in {400, 422}
        assert refusal.problems
        assert all(str(problem).isprintable() for problem in refusal.problems)


def test_an_address_twice_counts_once_towards_the_limit() -> None:
    twice = [f"a{n}@example.com" for n in range(5)]
    assert len(message.parse({**MAIL, "to": twice, "cc": twice}, LIMITS).cc) == 5


def test_long_strings_of_a_large_body() -> None:
    large = "é\n" * 100_000
    content = base64.b64encode(b"\xff" * 200_000).decode()
    mail = {**MAIL, "text": large, "attachments": [{"filename": "a.bin", "content": content}]}
    submission = message.parse(document.decode(json.dumps(mail).encode()), LIMITS)
    assert submission.text == large
    assert submission.attachments[0].content == b"\xff" * 200_000
    for name in ("subject", "from", "to", "return_path"):
        with pytest.raises(Refused) as caught:
            message.parse(document.decode(json.dumps({**MAIL, name: "x" * 200_000}).encode()), LIMITS)
        assert (caught.value.param, caught.value.reason) == (name, Reason.VALIDATION_ERROR)
    with pytest.raises(Refused, match="16384 bytes"):
        message.parse(document.decode(json.dumps({**MAIL, "metadata": {"a": large}}).encode()), LIMITS)
    with pytest.raises(Refused, match="65536 bytes"):
        message.parse(document.decode(json.dumps({**MAIL, "variables": {"a": large}}).encode()), LIMITS)
    fits = {**MAIL, "text": large, "variables": {"a": {"b": "é" * 30_000}}}
    assert message.parse(document.decode(json.dumps(fits).encode()), LIMITS).variables == fits["variables"]
    with pytest.raises(Refused, match="NUL"):
        message.parse(document.decode(json.dumps({**MAIL, "text": "\0" * 100_000}).encode()), LIMITS)
