"""Endpoints that fail in every way: nothing is lost, order stays, and it ends at some time."""

import asyncio
import contextlib
import gzip
import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.events import State
from gateway.manage.webhooks import From
from gateway.store.webhook import MOST_PARKED
from gateway.webhooks import dispatcher
from gateway.webhooks.backlog import BROKEN
from gateway.webhooks.dispatcher import SPARE
from gateway.webhooks.sender import CONNECTIONS
from tests.fakes.receiver import OK, Receiver, Request, status
from tests.webhooks.world import World

HOUR_S = 3600
MOST_FLOOD = 8 * 1024 * 1024  # more than the buffers of a connection hold


async def drip(_request: Request, writer: asyncio.StreamWriter) -> bytes | None:
    """A head that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        writer.write(f"X-{number}: a\r\n".encode())
        await writer.drain()
        await asyncio.sleep(0.01)
    return None


async def hang(_request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    await asyncio.Event().wait()
    return None


def huge(code: int) -> Any:
    async def answer(_request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(f"HTTP/1.1 {code} Said\r\nContent-Length: 1000000000\r\n\r\n".encode())
        sent = 0
        while sent < 1_000_000_000:
            writer.write(bytes(65_536))
            sent += 65_536
            await writer.drain()
        raise AssertionError("all of it was read")

    return answer


async def drip_behind(_request: Request, writer: asyncio.StreamWriter) -> bytes | None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    await writer.drain()
    await asyncio.Event().wait()
    return None


async def half(_request: Request, writer: asyncio.StreamWriter) -> bytes | None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()
    return None


def endless(what: bytes) -> Any:
    """So much of it that nobody may read it."""

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        for _ in range(MOST_FLOOD // 65_536):
            writer.write(what * (65_536 // len(what)))
            await writer.drain()
        raise AssertionError("all of it was read")

    return answer


def said(what: bytes | None) -> Any:
    return lambda _request, _writer: what


def packed() -> bytes:
    content = gzip.compress(bytes(10_000_000), 1)
    return f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


WAYS = {
    "500": (said(status(500)), "it answered 500"),
    "404": (said(status(404)), "it answered 404"),
    "hangs": (hang, "no answer within 0.2 s"),
    "drips": (drip, "no answer within 0.2 s"),
    "closes": (said(None), "no answer that can be read"),
    "garbage": (said(b"\x00\xffhello\r\n\r\n"), "no answer that can be read"),
    "another protocol": (said(b"220 mx.example.com ESMTP\r\n"), "no answer that can be read"),
    "a long field": (said(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"), "no answer that can be read"),
    "half a head": (half, "no answer that can be read"),
    "1 GB of failure": (huge(500), "it answered 500"),
    "no line but empty ones": (endless(b"\r\n"), "no answer that can be read"),
    "an answer that is always to come": (endless(b"HTTP/1.1 100 Continue\r\n\r\n"), "no answer that can be read"),
}


async def test_every_failure_is_tried_again(world: World, receiver: Receiver) -> None:
    made, sender = await world.add(receiver), world.parts.sender
    for count, (way, (answer, why)) in enumerate(WAYS.items(), 1):
        receiver.answer = answer
        await sender.reconfigure(replace(world.config, timeout_s=0.2) if "0.2 s" in why else world.config)
        await world.accept("ann@example.com")
        await world.told(receiver, 2 * count - 1)
        shown = await world.manager.attempts(None, made["id"])
        assert why in shown[0]["error"], (way, shown[0])
        assert (await world.show(made))["parked"] == 1, way
        receiver.answer = said(OK)
        await sender.reconfigure(world.config)
        world.later(7)
        await world.told(receiver, 2 * count)
        assert len({one.headers["webhook-id"] for one in receiver.told}) == count, way
        assert (await world.show(made))["parked"] == 0, way


async def test_what_comes_behind_a_success_does_not_matter(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    for count, answer in enumerate((huge(200), drip_behind, said(packed())), 1):
        receiver.answer = answer
        await world.accept(f"{count}@example.com")
        await world.told(receiver, count)
        assert (await world.show(made))["parked"] == 0


async def test_nothing_is_taken_behind_an_answer(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    flood, goes_on, cut_off = endless(status(200)), asyncio.Event(), asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        await goes_on.wait()
        with contextlib.suppress(AssertionError):
            try:
                await flood(request, writer)
            except ConnectionError:
                cut_off.set()

    receiver.answer = answer
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    assert (await world.show(made))["parked"] == 0
    goes_on.set()  # on a connection that is kept for the next request
    await world.until(lambda: receiver.at_once == 0)
    assert cut_off.is_set()


async def test_a_redirect_is_a_failure_and_not_followed(world: World, receiver: Receiver) -> None:
    async with Receiver() as inside:
        made = await world.add(receiver)
        for count, code in enumerate((301, 302, 303, 307, 308), 1):
            receiver.answer = said(status(code, Location=inside.url))
            await world.accept(f"{code}@example.com")
            await world.told(receiver, count)
            assert inside.connections == 0
            assert (await world.show(made))["parked"] == count


async def test_the_schedule_ends_with_a_dead_letter(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    began, count = world.now.ms, 1
    for pause_s in world.config.retry_s:
        world.later(pause_s * 0.79)
        await world.quiet()
        assert len(receiver.told) == count  # not before its time
        world.later(pause_s * 0.42)
        count += 1
        await world.told(receiver, count)
    assert (world.now.ms - began) / 1000 > 24 * HOUR_S
    [dead] = await world.manager.dead(None, made["id"])
    assert dead["attempts"] == count == len(world.config.retry_s) + 1
    assert dead["reason"] == "it answered 500"
    assert dead["event_id"] == receiver.told[0].headers["webhook-id"]
    shown = await world.show(made)
    assert (shown["parked"], shown["dead"], shown["state"]) == (0, 1, "active")
    receiver.answer = said(OK)
    replayed = await world.manager.replay(None, made["id"], From(dead=True))
    assert replayed["revived"] == 1
    await world.told(receiver, count + 1)
    assert (await world.show(made))["dead"] == 0


async def test_what_is_behind_a_failed_event_waits_and_other_messages_pass(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    bad: set[str] = set()

    def answer(request: Request, _writer: object) -> bytes:
        return status(500) if request.json["data"]["recipient"] in bad else OK

    receiver.answer = answer
    bad.add("ann@example.com")
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    await world.settle()
    await world.accept("bob@example.com")
    await world.told(receiver, 2)
    assert [one.json["data"]["recipient"] for one in receiver.told] == ["ann@example.com", "bob@example.com"]
    assert (await world.show(made))["parked"] == 2
    bad.clear()
    world.later(7)
    await world.told(receiver, 4)
    of_ann = [one.type for one in receiver.told if one.json["data"]["recipient"] == "ann@example.com"]
    assert of_ann == ["email.accepted", "email.accepted", "email.delivered"]
    assert (await world.show(made))["parked"] == 0


async def test_d19_down_for_six_hours_loses_nothing(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(503))
    for minute in range(0, 360, 30):
        await world.accept(f"{minute}@example.com")
        await world.settle(State.DEFERRED if minute % 60 else State.DELIVERED, wait_ms=0)
        world.later(1800)
        await world.quiet()
    before = len(receiver.told)
    assert before < 100  # a dead endpoint is asked little
    assert 0 < (await world.show(made))["parked"] <= MOST_PARKED
    await world.settle()
    receiver.answer = said(OK)
    world.later(301)
    logged = await world.store.event_log.read(0, 1000)
    await world.until(lambda: len({one.headers["webhook-id"] for one in receiver.told[before:]}) == len(logged))
    await world.quiet()
    expected: dict[str, list[str]] = {}
    for event in logged:
        expected.setdefault(event.address, []).append(f"email.{event.type.value}")
    arrived: dict[str, list[str]] = {}
    for one in receiver.told[before:]:
        arrived.setdefault(one.json["data"]["recipient"], []).append(one.type)
    assert arrived == expected
    shown = await world.show(made)
    assert (shown["parked"], shown["dead"], shown["failing_since"]) == (0, 0, None)


async def test_a_broken_endpoint_is_asked_one_thing_at_a_time(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    for number in range(50):
        await world.accept(f"{number}@example.com")
    await world.until(lambda: world.dispatcher._endpoints[1].backlog.broken)
    await world.quiet()
    assert len(receiver.told) < 3 * BROKEN
    record = (await world.store.webhooks.all())[0]
    assert record.cursor < 50  # the rest waits in the log
    assert (await world.show(made))["failing_since"] is not None
    receiver.answer = said(OK)
    world.later(301)
    await world.until(lambda: len({one.headers["webhook-id"] for one in receiver.told}) == 50)
    await world.quiet()
    assert (await world.show(made))["parked"] == 0


async def test_retry_after_is_heeded_and_bounded(world: World, receiver: Receiver) -> None:
    await world.add(receiver)
    receiver.answer = said(status(429, Retry_After="1800"))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    receiver.answer = said(status(429, Retry_After="999999999"))
    await world.accept("bob@example.com")
    world.later(1700)
    await world.quiet()
    assert len(receiver.told) == 1  # nothing else either
    world.later(150)
    await world.told(receiver, 2)
    receiver.answer = said(OK)
    world.later(HOUR_S + 10)
    await world.told(receiver, 4)


async def test_gone_is_gone_at_once(world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    made = await world.add(receiver)
    async with Receiver() as other:
        await world.add(other, types=("webhook.disabled",))
        receiver.answer = said(status(410))
        with caplog.at_level(logging.ERROR, "gateway.webhooks"):
            await world.accept("ann@example.com")
            await world.told(other, 1)
        assert other.told[0].json["data"] == {
            "webhook_id": made["id"],
            "url": receiver.url.removesuffix("/hooks"),  # a path may be a secret
            "reason": "it answered 410 Gone",
        }
        assert f"the webhook {made['id']} is disabled: it answered 410 Gone" in caplog.text
        shown = await world.show(made)
        assert (shown["state"], shown["parked"]) == ("disabled", 1)
        world.later(HOUR_S)
        await world.quiet()
        assert len(receiver.told) == 1
        receiver.answer = said(OK)
        await world.manager.resume(None, made["id"])
        await world.told(receiver, 3)
        assert sorted(receiver.types[1:]) == ["email.accepted", "webhook.disabled"]


async def test_disabled_after_five_days_of_failure(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    for hour in range(0, 5 * 24, 12):
        assert (await world.show(made))["state"] == "active", hour
        await world.accept(f"{hour}@example.com")
        await world.quiet()
        world.later(12 * HOUR_S)
        await world.quiet()
    await world.until(lambda: not world.dispatcher._endpoints[1].backlog.active)
    await world.quiet()
    shown = await world.show(made)
    assert shown["state"] == "disabled"
    assert shown["reason"].startswith("it failed for 12")
    *_, last = await world.store.event_log.read(0, 1000)
    assert (last.type.value, last.account, last.message) == ("webhook_disabled", "acme", 0)


async def test_after_a_kill_what_was_not_written_is_told_again(world: World, receiver: Receiver) -> None:
    await world.add(receiver)
    gate = asyncio.Event()

    async def wait(_request: Request, _writer: object) -> bytes:
        await gate.wait()
        return OK

    receiver.answer = wait
    await world.accept("ann@example.com")
    await world.until(lambda: len(receiver.told) == 1)
    await world.restart(cleanly=False)
    receiver.answer = said(OK)
    await world.told(receiver, 2)
    gate.set()
    first, second = receiver.told
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    await world.restart(cleanly=False)
    await world.accept("bob@example.com")
    await world.told(receiver, 3)
    assert len(receiver.told) == 3


async def test_parked_events_survive_a_restart_in_their_order(world: World, receiver: Receiver) -> None:
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    await world.accept("ann@example.com")
    await world.settle()
    await world.told(receiver, 1)
    await world.restart()
    receiver.answer = said(OK)
    world.later(7)
    await world.told(receiver, 3)
    assert receiver.types == ["email.accepted", "email.accepted", "email.delivered"]
    assert (await world.show(made))["parked"] == 0


async def test_a_slow_endpoint_leaves_room_to_others(world: World, receiver: Receiver) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(14):
            slow = await stack.enter_async_context(Receiver())
            await world.add(slow)
            slow.answer = hang
        for number in range(20):
            await world.accept(f"{number}@example.com")
        await world.until(lambda: world.dispatcher.in_flight >= CONNECTIONS - SPARE)
        await world.add(receiver)
        await world.accept("last@example.com")
        await world.until(lambda: len(receiver.told) == 1)
        assert world.dispatcher.in_flight >= CONNECTIONS - SPARE
        await world.dispatcher.stop(0)


async def test_one_account_with_many_slow_endpoints_leaves_room_to_others(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "CONNECTIONS", 8)
    monkeypatch.setattr(dispatcher, "SPARE", 2)
    async with Receiver() as slow:
        for _ in range(8):
            await world.add(slow)
        await world.add(receiver, account="other")
        slow.answer = hang
        await world.accept("ann@example.com")
        await world.until(lambda: slow.at_once == 7)
        await world.accept("bob@example.com", account="other")
        await world.until(lambda: len(receiver.told) == 1)
        assert slow.at_once == 7
        await world.dispatcher.stop(0)
