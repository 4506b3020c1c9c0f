"""Events reach their endpoints: in order, at least once, and no others."""

import asyncio
from pathlib import Path

from standardwebhooks.webhooks import Webhook

from gateway.events import State
from gateway.runtime import Clock
from gateway.webhooks.backlog import AT_ONCE
from gateway.webhooks.dispatcher import FOLLOW_S
from tests.fakes.receiver import OK, Receiver, Request
from tests.webhooks.world import World, open_world


async def test_events_of_a_message_arrive_in_order_and_verify(receiver: Receiver, tmp_path: Path) -> None:
    async with open_world(tmp_path, clock=Clock()) as world:
        made = await world.add(receiver)
        message = await world.accept("ann@example.com")
        await world.settle(State.DEFERRED, wait_ms=0)
        await world.settle(State.DELIVERED)
        await world.told(receiver, 3)
        assert receiver.types == ["email.accepted", "email.deferred", "email.delivered"]
        for one in receiver.asked:
            payload = Webhook(made["secret"]).verify(one.body, one.headers)
            assert payload == one.json
        first, *_, last = receiver.told
        assert last.headers["webhook-id"] == last.json["id"]
        assert first.headers["content-type"] == "application/json"
        assert first.headers["user-agent"].startswith("mail-gateway/")
        assert last.json["data"]["recipient"] == "ann@example.com"
        assert message.uuid
        assert (await world.show(made))["parked"] == 0


async def test_only_what_was_asked_for(world: World, receiver: Receiver) -> None:
    async with Receiver() as other, Receiver() as tagged, Receiver() as keyed, Receiver() as everything:
        await world.add(receiver, types=("email.delivered",))
        await world.add(other, account="other")
        await world.add(tagged, tags=("b", "c"))
        await world.add(keyed, keys=("shop",), final_only=True)
        await world.add(everything, account="")
        await world.accept("ann@example.com", account="acme")
        await world.accept("bob@example.com", account="other", key="app")
        await world.settle()
        await world.told(everything, 4)
        await world.told(receiver, 1)
        await world.told(other, 2)
        await world.told(keyed, 1)
        assert receiver.types == keyed.types == ["email.delivered"]
        assert [one.json["data"]["recipient"] for one in other.told] == ["bob@example.com"] * 2
        assert tagged.told == []


async def test_nothing_is_read_while_nobody_is_told_anything(world: World) -> None:
    await world.accept("ann@example.com")
    assert not world.dispatcher._any_active.is_set()
    assert not world.store.commits._listening


async def test_many_messages_go_at_once_but_not_too_many(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    gate = asyncio.Event()

    async def wait(_request: Request, _writer: object) -> bytes:
        await gate.wait()
        return OK

    receiver.answer = wait
    await asyncio.gather(*(world.accept(f"{number}@example.com") for number in range(60)))
    await world.until(lambda: receiver.at_once == AT_ONCE)
    gate.set()
    await world.told(receiver, 60)
    assert receiver.most_at_once == AT_ONCE
    assert len({one.headers["webhook-id"] for one in receiver.told}) == 60
    assert receiver.connections <= AT_ONCE + 1
    await world.dispatcher.stop(5)
    [record] = await world.store.webhooks.all()
    assert record.cursor == world.store.event_log.last
    assert (await world.show(made))["cursor"] == world.tokens.cursor(record.cursor)


async def test_a_new_process_goes_on_where_the_last_one_stopped(world: World, receiver: Receiver) -> None:
    await world.add(receiver)
    await world.accept("a@example.com")
    await world.told(receiver, 1)
    await world.close()
    await world.accept("b@example.com")
    world._open()
    await world.dispatcher.start()
    await world.accept("c@example.com")
    await world.told(receiver, 3)
    assert {one.json["data"]["recipient"] for one in receiver.told} == {f"{name}@example.com" for name in "abc"}


async def test_one_that_is_behind_is_told_though_nothing_new_comes(world: World, receiver: Receiver) -> None:
    async with Receiver() as other:
        made = await world.add(receiver)
        behind = await world.add(other, account="other")
        await world.manager.pause(None, behind["id"])
        await world.accept("a@example.com", account="other")
        await world.accept("b@example.com")
        await world.told(receiver, 1)
        await world.until(lambda: bool(world.store.commits._listening))  # it waits for what comes behind that
        await world.manager.pause(None, made["id"])
        await world.manager.resume(None, behind["id"])
        async with asyncio.timeout(FOLLOW_S / 4):
            await world.told(other, 1)


async def test_one_that_is_behind_catches_up_past_what_it_does_not_want(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver, types=("email.delivered",))
    await world.manager.pause(None, made["id"])
    async with Receiver() as other:
        await world.add(other, account="")
        accounts = ("other", "acme", "acme")
        await asyncio.gather(*(world.accept(f"{one}@example.com", account=accounts[one % 3]) for one in range(90)))
        await world.settle()
        await world.told(other, 180)
        assert receiver.told == []
        await world.manager.resume(None, made["id"])
        await world.told(receiver, 60)
        await world.accept("last@example.com")
        await world.settle()
        await world.told(receiver, 61)
        assert receiver.told[-1].json["data"]["recipient"] == "last@example.com"
    assert len(receiver.told) == 61
