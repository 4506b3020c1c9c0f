"""Questions of people: counts, searches."""

import asyncio

from gateway.events import State
from gateway.store.shown import Count, Filter
from tests.store.conftest import Store
from tests.store.mail import LEASE_MS, MINUTE_MS, START_MS, Now, Post, attempt, claim_all, destination

UNTIL = START_MS + LEASE_MS


async def test_counts_say_where_recipients_stand(store: Store, post: Post, now: Now) -> None:
    for _ in range(3):
        await store.enqueue(post.message("a@example.com"))
    await store.enqueue(post.message("a@example.net", route="relay"))
    number = await destination(store)
    first, second = await store.claim(number, 2, UNTIL)
    later = now.ms + MINUTE_MS
    await store.settle([attempt(first, State.DEFERRED, at=now.ms, next_at=later)])
    assert await store.counts() == [
        Count("direct", "example.com", 1, 1, 1, 0, now.ms, later),
        Count("relay", "example.net", 1, 0, 0, 0, now.ms, None),
    ]
    await store.settle([attempt(second, State.DELIVERED, at=now.ms)])
    assert (await store.counts())[0].leased == 0
    await store.enqueue(post.message("a@example.com", "b@example.com", send_at=later))
    (direct, _) = await store.counts()
    assert (direct.waiting, direct.scheduled) == (3, 2)


async def test_find_by_every_condition(store: Store, post: Post, now: Now) -> None:
    old = post.message("a@example.com", key="k1", account="one")
    await store.enqueue(old)
    now.ms += 1000
    new = post.message("b@example.net", "c@example.com", key="k2", account="two", route="relay")
    await store.enqueue(new)
    for claimed in await store.claim(await destination(store, "example.net"), 5, UNTIL):
        await store.settle([attempt(claimed, State.DEFERRED, at=now.ms, next_at=now.ms + 5)])

    async def found(which: Filter) -> list[str]:
        return [row.recipient.address for row in await store.find(which)]

    a, b, c = "a@example.com", "b@example.net", "c@example.com"
    assert await found(Filter()) == [a, b, c]
    assert await found(Filter(limit=2)) == [a, b]
    assert await found(Filter(uuid=new.uuid)) == [b, c]
    assert await found(Filter(uuid=bytes(16))) == []
    assert await found(Filter(uuid=new.uuid, domain="example.com")) == [c]
    assert await found(Filter(account="one")) == [a]
    assert await found(Filter(key="k2")) == [b, c]
    assert await found(Filter(route="relay")) == [b, c]
    assert await found(Filter(domain="example.com")) == [a, c]
    assert await found(Filter(state=State.DEFERRED)) == [b]
    assert await found(Filter(older_than=now.ms)) == [a]
    (row,) = await store.find(Filter(state=State.DEFERRED))
    assert (row.uuid, row.key, row.account, row.envelope_sender, row.subject, row.created_at) == (
        new.uuid,
        "k2",
        "two",
        "sender@example.org",
        "Hello",
        now.ms,
    )


async def test_find_leaves_out_what_is_final(store: Store, post: Post, now: Now) -> None:
    await store.enqueue(post.message("a@example.com", "b@example.net"))
    for claimed in await store.claim(await destination(store), 5, UNTIL):
        await store.settle([attempt(claimed, State.DELIVERED, at=now.ms)])
    assert [row.recipient.address for row in await store.find(Filter())] == ["b@example.net"]


async def test_find_looks_past_many_that_do_not_match(store: Store, post: Post) -> None:
    await asyncio.gather(*[store.enqueue(post.message(f"u{n}@example.com")) for n in range(2100)])
    await store.enqueue(post.message("last@example.net"))
    assert len(await store.find(Filter(domain="example.net"))) == 1
    assert len(await store.find(Filter(limit=2050))) == 2050
    assert len(await claim_all(store, UNTIL, limit=3000)) == 2101


async def test_nothing_is_known_of_an_unknown_message(store: Store) -> None:
    assert await store.message(bytes(16), None) is None
    assert not await store.events(bytes(16))
    assert await store.content(bytes(16)) is None
