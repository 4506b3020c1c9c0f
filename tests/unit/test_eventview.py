"""An event as programs see it."""

import json
from dataclasses import replace

import msgspec
import pytest

from gateway import eventview
from gateway.events import EventType
from gateway.runtime import rfc3339, show_id
from gateway.store.eventlog import LoggedEvent
from gateway.tokens import Tokens

AT = 1_800_000_000_000
UUID = bytes.fromhex("0192f0c1a2b37def8123456789abcdef")
TOKENS = Tokens(bytes(32))
DEFERRED = LoggedEvent(
    seq=7,
    type=EventType.DEFERRED,
    at=AT,
    data=json.dumps(
        {"reply": "451 4.3.0 later", "stage": "rcpt", "attempt": 2, "attempt_id": 99, "next_at": AT + 1000, "new": [1]}
    ),
    account="acme",
    uuid=UUID,
    message=5,
    recipient=6,
    address="ann@example.org",
    key="shop",
    tags='["receipt"]',
    metadata='{"order":7}',
    subject="Hi",
    message_id="x@example.com",
    header_from="shop@example.com",
)


def test_an_event_of_mail() -> None:
    assert eventview.native(DEFERRED, TOKENS) == {
        "id": show_id("evt_", TOKENS.event_id(7, AT)),
        "type": "email.deferred",
        "cursor": TOKENS.cursor(7),
        "timestamp": rfc3339(AT),
        "data": {
            "message_id": show_id("eml_", UUID),
            "recipient": "ann@example.org",
            "from": "shop@example.com",
            "subject": "Hi",
            "key": "shop",
            "tags": ["receipt"],
            "metadata": {"order": 7},
            "reply": "451 4.3.0 later",
            "command": "rcpt",
            "attempt": 2,
            "next_attempt_at": rfc3339(AT + 1000),
            "new": [1],
        },
    }


def test_what_was_erased_is_null_or_empty() -> None:
    gone = replace(
        DEFERRED, uuid=None, address="", key="", tags="[]", metadata="{}", subject="", header_from="", data="{}"
    )
    assert eventview.native(gone, TOKENS)["data"] == {
        "message_id": None,
        "recipient": None,
        "from": "",
        "subject": "",
        "key": "",
        "tags": [],
        "metadata": {},
    }


def test_a_redirection_says_from_whom_to_whom() -> None:
    data = json.dumps({"address": "new@example.org", "old_address": "old@example.org"})
    shown = eventview.native(replace(DEFERRED, type=EventType.REDIRECTED, data=data), TOKENS)["data"]
    assert (shown["old_recipient"], shown["new_recipient"]) == ("old@example.org", "new@example.org")
    assert "address" not in shown
    assert eventview.native(replace(DEFERRED, data='{"address":"192.0.2.1"}'), TOKENS)["data"]["address"] == "192.0.2.1"


def test_an_event_of_an_account() -> None:
    braked = replace(
        DEFERRED, type=EventType.BRAKED, uuid=None, key="", data='{"key":"shop","reason":"volume","since_at":0}'
    )
    shown = eventview.native(braked, TOKENS)
    assert shown["type"] == "key.braked"
    assert shown["data"] == {"key": "shop", "reason": "volume"}
    assert eventview.key_of(braked) == "shop"
    assert eventview.key_of(DEFERRED) == "shop"


@pytest.mark.parametrize("damaged", ["", "{", "[]", "\x00", "7"])
def test_a_damaged_row_does_not_end_the_log(damaged: str) -> None:
    shown = eventview.native(replace(DEFERRED, data=damaged, tags=damaged, metadata=damaged), TOKENS)
    assert shown["data"]["recipient"] == "ann@example.org"
    assert msgspec.json.encode(shown)


def test_names_can_be_read_back() -> None:
    assert len(eventview.NAMES) == len(EventType)
    for type_ in EventType:
        assert eventview.read_name(eventview.name(type_)) is type_
    assert eventview.read_name("delivered") is EventType.DELIVERED
    assert eventview.read_name("email.nothing") is None
    assert eventview.read_name("braked") is None
