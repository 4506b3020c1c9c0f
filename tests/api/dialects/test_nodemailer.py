"""i-as: the result object, in every state of a message."""

import logging
from typing import Any

import pytest

from gateway.errors import StoreError
from gateway.events import State
from gateway.message.model import Mailbox
from tests.api.conftest import Api, RecordingDoor
from tests.api.dialects.conftest import post
from tests.api.dialects.ias import CC, KEY, MAIL, PATH, TO, attempt, check_failure, outcome, send


async def test_the_javascript_example(api: Api) -> None:
    taken = (State.DELIVERED, "250 2.0.0 OK queued")
    api.door.waited = outcome(dict.fromkeys((TO, CC), State.DELIVERED), [attempt({TO: taken, CC: taken})])
    reply = await send(api)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "message": "Email sent successfully",
        "info": {
            "accepted": [TO, CC],
            "rejected": [],
            "envelopeTime": 12,
            "messageTime": 34,
            "messageSize": 456,
            "response": "250 2.0.0 OK queued",
            "envelope": {"from": MAIL["from"], "to": [TO, CC]},
            "messageId": "<one@example.com>",
        },
    }
    order = ["accepted", "rejected", "envelopeTime", "messageTime", "messageSize", "response", "envelope", "messageId"]
    assert list(reply.json["info"]) == order
    (asked,) = api.door.asked
    assert (asked.principal.name, asked.idempotency, asked.peer) == ("full", None, "127.0.0.1")
    assert asked.submission.sender == Mailbox("", MAIL["from"])
    assert asked.submission.to == (Mailbox("", TO),)
    assert asked.submission.cc == (Mailbox("", CC),)
    assert (asked.submission.text, asked.submission.html) == (MAIL["text"], None)
    assert api.door.waits == [30.0]


async def test_text_is_plain_whatever_it_holds(api: Api) -> None:
    await send(api, {**MAIL, "text": "<p>Hi</p>"})
    assert (api.door.asked[0].submission.text, api.door.asked[0].submission.html) == ("<p>Hi</p>", None)


async def test_the_path_under_its_name(api: Api) -> None:
    assert (await post(api, f"/iassmtp{PATH}", MAIL, Authorization=KEY)).status == 202


async def test_captured_mail_counts_as_taken(api: Api) -> None:
    captured = (State.CAPTURED, "captured: nothing left this machine")
    one = attempt({TO: captured}, 0, 0)
    api.door.waited = outcome({TO: State.CAPTURED}, [one])
    reply = await send(api)
    assert (reply.status, reply.json["info"]["accepted"]) == (200, [TO])
    api.door.waited = outcome({TO: State.CAPTURED}, reply="captured")
    info = (await send(api)).json["info"]
    assert (info["messageSize"], info["response"], info["envelopeTime"]) == (321, "captured", 0)


async def test_a_refusal_of_some(api: Api) -> None:
    no = (State.BOUNCED, "550 5.1.1 no such user")
    one = attempt({CC: no, TO: (State.DELIVERED, "250 OK")})
    api.door.waited = outcome({TO: State.DELIVERED, CC: State.BOUNCED}, [one])
    reply = await send(api)
    info = reply.json["info"]
    assert (reply.status, info["accepted"], info["rejected"], info["response"]) == (200, [TO], [CC], "250 OK")
    assert info["envelope"]["to"] == [TO, CC]


async def test_a_refusal_of_all(api: Api) -> None:
    api.door.waited = outcome({TO: State.BOUNCED, CC: State.FAILED}, reply="550 5.1.1 no such user")
    check_failure(await send(api), 502, "550 5.1.1 no such user")


async def test_what_is_told_is_of_the_attempt_that_was_taken(api: Api) -> None:
    first = attempt({TO: (State.DELIVERED, "250 first")}, 1, 2)
    second = attempt({CC: (State.BOUNCED, "550 no")}, 3, 4)
    api.door.waited = outcome({TO: State.DELIVERED, CC: State.BOUNCED}, [first, second])
    info = (await send(api)).json["info"]
    assert (info["response"], info["envelopeTime"], info["messageTime"]) == ("250 first", 1, 2)


@pytest.mark.parametrize("state", [State.QUEUED, State.DEFERRED, State.SCHEDULED, State.HELD])
async def test_what_is_open_after_the_wait_is_queued(api: Api, state: State) -> None:
    one = attempt({TO: (state, "451 later")})
    api.door.waited = outcome({TO: state}, [one])
    reply = await send(api)
    assert (reply.status, reply.json["message"]) == (202, "Email queued")
    info = reply.json["info"]
    assert (info["accepted"], info["rejected"], info["response"]) == ([], [], "451 later")
    api.door.waited = outcome({TO: state, CC: State.DELIVERED})
    reply = await send(api)
    assert (reply.status, reply.json["info"]["accepted"], reply.json["info"]["rejected"]) == (202, [CC], [])


async def test_a_stored_message_is_never_told_as_a_failure(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: Any) -> None:
        raise StoreError("/var/lib is away")

    monkeypatch.setattr(RecordingDoor, "outcome", away)
    with caplog.at_level(logging.CRITICAL, "gateway.api"):
        reply = await send(api, {**MAIL, "cc": [TO, CC]})
    assert (reply.status, reply.json["message"]) == (202, "Email queued")
    info = reply.json["info"]
    assert (info["accepted"], info["envelope"]) == ([], {"from": MAIL["from"], "to": [TO, CC]})
    assert info["messageId"] == "<0192f0c1-a2b3-7def-8123-456789abcdef@example.com>"
