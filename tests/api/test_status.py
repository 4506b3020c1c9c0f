"""GET /api/v1/emails/{id}, and the aggregate state behind it."""

import itertools
import uuid as uuids
from dataclasses import replace

import pytest

from gateway.api import state
from gateway.events import State
from gateway.runtime import show_id
from gateway.store.shown import MessageView, RecipientView
from tests.api.conftest import UUID, Api

AT = 1_760_000_000_123
SHOWN = "2025-10-09T08:53:20.123Z"


def recipient(in_state: State, **changes: object) -> RecipientView:
    view = RecipientView(
        id=1,
        address="ann@example.org",
        state=in_state,
        attempts=1,
        next_at=None,
        expires_at=AT + 1000,
        reply="",
        host="",
        bounce_class="",
        blocked_by="",
        updated_at=AT,
        possible_duplicate=False,
        route="direct",
        domain="example.org",
    )
    return replace(view, **changes)  # type: ignore[arg-type]  # names are checked by replace


def message(*recipients: RecipientView) -> MessageView:
    return MessageView(
        uuid=UUID,
        account="full-account",
        key="full",
        door="http",
        envelope_sender="bounce@example.com",
        header_from="shop@example.com",
        subject="Grüße",
        message_id="x@example.com",
        size=100,
        tags='["a"]',
        metadata='{"order":7}',
        created_at=AT,
        expires_at=AT + 1000,
        recipients=recipients,
    )


async def test_a_message_in_full(api: Api) -> None:
    waiting = recipient(
        State.DEFERRED,
        attempts=3,
        next_at=AT,
        reply="451 4.7.1 later",
        host="mx.example.org",
        bounce_class="TransientFailure",
        blocked_by="backoff",
        possible_duplicate=True,
        opens=3,
        clicks=1,
    )
    api.door.messages["full-account", UUID] = message(waiting, recipient(State.DELIVERED, clicks=2))
    reply = await api.call("GET", f"/api/v1/emails/{show_id('eml_', UUID)}")
    assert reply.status == 200
    assert reply.json["data"] == {
        "message_id": show_id("eml_", UUID),
        "state": "deferred",
        "status": "deferred",
        "from": "shop@example.com",
        "subject": "Grüße",
        "created_at": SHOWN,
        "delivered_at": None,
        "bounce_reason": None,
        "opens": 3,
        "clicks": 3,
        "recipients": [
            {
                "address": "ann@example.org",
                "state": "deferred",
                "attempts": 3,
                "last_reply": "451 4.7.1 later",
                "blocked_by": "backoff",
                "next_attempt_at": SHOWN,
                "host": "mx.example.org",
                "bounce_class": "TransientFailure",
                "updated_at": SHOWN,
                "possible_duplicate": True,
                "opens": 3,
                "clicks": 1,
            },
            {
                "address": "ann@example.org",
                "state": "delivered",
                "attempts": 1,
                "last_reply": None,
                "blocked_by": None,
                "next_attempt_at": None,
                "host": None,
                "bounce_class": None,
                "updated_at": SHOWN,
                "possible_duplicate": False,
                "opens": 0,
                "clicks": 2,
            },
        ],
        "tags": ["a"],
        "metadata": {"order": 7},
    }


async def test_delivered_and_bounced_messages(api: Api) -> None:
    later = recipient(State.DELIVERED, updated_at=AT + 1000)
    api.door.messages["full-account", UUID] = message(later, recipient(State.DELIVERED))
    data = (await api.call("GET", f"/api/v1/emails/{show_id('eml_', UUID)}")).json["data"]
    assert (data["state"], data["delivered_at"]) == ("delivered", "2025-10-09T08:53:21.123Z")
    bounced = recipient(State.BOUNCED, reply="550 5.1.1 no such user")
    api.door.messages["full-account", UUID] = message(later, bounced)
    data = (await api.call("GET", f"/api/v1/emails/{show_id('eml_', UUID)}")).json["data"]
    assert (data["state"], data["delivered_at"]) == ("bounced", None)
    assert data["bounce_reason"] == "550 5.1.1 no such user"


async def test_an_id_may_be_given_as_uuid(api: Api) -> None:
    api.door.messages["full-account", UUID] = message(recipient(State.QUEUED))
    for text in (str(uuids.UUID(bytes=UUID)), str(uuids.UUID(bytes=UUID)).upper()):
        assert (await api.call("GET", f"/api/v1/emails/{text}")).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "eml_" + "z" * 24,
        "eml_" + "0" * 24,
        "eml_" + "0" * 23,
        show_id("eml_", UUID).upper(),
        show_id("msg_", UUID),
        UUID.hex(),
        "{" + str(uuids.UUID(bytes=UUID)) + "}",
        "1",
        "%00",
        "x" * 2000,
    ],
)
async def test_what_is_unknown_malformed_or_not_yours_is_one_404(api: Api, text: str) -> None:
    view = message(recipient(State.QUEUED))
    api.door.messages["full-account", UUID] = view
    api.door.messages["other-account", uuids.UUID(int=0).bytes] = view
    reply = await api.call("GET", f"/api/v1/emails/{text}", X_Request_Id="r")
    foreign = await api.call("GET", f"/api/v1/emails/{show_id('eml_', UUID)}", key="reader", X_Request_Id="r")
    assert reply.status == foreign.status == 404
    assert reply.body == foreign.body


def test_the_precedence_holds_every_state_once() -> None:
    assert sorted(state.PRECEDENCE) == sorted(State)


def test_a_message_is_open_while_any_recipient_is() -> None:
    for pair in itertools.product(State, repeat=2):
        aggregate = state.aggregate(pair)
        assert aggregate in pair
        assert aggregate.final is all(one.final for one in pair)
        assert state.aggregate(reversed(pair)) is aggregate


def test_a_message_is_delivered_only_when_everybody_has_it() -> None:
    for other in set(State) - {State.DELIVERED}:
        assert state.aggregate([State.DELIVERED, other]) is other
        assert state.delivered_at([recipient(State.DELIVERED), recipient(other)]) is None
    assert state.delivered_at([]) is None
    assert state.bounce_reason([recipient(State.FAILED, bounce_class="MessageExpired")]) == "MessageExpired"
    assert state.bounce_reason([recipient(State.CANCELLED)]) == "cancelled"
    mixed = [recipient(State.SUPPRESSED), recipient(State.BOUNCED, bounce_class="InvalidRecipient")]
    assert state.bounce_reason(mixed) == state.bounce_reason(mixed[::-1]) == "InvalidRecipient"
