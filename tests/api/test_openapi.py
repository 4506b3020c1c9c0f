"""The OpenAPI document, held against what is served, decoded and answered."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from gateway import templates
from gateway.api import attachment, codes, message, native, openapi
from gateway.api import templates as template_api
from gateway.api.envelope import Fault
from gateway.config import Config, Limits
from gateway.delivery.waits import Outcome
from gateway.errors import Reason, Refused
from gateway.events import State
from gateway.runtime import show_id
from gateway.store.records import TemplateRecord
from tests.api import test_status
from tests.api.conftest import MAIL, SEND, UUID, Api
from tests.api.test_me import limited
from tests.api.test_message import BAD_CONTENT, BAD_TIMES, LIMITS, TIMES, WRONG

DOCUMENT = json.loads(openapi.document(Config(hostname="mail.example.com", limits=LIMITS)))
SCHEMAS = DOCUMENT["components"]["schemas"]


REFERENCE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def validator(schema: dict[str, Any], document: dict[str, Any] = DOCUMENT) -> jsonschema.Draft202012Validator:
    """For a schema that refers to others of the document."""
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:openapi", resource)
    absolute = json.loads(json.dumps(schema).replace('"#/components', '"urn:openapi#/components'))
    return jsonschema.Draft202012Validator(absolute, registry=registry)


def closed(value: Any) -> Any:
    """The same where no object of known members may have another one."""
    if isinstance(value, list):
        return [closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    shut = {name: closed(one) for name, one in value.items()}
    if isinstance(value.get("properties"), dict) and value.get("type") == "object":
        shut.setdefault("additionalProperties", False)
    return shut


CLOSED = closed(copy.deepcopy(DOCUMENT))


def test_it_is_a_valid_document() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["jsonSchemaDialect"] == "https://json-schema.org/draft/2020-12/schema"
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_is_served_is_described_and_nothing_else() -> None:
    served = {(one.method, one.path) for one in native.DIALECT.operations}
    described = [(method, path.replace("{id}", "{}")) for method, path, _ in operations()]
    assert sorted(served) == sorted(described)
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


async def test_it_is_served_to_everybody(api: Api) -> None:
    reply = await api.call("GET", "/api/v1/openapi.json", key=None)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "public, max-age=3600"
    properties = reply.json["components"]["schemas"]["Mail"]["properties"]
    assert properties["attachments"]["maxItems"] == 3  # this gateway's own bounds
    assert properties["to"]["anyOf"][1]["maxItems"] == 5


def test_it_is_made_once_and_its_bounds_are_those_of_the_configuration() -> None:
    config = Config(hostname="mail.example.com", limits=Limits(batch=7))
    assert openapi.document(config) is openapi.document(replace(config, hostname="other.example.com"))
    other = json.loads(openapi.document(config))["components"]["schemas"]["Batch"]
    assert other["properties"]["messages"]["maxItems"] == 7


async def test_operations_without_a_key(api: Api) -> None:
    for method, path, operation in operations():
        reply = await api.call(method, path.replace("{id}", "x"), key=None)
        assert (reply.status == 401) is ("security" not in operation), path


# Requests: one table decodes them and makes the schema.


def test_every_name_of_a_request_is_in_the_schema() -> None:
    assert SCHEMAS["Mail"]["properties"].keys() == message.TABLE.names.keys()
    assert SCHEMAS["Attachment"]["properties"].keys() == attachment.TABLE.names.keys()
    assert SCHEMAS["TemplateText"]["properties"].keys() == template_api._FIELDS.keys()
    for name in ("Mail", "Attachment", "Batch", "TemplateText"):
        assert SCHEMAS[name]["additionalProperties"] is False
        assert all(value["description"] for value in SCHEMAS[name]["properties"].values())
    for name in message.TABLE.refused:
        assert f"`{name}`" in SCHEMAS["Mail"]["description"]


@pytest.mark.parametrize(("name", "value", "_text"), WRONG)
def test_what_has_the_wrong_type_has_it_in_the_schema_too(name: str, value: Any, _text: str) -> None:
    body = {key: one for key, one in MAIL.items() if message.TABLE.names[key] is not message.TABLE.names[name]}
    assert not validator(SCHEMAS["Mail"]).is_valid({"text_body": "x", "to": "a@example.com", **body, name: value})


def test_what_the_schema_refuses_is_refused() -> None:
    check = validator(SCHEMAS["Mail"])
    given = [changes for changes, _, _ in BAD_CONTENT] + [{name: value} for name, value in BAD_TIMES]
    given += [{name: {}} for name in message.TABLE.refused] + [{"colour": "red"}, {"html": "x", "html_body": "y"}]
    refused = [changes for changes in given if not check.is_valid({**MAIL, **changes})]
    assert len(refused) > 30
    for changes in refused:
        with pytest.raises(Refused):
            message.parse({**MAIL, **changes}, LIMITS)
    for missing in ("to", "text"):
        mail = {name: value for name, value in MAIL.items() if name != missing}
        assert not check.is_valid(mail)
        with pytest.raises(Refused):
            message.parse(mail, LIMITS)


def test_what_is_taken_is_valid() -> None:
    check = validator(SCHEMAS["Mail"])
    taken: list[dict[str, Any]] = [changes for changes, _ in TIMES]
    taken += [
        {"to": ["a@example.com", {"email": "b@example.com", "name": None}], "cc": "c@example.com", "bcc": []},
        {"attachments": [{"filename": "a.txt", "content": "AA==", "type": "text/plain", "encoding": "base64"}]},
        {"headers": {"X-A": "b"}, "tags": ["a"], "custom_args": {"a": None, "b": 1.5}, "return_path": "b@example.com"},
        {"variables": {"a": [{"b": None}], "c": True}, "template": "welcome"},
        {"wait": "10s"},
        {"wait": 2.5, "idempotency_key": "order-1"},
    ]
    for changes in taken:
        message.parse({**MAIL, **changes}, LIMITS)
        check.validate({**MAIL, **changes})


def test_examples_are_valid() -> None:
    found = 0
    for _, _, operation in operations():
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            validator(content["schema"]).validate(content["example"])
            found += 1
        for parameter in operation["parameters"]:
            for example in parameter.get("schema", {}).get("examples", ()):
                validator(parameter["schema"]).validate(example)
                found += 1
    for schema in SCHEMAS.values():
        for value in (schema, *schema.get("properties", {}).values()):
            for example in value.get("examples", ()):
                validator(value).validate(example)
                found += 1
    assert found > 20


def test_the_examples_of_messages_are_taken() -> None:
    taken = {}
    for _, _, operation in operations():
        if "requestBody" in operation:
            taken[operation["operationId"]] = operation["requestBody"]["content"]["application/json"]["example"]
    message.parse(taken["sendEmail"], LIMITS)
    for one in taken["sendBatch"]["messages"]:
        message.parse(one, LIMITS)
    assert template_api.parse(taken["createTemplate"]).alias == "welcome"


def test_the_reference_has_every_field_and_every_error() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: \(or `(\w+)`\))? \| ", REFERENCE, re.MULTILINE)
    assert [(name, (alias,) if alias else ()) for name, alias in rows] == [
        (field.name, field.aliases) for field in message.TABLE.fields
    ]
    assert all(f"`{name}`" in REFERENCE for name in message.TABLE.refused)
    errors = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", REFERENCE, re.MULTILINE)
    documented = {code: statuses for statuses, row in errors for code in re.findall("`([a-z_]+)`", row)}
    assert documented.keys() == codes.MEANINGS.keys()
    for code, statuses in documented.items():
        assert str(codes.STATUSES[code]) in statuses.split(", ")


# Answers: every member is described, and what is described is there.


def check_answer(method: str, path: str, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    answer = CLOSED["paths"][path][method]["responses"][str(status)]
    if "$ref" in answer:
        answer = CLOSED["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    validator(answer["content"]["application/json"]["schema"], CLOSED).validate(body)
    for name, header in answer["headers"].items() if headers is not None else ():
        described = CLOSED["components"]["headers"][header["$ref"].rpartition("/")[2]]
        assert headers is not None
        value: Any = headers.get(name.lower())
        assert value is not None or not described.get("required"), name
        if value is not None:
            kind = described["schema"]["type"]
            validator(described["schema"]).validate(int(value) if kind == "integer" else value)


async def test_answers_to_a_message(api: Api) -> None:
    limited(api)
    reply = await api.send(MAIL)
    check_answer("post", SEND, 201, reply.json, reply.headers)
    assert "ratelimit" in reply.headers
    api.door.replayed = True
    reply = await api.send({**MAIL, "idempotency_key": "k"})
    assert reply.json["data"]["idempotent"] is True
    check_answer("post", SEND, 201, reply.json, reply.headers)
    for state, status in ((State.DELIVERED, 200), (State.DEFERRED, 202)):
        view = test_status.message(test_status.recipient(state))
        api.door.waited = Outcome(view, ())
        reply = await api.send({**MAIL, "wait": "1s"})
        assert reply.status == status
        check_answer("post", SEND, status, reply.json, reply.headers)


async def test_answers_to_a_batch(api: Api) -> None:
    path = f"{SEND}/batch"
    body = json.dumps({"messages": [MAIL, {"to": 5}]}).encode()
    reply = await api.call("POST", path, body, Content_Type="application/json")
    assert [result["status"] for result in reply.json["data"]["results"]] == ["queued", "failed"]
    check_answer("post", path, 201, reply.json, reply.headers)


async def test_answers_to_questions(api: Api) -> None:
    limited(api)
    reply = await api.call("GET", "/api/v1/me")
    check_answer("get", "/api/v1/me", 200, reply.json, reply.headers)
    api.door.messages["full-account", UUID] = test_status.message(
        test_status.recipient(State.DELIVERED, reply="250 ok", host="mx.example.org"),
        test_status.recipient(State.BOUNCED, bounce_class="InvalidRecipient"),
        test_status.recipient(State.DEFERRED, next_at=test_status.AT, blocked_by="limit"),
    )
    reply = await api.call("GET", f"/api/v1/emails/{UUID.hex()}")
    assert reply.status == 404
    check_answer("get", "/api/v1/emails/{id}", 404, reply.json, reply.headers)
    reply = await api.call("GET", f"/api/v1/emails/{show_id('eml_', UUID)}")
    assert reply.status == 200
    check_answer("get", "/api/v1/emails/{id}", 200, reply.json, reply.headers)


async def test_answers_about_health(api: Api) -> None:
    check_answer("get", "/health/live", 200, (await api.call("GET", "/health/live", key=None)).json)
    check_answer("get", "/health/ready", 200, (await api.call("GET", "/health/ready", key=None)).json)
    api.door.unready = "The store is away."
    reply = await api.call("GET", "/health/ready", key=None)
    check_answer("get", "/health/ready", 503, reply.json, reply.headers)


def test_answers_about_templates() -> None:
    path = "/api/v1/templates"
    meta = {"request_id": "req_1"}
    stored = TemplateRecord(UUID, "a", "welcome", "Hi", "<p>", None, created_at=1, updated_at=2)
    for record in (stored, replace(stored, uuid=b"")):
        view, head = templates.view(record), templates.head(record)
        check_answer("post", path, 201, {"ok": True, "data": view, "meta": meta})
        check_answer("get", f"{path}/{{id}}", 200, {"ok": True, "data": view, "meta": meta})
        check_answer("put", f"{path}/{{id}}", 200, {"ok": True, "data": view, "meta": meta})
        check_answer("get", path, 200, {"ok": True, "data": {"templates": [head]}, "meta": meta})
        check_answer("delete", f"{path}/{{id}}", 200, {"ok": True, "data": {**head, "removed": True}, "meta": meta})


# Errors


def test_every_error_code_is_described_with_its_status() -> None:
    known = {reason.code for reason in Reason} | {fault.value[1] for fault in Fault}
    assert set(codes.MEANINGS) == known
    assert SCHEMAS["ErrorCode"]["enum"] == list(codes.MEANINGS)
    for reason in Reason:
        assert codes.STATUSES[reason.code] == reason.answer.http
    for name, response in DOCUMENT["components"]["responses"].items():
        assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Failure"}, name


@pytest.mark.parametrize("reason", Reason)
async def test_whatever_a_message_is_refused_for_is_described(api: Api, reason: Reason) -> None:
    api.door.error = Refused(reason, "text", retry_after_s=5 if reason.answer.http in {429, 503} else None)
    reply = await api.send(MAIL)
    assert reply.status == reason.answer.http
    if reason is not Reason.NOT_FOUND:  # an unknown template is a template_error: nothing else could be missing
        check_answer("post", SEND, reply.status, reply.json, reply.headers)


async def test_who_guesses_keys_is_told_as_described(api: Api) -> None:
    api.door.guess_error = Refused(Reason.THROTTLED, "text", retry_after_s=5)
    for method, path, operation in operations():
        if "security" not in operation:  # a key is asked for
            reply = await api.call(method, path.replace("{id}", "x"), key="wrong")
            assert reply.status == 429
            check_answer(method.lower(), path, 429, reply.json, reply.headers)


async def test_errors_of_http_itself_are_described(api: Api) -> None:
    for status, headers in ((415, {"Content_Type": "text/plain"}), (401, {"Authorization": "Bearer none"})):
        reply = await api.send(MAIL, **headers)
        assert reply.status == status
        check_answer("post", SEND, status, reply.json, reply.headers)
    reply = await api.call("POST", SEND, b"{", Content_Type="application/json")
    assert reply.json["error"]["code"] == "invalid_json"
    check_answer("post", SEND, 400, reply.json, reply.headers)
    api.door.error = RuntimeError("secret detail")
    reply = await api.send(MAIL)
    check_answer("post", SEND, 500, reply.json, reply.headers)
