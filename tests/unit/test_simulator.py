"""The parts that addresses play: what is said of them, and what verdict.py makes of it."""

import pytest

from gateway.config import SIMULATED
from gateway.delivery.simulator import PARTS, SLOWEST_S, Simulator, part_of
from gateway.delivery.verdict import judge
from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, Scope, State
from gateway.runtime import Clock, Supervisor
from gateway.store.queue import Attempt, Heard, Leased, Result
from tests.store.mail import EVER, START_MS

CLOCK = Clock(now_ms=lambda: START_MS)


class Stage:
    """What the simulator uses of the store, and what it was told; `slept` are the waits that were asked for."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.slept: list[float] = []
        self.away = False
        self.failed: list[str] = []
        self.supervisor = Supervisor(on_fatal=self._died, on_error=self._died)
        self.simulator = Simulator(self, self.supervisor, CLOCK, sleep=self._sleep)  # type: ignore[arg-type]  # one verb

    async def settle_late(self, heard: list[Heard]) -> list[bool]:
        if self.away:
            raise StoreError("away")
        self.heard += heard
        return [True] * len(heard)

    def _died(self, name: str, error: BaseException) -> None:
        self.failed.append(f"{name}: {error}")

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def fate(self, local: str, attempts: int = 0) -> tuple[State, BounceClass | None, Scope | None]:
        leased = Leased(7, f"{local}@play.test", attempts, 1, possible_duplicate=False)
        word = await self.simulator.word(leased)
        decision = judge(word, tries=attempts + 1, expires_at=EVER, now=START_MS, retry_s=(60,), jitter=0.5)
        return decision.state, decision.bounce_class, decision.scope

    async def after(self, local: str, state: State = State.DELIVERED, route: str = SIMULATED) -> list[Heard]:
        """What is heard after an attempt."""
        result = Result(7, 1, state, None, attempts=1, to=f"{local}@play.test")
        self.simulator.told([Attempt(3, b"u" * 16, 1, route, START_MS, START_MS, (result,))])
        await self.settled()
        return self.heard

    async def settled(self) -> None:
        for task in tuple(self.supervisor._tasks):
            await task


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize(
    ("local", "fate"),
    [
        ("bounce", (State.BOUNCED, BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT)),
        ("BOUNCE+any", (State.BOUNCED, BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT)),
        ("full", (State.DEFERRED, BounceClass.QUOTA_ISSUES, Scope.RECIPIENT)),
        ("soft", (State.DEFERRED, BounceClass.QUOTA_ISSUES, Scope.RECIPIENT)),
        ("refuse", (State.BOUNCED, BounceClass.CONTENT_REFUSED, Scope.CONTENT)),
        ("defer", (State.DEFERRED, BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE)),
    ],
)
async def test_who_is_not_delivered(stage: Stage, local: str, fate: object) -> None:
    assert await stage.fate(local) == fate
    assert await stage.fate(local, attempts=50) == fate


async def test_so_many_deferrals(stage: Stage) -> None:
    fates = [(await stage.fate("defer+2", attempts))[0] for attempts in range(4)]
    assert fates == [State.DEFERRED, State.DEFERRED, State.DELIVERED, State.DELIVERED]


@pytest.mark.parametrize("local", [part for part in PARTS if part not in {"bounce", "full", "soft", "defer", "refuse"}])
async def test_who_is_delivered(stage: Stage, local: str) -> None:
    assert (await stage.fate(local))[0] is State.DELIVERED


@pytest.mark.parametrize("local", ["ann", "ok.ko", '"odd one"', "köln", "+", "bounce-", "defer3"])
async def test_an_address_without_a_part_is_told_the_parts(stage: Stage, local: str) -> None:
    word = await stage.simulator.word(Leased(7, f"{local}@play.test", 0, 1, possible_duplicate=False))
    assert word.code == 250
    assert all(part in word.text for part in PARTS)


async def test_who_takes_time(stage: Stage) -> None:
    for local in ("slow", "slow+30", "slow+999999", "slow+x", "ok"):
        await stage.fate(local)
    assert stage.slept == [10, 30, SLOWEST_S, 10]


@pytest.mark.parametrize(
    ("local", "type_"),
    [
        ("complain", EventType.COMPLAINED),
        ("late", EventType.BOUNCED),
        ("open", EventType.OPENED),
        ("click+2", EventType.CLICKED),
        ("unsubscribe", EventType.UNSUBSCRIBED),
    ],
)
async def test_what_follows_a_delivery(stage: Stage, local: str, type_: EventType) -> None:
    (heard,) = await stage.after(local)
    assert (heard.message, heard.recipient, heard.type, heard.at) == (3, 7, type_, START_MS)
    stage.heard.clear()
    assert await stage.after(local, State.DEFERRED) == []
    assert await stage.after(local, route="direct") == [], "only what the simulator said"


async def test_a_late_bounce_is_one_of_the_recipient(stage: Stage) -> None:
    (heard,) = await stage.after("late")
    assert (heard.bounce_class, heard.scope, heard.status) == (BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT, "5.1.1")


@pytest.mark.parametrize("local", ["ok", "autoreply", "ann"])
async def test_nothing_follows(stage: Stage, local: str) -> None:
    assert await stage.after(local) == []


async def test_a_store_that_is_away_fails_nothing(stage: Stage) -> None:
    stage.away = True
    assert await stage.after("complain") == []
    assert stage.failed == []


def test_part_of() -> None:
    assert part_of("Defer+3@play.test") == ("defer", "3")
    assert part_of("a.b@play.test") == ("", "")
