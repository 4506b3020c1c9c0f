"""GET /api/v1/emails: a page at a time, by its conditions, of the own account."""

import re
from typing import Any, Final

import pytest

from gateway.api import status
from gateway.events import State
from gateway.runtime import rfc3339
from gateway.store.shown import MessageView
from gateway.store.sqlite import SqliteStore
from tests.api.conftest import Api
from tests.api.mailing import Mail, shown, turns
from tests.api.test_openapi import check_answer

PATH = "/api/v1/emails"


@pytest.fixture
async def mail(store: SqliteStore) -> Mail:
    return Mail(store)


async def ask(api: Api, query: str = "", key: str = "full") -> Any:
    reply = await api.call("GET", f"{PATH}?{query}", key=key)
    assert reply.status == 200, reply.body
    check_answer("get", PATH, 200, reply.json, reply.headers)
    return reply.json


async def test_an_entry_is_what_its_own_status_is(mailing: Api, mail: Mail) -> None:
    message = await mail.put("a@example.com", "b@example.com", subject="Grüße")
    await mail.end()
    (entry,) = (await ask(mailing))["data"]
    assert entry == (await mailing.call("GET", f"{PATH}/{shown(message)}")).json["data"]
    assert (await ask(mailing, key="reader"))["data"] == []


async def test_the_link_leads_to_the_next_page(mailing: Api, mail: Mail) -> None:
    sent = [shown(await mail.put("ann+x@example.com")) for _ in range(5)]
    found: list[str] = []
    path = f"{PATH}?limit=2&to=ann%2Bx@example.com&tag=a"
    while path:
        reply = await mailing.call("GET", path)
        found += [entry["message_id"] for entry in reply.json["data"]]
        assert reply.json["has_more"] is ("link" in reply.headers)
        link = re.fullmatch(r'<(/api/v1/emails\?[^>]+)>; rel="next"', reply.headers.get("link", ""))
        path = link[1] if link else ""
        assert not path or f"after={reply.json['next_cursor']}" in path
    assert found == sent[::-1]
    assert reply.json["next_cursor"] is None


async def test_conditions(mailing: Api, mail: Mail) -> None:
    await mail.put("a@example.com", "b@example.net", subject="One")
    await mail.put("c@example.com", key="news", subject="Two")
    await mail.end(State.BOUNCED)
    await mail.put("late@example.com", send_at=mail.now.ms + 3_600_000)
    at = rfc3339(mail.now.ms)
    for query, expected in (
        ("state=bounced", 2),
        ("state=scheduled", 1),
        ("state=queued", 0),
        ("to=B@EXAMPLE.NET", 1),
        ("from=from@example.org", 3),
        ("from=sender@example.org", 0),
        ("key=news&state=bounced", 1),
        ("subject=two", 1),
        ("tag=a", 3),
        ("tag=none", 0),
        (f"since={at}", 3),
        (f"before={at}", 0),
        ("since=2026-01-01T00:00:00+02:00", 3),  # the plus was not escaped
        ("before=2026-01-01T00:00:00Z", 0),
        ("state=&to=", 3),
    ):
        assert len((await ask(mailing, query))["data"]) == expected, query


async def test_a_page_is_made_in_turns_of_the_loop(mailing: Api, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    at: list[int] = []
    describe = status.describe

    def show(view: MessageView) -> dict[str, Any]:
        at.append(turn())
        return describe(view)

    monkeypatch.setattr(status, "describe", show)
    for _ in range(3):
        await mail.put()
    with turns() as turn:
        assert len((await ask(mailing))["data"]) == 3
    assert at[0] < at[1] < at[2]


WRONG: Final = (
    ("state=sent", "state"),
    ("to=nobody", "to"),
    ("from=a@b@c", "from"),
    ("since=yesterday", "since"),
    ("before=in 5m", "before"),
    ("after=x", "after"),
    ("after=2026-01-01T00:00:00Z", "after"),
    ("limit=101", "limit"),
    ("stat=queued", "stat"),
    (f"subject={'x' * 1001}", "subject"),
)


async def test_bad_parameters_are_named(mailing: Api) -> None:
    for query, param in WRONG:
        reply = await mailing.call("GET", f"{PATH}?{query.replace(' ', '%20')}")
        assert (reply.status, reply.json["error"]["param"]) == (400, param), query
        assert "in 10m" not in reply.json["error"]["message"]  # only where mail is sent
        check_answer("get", PATH, 400, reply.json, reply.headers)
    assert (await mailing.call("GET", PATH, key="sender")).status == 403
