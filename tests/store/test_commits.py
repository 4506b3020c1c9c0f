"""Who waits for something new hears of it, once for a burst; who listens first misses nothing."""

import asyncio

from gateway.store.commits import Commits
from tests.store.conftest import Store
from tests.store.mail import Post


async def test_what_is_committed_between_the_look_and_the_wait_is_heard_of(store: Store, post: Post) -> None:
    with store.commits.listen() as ear:
        await store.enqueue(post.message())
        async with asyncio.timeout(60):
            await ear.wait(120)
    assert ear.heard.done()


async def test_a_burst_wakes_once_and_later_the_more_there_are() -> None:
    told = Commits()
    with told.listen() as one, told.listen() as other:
        for _ in range(1000):
            told.tell()
        assert not one.heard.done()
        async with asyncio.timeout(60):
            await one.wait(120)
        assert other.heard.done()
    assert told._pending is None
    told.tell()  # nobody listens
    assert told._pending is None


async def test_everybody_can_be_woken() -> None:
    told = Commits()
    with told.listen() as ear:
        told.wake()
        async with asyncio.timeout(60):
            await ear.wait(120)
        told.wake()  # again


async def test_a_wait_ends_with_its_time() -> None:
    with Commits().listen() as ear:
        await ear.wait(0.001)
        assert not ear.heard.done()
