"""A scheduled message moved: earlier, later, now; all of it or nothing."""

import pytest

from gateway.events import State
from gateway.store.shown import Filter, Order, Verb
from tests.store.conftest import Store
from tests.store.mail import HOUR_MS, LEASE_MS, START_MS, Now, Post, claim_all

LATER = START_MS + 10 * HOUR_MS


async def states(store: Store, uuid: bytes) -> list[tuple[str, int | None]]:
    view = await store.message(uuid, None)
    assert view is not None
    return [(one.state.value, one.next_at) for one in view.recipients]


@pytest.mark.parametrize("at", [START_MS + HOUR_MS, LATER + HOUR_MS])
async def test_earlier_and_later(store: Store, post: Post, now: Now, at: int) -> None:
    message = post.message("a@example.com", "b@example.net", send_at=LATER, lifetime_ms=20 * HOUR_MS)
    await store.enqueue(message)
    assert await store.reschedule(message.uuid, "acme", at, now.ms) == 2
    assert await states(store, message.uuid) == [("scheduled", at)] * 2
    view = await store.message(message.uuid, None)
    assert view is not None
    assert view.expires_at == message.expires_at + at - LATER
    assert await store.promote(now.ms) == at
    now.ms = at
    await store.promote(now.ms)
    assert len(await claim_all(store, at + LEASE_MS)) == 2  # its seal fits
    now.ms = view.expires_at + 1
    assert await store.expire(now.ms) == 0  # in hand


async def test_now(store: Store, post: Post, now: Now) -> None:
    ready: list[int] = []
    store.on_ready = lambda: ready.append(1)
    message = post.message(send_at=LATER)
    await store.enqueue(message)
    ready.clear()
    assert await store.reschedule(message.uuid, "acme", now.ms - 5, now.ms) == 1
    assert ready
    assert [state for state, _ in await states(store, message.uuid)] == ["queued"]
    assert len(await claim_all(store, now.ms + LEASE_MS)) == 1


async def test_it_expires_by_its_new_time(store: Store, post: Post, now: Now) -> None:
    message = post.message(send_at=LATER, lifetime_ms=11 * HOUR_MS)
    await store.enqueue(message)
    assert await store.reschedule(message.uuid, "acme", now.ms, now.ms) == 1
    now.ms += HOUR_MS - 1
    assert await store.expire(now.ms) == 0
    now.ms += 2
    assert await store.expire(now.ms) == 1


async def test_what_is_held_waits_for_the_new_time_once_it_is_released(store: Store, post: Post, now: Now) -> None:
    message = post.message(send_at=LATER)
    await store.enqueue(message)
    which = Filter(uuid=message.uuid)
    await store.operate(which, Order(Verb.HOLD), now.ms)
    assert await store.reschedule(message.uuid, "acme", LATER + HOUR_MS, now.ms) == 1
    assert await states(store, message.uuid) == [("held", None)]
    await store.operate(which, Order(Verb.RELEASE), now.ms)
    assert await states(store, message.uuid) == [("scheduled", LATER + HOUR_MS)]
    await store.operate(which, Order(Verb.HOLD), now.ms)
    assert await store.reschedule(message.uuid, "acme", now.ms, now.ms) == 1
    await store.operate(which, Order(Verb.RELEASE), now.ms)
    assert [state for state, _ in await states(store, message.uuid)] == ["queued"]


async def test_too_late_or_not_theirs(store: Store, post: Post, now: Now) -> None:
    later = post.message("a@example.com", "b@example.com", send_at=LATER)
    at_once = post.message()
    await store.enqueue_all([later, at_once], None)
    assert await store.reschedule(later.uuid, "other", LATER, now.ms) == 0
    assert await store.reschedule(bytes(16), "acme", LATER, now.ms) == 0
    assert await store.reschedule(at_once.uuid, "acme", LATER, now.ms) == 0
    await store.operate(Filter(uuid=at_once.uuid), Order(Verb.HOLD), now.ms)
    assert await store.reschedule(at_once.uuid, "acme", LATER, now.ms) == 0  # it was never scheduled
    await store.retry(Filter(address="a@example.com", state=State.SCHEDULED), now.ms)
    assert await store.reschedule(later.uuid, "acme", now.ms, now.ms) == 0  # one of two is queued
    assert sorted(await states(store, later.uuid))[1] == ("scheduled", LATER)
