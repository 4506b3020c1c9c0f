"""Injection (S4, M3): each hostile text in each string of each request is refused (4xx) or means nothing.

The native API is walked by its own description, twice: decoder and composer alone, and the daemon with a next hop
that shows what came of it. The dialects are walked by their tables of fields.
"""

import email
import email.policy
import http.client
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.api import document, message, openapi, templates
from gateway.api.dialects import cloudmailsrequest, guide, iassmtp, overton
from gateway.config import Limits
from gateway.errors import Refused
from gateway.message import address_list, composing, template
from gateway.message.header import HeaderError
from gateway.message.model import Draft, Mailbox
from gateway.message.template import StoredTemplate, TemplateError
from tests.conftest import MakeDaemon
from tests.peers.daemon import SECRET, Daemon, broken_twin, relay_to
from tests.peers.sink import Sink, Transaction
from tests.security import injection
from tests.security.injection import ANY, EVIL, NAME, Place

COMPONENTS = openapi.build(Limits())["components"]["schemas"]
NATIVE = injection.places(COMPONENTS["Mail"], COMPONENTS)
STORED = StoredTemplate.read("Hello", "<p>Hello</p>", "Hello")
TEMPLATE = {"alias": "welcome", "subject": "Hello", "html_body": "<p>Hello</p>", "text_body": "Hello"}


def test_the_walk_finds_every_kind_of_place() -> None:
    found = {str(place) for place in NATIVE}
    assert {"from", "from.name", "to.0.email", f"headers.{NAME}", f"headers.{ANY}", "attachments.0.filename"} <= found
    assert {"html", "custom_headers.*any*", "variables.*any*", "template", "tags.0", "wait", "send_at"} <= found
    for place in NATIVE:
        request = injection.request(place, place.sample)
        assert compose(request) is not None, place


def compose(request: Mapping[str, Any], stored: StoredTemplate = STORED) -> tuple[bytes, list[str]] | None:
    """(message, envelope recipients) as intake makes them; None where the request is refused."""
    body = json.dumps(request).encode()
    try:
        submission = message.parse(document.decode(body), Limits(), from_required=True)
        submission = template.apply(submission, stored if submission.template else None, limit=10**6)
        assert submission.sender is not None
        draft = Draft(
            sender=submission.sender,
            to=submission.to,
            cc=submission.cc,
            reply_to=submission.reply_to,
            subject=submission.subject,
            html=submission.html,
            text=submission.text,
            attachments=submission.attachments,
            headers=submission.headers,
        )
        content, _ = composing.compose(draft, message_id="id@example.com", date=datetime.now(UTC), seed=os.urandom(12))
    except (Refused, TemplateError, HeaderError) as refusal:
        told = str(refusal)
    else:
        boxes = (*submission.to, *submission.cc, *submission.bcc)
        return content.header + b"".join(content.body), [box.address for box in boxes]
    assert told.isprintable()
    return None


@pytest.mark.slow
@pytest.mark.parametrize("place", NATIVE, ids=str)
def test_what_is_composed(place: Place) -> None:
    for text in injection.hostile(place.sample, everywhere=False):
        made = compose(injection.request(place, text))
        if made is not None:
            wire, recipients = made
            injection.check(wire, parts=3, name=_field(place, text))
            assert len(recipients) == 3
            assert not [address for address in recipients if address.endswith(f"@{EVIL}")]


@pytest.mark.parametrize("place", injection.places(COMPONENTS["TemplateText"], COMPONENTS), ids=str)
def test_what_is_composed_of_a_stored_template(place: Place) -> None:
    asked = {name: value for name, value in injection.BASE.items() if name not in {"subject", "html_body", "text_body"}}
    for text in injection.hostile(place.sample, everywhere=False):
        try:
            given = templates.parse(document.decode(json.dumps(injection.request(place, text, TEMPLATE)).encode()))
        except Refused:
            continue
        stored = StoredTemplate.read(given.subject, given.html, given.text)
        made = compose({**asked, "template": "welcome"}, stored)
        if made is not None:
            injection.check(made[0], parts=3 if given.html else 2)


def _field(place: Place, text: str) -> str:
    return text if place.path[-1] == NAME and place.path[0] in {"headers", "custom_headers"} else ""


# The whole daemon


@dataclass(frozen=True, slots=True)
class Way:
    """A way in. `base`: a request that is taken; `places`: what of it is attacked; `wrap` puts it into what is sent.

    `parts` and `recipients` are how many the message has.
    """

    path: str
    places: list[Place]
    base: Mapping[str, Any]
    parts: int = 1
    recipients: int = 1
    wrap: Callable[[dict[str, Any]], Any] = dict
    headers: tuple[tuple[str, str], ...] = ()
    everywhere: bool = True
    lists: bool = False  # a string may hold several addresses: who asks for Eve there, gets Eve


def flat(base: Mapping[str, Any]) -> list[Place]:
    """The strings of a request as it stands, those inside of lists and objects too."""
    return list(_flat(base, ()))


def _flat(value: Any, path: injection.Path) -> Iterator[Place]:
    if isinstance(value, str):
        yield Place(path, value)
    elif isinstance(value, list):
        yield from _flat(value[0], (*path, 0))
    elif path and path[-1] in {"custom_args", "variables", "recipients"}:
        name, text = next(iter(value.items()))
        yield Place((*path, NAME), name)
        yield Place((*path, ANY), text)
    else:
        for name, member in value.items():
            yield from _flat(member, (*path, name))


SMALL = {"from": "Ann <ann@example.com>", "to": "Box <box@example.net>", "subject": "Hello", "body": "Hello\n"}
OVERTON = {**SMALL, "server": "gateway.test", "username": "shop", "password": SECRET}
IAS = {key: value for key, value in SMALL.items() if key != "body"} | {"text": "Hello\n", "cc": "Copy <cc@example.net>"}
CLOUD: dict[str, Any] = {
    **{key: value for key, value in SMALL.items() if key != "body"},
    "html": "<p>Hello</p>",
    "text": "Hello\n",
    "reply_to": "Reply <reply@example.net>",
    "cc": ["Copy <cc@example.net>"],
    "bcc": [{"email": "bcc@example.net", "name": "Blind"}],
    "attachments": [{"name": "a.csv", "content": "YSxiCg==", "content_type": "text/csv"}],
    "custom_args": {"order": "4711"},
}
SHARED = {key: CLOUD[key] for key in ("from", "subject", "html", "text", "reply_to", "attachments")}
ENTRY = {"to": "Box <box@example.net>", "name": "Box", "who": "Ann"}
WAYS = {
    "native": Way("/api/v1/emails/send", NATIVE, injection.BASE, 3, 3),
    "batch": Way(
        "/api/v1/emails/send/batch", NATIVE, injection.BASE, 3, 3, lambda one: {"messages": [one]}, everywhere=False
    ),
    "sendmux": Way("/sendmux/api/v1/emails/send", NATIVE, injection.BASE, 3, 3, everywhere=False),
    "overton": Way("/", flat(OVERTON), OVERTON),
    "iassmtp": Way(
        "/api/smtp",
        flat(IAS),
        IAS,
        recipients=2,
        lists=True,
        headers=(
            ("server", "gateway.test"),
            ("port", "25"),
            ("secure", "true"),
            ("email", "shop"),
            ("password", SECRET),
        ),
    ),
    "guide": Way("/send-email", flat(SMALL), SMALL),
    "cloudmails": Way("/v1/send", flat(CLOUD), CLOUD, 3, 3),
    "cloudmails-other": Way("/v1/email/send", flat(CLOUD), CLOUD, 3, 3, everywhere=False),
    "cloudmails-batch": Way(
        "/v1/send/batch", flat(CLOUD), CLOUD, 3, 3, lambda one: {"messages": [one]}, everywhere=False
    ),
    "cloudmails-recipients": Way(
        "/v1/email/batch",
        flat(ENTRY),
        ENTRY,
        3,
        wrap=lambda one: {**SHARED, "subject": "Hello {{who|you}} {{name|you}}", "recipients": [one]},
    ),
}


def test_every_field_of_every_dialect_is_attacked() -> None:
    limits = Limits()
    tables = {
        "overton": overton.FIELDS,
        "iassmtp": iassmtp.FIELDS,
        "guide": guide.FIELDS,
        "cloudmails": cloudmailsrequest.table(limits, from_required=True),
    }
    for name, table in tables.items():
        served = {field.name for field in table if field.attribute} - {"variables"}
        assert served == {place.path[0] for place in WAYS[name].places}
    assert {place.path[0] for place in WAYS["cloudmails-recipients"].places} == {"to", "name", "who"}


def attack(daemon: Daemon, sink: Sink, way: Way, places: Iterable[Place]) -> Counter[bool]:
    """Send everything, one by one; fail unless each was refused or came out as a message like any other.

    Gives how many were taken (True) and refused.
    """
    told: Counter[bool] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
    try:
        for place in places:
            for text in injection.hostile(place.sample, everywhere=way.everywhere):
                taken = _post(connection, way, injection.request(place, text, way.base))
                told[taken] += 1
                if taken:
                    (arrived,) = sink.wait_for(1)
                    sink.transactions.clear()
                    _check_envelope(way, place, arrived)
                    injection.check(arrived.content, parts=way.parts, name=_field(place, text))
    finally:
        connection.close()
    assert not sink.transactions
    return told


def _check_envelope(way: Way, place: Place, arrived: Transaction) -> None:
    if way.lists and place.path[0] in {"to", "cc"}:
        shown = {box.address for name in ("To", "Cc") for box in _boxes(arrived.content, name)}
        assert set(arrived.recipients) <= shown, place
    else:
        assert 1 <= len(arrived.recipients) <= way.recipients, place  # some are one mailbox
        assert not [address for address in (arrived.sender, *arrived.recipients) if address.endswith(EVIL)], place


def _boxes(wire: bytes, name: str) -> tuple[Mailbox, ...]:
    head = email.message_from_bytes(wire, policy=email.policy.compat32)
    return address_list.parse_mailbox_list(str(head[name]).replace("\r\n", ""))


def _post(connection: http.client.HTTPConnection, way: Way, request: dict[str, Any]) -> bool:
    """Whether it was taken; a refusal is a 4xx, of the request or of its only item."""
    headers = {"Content-Type": "application/json", **dict(way.headers or [("Authorization", f"Bearer {SECRET}")])}
    connection.request("POST", way.path, json.dumps(way.wrap(request)).encode(), headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    results = body.get("data", body).get("results", ()) if answer.status < 300 else ()
    failed = answer.status >= 300 or any("error" in result for result in results)
    assert not failed or 400 <= answer.status < 500 or results, (answer.status, body, request)
    return not failed


def settings(sink: Sink, directory: Path) -> dict[str, Any]:
    """A relay that takes everything, and a template `welcome`."""
    stored = directory / "templates" / "welcome"
    stored.mkdir(parents=True)
    (stored / "subject.txt").write_text(TEMPLATE["subject"])
    (stored / "body.html").write_text(TEMPLATE["html_body"])
    (stored / "body.txt").write_text(TEMPLATE["text_body"])
    return relay_to(sink.port) | {"templates": str(stored.parent)}


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_what_arrives(name: str, make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    with make_daemon(settings(sink, tmp_path)) as daemon:
        told = attack(daemon, sink, WAYS[name], WAYS[name].places)
    assert told[True] > 50
    assert told[False] > 50


TWINS = {
    "controls pass": (
        "api/fields.py",
        '_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f\\x85\\u2028\\u2029]")',
        '_CONTROL: Final = re.compile("(?!)")',
        "\nheader._CONTROL = address._HEADER_CONTROL = _CONTROL\n",
        ["subject", "headers.*any*"],
    ),
    "boundaries can be known": ("intake/draft.py", "seed=os.urandom(12)", "seed=bytes(12)", "", ["html_body"]),
    "file names are not quoted": (
        "message/header.py",
        "_PLAIN_FILENAME: Final = re.compile(",
        "_PLAIN_FILENAME: Final = re.compile('.*', re.DOTALL) or (",
        "",
        ["attachments.0.filename"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", TWINS)
def test_broken_twins_are_found_out(fault: str, make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    file, old, new, more, attacked = TWINS[fault]
    places = [place for place in NATIVE if str(place) in attacked]
    source = broken_twin(tmp_path / "twin", file, old, new, more=more)
    with make_daemon(settings(sink, tmp_path), source=source) as daemon, pytest.raises(AssertionError):
        attack(daemon, sink, WAYS["native"], places)
