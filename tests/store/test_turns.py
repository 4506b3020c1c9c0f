"""One attempt that reached some of its recipients; the others wait for their turn (delivery.attempt.EACH_S)."""

from msgspec.structs import replace

from gateway.events import EventType, State
from tests.store.conftest import Store
from tests.store.mail import LEASE_MS, START_MS, Now, Post, attempt, claim_all

UNTIL = START_MS + LEASE_MS


async def test_who_was_not_begun_with_is_claimed_again(store: Store, post: Post, now: Now) -> None:
    message = post.message("a@example.com", "b@example.com", "c@example.com")
    await store.enqueue(message)
    (claimed,) = await claim_all(store, UNTIL)
    sent = attempt(claimed, State.DELIVERED, at=now.ms)
    first, *others = sent.results
    waiting = [replace(one, state=State.QUEUED, event=None, attempts=0, reply="", host="") for one in others]
    assert await store.settle([replace(sent, results=(first, *waiting))]) == len(claimed.recipients)

    assert [event.type for event in await store.events(message.uuid)].count(EventType.DELIVERED) == 1
    (again,) = await claim_all(store, UNTIL)
    assert [one.address for one in again.recipients] == ["b@example.com", "c@example.com"]
    assert {(one.attempts, one.possible_duplicate) for one in again.recipients} == {(0, False)}
    assert await store.settle([attempt(again, State.DELIVERED, at=now.ms)]) == len(again.recipients)
    assert not await store.counts()
