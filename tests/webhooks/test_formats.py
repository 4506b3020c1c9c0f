"""What endpoints are sent, format by format, and who can verify it."""

import base64
import hashlib
import hmac
import json
import random
import time
from dataclasses import replace
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.events import EventType
from gateway.runtime import show_id
from gateway.store.eventlog import LoggedEvent
from gateway.store.webhook import Format
from gateway.tokens import Tokens
from gateway.webhooks import formats, schedule, signing
from gateway.webhooks.schedule import Answer, Outcome

TOKENS = Tokens(bytes(32))
UUID = bytes.fromhex("0192f0c1a2b37def8123456789abcdef")
AT = 1_779_201_000_000  # 2026-05-19T14:30:00Z
EVENT = LoggedEvent(
    seq=7,
    type=EventType.DELIVERED,
    at=AT,
    data='{"reply":"250 2.0.0 ok","host":"mx.example.com"}',
    account="acme",
    uuid=UUID,
    message=1,
    recipient=2,
    address="recipient@example.com",
    key="shop",
    tags='["order"]',
    metadata='{"user_id":"12345"}',
    subject="Hi",
    message_id="abc@example.com",
    header_from="shop@example.com",
)
ID = show_id("evt_", TOKENS.event_id(7, AT))


def body(format_: Format, event: LoggedEvent = EVENT) -> Any:
    payload = formats.payload(format_, event, TOKENS)
    assert payload is not None
    assert payload.id == ID
    assert formats.payload(format_, event, TOKENS) == payload  # the same bytes at every attempt
    return json.loads(payload.body)


def of(type_: EventType, **data: Any) -> LoggedEvent:
    return replace(EVENT, type=type_, data=json.dumps(data))


def test_cloudmails_is_as_its_document_has_it() -> None:
    assert body(Format.CLOUDMAILS) == {
        "event": "delivered",
        "message_id": show_id("msg_", UUID),
        "timestamp": "2026-05-19T14:30:00.000Z",
        "recipient": "recipient@example.com",
        "custom_args": {"user_id": "12345"},
    }
    told = {type_: body(Format.CLOUDMAILS, of(type_))["event"] for type_ in formats.SHAPES[Format.CLOUDMAILS].types}
    assert set(told.values()) == {"delivered", "bounced", "opened", "clicked", "unsubscribed", "complained"}
    assert told[EventType.EXPIRED] == "bounced"


def test_cloudmails_is_as_its_other_page_has_it() -> None:
    bounce = of(EventType.BOUNCED, reply="550 5.1.1 Mailbox does not exist", scope="recipient")
    assert body(Format.CLOUDMAILS_NESTED, bounce) == {
        "event": "email.bounced",
        "timestamp": AT // 1000,
        "data": {
            "message_id": show_id("msg_", UUID),
            "recipient": "recipient@example.com",
            "bounce_type": "hard",
            "bounce_code": "5.1.1",
            "bounce_description": "550 5.1.1 Mailbox does not exist",
            "custom_args": {"user_id": "12345"},
        },
    }
    late = of(EventType.BOUNCED, reply="554 5.7.1 spam", scope="content", late=True)
    assert body(Format.CLOUDMAILS_NESTED, late)["data"]["bounce_type"] == "soft"  # nothing is wrong with the address
    clicked = body(Format.CLOUDMAILS_NESTED, of(EventType.CLICKED, url="https://yoursite.com/landing"))
    assert clicked["data"]["url"] == "https://yoursite.com/landing"
    for reply, code in (
        ("550 no", "550"),
        ("", ""),
        ("550 5.1.1", "5.1.1"),
        ("550-5.1.1 The account\n550 5.1.1 is gone", "5.1.1"),  # of a notification, as it stands there
        ("550 #5.1.0 Address rejected", "5.1.0"),
        ("550 5.1.1. No", "5.1.1"),
        ("550 10.0.0.1 is blocked", "550"),
        ("No host answered", ""),
    ):
        told = body(Format.CLOUDMAILS_NESTED, of(EventType.BOUNCED, reply=reply))["data"]
        assert told["bounce_code"] == code


@pytest.mark.parametrize("format_", [Format.CLOUDMAILS, Format.CLOUDMAILS_NESTED])
def test_what_a_machine_fetched_nobody_opened(format_: Format) -> None:
    for type_ in (EventType.OPENED, EventType.CLICKED):
        assert body(format_, of(type_))
        assert formats.payload(format_, of(type_, machine="a prefetcher"), TOKENS) is None


def test_sendmux_has_the_vendors_members() -> None:
    bounced = body(Format.SENDMUX, of(EventType.BOUNCED, reply="550 5.1.1 no", bounce_class="InvalidRecipient"))
    assert bounced.keys() == {"id", "type", "team_public_id", "occurred_at", "data"}
    assert (bounced["id"], bounced["type"]) == (ID, "message.bounced")
    assert bounced["data"]["bounce_type"] == "Permanent"
    assert bounced["data"]["sendmux_message_id"] == show_id("eml_", UUID)
    assert bounced["data"]["recipients"] == ["recipient@example.com"]
    complained = body(Format.SENDMUX, of(EventType.COMPLAINED, reply="abuse", host="example.net", late=True))
    assert complained["data"]["complaint_type"] == "abuse"
    told = {type_.value: body(Format.SENDMUX, of(type_))["type"] for type_ in formats.SHAPES[Format.SENDMUX].types}
    assert told == {
        "delivered": "message.delivered",
        "bounced": "message.bounced",
        "expired": "message.bounced",
        "complained": "message.complained",
        "failed": "message.rejected",
        "suppressed": "message.rejected",
        "deferred": "message.delivery_delayed",
    }


def test_native_is_the_event_as_the_api_has_it() -> None:
    native = body(Format.NATIVE)
    assert (native["type"], native["id"]) == ("email.delivered", ID)
    assert native["data"]["reply"] == "250 2.0.0 ok"
    for type_ in EventType:
        assert formats.payload(Format.NATIVE, replace(EVENT, type=type_), TOKENS) is not None


@pytest.mark.parametrize("format_", [Format.CLOUDMAILS, Format.CLOUDMAILS_NESTED, Format.SENDMUX])
def test_what_cannot_be_said(format_: Format) -> None:
    assert formats.payload(format_, replace(EVENT, uuid=None), TOKENS) is None
    assert formats.payload(format_, of(EventType.BRAKED), TOKENS) is None
    assert body(format_, replace(EVENT, data="{", metadata="[1"))  # a damaged row ends nothing


def test_signatures_of_other_apis() -> None:
    payload = formats.payload(Format.SENDMUX, EVENT, TOKENS)
    assert payload is not None
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    headers = formats.SHAPES[Format.SENDMUX].headers(payload, secret, 1_700_000_000, 3)
    code = hmac.new(secret.encode(), payload.body, hashlib.sha256).hexdigest()
    timed = hmac.new(secret.encode(), b"1700000000." + payload.body, hashlib.sha256).hexdigest()
    assert headers == {
        "X-Sendmux-Signature": f"sha256={code}",
        "X-Sendmux-Timestamp": "1700000000",
        "X-Sendmux-Signature-V2": f"v1={timed}",
        "X-Sendmux-Event-Id": ID,
        "X-Sendmux-Event-Type": "message.delivered",
        "X-Sendmux-Delivery-Attempt": "3",
    }
    nested = formats.SHAPES[Format.CLOUDMAILS_NESTED].headers(payload, "their own secret", 1, 1)
    assert nested == {"X-CloudMails-Signature": hmac.new(b"their own secret", payload.body, hashlib.sha256).hexdigest()}


# S11


def signed(secret: str, at_s: int, body_: bytes = b'{"a":1}') -> dict[str, str]:
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at_s),
        "webhook-signature": signing.standard([secret], "evt_1", at_s, body_),
    }


def test_s11_what_is_altered_or_played_back_is_refused() -> None:
    secret, body_, now = signing.write_secret(bytes(range(32))), b'{"a":1}', int(time.time())
    reader = Webhook(secret)
    assert reader.verify(body_, signed(secret, now)) == {"a": 1}
    rng = random.Random(1)
    for _ in range(200):
        altered = bytearray(body_)
        altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(7)
        with pytest.raises(WebhookVerificationError):
            reader.verify(bytes(altered), signed(secret, now))
    for name, value in (("webhook-id", "evt_2"), ("webhook-timestamp", str(now + 1)), ("webhook-signature", "v1,AAAA")):
        with pytest.raises(WebhookVerificationError):
            reader.verify(body_, signed(secret, now) | {name: value})
    for old in (now - 301, now + 900):  # 5 minutes, either way; the test may take its time
        with pytest.raises(WebhookVerificationError):
            reader.verify(body_, signed(secret, old))
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.write_secret(bytes(32))).verify(body_, signed(secret, now))


def test_secrets_that_somebody_chose() -> None:
    made = signing.write_secret(bytes(32))
    assert signing.check_secret(made, standard=True) == made
    assert signing.check_secret("your_webhook_secret", standard=False) == "your_webhook_secret"
    for text, standard in (
        ("your_webhook_secret", True),
        ("whsec_", True),
        ("whsec_" + "A" * 30, False),
        ("whsec_!!!!", True),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), True),
        ("short", False),
        ("with a space in it", False),
        ("x" * 129, False),
    ):
        with pytest.raises(ValueError):
            signing.check_secret(text, standard=standard)


# The schedule


def answer(code: int, retry_after: str = "") -> Answer:
    return Answer(schedule.outcome_of(code), code, 1, "", retry_after)


def test_outcomes() -> None:
    assert {code for code in range(100, 600) if schedule.outcome_of(code) is Outcome.DELIVERED} == set(range(200, 300))
    assert {code for code in range(100, 600) if schedule.outcome_of(code) is Outcome.GONE} == {410}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("99999", 3600),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("9" * 40, 0),
        ("Tue, 19 May 2026 14:32:00 GMT", 120),
        ("Tue, 19 May 2020 14:32:00 GMT", 0),
        ("Tue, 19 May 2099 14:32:00 GMT", 3600),
        ("Tue, 99 May 2026 14:32:00 GMT", 0),
        ("\x00", 0),
    ],
)
def test_retry_after(text: str, seconds: float) -> None:
    assert schedule.wish_s(answer(503, text), AT) == seconds
    assert schedule.quiet_s(answer(500, text), AT) == 0


def test_pauses_have_a_jitter_and_an_end() -> None:
    rng = random.Random(1)
    pauses = [schedule.next_at(2, (5, 60), answer(500), 0, rng) for _ in range(200)]
    assert all(pause is not None and 48_000 <= pause <= 72_000 for pause in pauses)
    assert len(set(pauses)) > 100
    assert schedule.next_at(3, (5, 60), answer(500), 0, rng) is None
    later = schedule.next_at(1, (5, 60), answer(429, "600"), 0, rng)
    assert later == 600_000
