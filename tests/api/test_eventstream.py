"""GET /api/v1/events as server-sent events: resumed, kept alive, ended, and never more than a client takes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.api import eventstream, streaming
from gateway.store.sqlite import SqliteStore
from tests.api.conftest import Api, Client
from tests.api.mailing import Mail
from tests.api.test_events import MINE, PATH

STREAM = {"Accept": "text/event-stream"}


@dataclass(slots=True)
class Stream:
    """A client's view of it: chunks taken apart, lines read as WHATWG HTML 9.2.6 has it."""

    client: Client
    head: str
    last_id: str = ""
    comments: int = 0

    async def chunk(self) -> bytes:
        """b"" at the end."""
        async with asyncio.timeout(60):
            size = int(await self.client.reader.readline(), 16)
            data = await self.client.reader.readexactly(size)
            assert await self.client.reader.readexactly(2) == b"\r\n"
            return data

    async def events(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            chunk = await self.chunk()
            assert chunk, "the stream ended"
            found += self._read(chunk.decode())
        return found

    async def ends(self) -> None:
        while chunk := await self.chunk():
            assert self._read(chunk.decode()) == []
        assert await self.client.at_end()

    def _read(self, text: str) -> list[Any]:
        assert text.endswith("\n\n")
        found = []
        for block in text.removesuffix("\n\n").split("\n\n"):
            fields: dict[str, str] = {}
            for line in block.split("\n"):
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            self.comments += "" in fields
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields:
                event = json.loads(fields["data"])
                assert (fields["id"], fields["event"]) == (event["cursor"], event["type"])
                found.append(event)
        return found


Listen = Callable[..., Awaitable[Stream]]


@pytest.fixture
async def mail(store: SqliteStore) -> Mail:
    return Mail(store)


@pytest.fixture
async def listen(mailing: Api) -> AsyncIterator[Listen]:
    clients: list[Client] = []

    async def begin(query: str = "", **headers: str) -> Stream:
        client = await Client.connect(mailing.server)
        clients.append(client)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        client.write("GET", f"{PATH}?{query}", headers={**MINE, **STREAM, **given})
        async with asyncio.timeout(60):
            head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200 ")
        return Stream(client, head)

    yield begin
    for client in clients:
        client.writer.transport.abort()


async def test_what_was_and_what_comes(listen: Listen, mail: Mail, mailing: Api) -> None:
    await mail.put("a@example.com")
    stream = await listen()
    for field in ("Content-Type: text/event-stream", "Cache-Control: no-store", "Transfer-Encoding: chunked"):
        assert f"{field}\r\n" in stream.head
    assert "Content-Length" not in stream.head
    (first,) = await stream.events(1)
    assert first["data"]["recipient"] == "a@example.com"
    await mail.put("x@example.com", account="other", key="other")
    await mail.put("b@example.com")
    await mail.end()
    recipients = [event["data"]["recipient"] for event in await stream.events(3)]
    assert recipients == ["b@example.com", "a@example.com", "b@example.com"]
    polled = (await mailing.call("GET", PATH)).json["data"]
    assert polled[0] == first


async def test_a_stream_is_resumed_where_it_broke(listen: Listen, mail: Mail) -> None:
    for number in range(5):
        await mail.put(f"{number}@example.com")
    broken = await listen("types=accepted")
    seen = await broken.events(5)
    again = await listen("after=now", Last_Event_ID=seen[1]["cursor"])
    assert await again.events(3) == seen[2:]


async def test_its_place_is_told_before_anything_happens(listen: Listen, mail: Mail, mailing: Api) -> None:
    """Who asked for what comes from now on, and lost the connection before anything came, goes on from there."""
    await mail.put("before@example.com")
    place = (await mailing.call("GET", PATH)).json["next_cursor"]
    broken = await listen("after=now")
    assert broken._read((await broken.chunk()).decode()) == []
    assert broken.last_id == place
    broken.client.writer.transport.abort()
    await mail.put("between@example.com")
    again = await listen("after=now", Last_Event_ID=broken.last_id)
    (event,) = await again.events(1)
    assert event["data"]["recipient"] == "between@example.com"


async def test_a_bad_place_is_told_before_it_begins(mailing: Api) -> None:
    cases: tuple[tuple[str, dict[str, str], str], ...] = (
        ("", {"Last_Event_ID": "x"}, "Last-Event-ID"),
        ("after=x", {}, "after"),
        ("wait=5s", {}, "wait"),
        ("limit=5", {}, "limit"),
    )
    for query, headers, param in cases:
        given = {"Accept": "text/event-stream", **headers}
        reply = await mailing.call("GET", f"{PATH}?{query}", b"", **given)
        assert reply.status == 400
        assert reply.json["error"]["param"] == param
    reply = await mailing.call("GET", PATH, key="sender", Accept="text/html, TEXT/event-stream;q=0.5")
    assert reply.status == 403
    reply = await mailing.call("GET", f"{PATH}?message=eml_{'0' * 24}", key="full", Accept="text/event-stream")
    assert reply.status == 404


async def test_it_ends_with_the_gateway(listen: Listen, mailing: Api) -> None:
    stream = await listen()
    await stream.chunk()
    async with asyncio.timeout(30):
        await mailing.server.stop(50)
    await stream.ends()
    assert mailing.server._service.feeds.count == 0


async def test_heartbeats_go_past_what_is_not_wanted(
    listen: Listen, mail: Mail, mailing: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventstream, "HEARTBEAT_S", 0.01)
    stream = await listen("types=bounced")
    await mail.put()
    place = (await mailing.call("GET", PATH)).json["next_cursor"]
    async with asyncio.timeout(60):
        while stream.last_id != place:
            assert stream._read((await stream.chunk()).decode()) == []
    assert stream.comments


@pytest.mark.parametrize("change", [None, {"account": "another"}, {"scopes": frozenset({"send"})}])
async def test_a_key_that_is_revoked_or_another_one_hears_no_more(
    listen: Listen, mailing: Api, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(eventstream, "HEARTBEAT_S", 0.01)
    stream = await listen()
    await stream.chunk()
    key = mailing.door.keys.pop("full")
    if change is not None:
        mailing.door.keys["full"] = replace(key, **change)
    await stream.ends()
    assert mailing.server._service.feeds.count == 0


async def test_who_does_not_read_is_cut_and_little_is_kept_for_it(
    mailing: Api, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "WRITE_S", 0.05)
    messages = [mail.post.message(account="full-account", key="full", subject="x" * 20_000) for _ in range(300)]
    await mail.store.enqueue_all(messages, None)
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    at = mailing.server.addresses[0]
    await asyncio.get_running_loop().sock_connect(plug, (at.host, at.port))
    client = Client(*await asyncio.open_connection(sock=plug, limit=1024))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # every transport of a socket can
    client.write("GET", PATH, headers={**MINE, **STREAM})
    connections = mailing.server._connections
    assert connections is not None
    async with asyncio.timeout(60):
        while not mailing.server._service.feeds.count:
            await asyncio.sleep(0.001)
        while mailing.server._service.feeds.count or connections.connections:
            await asyncio.sleep(0.001)
    client.writer.transport.abort()


async def test_a_store_that_fails_cuts_it(listen: Listen, mailing: Api, store: SqliteStore, mail: Mail) -> None:
    await mail.put()
    stream = await listen("after=now")
    await stream.chunk()
    await store.close()
    store.event_log._last = lambda: 100
    store.commits.wake()
    async with asyncio.timeout(60):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError, ValueError)):
            await stream.chunk()
    assert mailing.server._service.feeds.count == 0


async def test_an_old_client_reads_to_the_end_of_the_connection(mailing: Api, mail: Mail) -> None:
    await mail.put("a@example.com")
    client = await Client.connect(mailing.server)
    client.writer.write(
        f"GET {PATH} HTTP/1.0\r\nAccept: text/event-stream\r\nAuthorization: Bearer full\r\n\r\n".encode()
    )
    async with asyncio.timeout(60):
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        assert "Transfer-Encoding" not in head
        assert (await client.reader.readuntil(b"\n\n")).startswith(b"retry: 3000\nid: ")
        assert b"a@example.com" in await client.reader.readuntil(b"\n\n")
        await mailing.server.stop(10)
        assert await client.at_end()
    await client.close()


async def test_head_alone(mailing: Api) -> None:
    reply = await mailing.call("HEAD", PATH, key="full", Accept="text/event-stream")
    assert reply.status == 200
    assert mailing.server._service.feeds.count == 0
