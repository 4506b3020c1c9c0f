"""GET /api/v1/events: in order, from any place on, nothing twice, nobody else's; and of one message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from gateway import eventview
from gateway.api import feeds, following
from gateway.events import State
from gateway.store.eventlog import LoggedEvent
from gateway.store.sqlite import SqliteStore
from gateway.tokens import Tokens
from tests.api.conftest import Api, Client
from tests.api.mailing import Mail, shown, turns, types
from tests.api.test_openapi import check_answer

PATH = "/api/v1/events"
MINE = {"Authorization": "Bearer full"}


@pytest.fixture
async def mail(store: SqliteStore) -> Mail:
    return Mail(store)


async def ask(api: Api, query: str = "", *, key: str = "full", path: str = PATH) -> Any:
    reply = await api.call("GET", f"{path}?{query}" if query else path, key=key)
    assert reply.status == 200, reply.body
    check_answer("get", path if path == PATH else "/api/v1/emails/{id}/events", 200, reply.json, reply.headers)
    return reply.json


async def walk(api: Api, query: str) -> list[Any]:
    """All pages of a question."""
    found: list[Any] = []
    cursor = ""
    while True:
        page = await ask(api, f"{query}&after={cursor}")
        found += page["data"]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            return found


async def test_what_happened_in_order(mailing: Api, mail: Mail) -> None:
    message = await mail.put("ann@example.com")
    await mail.end()
    page = await ask(mailing)
    assert types(page["data"]) == ["email.accepted", "email.delivered"]
    assert page["has_more"] is False
    assert page["next_cursor"] == page["data"][-1]["cursor"]
    delivered = page["data"][1]["data"]
    assert delivered["message_id"] == shown(message)
    assert delivered["recipient"] == "ann@example.com"
    assert (delivered["reply"], delivered["command"], delivered["host"]) == ("250 ok", "dot", "mx.example.com")
    assert (delivered["address"], delivered["tls"], delivered["attempt"]) == ("192.0.2.25", "TLSv1.3", 1)
    assert (delivered["route"], delivered["key"], delivered["metadata"]) == ("direct", "full", {"order": 1})


async def test_pages_have_everything_once(mailing: Api, mail: Mail) -> None:
    for number in range(7):
        await mail.put(f"{number}@example.com")
    await mail.end()
    everything = (await ask(mailing))["data"]
    assert len(everything) == 14
    for limit in (1, 3, 14):
        assert await walk(mailing, f"limit={limit}") == everything
    assert await walk(mailing, "limit=2&types=email.delivered") == everything[7:]
    assert len({event["id"] for event in everything}) == 14


async def test_another_accounts_events_are_never_seen(mailing: Api, mail: Mail) -> None:
    theirs = await mail.put("x@example.com", account="reader-account", key="reader")
    mine = await mail.put("y@example.com")
    await mail.end()
    seen = {event["data"]["message_id"] for event in (await ask(mailing))["data"]}
    assert seen == {shown(mine)}
    assert {event["data"]["message_id"] for event in (await ask(mailing, key="reader"))["data"]} == {shown(theirs)}
    for path in (f"{PATH}?message={shown(theirs)}", f"/api/v1/emails/{shown(theirs)}/events"):
        reply = await mailing.call("GET", path)
        assert reply.status == 404
        assert reply.json["error"]["code"] == "not_found"
    cursor = (await ask(mailing, key="reader", query="limit=1"))["next_cursor"]
    assert {event["data"]["message_id"] for event in (await ask(mailing, f"after={cursor}"))["data"]} <= seen


async def test_filters(mailing: Api, mail: Mail) -> None:
    one = await mail.put("a@example.com", key="news")
    await mail.put("b@example.com")
    await mail.end(State.BOUNCED)
    for query, expected in (
        ("types=bounced", 2),
        ("types=email.bounced,email.accepted", 4),
        ("types=email.delivered", 0),
        ("key=news", 2),
        ("key=none", 0),
        ("tag=a", 4),
        ("tag=b", 0),
        (f"message={shown(one)}", 2),
        (f"message={shown(one)}&types=bounced&key=news&tag=a", 1),
        ("types=&key=&limit=", 4),
    ):
        assert len((await ask(mailing, query))["data"]) == expected, query


async def test_the_cursor_goes_past_what_was_not_wanted(
    mailing: Api, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "READ_ROWS", 1)
    monkeypatch.setattr(following, "_READS", 15)
    for _ in range(20):
        await mail.put()
    await mail.end()
    first = await ask(mailing, "types=email.delivered")
    assert first["data"] == []
    assert first["has_more"] is True  # fifteen were looked at
    assert len(await walk(mailing, "types=email.delivered")) == 20


async def test_from_now_on_and_from_a_place_that_is_gone(mailing: Api, mail: Mail, store: SqliteStore) -> None:
    tokens: Tokens = mailing.door.mail.tokens
    await mail.put()
    for word in ("now", "latest"):
        page = await ask(mailing, f"after={word}")
        assert page["data"] == []
        assert page["has_more"] is False
    await mail.put()
    assert len((await ask(mailing, f"after={page['next_cursor']}"))["data"]) == 1
    assert len((await ask(mailing, f"after={tokens.cursor(0)}"))["data"]) == 2
    ahead = await ask(mailing, f"after={tokens.cursor(1 << 40)}")  # the store is an older one than it was
    assert ahead["data"] == []
    assert ahead["next_cursor"] == tokens.cursor(store.event_log.last)


async def test_now_is_behind_what_was_committed(mailing: Api, mail: Mail, store: SqliteStore) -> None:
    """Not behind the number of an event that nobody can see yet."""
    await mail.put()
    given, store.event_log._last = store.event_log._last, lambda: 9
    page = await ask(mailing, "after=now")
    store.event_log._last = given
    await mail.put("seen@example.com")
    (event,) = (await ask(mailing, f"after={page['next_cursor']}"))["data"]
    assert event["data"]["recipient"] == "seen@example.com"


async def test_a_page_of_large_events_is_a_short_one(mailing: Api, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of a message comes again with each recipient: with much metadata, a page held 100 MB."""
    monkeypatch.setattr(following, "PAGE_BYTES", 10_000)
    await mail.put(*(f"a{number}@example.com" for number in range(5)), subject=4000 * "y")
    first = await ask(mailing)
    assert (len(first["data"]), first["has_more"]) == (3, True)
    assert len(await walk(mailing, "tag=a")) == 5


async def test_a_damaged_time_does_not_end_the_log(mailing: Api, mail: Mail, tmp_path: Path) -> None:
    await mail.put()
    await mail.end()
    with closing(apsw.Connection(str(next(tmp_path.glob("*.db"))))) as foreign:
        foreign.execute("UPDATE event SET at = at + (1 << 60) WHERE type = 'accepted'")
    accepted, delivered = (await ask(mailing))["data"]
    assert accepted["timestamp"] < "1971" < delivered["timestamp"]


async def test_a_page_is_made_in_turns_of_the_loop(mailing: Api, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_TURN", 2)
    at: list[int] = []
    native = eventview.native

    def show(event: LoggedEvent, tokens: Tokens) -> dict[str, Any]:
        at.append(turn())
        return native(event, tokens)

    monkeypatch.setattr(eventview, "native", show)
    await mail.put("a@example.com", "b@example.com", "c@example.com", "d@example.com")
    with turns() as turn:
        assert len((await ask(mailing))["data"]) == 4
    assert at[0] == at[1] < at[2] == at[3]


WRONG: Final = (
    ("after=abc", "after"),
    ("after=aaaaaaaaaaaaaaaaaaaaaa", "after"),
    ("after=%00", "after"),
    ("types=email.sent", "types"),
    ("message=17", "message"),
    ("limit=0", "limit"),
    ("limit=1001", "limit"),
    ("limit=x", "limit"),
    ("limit=%C2%B2", "limit"),
    ("wait=61s", "wait"),
    ("wait=soon", "wait"),
    ("colour=red", "colour"),
    ("key=a&key=b", "key"),
    ("key=%00", "key"),
    ("key=%ff", "query"),
    ("&".join(f"a{n}=1" for n in range(60)), "query"),
)


async def test_bad_parameters_are_named(mailing: Api) -> None:
    for query, param in WRONG:
        reply = await mailing.call("GET", f"{PATH}?{query}")
        assert (reply.status, reply.json["error"]["param"]) == (400, param), query
        assert len(reply.json["error"]["errors"]) == 1, query
        check_answer("get", PATH, 400, reply.json, reply.headers)


async def test_a_cursor_of_the_search_is_none_of_the_log(mailing: Api, mail: Mail) -> None:
    for _ in range(2):
        await mail.put()
    cursor = (await mailing.call("GET", "/api/v1/emails?limit=1")).json["next_cursor"]
    assert (await mailing.call("GET", f"{PATH}?after={cursor}")).status == 400
    event = (await ask(mailing))["next_cursor"]
    assert (await mailing.call("GET", f"/api/v1/emails?after={event}")).status == 400


async def test_it_needs_the_scope(mailing: Api) -> None:
    assert (await mailing.call("GET", PATH, key="sender")).status == 403
    assert (await mailing.call("GET", PATH, key=None)).status == 401


# Waiting


async def begin(api: Api, query: str, **headers: str) -> Client:
    """A request that is waiting."""
    waiting = api.server._service.feeds.count
    client = await Client.connect(api.server)
    client.write("GET", f"{PATH}?{query}", headers={**MINE, **headers})
    async with asyncio.timeout(60):
        while api.server._service.feeds.count == waiting:
            await asyncio.sleep(0.001)
    return client


@pytest.fixture
async def waiting(mailing: Api, mail: Mail) -> AsyncIterator[Client]:
    await mail.put()
    client = await begin(mailing, "after=now&wait=60s")
    yield client
    await client.close()


async def test_a_wait_ends_with_what_comes(mailing: Api, mail: Mail, waiting: Client) -> None:
    await mail.put(account="other", key="other")
    await mail.put("new@example.com")
    reply = await waiting.read()
    assert [event["data"]["recipient"] for event in reply.json["data"]] == ["new@example.com"]
    assert mailing.server._service.feeds.count == 0


async def test_what_is_there_is_not_waited_for(mailing: Api, mail: Mail) -> None:
    await mail.put()
    assert len((await ask(mailing, "wait=60s"))["data"]) == 1


async def test_a_wait_ends_with_its_time(mailing: Api) -> None:
    page = await ask(mailing, "wait=10ms")
    assert (page["data"], page["has_more"]) == ([], False)


async def test_a_wait_ends_with_the_gateway(mailing: Api, waiting: Client) -> None:
    async with asyncio.timeout(30):  # not the sixty seconds
        await mailing.server.stop(50)
    reply = await waiting.read()
    assert (reply.status, reply.json["data"]) == (200, [])


async def test_so_many_of_a_key_wait_and_no_more(mailing: Api) -> None:
    clients = [await begin(mailing, "wait=60s&after=now") for _ in range(feeds.MOST_OF_KEY)]
    reply = await mailing.call("GET", f"{PATH}?wait=60s")
    assert reply.status == 429
    assert reply.headers["retry-after"] == "5"
    check_answer("get", PATH, 429, reply.json, reply.headers)
    assert (await mailing.call("GET", PATH)).status == 200  # without waiting
    other = await mailing.call("GET", f"{PATH}?wait=1ms", key="reader")
    assert other.status == 200
    await mailing.server.stop(5)
    for client in clients:
        assert (await client.read()).status == 200
        await client.close()
    assert mailing.server._service.feeds.count == 0


async def test_a_client_that_is_gone_keeps_no_place(
    mailing: Api, waiting: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting.writer.transport.abort()
    async with asyncio.timeout(60):
        while mailing.server._service.feeds.count:
            mailing.door.mail.commits.wake()
            await asyncio.sleep(0.001)


async def test_a_store_that_is_away_is_told(mailing: Api, store: SqliteStore) -> None:
    await store.close()
    store.event_log._last = lambda: 5
    reply = await mailing.call("GET", f"{PATH}?wait=60s")
    assert reply.status == 503
    check_answer("get", PATH, 503, reply.json, reply.headers)
    assert mailing.server._service.feeds.count == 0


# Of one message


async def test_events_of_a_message(mailing: Api, mail: Mail) -> None:
    message = await mail.put("a@example.com", "b@example.com")
    await mail.put()
    await mail.end(State.DEFERRED)
    path = f"/api/v1/emails/{shown(message)}/events"
    everything = (await ask(mailing, path=path))["data"]
    assert types(everything) == ["email.accepted"] * 2 + ["email.deferred"] * 2
    assert all("next_attempt_at" in event["data"] for event in everything[2:])
    page = await ask(mailing, "limit=3", path=path)
    assert page["has_more"] is True
    rest = await ask(mailing, f"limit=3&after={page['next_cursor']}", path=path)
    assert page["data"] + rest["data"] == everything
    assert types((await ask(mailing, "types=deferred", path=path))["data"]) == ["email.deferred"] * 2
    assert (await mailing.call("GET", f"{path}?wait=5s")).status == 400
    for other in ("/api/v1/emails/x/events", f"/api/v1/emails/{'eml_' + '0' * 24}/events"):
        assert (await mailing.call("GET", other)).status == 404
