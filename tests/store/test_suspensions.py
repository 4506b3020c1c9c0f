"""Suspending: what is not claimed, for how long, and that nothing of it is forgotten."""

import asyncio
from collections.abc import Sequence

import apsw
import pytest

from gateway.errors import StoreFull
from gateway.events import State
from gateway.store.db import Transaction
from gateway.store.shown import Filter, Suspension
from tests.store.conftest import Opener, Store
from tests.store.mail import HOUR_MS, LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all, destination

UNTIL = START_MS + LEASE_MS


def suspension(
    *, route: str | None = None, domain: str | None = None, key: str | None = None, until: int | None = None
) -> Suspension:
    return Suspension(0, route, domain, key, "the other side asked for it", START_MS, until)


async def claimable(store: Store) -> list[str]:
    """What can be claimed now, which is given back."""
    claims = await claim_all(store, UNTIL)
    found = sorted(leased.address for claimed in claims for leased in claimed.recipients)
    await store.settle([attempt(claimed, State.QUEUED, at=START_MS) for claimed in claims])
    return found


@pytest.mark.parametrize(
    ("one", "left"),
    [
        (suspension(route="direct"), ["d@example.com"]),
        (suspension(domain="example.com"), ["c@example.net"]),
        (suspension(route="relay", domain="example.com"), ["a@example.com", "b@example.com", "c@example.net"]),
        (suspension(key="k1"), ["b@example.com", "c@example.net", "d@example.com"]),
        (
            suspension(key="k1", domain="example.net"),
            ["a@example.com", "b@example.com", "c@example.net", "d@example.com"],
        ),
        (suspension(key="never"), ["a@example.com", "b@example.com", "c@example.net", "d@example.com"]),
        (suspension(), []),
    ],
    ids=["route", "domain", "route and domain", "key", "key and domain", "unknown key", "everything"],
)
async def test_what_is_suspended_is_not_claimed(
    opener: Opener, post: Post, now: Now, one: Suspension, left: list[str]
) -> None:
    calls: list[None] = []
    store = await opener(on_ready=lambda: calls.append(None))
    await store.enqueue(post.message("a@example.com", key="k1"))
    made = await store.suspend(one)
    assert await store.suspensions() == [made]
    await store.enqueue(post.message("b@example.com", key="k2"))
    await store.enqueue(post.message("c@example.net", key="k2"))
    await store.enqueue(post.message("d@example.com", key="k2", route="relay"))
    assert await claimable(store) == left
    rows = {row.recipient.address: row.recipient for row in await store.find(Filter())}
    assert {address for address, row in rows.items() if row.blocked_by == "suspended"} == rows.keys() - set(left)
    await store.close()

    again = await opener(on_ready=lambda: calls.append(None))
    assert await again.suspensions() == [made]
    assert await claimable(again) == left
    calls.clear()
    assert await again.resume([made.id, made.id + 1]) == 1
    assert await again.suspensions() == []
    assert calls
    assert await claimable(again) == ["a@example.com", "b@example.com", "c@example.net", "d@example.com"]


async def test_what_is_suspended_is_not_due(store: Store, post: Post) -> None:
    """Or who delivers would ask for it again and again."""
    await store.enqueue(post.message("a@example.com"))
    await store.suspend(suspension(domain="example.com"))
    assert await store.due() == ()
    await store.enqueue(post.message("b@example.com"))
    assert await store.due() == ()


async def test_a_destination_with_nothing_but_a_suspended_key_is_asked_once(store: Store, post: Post) -> None:
    await store.suspend(suspension(key="shop"))
    await store.enqueue(post.message("a@example.com"))
    assert await store.claim(await destination(store), 5, UNTIL) == []
    assert await store.due() == ()


async def test_many_suspended_keys_do_not_hide_the_others(store: Store, post: Post) -> None:
    for n in range(12):
        await store.enqueue(post.message(f"u{n}@example.com", key=f"k{n}"))
    for n in range(11):
        await store.suspend(suspension(key=f"k{n}"))
    for _ in range(3):
        (claimed,) = await store.claim(await destination(store), 2, UNTIL)
        assert claimed.key == "k11"
        await store.settle([attempt(claimed, State.QUEUED, at=START_MS)])


async def test_one_that_ends_wakes_the_queue_at_its_time(opener: Opener, post: Post, now: Now) -> None:
    calls: list[None] = []
    store = await opener(on_ready=lambda: calls.append(None))
    await store.enqueue(post.message("a@example.com"))
    assert await store.promote(now.ms) is None
    calls.clear()
    await store.suspend(suspension(domain="example.com", until=now.ms + HOUR_MS))
    assert calls  # the time until which nothing is to be done is another now
    assert await store.promote(now.ms) == now.ms + HOUR_MS
    (row,) = await store.find(Filter())
    assert (row.recipient.blocked_by, row.recipient.next_at) == ("suspended", now.ms + HOUR_MS)
    assert await claimable(store) == []
    now.ms += HOUR_MS
    assert await store.suspensions() == []
    assert await store.promote(now.ms) is None
    assert await claimable(store) == ["a@example.com"]


async def test_one_that_ended_while_nothing_ran_is_forgotten(opener: Opener, post: Post, now: Now) -> None:
    store = await opener()
    await store.enqueue(post.message("a@example.com"))
    first = await store.suspend(suspension(until=now.ms + MINUTE_MS))
    await store.close()
    now.ms += MINUTE_MS
    again = await opener()
    assert await again.suspensions() == []
    assert await claimable(again) == ["a@example.com"]
    assert (await again.suspend(suspension(key="k"))).id > first.id


async def test_a_claim_beside_a_resumption_leaves_nothing_behind(store: Store, post: Post) -> None:
    """It may still see the suspension, and take the destination for empty."""
    await store.enqueue(post.message("a@example.com", key="shop"))
    number = await destination(store)
    made = await store.suspend(suspension(key="shop"))
    gone, _ = await asyncio.gather(store.resume([made.id]), store.claim(number, 5, UNTIL))
    assert gone == 1
    assert await claimable(store) == ["a@example.com"]


async def test_what_a_resumption_frees_is_found_though_the_disk_was_away(
    opener: Opener, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = asyncio.Event()
    store = await opener(on_ready=ready.set)
    await store.enqueue(post.message("a@example.com", key="shop"))
    made = await store.suspend(suspension(key="shop"))
    assert await claimable(store) == []
    survey, failures = store._parts.claims.due, iter(range(1))

    def surveyed(tx: Transaction, calls: Sequence[None]) -> list[None]:
        if next(failures, None) is not None:
            raise apsw.FullError("database or disk is full")
        return survey(tx, calls)

    monkeypatch.setattr("gateway.store.sqlite.RETRY_S", 0.01)
    monkeypatch.setattr(store._parts.claims, "due", surveyed)
    await store.resume([made.id])
    async with asyncio.timeout(60):
        while not await store.due():
            ready.clear()
            await ready.wait()
    assert await claimable(store) == ["a@example.com"]


async def test_where_the_end_of_one_cannot_be_written_everybody_waits(
    opener: Opener, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opener()
    await store.suspend(suspension(until=now.ms + MINUTE_MS))

    def full(*_: object) -> list[object]:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(store._parts.suspending, "end", full)
    with pytest.raises(StoreFull):
        await store.promote(now.ms + MINUTE_MS)
    assert store.away


async def test_what_waits_for_longer_says_so(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message("a@example.com", send_at=now.ms + HOUR_MS))
    await store.suspend(suspension(until=now.ms + MINUTE_MS))
    (row,) = await store.find(Filter())
    assert (row.recipient.blocked_by, row.recipient.next_at) == ("schedule", now.ms + HOUR_MS)
    await store.suspend(suspension(route="direct"))  # of two the one that ends last
    (row,) = await store.find(Filter())
    assert (row.recipient.blocked_by, row.recipient.next_at) == ("suspended", None)


async def test_what_is_in_hand_goes_on_and_what_comes_due_does_not(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message("a@example.com"))
    (claimed,) = await store.claim(await destination(store), 5, UNTIL)
    made = await store.suspend(suspension(domain="example.com"))
    assert await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + 1)]) == 1
    now.ms += 1
    assert await store.promote(now.ms) is None
    assert await store.due() == ()
    await store.resume([made.id])
    assert await claimable(store) == ["a@example.com"]


async def test_the_rest_goes_on_when_one_of_two_ends(store: Store, post: Post) -> None:
    await store.enqueue(post.message("a@example.com"))
    first = await store.suspend(suspension(domain="example.com"))
    second = await store.suspend(suspension(route="direct"))
    assert [one.id for one in await store.suspensions()] == [first.id, second.id]
    assert await store.resume([first.id]) == 1
    assert await claimable(store) == []
    assert await store.resume([second.id]) == 1
    assert await claimable(store) == ["a@example.com"]
