"""D19: an endpoint that is dead, slow or many costs mail nothing: what is done for it does not grow with the mail."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import StoreFull
from gateway.store.eventlog import LoggedEvent
from gateway.webhooks import dispatcher
from gateway.webhooks.backlog import AT_ONCE, BROKEN, WINDOW, Backlog
from tests.fakes.receiver import Receiver, status
from tests.webhooks.test_failing import hang, said
from tests.webhooks.world import World

MESSAGES = 400
FEW = 150  # more than are in hand


class Counted:
    """Calls of a method."""

    def __init__(self, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._method: Callable[..., Any] = getattr(owner, name)
        monkeypatch.setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return self._method(*args, **kwargs)


async def mail(world: World) -> None:
    """Many messages, accepted and delivered."""
    for _ in range(MESSAGES // 40):
        await asyncio.gather(*(world.accept(f"{number}@example.com") for number in range(40)))
        await world.settle()


@pytest.mark.parametrize("answer", [said(status(500)), hang], ids=["dead", "slow"])
async def test_d19_the_work_for_a_bad_endpoint_does_not_grow_with_the_mail(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    await world.add(receiver)
    receiver.answer = answer
    saves = Counted(world.store.webhooks, "save", monkeypatch)
    ones = Counted(world.store.event_log, "one", monkeypatch)
    await mail(world)  # and comes to its end
    await world.until(lambda: world.dispatcher._tail == world.store.event_log.last)
    assert len(receiver.told) <= 3 * BROKEN + AT_ONCE
    assert saves.count + ones.count < MESSAGES / 4
    backlog = world.dispatcher._endpoints[1].backlog
    assert len(backlog._window) <= WINDOW
    assert backlog.parked < 2 * WINDOW
    assert world.dispatcher.in_flight <= AT_ONCE
    assert (await world.store.webhooks.all())[0].cursor < world.store.event_log.last  # the log is the backlog
    counts = await world.store.counts()
    assert sum(one.ready + one.waiting + one.leased for one in counts) == 0


async def test_what_is_in_hand_is_bounded_in_all(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "MOST_IN_HAND", 3 * AT_ONCE)
    async with Receiver() as other:
        await world.add(receiver)
        await world.add(other)
        receiver.answer = other.answer = hang
        await asyncio.gather(*(world.accept(f"{number}@example.com") for number in range(FEW)))
        await world.until(lambda: world.dispatcher._tail == world.store.event_log.last)
        in_hand = [len(one.backlog._window) for one in world.dispatcher._endpoints.values()]
        assert in_hand == [3 * AT_ONCE // 2] * 2
        await world.dispatcher.stop(0)


async def test_an_account_without_mail_costs_nothing(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[str] = []
    offer = Backlog.offer

    def noted(self: Backlog, event: LoggedEvent) -> None:
        offered.append(self.record.account)
        offer(self, event)

    monkeypatch.setattr(Backlog, "offer", noted)
    saves = Counted(world.dispatcher, "_save", monkeypatch)
    async with Receiver() as other:
        await world.add(receiver)
        made = await world.add(other, account="other")
        for number in range(10):
            await world.accept(f"{number}@example.com")
        await world.told(receiver, 10)
        assert offered == ["acme"] * 10
        assert saves.count <= 10
        await world.accept("a@example.com", account="other")
        await world.told(other, 1)
        assert (await world.show(made))["cursor"] == world.tokens.cursor(world.store.event_log.last)


async def test_a_store_that_is_away_is_waited_for(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "WRITE_RETRY_S", 0.02)
    made = await world.add(receiver)
    save, away = world.store.webhooks.save, True

    async def full(progress: Any) -> bool:
        if away:
            raise StoreFull("no room")
        return await save(progress)

    monkeypatch.setattr(world.store.webhooks, "save", full)
    await asyncio.gather(*(world.accept(f"{number}@example.com") for number in range(FEW)))
    await world.until(lambda: world.dispatcher._endpoints[1].stuck and world.dispatcher.in_flight == 0)
    assert len(receiver.told) <= WINDOW + AT_ONCE  # what cannot be written is not asked for
    away = False
    await world.told(receiver, FEW)
    assert len(receiver.told) == FEW
    assert (await world.show(made))["cursor"] == world.tokens.cursor(world.store.event_log.last)
