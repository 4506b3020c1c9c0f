"""Bad bytes in the log or in what is kept of endpoints: who can be told is told, and the daemon starts."""

import logging
from pathlib import Path

import pytest

from gateway.webhooks import dispatcher
from tests.fakes.receiver import Receiver, status
from tests.webhooks.test_failing import said
from tests.webhooks.world import World, damage, open_world


async def test_a_damaged_event_takes_no_other_with_it(
    world: World, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "READ_ROWS", 4)
    made = await world.add(receiver)
    async with Receiver() as other:
        await world.add(other, account="other")  # the log is followed for it
        await world.manager.pause(None, made["id"])
        for number in range(10):
            await world.accept(f"{number}@example.com")
        await world.quiet()
        damage(tmp_path, "UPDATE event SET type = 'opehed' WHERE seq = 2")
        await world.manager.resume(None, made["id"])
        await world.told(receiver, 9)


async def test_a_damaged_secret_ends_nobody_else(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(tmp_path) as world, Receiver() as other:
        await world.add(other, account="other")
        await world.add(receiver)
        await world.close()
        damage(tmp_path, "UPDATE webhook SET secret_wrapped = x'00' WHERE id = 1")
        with caplog.at_level(logging.ERROR, "gateway.webhooks"):
            world._open()
            await world.dispatcher.start()
        assert "webhook 1 cannot be read" in caplog.text
        await world.accept("a@example.com")
        await world.told(receiver, 1)
        (damaged,) = [one for one in await world.manager.listing(None) if one["account"] == "other"]
        rotated = await world.manager.rotate(None, damaged["id"], None, None)  # which mends it
        await world.accept("b@example.com", account="other")
        await world.told(other, 1)
        assert rotated["secret"].startswith("whsec_")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE webhook SET url = CAST(x'ff' AS TEXT) WHERE id = 1", "webhooks that cannot be read: 1"),
        ("UPDATE webhook SET cursor = 'x' WHERE id = 1", "webhook 1 cannot be read"),
        ("UPDATE webhook_parked SET next_at = 'x'", ""),
    ],
)
async def test_a_damaged_row_keeps_nobody_else_from_being_told(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture, statement: str, told: str
) -> None:
    async with open_world(tmp_path) as world, Receiver() as other:
        await world.add(other)
        other.answer = said(status(500))
        await world.accept("a@example.com")
        await world.told(other, 1)
        await world.add(receiver)
        await world.close()
        damage(tmp_path, statement)
        world._open()
        await world.dispatcher.start()
        assert told in caplog.text
        await world.accept("b@example.com")
        await world.told(receiver, 1)


@pytest.mark.parametrize("damaged", ["data = CAST(x'ff' AS TEXT)", "at = 'x'", "at = 1.5"])
async def test_a_damaged_event_that_waits_is_given_up(
    world: World, receiver: Receiver, tmp_path: Path, damaged: str
) -> None:
    """At once: it was asked for every five seconds, and nothing else of an endpoint that was broken."""
    made = await world.add(receiver)
    receiver.answer = said(status(500))
    await world.accept("ann@example.com")
    await world.told(receiver, 1)
    damage(tmp_path, f"UPDATE event SET {damaged} WHERE seq = 1")
    world.later(7)
    await world.until(lambda: not world.dispatcher._endpoints[1].backlog.parked)
    await world.quiet()
    assert (await world.show(made))["dead"] == 1
