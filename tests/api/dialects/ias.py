"""A request of i-as in both forms of its header, and what may become of it."""

import base64
from collections.abc import Sequence
from typing import Any

from gateway.delivery.passthrough import Ending, Passed
from gateway.delivery.waits import Outcome
from gateway.events import State
from gateway.store.queue import Attempt, Result
from gateway.store.shown import MessageView, RecipientView
from tests.api.conftest import UUID, Api, Reply
from tests.api.dialects.conftest import post

PATH = "/api/smtp"
RELAY = "smtp.example.com"
MAIL: dict[str, Any] = {
    "from": "your_email@example.com",
    "to": "to_email@example.com",
    "cc": "cc_email@example.com",
    "subject": "Test API",
    "text": "Hello, Test Email From API",
}
REQUIRED = ("from", "to", "subject", "text")
TO, CC = MAIL["to"], MAIL["cc"]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


KEY = basic("your_email@example.com", "full")
PLAIN = {"server": RELAY, "port": "587", "secure": "true", "email": "you@example.com", "password": "hunter-22"}
X_FORM = {
    "X-SMTP-Server": RELAY,
    "X-SMTP-Port": "587",
    "X-SMTP-Secure": "true",
    "Authorization": basic("you@example.com", "hunter-22"),
}


async def send(api: Api, document: Any = MAIL, headers: dict[str, str] | None = None) -> Reply:
    given = {"Authorization": KEY} if headers is None else headers
    return await post(api, PATH, document, **given)


def check_failure(reply: Reply, status: int, *words: str) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"message"}
    for word in words:
        assert word in reply.json["message"]


def outcome(states: dict[str, State], attempts: Sequence[Attempt] = (), reply: str = "") -> Outcome:
    recipients = tuple(
        RecipientView(
            id=index,
            address=address,
            state=state,
            attempts=1,
            next_at=None,
            expires_at=0,
            reply=reply,
            host="",
            bounce_class="",
            blocked_by="",
            updated_at=0,
            possible_duplicate=False,
            route="direct",
            domain="",
        )
        for index, (address, state) in enumerate(states.items())
    )
    view = MessageView(
        uuid=UUID,
        account="full-account",
        key="full",
        door="http",
        envelope_sender=MAIL["from"],
        header_from=MAIL["from"],
        subject=MAIL["subject"],
        message_id="one@example.com",
        size=321,
        tags="[]",
        metadata="{}",
        created_at=0,
        expires_at=0,
        recipients=recipients,
    )
    return Outcome(view, tuple(attempts))


def attempt(states: dict[str, tuple[State, str]], envelope_ms: int = 12, content_ms: int = 34) -> Attempt:
    results = tuple(
        Result(recipient=index, fence=1, state=state, event=None, attempts=1, to=address, reply=reply)
        for index, (address, (state, reply)) in enumerate(states.items())
    )
    return Attempt(1, UUID, 1, "direct", 0, 50, results, envelope_ms, content_ms, wire_bytes=456)


def passed(ending: Ending, states: dict[str, tuple[State, str]] | None = None) -> Passed:
    return Passed(UUID, "one@example.com", MAIL["from"], ending, attempt(states or {}))
