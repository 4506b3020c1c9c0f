"""Endpoints that are changed, replayed or stopped while they are told, and clocks that are set: nothing is skipped, and
no endpoint is told anything at a place that answered no ping."""

import asyncio
import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Refused, StoreFull
from gateway.events import EventType
from gateway.manage.webhooks import From, WebhookWish
from gateway.runtime import rfc3339
from gateway.store.webhook import Progress, WebhookRecord
from gateway.webhooks import dispatcher
from gateway.webhooks.backlog import Backlog
from gateway.webhooks.pinging import OF_ACCOUNT
from gateway.webhooks.sender import CONNECTIONS, PINGS
from tests.fakes.receiver import OK, Receiver, Request, status
from tests.webhooks.test_backlog import RECORD, event
from tests.webhooks.test_failing import said
from tests.webhooks.world import World, damage

MONTH_S = 30 * 86_400
STANDING = ("state", "reason", "failing_since")


async def record_of(world: World) -> WebhookRecord:
    (record,) = await world.store.webhooks.all()
    return record


async def test_a_replay_leaves_out_nothing_that_was_not_told_yet(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    await world.manager.pause(None, made["id"])
    for name in "abc":
        await world.accept(f"{name}@example.com")
    await world.manager.replay(None, made["id"], From(since=world.now.ms + 1000))
    await world.manager.resume(None, made["id"])
    await world.told(receiver, 3)


async def test_one_that_was_rewound_behind_its_back_is_read_again(world: World, receiver: Receiver) -> None:
    await world.add(receiver)
    await world.accept("a@example.com")
    await world.told(receiver, 1)
    record = await record_of(world)
    await world.store.webhooks.rewind(record.uuid, 0, world.now.ms)
    await world.accept("b@example.com")
    await world.until(lambda: {one.json["data"]["recipient"] for one in receiver.told[1:]} >= {"a@example.com"})
    await world.quiet()
    assert (await record_of(world)).cursor == world.store.event_log.last


async def test_what_was_read_first_is_not_put_in_place_last(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add(receiver)
    record = await record_of(world)
    read, go_on, one = asyncio.Event(), asyncio.Event(), world.store.webhooks.one

    async def slow(uuid: bytes) -> WebhookRecord | None:
        found, is_first = await one(uuid), not read.is_set()
        read.set()
        if is_first:
            await go_on.wait()
        return found

    monkeypatch.setattr(world.store.webhooks, "one", slow)
    first = asyncio.ensure_future(world.dispatcher.changed(record.uuid))  # noqa: TID251 - a test's own
    await read.wait()
    await world.store.webhooks.rewind(record.uuid, 0, world.now.ms)
    second = asyncio.ensure_future(world.dispatcher.changed(record.uuid))  # noqa: TID251 - the same
    await asyncio.wait({second}, timeout=0.05)
    go_on.set()
    await asyncio.gather(first, second)
    assert world.dispatcher._endpoints[record.id].record.epoch == 1


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_another_url_must_answer_a_ping_whatever_the_state(world: World, receiver: Receiver, state: str) -> None:
    made = await world.add(receiver)
    if state == "paused":
        await world.manager.pause(None, made["id"])
    else:
        receiver.answer = said(status(410))
        await world.accept("a@example.com")
        await world.until(lambda: not world.dispatcher._endpoints[1].backlog.active)
        await world.quiet()
    before = await world.show(made)
    async with Receiver() as moved:
        moved.answer = said(status(500))
        changed = await world.manager.change(None, made["id"], WebhookWish(url=moved.url))
        assert (changed["state"], changed["reason"]) == ("pending", f"{state} before: {before['reason']}")
        with pytest.raises(Refused):
            await world.manager.resume(None, made["id"])
        receiver.answer = moved.answer = said(OK)
        late = await world.manager.test(None, made["id"])
        at_once = await world.manager.change(None, made["id"], WebhookWish(url=receiver.url))
        for answered in (late, at_once):
            assert {name: answered[name] for name in STANDING} == {name: before[name] for name in STANDING}
        assert (await world.manager.resume(None, made["id"]))["state"] == "active"


async def test_only_the_url_that_answered_is_told_anything(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    async with Receiver() as slow, Receiver() as refusing:
        answers = asyncio.Event()

        async def late(_request: Request, _writer: object) -> bytes:
            await answers.wait()
            return OK

        slow.answer, refusing.answer = late, said(status(500))
        first = asyncio.ensure_future(world.manager.change(None, made["id"], WebhookWish(url=slow.url)))  # noqa: TID251 - a test's own
        await world.until(lambda: bool(slow.asked))
        await world.manager.change(None, made["id"], WebhookWish(url=refusing.url))
        answers.set()
        moved = await first
        assert (moved["url"], moved["state"], moved["test"]["ok"]) == (refusing.url, "pending", True)


async def test_what_was_paused_as_it_is_moved_is_not_resumed(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await world.add(receiver)
    await world.manager.pause(None, made["id"])
    put = world.store.webhooks.put_state

    async def moved_first(*args: Any, **more: Any) -> bool:
        record = await record_of(world)
        await world.store.webhooks.change(replace(record, url="https://b.test/"), world.now.ms, seen_url=record.url)
        return await put(*args, **more)

    monkeypatch.setattr(world.store.webhooks, "put_state", moved_first)
    with pytest.raises(Refused, match="changed or removed meanwhile"):
        await world.manager.resume(None, made["id"])
    assert (await world.show(made))["state"] == "pending"


async def test_a_change_undoes_no_other(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before it is older than what it meets."""
    receiver.answer = said(status(500))
    made = await world.manager.add("acme", WebhookWish(url=receiver.url))
    receiver.answer = said(OK)
    change, others = world.store.webhooks.change, [WebhookWish(url=f"{receiver.url}2"), None]

    async def second(*args: Any, **more: Any) -> bool:
        monkeypatch.undo()
        if (other := others.pop()) is not None:
            await world.manager.change(None, made["id"], other)
        else:
            await world.manager.test(None, made["id"])
        return await change(*args, **more)

    monkeypatch.setattr(world.store.webhooks, "change", second)
    changed = await world.manager.change(None, made["id"], WebhookWish(final_only=True))
    assert (changed["state"], changed["final_only"]) == ("active", True)
    monkeypatch.setattr(world.store.webhooks, "change", second)
    changed = await world.manager.change(None, made["id"], WebhookWish(final_only=False))
    assert (changed["state"], changed["final_only"], changed["url"]) == ("active", False, f"{receiver.url}2")


async def test_many_tests_of_one_account_take_no_connection_from_events(world: World, receiver: Receiver) -> None:
    receiver.answer = said(status(200, Connection="close"))
    await world.add(receiver)
    async with Receiver() as slow:
        answers = asyncio.Event()

        async def late(_request: Request, _writer: object) -> bytes:
            await answers.wait()
            return OK

        made = await world.add(slow, account="other")
        slow.answer = late
        tests = [
            asyncio.ensure_future(world.manager.test("other", made["id"]))  # noqa: TID251 - a test's own
            for _ in range(CONNECTIONS + PINGS + 1)
        ]
        await world.until(lambda: slow.at_once >= OF_ACCOUNT)
        await world.accept("a@example.com")
        await world.told(receiver, 1)
        await world.until(lambda: len(tests) - sum(test.done() for test in tests) == slow.at_once)
        assert slow.at_once == OF_ACCOUNT
        answers.set()
        errors = [(await test)["test"]["error"] for test in tests]
        assert set(errors) == {None, "too many tests are under way: try again in a minute"}
        assert (await world.manager.test("other", made["id"]))["test"]["ok"]


async def test_types_that_the_format_has_no_word_for(world: World, receiver: Receiver) -> None:
    with pytest.raises(Refused, match="types: the format cloudmails has no word"):
        await world.add(receiver, format="cloudmails", types=("email.accepted",))
    made = await world.add(receiver, format="cloudmails", types=("email.accepted", "email.opened"))
    with pytest.raises(Refused, match="types: the format sendmux has no word"):
        await world.manager.change(None, made["id"], WebhookWish(format="sendmux"))


async def test_what_is_forgotten_before_it_is_told_is_counted(
    world: World, receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    damage(tmp_path, "DELETE FROM event")
    with caplog.at_level(logging.WARNING, "gateway.webhooks"):
        world.later(7)
        await world.until(lambda: "was not told of an event: it is no longer known" in caplog.text)
    await world.quiet()
    assert (await world.show(made))["dead"] == 1


async def test_what_is_erased_while_it_waits_is_not_told(world: World, receiver: Receiver, tmp_path: Path) -> None:
    await world.add(receiver)
    receiver.answer = said(status(503, Retry_After="3600"))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    await world.accept("bob@example.com")
    await world.quiet()
    receiver.answer = said(OK)
    damage(tmp_path, "DELETE FROM event WHERE seq = 2")
    world.later(5000)
    await world.told(receiver, 2)
    assert [one.json["data"]["recipient"] for one in receiver.told] == ["ann@example.com"] * 2


async def test_a_secret_that_is_none_of_the_native_format(world: World, receiver: Receiver) -> None:
    with pytest.raises(Refused, match="secret: must be whsec_"):  # an empty standard input
        await world.add(receiver, secret="")
    made = await world.add(receiver, format="cloudmails", secret="your_webhook_secret")
    with pytest.raises(Refused, match="rotate it first"):
        await world.manager.change(None, made["id"], WebhookWish(format="native"))
    await world.manager.rotate(None, made["id"], None, None)
    assert (await world.manager.change(None, made["id"], WebhookWish(format="native")))["format"] == "native"


async def test_a_replay_begins_at_places_of_the_log_only(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    for cursor in ("x", world.tokens.cursor(1 << 63)):
        with pytest.raises(Refused, match="cursor: is no place in this gateway's event log"):
            await world.manager.replay(None, made["id"], From(cursor=cursor))


async def test_the_last_write_passes_none_that_fails(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "LAST_WRITE_S", 0.05)
    await world.add(receiver)
    save, asked, gate = world.store.webhooks.save, asyncio.Event(), asyncio.Event()

    async def full(progress: Progress) -> bool:
        if not progress.parked:
            return await save(progress)
        asked.set()
        await gate.wait()
        raise StoreFull("no room")

    monkeypatch.setattr(world.store.webhooks, "save", full)
    receiver.answer = lambda request, _writer: OK if b"bob@" in request.body else status(500)
    await world.accept("ann@example.com")
    await asked.wait()
    await world.accept("bob@example.com")
    await world.until(lambda: len(receiver.told) == 2 and world.dispatcher.in_flight == 0)
    await world.dispatcher.stop(0)
    assert (await record_of(world)).cursor == 0  # ann's event is parked nowhere
    gate.set()


async def test_time_without_us_disables_nobody(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    await world.close()
    world.now.ms += MONTH_S * 1000
    world._open()
    await world.dispatcher.start()
    await world.told(receiver, 2)
    shown = await world.show(made)
    assert (shown["state"], shown["failing_since"] is None) == ("active", False)
    world.later(2 * 3600)
    await world.told(receiver, 3)
    assert (await world.show(made))["state"] == "disabled"


async def test_what_was_taken_before_a_change_is_not_sent_after_it(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    one = world.dispatcher._endpoints[1]
    one.backlog.offer(replace(event(1, 0), at=world.now.ms))
    item = one.backlog.take(world.now.ms)
    assert item is not None
    world.dispatcher._in_flight[one.record.account] += 1
    await world.manager.pause(None, made["id"])
    await world.dispatcher._deliver(one, item)
    assert receiver.told == []
    await world.manager.resume(None, made["id"])
    await world.told(receiver, 1)


async def test_what_is_read_again_as_it_is_removed_is_not_sent(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    read = world.store.event_log.one

    async def removed_meanwhile(seq: int) -> Any:
        found = await read(seq)
        await world.manager.remove(None, made["id"])
        return found

    monkeypatch.setattr(world.store.event_log, "one", removed_meanwhile)
    world.later(7)
    await world.until(lambda: not world.dispatcher._endpoints)
    await world.until(lambda: world.dispatcher.in_flight == 0)
    assert len(receiver.told) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_clock_that_is_set_back_delays_nothing(world: World, receiver: Receiver, restarted: bool) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(503, Retry_After="60"))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    receiver.answer = said(OK)
    if restarted:
        await world.close()
    world.set_clock(-MONTH_S)
    if restarted:
        world._open()
        await world.dispatcher.start()
    await world.told(receiver, 2)
    assert (await world.show(made))["parked"] == 0


async def test_a_clock_that_is_set_forward_disables_nobody(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    answers = asyncio.Event()

    async def late(_request: Request, _writer: object) -> bytes:
        await answers.wait()
        return status(500)

    receiver.answer = said(status(500))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    receiver.answer = late
    world.later(2 * 3600)
    await world.until(lambda: len(receiver.told) == 2)
    world.now.ms += MONTH_S * 1000  # seen by nobody but the answer
    world._set_by_ms += MONTH_S * 1000
    answers.set()
    await world.quiet()
    world.set_clock(MONTH_S)
    await world.told(receiver, 3)
    shown = await world.show(made)
    assert (shown["state"], shown["failing_since"]) == ("active", rfc3339(world.now.ms - 2 * 3600 * 1000))
    world.later(4 * 86_400)
    await world.told(receiver, 4)
    assert (await world.show(made))["state"] == "active"
    world.later(86_400)
    await world.told(receiver, 5)
    assert (await world.show(made))["state"] == "disabled"


@pytest.mark.parametrize(("data", "wanted"), [('{"key":"shop"}', True), ('{"key":"app"}', False), ("{", False)])
def test_a_brake_is_of_its_key(data: str, wanted: bool) -> None:
    backlog = Backlog(replace(RECORD, keys=("shop",)), (), random.Random(1))
    braked: Any = replace(event(1, 0), type=EventType.BRAKED, key="", data=data)
    assert backlog.wants(braked) is wanted
