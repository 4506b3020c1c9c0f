"""Priority, notifications and TLS, as a request asks for them."""

import json
from typing import Any

import pytest

from gateway.api import idempotency, message
from gateway.config import Limits
from gateway.errors import Reason, Refused
from gateway.message.model import TRACK_CLICKS, TRACK_OPENS, TRACK_TEXT
from gateway.message.notify import ASKED, DELAY, FAILURE, SUCCESS
from tests.api.conftest import MAIL, Api

BATCH = "/api/v1/emails/send/batch"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (1, None, False)),
        ({"priority": "high"}, (0, None, False)),
        ({"priority": "normal"}, (1, None, False)),
        ({"priority": "low"}, (2, None, False)),
        ({"dsn": "never"}, (1, ASKED, False)),
        ({"dsn": ["never"]}, (1, ASKED, False)),
        ({"dsn": "failure"}, (1, ASKED | FAILURE, False)),
        ({"dsn": ["success", "failure", "delay"]}, (1, ASKED | SUCCESS | FAILURE | DELAY, False)),
        ({"dsn": []}, (1, None, False)),
        ({"require_tls": True}, (1, None, True)),
        ({"require_tls": False}, (1, None, False)),
        ({"priority": None, "dsn": None, "require_tls": None}, (1, None, False)),
    ],
)
async def test_what_is_asked_for(api: Api, changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert (await api.send({**MAIL, **changes})).status == 201
    submission = api.door.asked[0].submission
    assert (submission.priority, submission.notify, submission.require_tls) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", "urgent"),
        ("priority", "HIGH"),
        ("dsn", "always"),
        ("dsn", ["failure", "always"]),
        ("dsn", ["failure", "failure"]),
        ("dsn", ["never", "failure"]),
        ("dsn", ["never", "never"]),
    ],
)
async def test_words_that_mean_nothing(api: Api, name: str, value: Any) -> None:
    reply = await api.send({**MAIL, name: value})
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["param"]) == (422, "validation_error", name)
    assert api.door.asked == []


@pytest.mark.parametrize(
    ("given", "track"),
    [
        (None, None),
        (True, TRACK_OPENS | TRACK_CLICKS),
        (False, 0),
        ({}, 0),
        ({"opens": True}, TRACK_OPENS),
        ({"opens": None, "clicks": True}, TRACK_CLICKS),
        ({"opens": False, "clicks": True, "text": True}, TRACK_CLICKS | TRACK_TEXT),
    ],
)
async def test_what_is_tracked(api: Api, given: Any, track: int | None) -> None:
    assert (await api.send({**MAIL, "track": given})).status == 201
    assert api.door.asked[0].submission.track == track


@pytest.mark.parametrize(
    ("given", "unsubscribe", "tags"),
    [
        (None, "", ("a",)),
        ("", "", ("a",)),
        (False, "", ("a",)),
        (True, "*", ("a",)),
        ("news", "news", ("a", "news")),
        ({"tag": "news"}, "news", ("a", "news")),
        ({"tag": "a"}, "a", ("a",)),
    ],
)
async def test_what_one_can_unsubscribe_from(api: Api, given: Any, unsubscribe: str, tags: tuple[str, ...]) -> None:
    assert (await api.send({**MAIL, "tags": ["a"], "unsubscribe": given})).status == 201
    submission = api.door.asked[0].submission
    assert (submission.unsubscribe, submission.tags) == (unsubscribe, tags)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"track": {"text": True}}, "track.text"),
        ({"unsubscribe": "*"}, "unsubscribe"),
        ({"unsubscribe": {"tag": "*"}}, "unsubscribe.tag"),
        ({"unsubscribe": "x" * 129}, "unsubscribe"),
        ({"unsubscribe": "a\r\nb"}, "unsubscribe"),
    ],
)
async def test_what_cannot_be_tracked_or_left(api: Api, changes: dict[str, Any], param: str) -> None:
    reply = await api.send({**MAIL, **changes})
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["param"]) == (422, "validation_error", param)
    assert api.door.asked == []


async def test_in_a_batch_each_for_itself(api: Api) -> None:
    messages = [{**MAIL, "priority": "low"}, {**MAIL, "dsn": "x"}, {**MAIL, "dsn": "delay", "require_tls": True}]
    reply = await api.call("POST", BATCH, json.dumps({"messages": messages}).encode(), Content_Type="application/json")
    assert [result["status"] for result in reply.json["data"]["results"]] == ["queued", "failed", "queued"]
    (asked,) = api.door.asked_for_all
    first, second, third = asked.items
    assert not isinstance(first, Refused)
    assert not isinstance(third, Refused)
    assert (first[0].priority, first[0].notify, first[0].require_tls) == (2, None, False)
    assert isinstance(second, Refused)
    assert second.reason is Reason.VALIDATION_ERROR
    assert (third[0].priority, third[0].notify, third[0].require_tls) == (1, ASKED | DELAY, True)


def test_another_wish_is_another_message() -> None:
    """To an idempotency key."""
    wishes: list[dict[str, Any]] = [
        {},
        {"priority": "high"},
        {"priority": "low"},
        {"dsn": "never"},
        {"dsn": "failure"},
        {"require_tls": True},
        {"track": False},
        {"track": True},
        {"track": {"opens": True}},
        {"unsubscribe": True},
        {"unsubscribe": "news"},
    ]
    digests = {idempotency.fingerprint(message.parse({**MAIL, **wish}, Limits())) for wish in wishes}
    assert len(digests) == len(wishes)
    usual = idempotency.fingerprint(message.parse({**MAIL, "priority": "normal", "require_tls": False}, Limits()))
    assert usual == idempotency.fingerprint(message.parse(MAIL, Limits()))
