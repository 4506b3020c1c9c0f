"""A row that is whole but stands where another one was: of another message, or in another destination's queue."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store import seal
from gateway.store.connection import Damaged
from gateway.store.sqlite import SqliteStore
from tests.baddays.test_damage import UNTIL, alter
from tests.store.mail import Now, Post, claim_all, destination


@pytest.fixture
async def store(tmp_path: Path, now: Now) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "queue.db", clock=now.clock)
    yield opened
    await opened.close()


def test_a_piece_fits_one_place() -> None:
    stored = seal.content(7, 0, b"content")
    assert seal.is_content(stored, 7, 0, b"content")
    assert not seal.is_content(stored, 7, 1, b"content")
    assert not seal.is_content(stored, 8, 0, b"content")
    assert not seal.is_content(stored, 7, 0, b"contenu")


async def test_the_content_of_another_message_is_not_sent(store: SqliteStore, tmp_path: Path, post: Post) -> None:
    first, second = post.message("you@example.com"), post.message("her@example.com")
    for message in (first, second):
        await store.enqueue(message)
    alter(tmp_path, "DELETE FROM content WHERE message = ?", first.id)
    alter(tmp_path, "UPDATE content SET message = ? WHERE message = ?", first.id, second.id)
    claims = {one.message: one.content for one in await claim_all(store, UNTIL)}
    assert claims == {first.id: None, second.id: None}
    with pytest.raises(Damaged):
        await store.piece(first.id, 0)


async def test_mail_in_the_queue_of_another_destination_is_not_sent_there(
    store: SqliteStore, tmp_path: Path, post: Post
) -> None:
    await store.enqueue(post.message("you@example.com"))
    number = await destination(store)
    other = post.message("her@elsewhere.example")
    await store.enqueue(other)
    alter(tmp_path, "UPDATE ready SET destination = ? WHERE message = ?", number, other.id)
    assert await store.claim(number, 10, UNTIL) == ()
    assert [one.recipients[0].address for one in await store.claim(number, 10, UNTIL)] == ["you@example.com"]


async def test_content_of_an_older_version_is_believed(store: SqliteStore, tmp_path: Path, post: Post) -> None:
    message = post.message("you@example.com")
    await store.enqueue(message)
    alter(tmp_path, "UPDATE content SET hash = ?", hashlib.sha256(message.pieces[0][1]).digest())
    (claimed,) = await claim_all(store, UNTIL)
    assert claimed.content == message.pieces[0][1]
