"""Mail of accounts for tests of the API: put into a real store, and brought to an end."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gateway.events import State
from gateway.runtime import Clock, show_id
from gateway.store.newmail import NewMessage
from gateway.store.sqlite import SqliteStore
from tests.store.mail import LEASE_MS, Now, Post, attempt, claim_all

ACCOUNT = "full-account"


class Mail:
    """Of the key `full` unless said otherwise."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now = Now(Clock().now_ms())
        self.post = Post(self.now)

    async def put(self, *to: str, **more: Any) -> NewMessage:
        message = self.post.message(*to, **{"account": ACCOUNT, "key": "full", **more})
        await self.store.enqueue(message)
        return message

    async def end(self, state: State = State.DELIVERED) -> None:
        """Whatever can be claimed."""
        until = self.now.ms + LEASE_MS
        again = self.now.ms + 3_600_000 if state is State.DEFERRED else 0
        for claimed in await claim_all(self.store, until):
            await self.store.settle([attempt(claimed, state, at=self.now.ms, next_at=again)])


def shown(message: NewMessage) -> str:
    return show_id("eml_", message.uuid)


def types(events: Sequence[Any]) -> list[str]:
    return [event["type"] for event in events]


@contextmanager
def turns() -> Iterator[Callable[[], int]]:
    """Says how many turns the loop has made."""
    loop, made, is_over = asyncio.get_running_loop(), 0, False

    def turn() -> None:
        nonlocal made
        made += 1
        if not is_over:
            loop.call_soon(turn)

    turn()
    try:
        yield lambda: made
    finally:
        is_over = True
