"""D15: the schedule of retries over five days of a fake clock, from the queue to the verdict and back."""

import itertools
import random

import pytest

from gateway.config import Delivery
from gateway.delivery.verdict import Word, judge
from gateway.events import EventType, State
from gateway.store.queue import Attempt, Claimed, Result
from tests.store.conftest import Store
from tests.store.mail import Now, Post

DAY_S = 86_400
LATER = Word("rcpt", 451, "4.3.0", "451 4.3.0 not now")
# The steps of the default schedule added up; the last one repeats to the end of the fifth day, which is the last try.
STEPS_S = [0, 60, 360, 1260, 3060, 6660, 13_860, 28_260]
EXACT_S = [*STEPS_S, *range(28_260 + 14_400, 5 * DAY_S, 14_400), 5 * DAY_S]


async def _tries(store: Store, now: Now, jitter: random.Random | None) -> list[float]:
    """Seconds from the start, of each try until the recipient is final."""
    at: list[float] = []
    start = now.ms
    while True:
        next_at = await store.promote(now.ms)
        claims = [claimed for due in await store.due() for claimed in await store.claim(due.destination, 10, 1 << 60)]
        if not claims:
            assert next_at is not None
            now.ms = next_at  # nothing is claimable before its time
            continue
        (claimed,) = claims
        at.append((now.ms - start) / 1000)
        attempt = _attempt(claimed, now.ms, jitter.random() if jitter else 0.5)
        await store.settle([attempt])
        if attempt.results[0].state.final:
            assert attempt.results[0].event is EventType.EXPIRED
            return at


def _attempt(claimed: Claimed, now_ms: int, jitter: float) -> Attempt:
    (leased,) = claimed.recipients
    tries = leased.attempts + 1
    decision = judge(
        LATER, tries=tries, expires_at=claimed.expires_at, now=now_ms, retry_s=Delivery().retry_s, jitter=jitter
    )
    result = Result(
        leased.id,
        leased.fence,
        decision.state,
        decision.event,
        attempts=tries,
        to=leased.address,
        next_at=decision.next_at,
    )
    return Attempt(claimed.message, claimed.uuid, 1, "direct", now_ms, now_ms, (result,))


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
async def test_d15_five_days_of_tries(store: Store, post: Post, now: Now, seed: int | None) -> None:
    start, message = now.ms, post.message()
    await store.enqueue(message)
    tries = await _tries(store, now, random.Random(seed) if seed else None)
    assert tries[-1] == 5 * DAY_S
    if seed is None:
        assert tries == EXACT_S
    pauses = [after - before for before, after in itertools.pairwise(tries)][:-1]  # the last ends with the fifth day
    steps = [Delivery().retry_s[min(index, 6)] for index in range(len(pauses))]
    assert all(0.8 * step <= pause <= 1.2 * step for pause, step in zip(pauses, steps, strict=True))
    assert now.ms == start + 5 * DAY_S * 1000
    view = await store.message(message.uuid, None)
    assert view is not None
    assert (view.recipients[0].state, view.recipients[0].attempts) == (State.FAILED, len(tries))
