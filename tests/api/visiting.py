"""The pages for recipients over a real listener, with a small store behind them that keeps what it is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.api.server import HttpServer
from gateway.api.track import Visits
from gateway.api.trackwriter import TrackFigures, TrackWriter
from gateway.config import Config
from gateway.metrics import Metrics
from gateway.runtime import Clock, Supervisor
from gateway.store.offers import Offer
from gateway.store.queue import Heard
from gateway.tokens import SECRET_BYTES, Purpose, Subject, Tokens
from tests.api.conftest import Api, RecordingDoor

NOW: Final = 1_767_323_045_000
BOB: Final = Subject(7, 8)
TOKENS: Final = Tokens(bytes(range(SECRET_BYTES)))
URL: Final = "https://shop.example.com/sale?a=1&b=2#top"
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


@dataclass(slots=True)
class Memory:
    """What the pages ask of the store. `error` is raised instead; `gate` holds writing back."""

    heard: list[Heard] = field(default_factory=list)
    offers: dict[tuple[int, int], Offer] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)
    error: Exception | None = None
    gate: asyncio.Event | None = None

    async def settle(self, heard: Sequence[Heard]) -> Sequence[bool]:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.heard += heard
        return [(one.message, one.recipient) in self.offers for one in heard]

    async def find(self, message: int, recipient: int) -> Offer | None:
        self.asked.append((message, recipient))
        if self.error is not None:
            raise self.error
        return self.offers.get((message, recipient))


@dataclass(slots=True)
class Desk:
    """`monotonic` is the time that the bound on events goes by."""

    api: Api
    memory: Memory
    writer: TrackWriter
    figures: TrackFigures
    monotonic: list[float]

    async def heard(self) -> list[Heard]:
        """All that was told until now."""
        await self.writer.stop()
        return self.memory.heard

    def visits(self, type_: str, fate: str) -> int:
        return int(self.figures.visits.at(type_, fate).value)


@asynccontextmanager
async def visited(config: Config, scope: str = "*") -> AsyncIterator[Desk]:
    memory = Memory()
    offer = Offer(BOB.message, BOB.recipient, scope, "news@shop.example.com", "bob.builder@example.org")
    memory.offers[(BOB.message, BOB.recipient)] = offer
    monotonic = [0.0]
    clock = Clock(now_ms=lambda: NOW, monotonic=lambda: monotonic[0])
    deaths: list[str] = []
    supervisor = Supervisor(
        on_fatal=lambda name, error: deaths.append(f"{name}: {error!r}"),
        on_error=lambda name, error: deaths.append(f"{name}: {error!r}"),
    )
    figures = TrackFigures(Metrics())
    writer = TrackWriter(memory.settle, clock, figures)
    writer.start(supervisor)
    visits = Visits(TOKENS, writer, find=memory.find, settle=memory.settle, clock=clock)
    api = Api(HttpServer(config, RecordingDoor({}), visits=visits), RecordingDoor({}))
    await api.server.start()
    try:
        yield Desk(api, memory, writer, figures, monotonic)
    finally:
        await api.server.stop(2)
        await supervisor.cancel_all()
    assert deaths == []


def pixel(subject: Subject = BOB) -> str:
    return f"/t/o/{TOKENS.link(Purpose.OPEN, subject)}.gif"


def link(url: str = URL, subject: Subject = BOB) -> str:
    return f"/t/c/{TOKENS.click(subject, url)}"


def leave(subject: Subject = BOB) -> str:
    return f"/t/u/{TOKENS.link(Purpose.UNSUBSCRIBE, subject)}"
