"""The actions of an export, a part at a time."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.errors import Refused, StoreError
from gateway.events import State
from gateway.manage import export
from gateway.manage.export import ExportActions
from gateway.runtime import show_id
from gateway.store.sqlite import SqliteStore
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all

NOW = Now()
LARGE = [(0, b"Subject: large\r\n\r\n" + b"x" * 70_000), (1, b"y" * 70_000)]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "queue.db", clock=NOW.clock)
    yield opened
    await opened.close()


@pytest.fixture
def post() -> Post:
    return Post(NOW)


async def parts(actions: ExportActions, **which: Any) -> list[list[str]]:
    """The ids of each part."""
    session = await actions.begin(which)
    found = []
    end = False
    while not end:
        part = await actions.next(session)
        found.append([message["id"] for message in part["messages"]])
        end = part["end"]
    with pytest.raises(Refused, match="begin anew"):
        await actions.next(session)
    return found


async def test_a_part_is_bounded_by_what_it_holds(store: SqliteStore, post: Post) -> None:
    actions = ExportActions(store, NOW.clock)
    for _ in range(10):
        await store.enqueue(post.message(pieces=[(0, b"z" * 60_000)]))
    sizes = [len(part) for part in await parts(actions)]
    assert sum(sizes) == 10
    assert 1 < max(sizes) <= 1 + export.PART_BYTES // 80_000
    assert [len(part) for part in await parts(actions, limit=2)] == [2]
    assert await parts(actions, key="other") == [[]]


async def test_what_ends_meanwhile_is_left_out(store: SqliteStore, post: Post) -> None:
    actions = ExportActions(store, NOW.clock)
    large, small = post.message(pieces=LARGE, piece_count=2), post.message("a@example.com", "b@example.com")
    for message in (large, small):
        await store.enqueue(message)
    (shown, _) = (await actions.next(await actions.begin({})))["messages"]
    piece = {"id": shown["id"], "number": shown["number"], "index": 1}
    assert base64.b64decode((await actions.piece(piece))["content"]) == LARGE[1][1]
    damaged = await actions.piece(piece | {"index": 2})
    assert damaged["content"] is None
    assert "missing" in damaged["fault"]
    session = await actions.begin({})
    claimed = {one.uuid: one for one in await claim_all(store, START_MS + LEASE_MS)}
    await store.settle([attempt(claimed[large.uuid], State.DELIVERED, at=START_MS)])
    some = attempt(claimed[small.uuid], State.DELIVERED, at=START_MS)
    await store.settle([replace(some, results=some.results[:1])])
    await store.sweep(START_MS + 1)
    part = await actions.next(session)
    (left,) = part["messages"]
    assert left["id"] == show_id("eml_", small.uuid)
    assert [one["to"] for one in left["recipients"]] == ["b@example.com"]
    assert await actions.piece(piece) == {"content": None, "fault": ""}


async def test_a_store_that_is_away_is_no_damage_of_a_message(
    store: SqliteStore, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> bytes:
        raise StoreError("The store is closed.")

    actions = ExportActions(store, NOW.clock)
    for message in (post.message(pieces=LARGE, piece_count=2), post.message()):
        await store.enqueue(message)
    (large, _) = (await actions.next(await actions.begin({})))["messages"]
    monkeypatch.setattr(store, "content", away)
    monkeypatch.setattr(store, "piece", away)
    with pytest.raises(StoreError, match="closed"):
        await actions.next(await actions.begin({}))
    with pytest.raises(StoreError, match="closed"):
        await actions.piece({"id": large["id"], "number": large["number"], "index": 0})


async def test_exports_that_nobody_ends_make_room(store: SqliteStore, post: Post) -> None:
    actions = ExportActions(store, NOW.clock)
    await store.enqueue(post.message())
    sessions = [await actions.begin({}) for _ in range(5)]
    with pytest.raises(Refused, match="begin anew"):
        await actions.next(sessions[0])
    for session in sessions[1:]:
        assert len((await actions.next(session))["messages"]) == 1
    for wrong in ({"state": "delivered"}, {"id": "eml_nonsense"}):
        with pytest.raises(Refused):
            await actions.begin(wrong)
