"""Webhooks over a real store, with a clock that the test moves and receivers on loopback."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gateway.app.webhooks import WebhookParts
from gateway.config import Webhooks
from gateway.events import State
from gateway.manage.webhooks import WebhookWish
from gateway.metrics import Metrics
from gateway.resolver import Resolver
from gateway.runtime import Clock, Supervisor
from gateway.store import connection
from gateway.store.newmail import NewMessage
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault
from gateway.tokens import Tokens
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.figures import WebhookFigures
from tests.fakes.receiver import Receiver
from tests.store.mail import Now, Post, attempt, claim_all

CONFIG = Webhooks(allow_http=True, allow_networks=(ip_network("127.0.0.0/8"),), timeout_s=5)
ACCOUNT = "acme"
WITHIN_S = 60


class World:
    """`now` is moved by `later`, and by `set_clock` while no time goes by; `deaths` are tasks that failed."""

    def __init__(self, store: SqliteStore, now: Now, config: Webhooks, clock: Clock | None = None) -> None:
        self.store = store
        self.now = now
        self.config = config
        self._set_by_ms = 0
        self.clock = clock or Clock(lambda: now.ms, lambda: (now.ms - self._set_by_ms) / 1000)
        self.post = Post(now)
        self.tokens = Tokens(bytes(32))
        self.vault = Vault(b"k" * 32)
        self.deaths: list[str] = []
        self.figures = WebhookFigures(Metrics())
        self._open()

    def _open(self) -> None:
        self.supervisor = Supervisor(
            on_fatal=lambda name, error: self.deaths.append(f"{name}: {error!r}"),
            on_error=lambda name, error: self.deaths.append(f"{name}: {error!r}"),
        )
        shared: dict[str, Any] = {"vault": self.vault, "tokens": self.tokens, "clock": self.clock}
        self.parts = WebhookParts(self.config, self.store, Resolver(()), **shared)
        self.manager = self.parts.manager
        self.dispatcher: Dispatcher = self.parts.dispatcher(self.supervisor, WebhookFigures(Metrics()))
        self.dispatcher._rng = random.Random(1)

    async def restart(self, *, cleanly: bool = True) -> None:
        """Another process over the same store; one that was killed wrote nothing at its end."""
        await self.close(cleanly=cleanly)
        self._open()
        await self.dispatcher.start()

    async def close(self, *, cleanly: bool = True) -> None:
        if cleanly:
            await self.dispatcher.stop(0)
        await self.supervisor.cancel_all()
        await self.parts.sender.close()

    async def add(self, receiver: Receiver, *, account: str = ACCOUNT, **wish: Any) -> dict[str, Any]:
        """A webhook that answered its ping."""
        made = await self.manager.add(account, WebhookWish(url=receiver.url, **wish))
        assert made["state"] == "active", made
        return made

    async def accept(self, *to: str, **more: Any) -> NewMessage:
        message = self.post.message(*to, **more)
        await self.store.enqueue(message)
        return message

    async def settle(self, state: State = State.DELIVERED, *, wait_ms: int = 1000) -> None:
        """What is due comes to that."""
        await self.store.promote(self.now.ms)
        claimed = await claim_all(self.store, self.now.ms + 60_000)
        next_at = self.now.ms + wait_ms if state is State.DEFERRED else 0
        await self.store.settle([attempt(one, state, at=self.now.ms, next_at=next_at) for one in claimed])

    def later(self, seconds: float) -> None:
        self.now.ms += int(seconds * 1000)
        for one in self.dispatcher._endpoints.values():
            self.dispatcher._touch(one)

    def set_clock(self, seconds: float) -> None:
        self._set_by_ms += int(seconds * 1000)
        self.later(seconds)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                assert self.deaths == []
                await asyncio.sleep(0.005)

    async def told(self, receiver: Receiver, count: int) -> None:
        """Until so many events arrived, and what came of them is written."""
        await self.until(lambda: len(receiver.told) >= count)
        await self.quiet()

    async def quiet(self) -> None:
        """Until the log is read, and nothing is on its way or to be written."""
        one_of = self.dispatcher._endpoints.values
        await self.until(
            lambda: (
                (not self.dispatcher._any_active.is_set() or self.dispatcher._tail >= self.store.event_log.last)
                and self.dispatcher.in_flight == 0
                and not self.dispatcher._touched
                and not any(one.saving for one in one_of())
            )
        )

    async def show(self, made: dict[str, Any]) -> dict[str, Any]:
        return await self.manager.show(None, made["id"])


@contextlib.asynccontextmanager
async def open_world(
    directory: Path, *, config: Webhooks = CONFIG, clock: Clock | None = None, **more: Any
) -> AsyncIterator[World]:
    """At the end nothing may have died."""
    now = Now() if clock is None else Now(clock.now_ms())
    store = await SqliteStore.open(directory / "queue.db", clock=clock or now.clock)
    world = World(store, now, replace(config, **more), clock)
    await world.dispatcher.start()
    try:
        yield world
    finally:
        await world.close()
        await store.close()
    assert world.deaths == []


def damage(directory: Path, statement: str) -> None:
    """As bad bytes do, which ask for no kind of a column."""
    database = connection.open_writer(directory / "queue.db")
    for one in (
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '')",
        "PRAGMA writable_schema = RESET",
        statement,
    ):
        database.cursor().execute(one).fetchall()
    database.close()
