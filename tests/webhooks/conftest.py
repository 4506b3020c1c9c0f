"""A receiver, and webhooks over a store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.webhooks import dispatcher, sender
from tests.fakes.receiver import Receiver
from tests.webhooks.world import World, open_world


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for company, or behind a status, costs no test any time."""
    monkeypatch.setattr(dispatcher, "GATHER_S", 0.001)
    monkeypatch.setattr(dispatcher, "REST_S", 0.001)
    monkeypatch.setattr(sender, "_BODY_S", 0.1)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as one:
        yield one


@pytest.fixture
async def world(tmp_path: Path, receiver: Receiver) -> AsyncIterator[World]:
    """It ends before the receiver does."""
    async with open_world(tmp_path) as one:
        yield one
