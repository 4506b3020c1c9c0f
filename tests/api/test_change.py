"""Cancel, retry, release and PATCH: what they change, what they refuse, and who may."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from gateway.events import State
from gateway.runtime import rfc3339
from gateway.store.newmail import NewMessage
from gateway.store.shown import Filter, Order, Verb
from gateway.store.sqlite import SqliteStore
from tests.api.conftest import Api, Reply
from tests.api.mailing import Mail, shown
from tests.api.test_openapi import check_answer
from tests.store.mail import HOUR_MS, LEASE_MS, claim_all

ACCOUNT = "manager-account"


class Desk:
    """Messages of the key `manager`, and what is done to them."""

    def __init__(self, api: Api, store: SqliteStore) -> None:
        self.api = api
        self.store = store
        self.mail = Mail(store)

    async def put(self, *to: str, **more: Any) -> NewMessage:
        return await self.mail.put(*to, account=ACCOUNT, key="manager", **more)

    async def do(self, verb: str, message: NewMessage, *, key: str = "manager") -> Reply:
        reply = await self.api.call("POST", f"/api/v1/emails/{shown(message)}/{verb}", key=key)
        check_answer("post", f"/api/v1/emails/{{id}}/{verb}", reply.status, reply.json, reply.headers)
        return reply

    async def patch(self, message: NewMessage, body: Any, *, key: str = "manager") -> Reply:
        path = f"/api/v1/emails/{shown(message)}"
        reply = await self.api.call("PATCH", path, json.dumps(body).encode(), key=key, Content_Type="application/json")
        check_answer("patch", "/api/v1/emails/{id}", reply.status, reply.json, reply.headers)
        return reply

    async def states(self, message: NewMessage) -> list[str]:
        view = await self.store.message(message.uuid, None)
        assert view is not None
        return [one.state.value for one in view.recipients]


@pytest.fixture
async def desk(mailing: Api, store: SqliteStore) -> Desk:
    return Desk(mailing, store)


async def hold(desk: Desk, message: NewMessage) -> None:
    await desk.store.operate(Filter(uuid=message.uuid), Order(Verb.HOLD), desk.mail.now.ms)


async def test_cancel(desk: Desk) -> None:
    message = await desk.put("a@example.com", "b@example.net")
    other = await desk.put()
    reply = await desk.do("cancel", message)
    assert reply.status == 200
    assert (reply.json["data"]["changed"], reply.json["data"]["state"]) == (2, "cancelled")
    assert await desk.states(other) == ["queued"]
    again = await desk.do("cancel", message)
    assert again.status == 409
    assert again.json["error"]["code"] == "conflict"
    assert "it is cancelled" in again.json["error"]["message"]
    events = await desk.store.events(message.uuid)
    assert "by the key manager" in events[-1].data


async def test_what_is_in_hand_is_left_to_its_attempt(desk: Desk) -> None:
    message = await desk.put()
    await claim_all(desk.store, desk.mail.now.ms + LEASE_MS)
    reply = await desk.do("cancel", message)
    assert reply.status == 409
    assert "in hand" in reply.json["error"]["message"]


async def test_retry(desk: Desk) -> None:
    message = await desk.put()
    assert (await desk.do("retry", message)).status == 409
    await desk.mail.end(State.DEFERRED)
    reply = await desk.do("retry", message)
    assert reply.json["data"]["changed"] == 1
    assert await claim_all(desk.store, desk.mail.now.ms + LEASE_MS)
    later = await desk.put(send_at=desk.mail.now.ms + HOUR_MS)
    refused = await desk.do("retry", later)  # its time is its time
    assert refused.status == 409
    assert "it is scheduled" in refused.json["error"]["message"]


async def test_release(desk: Desk) -> None:
    message = await desk.put()
    assert (await desk.do("release", message)).status == 409
    await hold(desk, message)
    reply = await desk.do("release", message)
    assert (reply.status, reply.json["data"]["state"]) == (200, "queued")


async def test_a_scheduled_message_is_moved(desk: Desk) -> None:
    now = desk.mail.now.ms
    message = await desk.put("a@example.com", "b@example.com", send_at=now + HOUR_MS)
    later = rfc3339(now + 5 * HOUR_MS)
    reply = await desk.patch(message, {"send_at": later})
    assert (reply.status, reply.json["data"]["changed"]) == (200, 2)
    assert [one["next_attempt_at"] for one in reply.json["data"]["recipients"]] == [later, later]
    reply = await desk.patch(message, {"send_at": "in 30m"})
    assert reply.json["data"]["recipients"][0]["next_attempt_at"] < later
    reply = await desk.patch(message, {"send_at": "now"})
    assert reply.json["data"]["state"] == "queued"
    reply = await desk.patch(message, {"send_at": later})
    assert reply.status == 409


WRONG: Final[tuple[tuple[Any, int, str | None], ...]] = (
    ({}, 400, "send_at"),
    ({"send_at": None}, 400, "send_at"),
    ({"send_at": 5}, 400, "send_at"),
    ({"send_at": "soon"}, 422, "send_at"),
    ({"send_at": "in 400d"}, 422, "send_at"),
    ({"send_at": "2099-01-01T00:00:00Z"}, 422, "send_at"),
    ({"send_at": "now", "subject": "x"}, 400, "subject"),
    ([], 400, None),
    ({"send_at": " " * 5000}, 413, None),
)


async def test_a_bad_time_is_named(desk: Desk) -> None:
    message = await desk.put(send_at=desk.mail.now.ms + HOUR_MS)
    for body, status, param in WRONG:
        reply = await desk.patch(message, body)
        assert (reply.status, reply.json["error"]["param"]) == (status, param), body
    assert await desk.states(message) == ["scheduled"]


VERBS: tuple[Callable[[Desk, NewMessage, str], Any], ...] = (
    lambda desk, message, key: desk.do("cancel", message, key=key),
    lambda desk, message, key: desk.do("retry", message, key=key),
    lambda desk, message, key: desk.do("release", message, key=key),
    lambda desk, message, key: desk.patch(message, {"send_at": "now"}, key=key),
)


async def test_another_accounts_mail_is_unknown(desk: Desk) -> None:
    message = await desk.mail.put(send_at=desk.mail.now.ms + HOUR_MS)
    for verb in VERBS:
        assert (await verb(desk, message, "manager")).status == 404
    assert await desk.states(message) == ["scheduled"]


async def test_who_may(desk: Desk) -> None:
    message = await desk.put()
    for verb in VERBS:
        assert (await verb(desk, message, "reader")).status == 403
        assert (await verb(desk, message, "none")).status == 401
    own = await desk.mail.put(account="sender-account", key="sender")
    await hold(desk, own)
    assert (await desk.do("release", own, key="sender")).status == 403
    assert (await desk.do("cancel", own, key="sender")).status == 200


async def test_nothing_is_read_and_ignored(desk: Desk) -> None:
    message = await desk.put()
    for verb in ("cancel", "retry", "release"):
        reply = await desk.api.call("POST", f"/api/v1/emails/{shown(message)}/{verb}?dry_run=true", key="manager")
        assert reply.status == 400
    assert await desk.states(message) == ["queued"]
