"""The budget of bytes in hand."""

import asyncio

import pytest

from gateway.budget import SMALL_BYTES, Budget, Share

LARGE = 2 * SMALL_BYTES
LIMIT = 12 * SMALL_BYTES
MOST_LARGE = 9 * SMALL_BYTES


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_the_limit_is_handed_out() -> None:
    budget = Budget(LIMIT)
    assert not budget.try_take(LIMIT)
    assert budget.try_take(MOST_LARGE)
    assert not budget.try_take(LARGE)
    assert not await budget.take(LARGE, 0.01)
    assert all(budget.try_take(SMALL_BYTES) for _ in range(3))  # they have a part for themselves
    assert not budget.try_take(1)
    assert not await budget.take(1, 0.01)
    assert budget.held == LIMIT
    budget.release(LIMIT)
    assert await budget.take(MOST_LARGE, 0.01)
    assert budget.held == MOST_LARGE


async def test_what_can_never_be_is_refused_at_once() -> None:
    assert not await Budget(LIMIT).take(MOST_LARGE + 1, 3600)


async def test_who_waits_is_served_in_order() -> None:
    budget = Budget(LIMIT)
    assert budget.try_take(MOST_LARGE)
    served: list[int] = []

    async def wait(number: int, count: int) -> None:
        assert await budget.take(count, 10)
        served.append(number)

    async with asyncio.TaskGroup() as group:
        for number, count in enumerate((3 * LARGE, LARGE, LARGE)):
            group.create_task(wait(number, count))
        await _settled()
        budget.release(LARGE)
        await _settled()
        assert served == []  # the second would fit, and must not pass the first
        assert not budget.try_take(SMALL_BYTES + 1)  # nor must one that comes now
        budget.release(2 * LARGE)
        await _settled()
        assert served == [0]
        budget.release(LARGE)
        await _settled()
        assert served == [0, 1]
        budget.release(LARGE)
        await _settled()
        assert served == [0, 1, 2]
    assert budget.held == MOST_LARGE


async def test_small_ones_have_a_line_of_their_own() -> None:
    budget = Budget(LIMIT)
    assert budget.try_take(MOST_LARGE)
    assert all(budget.try_take(SMALL_BYTES) for _ in range(3))
    async with asyncio.TaskGroup() as group:
        large = group.create_task(budget.take(LARGE, 10))
        small = group.create_task(budget.take(SMALL_BYTES, 10))
        await _settled()
        budget.release(SMALL_BYTES)
        assert await small
        assert not large.done()
        budget.release(2 * LARGE + SMALL_BYTES)
    assert large.result()


async def test_who_gives_up_lets_the_next_one_in() -> None:
    budget = Budget(LIMIT)
    assert budget.try_take(MOST_LARGE - LARGE)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(budget.take(MOST_LARGE, 0.02))
        await _settled()
        second = group.create_task(budget.take(LARGE, 10))
    assert not first.result()
    assert second.result()
    assert budget.held == MOST_LARGE


@pytest.mark.parametrize("granted", [False, True])
async def test_who_is_cancelled_leaves_nothing_behind(granted: bool) -> None:
    budget = Budget(LIMIT)
    assert budget.try_take(MOST_LARGE)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(budget.take(LARGE, 10))
        await _settled()
        if granted:
            budget.release(MOST_LARGE)  # its turn has come, and it did not run yet
        waiting.cancel()
    assert waiting.cancelled()
    assert budget.held == (0 if granted else MOST_LARGE)
    if not granted:
        budget.release(MOST_LARGE)
    assert await budget.take(MOST_LARGE, 0)


async def test_a_share_grows_and_goes() -> None:
    budget = Budget(LIMIT)
    with Share(budget) as share:
        assert share.try_grow(LARGE)
        assert share.try_grow(LARGE)  # it has that already
        assert await share.grow(2 * LARGE, 0.01)
        assert (share.taken, budget.held) == (2 * LARGE, 2 * LARGE)
        with Share(budget) as other:
            assert not await other.grow(MOST_LARGE - LARGE, 0.01)
            assert other.taken == 0
    assert (share.taken, budget.held) == (0, 0)


@pytest.mark.parametrize("limit", [LIMIT, 100_000])
async def test_a_share_is_at_most_half(limit: int) -> None:
    budget = Budget(limit)
    with Share(budget) as share, Share(budget) as other:
        assert other.try_grow(limit // 4)  # small ones have their part: the large one still gets in
        assert await share.grow(10_000, 0.01)
        assert await share.grow(100 * LIMIT, 0.01)
        assert share.taken == limit // 2
    assert budget.held == 0
