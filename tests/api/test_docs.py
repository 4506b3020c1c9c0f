"""The docs page: whole, well-formed, safe, and its examples work."""

import base64
import copy
import hashlib
import itertools
import json
import re
import shlex
from html.parser import HTMLParser
from typing import Final

import pytest

from gateway.api import codes, docs, message, openapi
from gateway.config import Limits
from tests.api.conftest import Api

DOCUMENT: Final = openapi.build(Limits())
PAGE: Final = docs.page(DOCUMENT)
VOID: Final = {"meta", "br"}


class Reader(HTMLParser):
    """Elements of a page; fails where one is closed that is not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.examples: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if given.get("href"):
            self.links.append(str(given["href"]))
        if tag == "pre":
            self.examples.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "pre" in self.open:
            self.examples[-1] += data


def test_it_is_well_formed_and_every_link_leads_somewhere() -> None:
    page = Reader(PAGE)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"/api/v1/openapi.json"}


def test_it_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    page = Reader(PAGE)
    assert not page.names & {"script", "img", "link", "iframe", "form", "object"}
    assert page.attributes <= {"lang", "charset", "name", "content", "href", "id"}
    assert "@import" not in PAGE
    assert "url(" not in PAGE


def test_it_has_every_operation_field_and_error() -> None:
    page = Reader(PAGE)
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            assert operation["operationId"] in page.ids
            assert f"{method.upper()} {path}" in page.text
    for field in message.TABLE.fields:
        assert f"<code>{field.name}</code>" in PAGE
        assert field.text.replace("`", "") in page.text
    for code, text in codes.MEANINGS.items():
        assert f"error-{code}" in page.ids
        assert text.replace("`", "") in page.text


async def test_the_answer(api: Api) -> None:
    reply = await api.call("GET", "/api/v1/docs", key=None)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "public, max-age=3600"
    assert reply.headers["x-content-type-options"] == "nosniff"
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    style = re.findall(r"<style>(.*?)</style>", reply.body.decode(), re.DOTALL)
    (expected,) = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in style]
    assert f"style-src 'sha256-{expected}'" in policy
    assert "unsafe" not in policy


async def test_an_error_points_at_its_anchor(api: Api) -> None:
    reply = await api.send({})
    path, _, anchor = reply.json["error"]["doc_url"].partition("#")
    assert (await api.call("GET", path, key=None)).status == 200
    assert anchor in Reader(PAGE).ids


def test_nothing_of_the_document_becomes_markup() -> None:
    hostile = "<script>alert('x')</script>&`<b>`"
    document = copy.deepcopy(DOCUMENT)
    document["info"] |= {"title": hostile, "version": hostile, "description": hostile}
    operation = document["paths"]["/api/v1/me"]["get"]
    operation |= {"summary": hostile, "description": hostile}
    operation["parameters"].append(
        {"name": hostile, "in": "query", "description": hostile, "schema": {"type": "string", "enum": [hostile]}}
    )
    document["components"]["schemas"]["Key"]["properties"][hostile] = {"const": hostile, "description": hostile}
    page = Reader(docs.page(document))
    assert not page.names & {"script", "b"}


EXAMPLES: Final = [example for example in Reader(PAGE).examples if example.startswith("curl")]


def test_every_operation_has_an_example() -> None:
    assert len(EXAMPLES) == sum(len(methods) for methods in DOCUMENT["paths"].values())


ELSEWHERE: Final = ("/templates", "/webhooks", "/suppressions")  # tried by tests of their own


@pytest.mark.parametrize("example", [one for one in EXAMPLES if not any(path in one for path in ELSEWHERE)])
async def test_examples_work(mailing: Api, example: str) -> None:
    program, *words = shlex.split(example.replace("$GATEWAY", "").replace("$KEY", "manager"))
    assert program == "curl"
    method, headers, body = "GET", {}, b""
    (path,) = [word for word in words if word.startswith("/")]
    for option, value in itertools.pairwise(words):
        match option:
            case "-X":
                method = value
            case "-H":
                name, _, text = value.partition(": ")
                headers[name.replace("-", "_")] = text
            case "-d":
                body = value.encode()
                json.loads(body)
    reply = await mailing.call(method, path, body, key=None, **headers)
    assert reply.status == (404 if "/emails/eml_" in path else 201 if method == "POST" else 200)
    for result in reply.json["data"]["results"] if path.endswith("/batch") else ():
        assert result["status"] == "queued"
