"""Kept connections: who gets which, who waits, who is closed."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.config import Delivery, HopTls
from gateway.delivery.pool import Pool
from gateway.delivery.session import Failure, Hop, Session
from tests.fakes.hop import QUICK, hop, mail
from tests.fakes.mx import Do, FakeMx


def settings(*, connections: int = 10, messages: int = 100) -> Delivery:
    return Delivery(connections=connections, messages_per_connection=messages, timeouts=QUICK)


async def opened(pool: Pool, to: Hop) -> Session:
    session = await asyncio.wait_for(pool.open(to), 5)
    assert isinstance(session, Session), session
    return session


def start(coroutine: Coroutine[Any, Any, Session]) -> "asyncio.Task[Session]":
    return asyncio.get_running_loop().create_task(coroutine)


async def closed(host: FakeMx, number: int) -> bool:
    await host.conversations[number].over()
    return host.conversations[number].commands[-1] == "QUIT"


async def test_a_connection_is_kept_for_its_own_hop_and_the_last_used_comes_first() -> None:
    async with FakeMx() as host, FakeMx() as other:
        pool = Pool(settings())
        first, second = await opened(pool, hop(host)), await opened(pool, hop(host))
        pool.give_back(first)
        pool.give_back(second)
        assert pool.kept(hop(other)) is None
        assert pool.kept(hop(host, name="another.test")) is None
        assert pool.kept(hop(host)) is second
        assert pool.kept(hop(host)) is first
        assert pool.kept(hop(host)) is None


async def test_a_connection_serves_its_share_of_messages_and_goes() -> None:
    async with FakeMx() as host:
        pool = Pool(settings(messages=2))
        session = await opened(pool, hop(host))
        for _ in range(2):
            assert session.wire.usable
            await session.wire.send(mail())
            pool.give_back(session)
        assert pool.kept(hop(host)) is None
        assert await closed(host, 0)


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with FakeMx() as host:
        pool = Pool(settings(), idle_s=0.05)
        early, late = await opened(pool, hop(host)), await opened(pool, hop(host))
        pool.give_back(early)
        assert await closed(host, 0)
        assert not host.conversations[1].ended.is_set()
        pool.give_back(late)
        assert await closed(host, 1)
        assert pool.kept(hop(host)) is None


async def test_a_connection_that_died_is_not_given_out() -> None:
    async with FakeMx() as host:
        pool = Pool(settings(connections=1))
        session = await opened(pool, hop(host))
        pool.give_back(session)
        host.conversations[0].say("421 4.4.2 idle")
        async with asyncio.timeout(30):
            while session.wire.usable:
                await asyncio.sleep(0.001)
        assert pool.kept(hop(host)) is None
        await opened(pool, hop(host))  # its place is free again


async def test_no_more_connections_than_allowed_and_who_waits_is_served_in_turn() -> None:
    async with FakeMx() as host:
        pool = Pool(settings(connections=2))
        held = [await opened(pool, hop(host)) for _ in range(2)]
        waiting = [start(opened(pool, hop(host))) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert len(host.conversations) == 2
        assert not any(task.done() for task in waiting)
        for task in waiting:
            pool.give_back(held.pop(0))  # closed, not kept: somebody waits
            held.append(await asyncio.wait_for(task, 2))
        assert len(host.conversations) == 5
        open_now = [conversation for conversation in host.conversations if not conversation.ended.is_set()]
        assert len(open_now) <= 3  # the last QUIT may be on its way


async def test_an_idle_connection_gives_way_to_one_that_is_needed() -> None:
    async with FakeMx() as host, FakeMx() as other:
        pool = Pool(settings(connections=2))
        for session in [await opened(pool, hop(host)) for _ in range(2)]:
            pool.give_back(session)
        await opened(pool, hop(other))
        assert await closed(host, 0)  # the longest idle
        assert pool.kept(hop(host)) is not None


@pytest.mark.parametrize("do", [Do("554 5.7.1 no", drop=True), Do()], ids=["refused", "silent"])
async def test_a_connection_that_did_not_open_takes_no_place(do: Do) -> None:
    async with FakeMx({"connect": [do, do, do]}) as host:
        pool = Pool(settings(connections=1))
        for _ in range(3):
            assert isinstance(await asyncio.wait_for(pool.open(hop(host)), 5), Failure)
        await opened(pool, hop(host))


async def test_who_is_cancelled_while_it_waits_leaves_no_place_behind() -> None:
    async with FakeMx() as host:
        pool = Pool(settings(connections=1))
        held = await opened(pool, hop(host))
        await cancelled(start(opened(pool, hop(host))))
        pool.give_back(held)
        assert pool.kept(hop(host)) is held  # kept, because nobody waits any more


async def test_who_is_cancelled_while_it_connects_leaves_no_place_behind() -> None:
    async with FakeMx({"connect": [Do("220 hi", gate=asyncio.Event())]}) as host:
        pool = Pool(settings(connections=1))
        await cancelled(start(opened(pool, hop(host))))
        await opened(pool, hop(host))


async def cancelled(task: "asyncio.Task[Session]") -> None:
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_closing_closes_what_is_idle_and_what_comes_back() -> None:
    async with FakeMx() as host:
        pool = Pool(settings())
        idle, used = await opened(pool, hop(host)), await opened(pool, hop(host))
        pool.give_back(idle)
        await pool.close()
        assert await closed(host, 0)
        pool.give_back(used)
        assert await closed(host, 1)
        assert pool.kept(hop(host)) is None


async def test_a_host_that_never_answered_costs_one_place_whatever_there_is_for_it() -> None:
    async with FakeMx({"connect": [Do()]}) as dead, FakeMx() as good:
        pool = Pool(settings())
        wanting = [asyncio.get_running_loop().create_task(pool.open(hop(dead))) for _ in range(5)]
        await met(dead, 1)
        await opened(pool, hop(good))  # while they wait
        assert pool.connections == 2
        heard = await asyncio.wait_for(asyncio.gather(*wanting), 5)
        assert len({id(failure) for failure in heard}) == 1
        assert isinstance(heard[0], Failure)
        assert heard[0].word.stage == "greeting"
        assert len(dead.conversations) == 1
        assert pool.connections == 1


async def test_an_address_under_many_names_is_one_host() -> None:
    async with FakeMx({"connect": [Do()]}) as dead:
        pool = Pool(settings())
        names = [f"mx.parked{number}.test" for number in range(5)]
        wanting = [asyncio.get_running_loop().create_task(pool.open(hop(dead, name=name))) for name in names]
        await met(dead, 1)
        assert pool.connections == 1
        heard = await asyncio.wait_for(asyncio.gather(*wanting), 60)
        assert all(isinstance(one, Failure) and one.word.stage == "greeting" for one in heard)
        assert len(dead.conversations) == 1


async def test_nobody_hears_the_name_of_another_host() -> None:
    async with FakeMx() as gone:
        pass  # nobody listens there any more
    pool = Pool(settings())
    heard = await asyncio.gather(*[pool.open(hop(gone, name=name)) for name in ("one.test", "two.test")])
    said = [one.word.text for one in heard if isinstance(one, Failure)]
    assert [text.split(" port ")[0] for text in said] == ["cannot connect to one.test", "cannot connect to two.test"]


async def test_a_host_that_is_not_who_one_wanted_may_be_who_another_wants() -> None:
    async with FakeMx() as host:
        pool = Pool(settings())
        strict = asyncio.get_running_loop().create_task(pool.open(hop(host, tls=HopTls.STARTTLS)))
        await asyncio.sleep(0)
        await opened(pool, hop(host))
        failure = await strict
        assert isinstance(failure, Failure)
        assert failure.word.stage == "starttls"


async def test_once_a_host_has_answered_the_others_follow_at_once() -> None:
    gate = asyncio.Event()
    async with FakeMx({"connect": [Do("220 hi", gate=gate)]}) as host:
        pool = Pool(settings())
        wanting = [start(opened(pool, hop(host))) for _ in range(5)]
        await met(host, 1)
        assert len(host.conversations) == 1
        gate.set()
        assert len({id(session) for session in await asyncio.gather(*wanting)}) == 5


async def test_who_waited_for_another_to_be_answered_asks_itself_where_that_one_gave_up() -> None:
    async with FakeMx({"connect": [Do("220 hi", gate=asyncio.Event())]}) as host:
        pool = Pool(settings(connections=1))
        first = start(opened(pool, hop(host)))
        await met(host, 1)
        second = start(opened(pool, hop(host)))
        await cancelled(first)
        await asyncio.wait_for(second, 5)


async def test_hosts_that_do_not_talk_leave_places_to_those_that_do() -> None:
    silent = Do()
    async with contextlib.AsyncExitStack() as stack:
        good = await stack.enter_async_context(FakeMx())
        pool = Pool(settings(connections=4))
        session = await opened(pool, hop(good))
        await session.wire.send(mail())
        pool.give_back(session)
        tarpits = [await stack.enter_async_context(FakeMx({"connect": [silent]})) for _ in range(6)]
        wanting = [asyncio.get_running_loop().create_task(pool.open(hop(tarpit))) for tarpit in tarpits]
        for tarpit in tarpits[:3]:
            await met(tarpit, 1)
        kept = pool.kept(hop(good))
        assert kept is not None  # no need for it to give way: a place more is of no use to them
        assert pool.connections == 4
        pool.give_back(kept)
        assert isinstance(await asyncio.gather(*wanting), list)
        assert [len(tarpit.conversations) for tarpit in tarpits] == [1] * 6
        assert pool.connections <= 1


async def test_mail_of_high_priority_finds_a_place() -> None:
    async with FakeMx() as host:
        pool = Pool(settings(connections=20))
        session = await opened(pool, hop(host))
        await session.wire.send(mail())
        pool.give_back(session)
        held = [await opened(pool, hop(host)) for _ in range(19)]  # the idle one gives way
        late = start(opened(pool, hop(host)))
        assert isinstance(await asyncio.wait_for(pool.open(hop(host), high=True), 5), Session)
        assert not late.done()
        assert pool.connections == 20
        for session in held[:2]:  # the place that is kept free is filled again first
            assert not late.done()
            pool.give_back(session)
        await asyncio.wait_for(late, 5)


async def met(host: FakeMx, count: int) -> None:
    """Wait until somebody has connected so often."""
    async with asyncio.timeout(30):
        while len(host.conversations) < count:
            await asyncio.sleep(0.001)
