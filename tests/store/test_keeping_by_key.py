"""Keys whose mail is kept for another time than that of all."""

import pytest

from gateway.config import Retention
from gateway.events import State
from gateway.keyterms import KeyRetention
from gateway.store.walk import Walk
from tests.store.conftest import Opener, Store
from tests.store.mail import DAY_MS, HOUR_MS, LEASE_MS, MINUTE_MS, Now, Post, attempt, claim_all

DAY_S = 86_400.0


async def sent(store: Store, post: Post, now: Now, key: str, state: State = State.DELIVERED, *to: str) -> bytes:
    message = post.message(*to, key=key)
    await store.enqueue(message)
    for claimed in await claim_all(store, now.ms + LEASE_MS):
        await store.settle([attempt(claimed, state, at=now.ms)])
    return message.uuid


async def swept(store: Store, now: Now, after_ms: int) -> None:
    now.ms += after_ms
    await store.sweep(now.ms)


async def test_content_goes_by_the_terms_of_its_key(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(content_delivered_s=0, content_failed_s=DAY_S))
    store.keep({"bank": KeyRetention(content_delivered_s=DAY_S), "news": KeyRetention(content_failed_s=0)})
    kept = await sent(store, post, now, "bank")
    kept_for_several = await sent(store, post, now, "bank", State.DELIVERED, "a@example.com", "b@example.com")
    gone = await sent(store, post, now, "shop")
    failed = await sent(store, post, now, "shop", State.BOUNCED)
    failed_news = await sent(store, post, now, "news", State.BOUNCED)
    assert [await store.content(one) is not None for one in (kept, kept_for_several, gone, failed, failed_news)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    await swept(store, now, DAY_MS)
    assert [await store.content(one) for one in (kept, kept_for_several, failed)] == [None] * 3


async def test_messages_go_by_the_terms_of_their_key(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(messages_s=30 * DAY_S, events_s=30 * DAY_S))
    store.keep({"bank": KeyRetention(messages_s=60 * DAY_S), "news": KeyRetention(messages_s=DAY_S)})
    of = {key: await sent(store, post, now, key) for key in ("bank", "news", "shop")}

    async def left() -> set[str]:
        return {key for key, uuid in of.items() if await store.message(uuid, None) is not None}

    await swept(store, now, DAY_MS - 1)
    assert await left() == {"bank", "news", "shop"}
    await swept(store, now, 2 + MINUTE_MS)
    assert await left() == {"bank", "shop"}
    await swept(store, now, 30 * DAY_MS)
    assert await left() == {"bank"}
    await swept(store, now, 30 * DAY_MS)
    assert await left() == set()


async def test_events_go_by_the_terms_of_their_key(opener: Opener, post: Post, now: Now) -> None:
    store = await opener(Retention(messages_s=90 * DAY_S, events_s=30 * DAY_S))
    store.keep({"bank": KeyRetention(events_s=60 * DAY_S), "news": KeyRetention(events_s=DAY_S)})
    of = {key: await sent(store, post, now, key) for key in ("bank", "news", "shop")}

    async def left() -> set[str]:
        return {key for key, uuid in of.items() if await store.events(uuid)}

    await swept(store, now, HOUR_MS)
    assert await left() == {"bank", "news", "shop"}
    await swept(store, now, DAY_MS)
    assert await left() == {"bank", "shop"}
    await swept(store, now, 30 * DAY_MS)
    assert await left() == {"bank"}
    await swept(store, now, 30 * DAY_MS)
    assert await left() == set()
    assert await store.message(of["bank"], None) is not None


async def test_later_events_stay_for_their_own_time(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    store.keep({"news": KeyRetention(events_s=DAY_S)})
    message = post.message(key="news")
    await store.enqueue(message)
    now.ms += DAY_MS
    for claimed in await claim_all(store, now.ms + LEASE_MS):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    await swept(store, now, HOUR_MS)
    assert [event.type.value for event in await store.events(message.uuid)] == ["delivered"]
    await swept(store, now, DAY_MS)
    assert not await store.events(message.uuid)


async def test_what_is_open_stays_whatever_its_key_says(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    store.keep({"news": KeyRetention(messages_s=60, content_failed_s=0)})
    message = post.message(key="news")
    await store.enqueue(message)
    await swept(store, now, HOUR_MS)
    assert await store.content(message.uuid) is not None
    for claimed in await claim_all(store, now.ms + LEASE_MS):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    await swept(store, now, MINUTE_MS)
    assert await store.message(message.uuid, None) is not None, "a minute since its end"
    await swept(store, now, 1)
    assert await store.message(message.uuid, None) is None


async def test_terms_may_change(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    one = await sent(store, post, now, "news")
    await swept(store, now, HOUR_MS)
    assert await store.message(one, None) is not None
    store.keep({"news": KeyRetention(messages_s=60)})
    await swept(store, now, 1)
    assert await store.message(one, None) is None
    two = await sent(store, post, now, "news")
    store.keep({})
    await swept(store, now, HOUR_MS)
    assert await store.message(two, None) is not None


async def test_numbers_of_events_are_never_used_again(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    store.keep({"news": KeyRetention(events_s=60)})
    await sent(store, post, now, "news")
    last = store.event_log.last
    await swept(store, now, HOUR_MS)
    await store.close()
    store = await opener()
    await store.enqueue(post.message())
    assert store.event_log.last == last + 1


# The walk


def test_a_walk_goes_on_behind_what_it_saw_and_begins_anew_where_little_stayed() -> None:
    walk = Walk()
    assert walk.begin(0) == 0
    walk.went(500, stayed=3, more=True, now=0)
    assert walk.begin(0) == 500
    walk.went(700, stayed=2, more=False, now=0)
    assert walk.begin(0) == 0


@pytest.mark.parametrize(("stayed", "pause_ms"), [(99, 0), (100, 1000), (6000, 60_000), (10**9, DAY_MS)])
def test_a_walk_past_much_that_stays_pauses_before_the_next(stayed: int, pause_ms: int) -> None:
    walk = Walk()
    walk.begin(1000)
    walk.went(700, stayed=stayed, more=False, now=1000)
    if pause_ms:
        assert walk.begin(1000 + pause_ms - 1) == 700
        walk.went(800, stayed=1, more=False, now=1000 + pause_ms - 1)  # what came of age since
        assert walk.begin(1000 + pause_ms - 1) == 800
    assert walk.begin(1000 + pause_ms) == 0


def test_a_clock_that_was_set_back_stops_no_walk() -> None:
    walk = Walk()
    walk.begin(9 * DAY_MS)
    walk.went(700, stayed=1000, more=False, now=9 * DAY_MS)
    assert walk.begin(0) == 0
