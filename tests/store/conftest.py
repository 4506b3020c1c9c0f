"""Every engine of the queue, opened on a fresh place; the contract tests run on each."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.config import Retention
from gateway.store.sqlite import SqliteStore
from tests.store.mail import Now, Post

Store = SqliteStore  # a union, once there are more engines
Opener = Callable[..., Awaitable[Store]]

ENGINES = {"sqlite": SqliteStore.open}


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def post(now: Now) -> Post:
    return Post(now)


@pytest.fixture(params=list(ENGINES))
async def opener(request: pytest.FixtureRequest, tmp_path: Path, now: Now) -> AsyncIterator[Opener]:
    """Opens (again and again) the same database; what is still open at the end is closed."""
    opened: list[Store] = []

    async def open_(retention: Retention | None = None, on_ready: Callable[[], None] = lambda: None) -> Store:
        store = await ENGINES[request.param](
            tmp_path / "queue.db", clock=now.clock, retention=retention, on_ready=on_ready
        )
        opened.append(store)
        return store

    yield open_
    for store in opened:
        await store.close()


@pytest.fixture
async def store(opener: Opener) -> Store:
    return await opener()
