"""Another retention while the store is open."""

from gateway.config import Retention
from gateway.events import State
from tests.store.conftest import Opener
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all


async def test_it_holds_from_now_on(opener: Opener, post: Post, now: Now) -> None:
    """For content that ends from now on, and for what is known of messages."""
    store = await opener(Retention(content_delivered_s=0, messages_s=3600))
    store.reconfigure(Retention(content_delivered_s=60, messages_s=7200))
    message = post.message()
    await store.enqueue(message)
    (claimed,) = await claim_all(store, START_MS + LEASE_MS)
    await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    assert await store.content(message.uuid) is not None
    await store.sweep(now.ms + 60_001)
    assert await store.content(message.uuid) is None
    await store.sweep(now.ms + 3_600_001)
    assert await store.message(message.uuid, None) is not None
    await store.sweep(now.ms + 7_200_001)
    assert await store.message(message.uuid, None) is None
