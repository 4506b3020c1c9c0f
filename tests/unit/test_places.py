"""Who may have a connection: bounds under any sequence of asking, leaving and giving up, and the order of who waits."""

import asyncio
import contextlib
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.places import Places


@dataclass(eq=False, slots=True)
class Client:
    """Somebody who asked for a place."""

    high: bool
    stranger: bool
    asked: "asyncio.Future[None] | None"

    @property
    def served(self) -> bool:
        return self.asked is None or (self.asked.done() and not self.asked.cancelled())


def ask(places: Places, *, high: bool = False, stranger: bool = False) -> Client:
    return Client(high, stranger, places.ask(high=high, stranger=stranger))


async def test_places_are_given_in_the_order_they_were_asked_for() -> None:
    places = Places(2)
    first, second, *waiting = [ask(places) for _ in range(5)]
    assert first.served
    assert second.served
    for number, client in enumerate(waiting):
        assert not any(other.served for other in waiting[number:])
        places.leave(stranger=False)
        assert client.served


async def test_a_twentieth_is_for_high_priority_alone() -> None:
    places = Places(40)
    clients = [ask(places) for _ in range(40)]
    assert [client.served for client in clients] == [True] * 38 + [False] * 2
    high = [ask(places, high=True) for _ in range(3)]
    assert [client.served for client in high] == [True, True, False]
    places.leave(stranger=False)
    assert high[2].served  # before those that waited longer
    for _ in range(3):
        places.leave(stranger=False)
    assert [client.served for client in clients[38:]] == [True, False]


async def test_strangers_leave_a_quarter_and_nobody_waits_behind_them() -> None:
    places = Places(8)
    strangers = [ask(places, stranger=True) for _ in range(10)]
    assert sum(client.served for client in strangers) == 6
    assert (places.short, places.strangers_wait) == (False, True)  # more places would not help them
    known = [ask(places) for _ in range(3)]
    assert [client.served for client in known] == [True, True, False]
    assert (places.short, places.strangers_wait) == (True, True)
    places.leave(stranger=True)
    assert strangers[6].served  # it came first
    assert [client.served for client in known] == [True, True, False]
    places.leave(stranger=False)
    assert all(client.served for client in known)


async def test_a_stranger_that_becomes_known_makes_room_for_another() -> None:
    places = Places(4)
    strangers = [ask(places, stranger=True) for _ in range(4)]
    assert [client.served for client in strangers] == [True] * 3 + [False]
    places.known()
    assert all(client.served for client in strangers)
    assert (places.taken, places.strangers) == (4, 3)


async def test_who_gives_up_waiting_is_passed_over_and_who_was_served_too_late_leaves() -> None:
    places = Places(1)
    assert ask(places).served
    gone, late, last = [places.ask(high=False, stranger=False) for _ in range(3)]
    assert gone is not None
    assert late is not None
    assert last is not None
    gone.cancel()
    waiting = asyncio.get_running_loop().create_task(places.wait(late, stranger=False))
    await asyncio.sleep(0)
    places.leave(stranger=False)
    assert late.done()
    waiting.cancel()  # before it ran again
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert last.done()
    assert places.taken == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.booleans(), st.booleans()),
        st.tuples(st.sampled_from(["leave", "known", "give up"]), st.integers(0, 50), st.just(False)),
    ),
    max_size=120,
)


@given(total=st.integers(1, 60), steps=STEPS)
def test_whatever_happens_the_bounds_hold_and_nobody_waits_without_need(
    total: int, steps: list[tuple[str, int, bool]]
) -> None:
    asyncio.run(_play(total, steps))


async def _play(total: int, steps: list[tuple[str, int, bool]]) -> None:
    places = Places(total)
    clients: list[Client] = []
    for step, number, stranger in steps:
        if step == "ask":
            clients.append(ask(places, high=bool(number), stranger=stranger))
        elif step == "give up" and (waiting := [c for c in clients if not c.served]):
            client = waiting[number % len(waiting)]
            assert client.asked is not None
            client.asked.cancel()
            clients.remove(client)
        elif step in {"leave", "known"} and (served := [c for c in clients if c.served]):
            client = served[number % len(served)]
            if step == "leave":
                clients.remove(client)
                places.leave(stranger=client.stranger)
            elif client.stranger:
                client.stranger = False
                places.known()
        _check(total, places, clients)


def _check(total: int, places: Places, clients: list[Client]) -> None:
    kept, quarter = total // 20, total // 4
    served = [c for c in clients if c.served]
    assert places.taken == len(served) <= total
    assert places.strangers == sum(c.stranger for c in served) <= total - quarter + kept
    for client in clients:
        if not client.served:
            full = len(served) >= (total if client.high else total - kept)
            crowded = client.stranger and places.strangers >= total - quarter + (kept if client.high else 0)
            assert full or crowded
