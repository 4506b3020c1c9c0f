"""D12: how often a delivery waits for the other end, over a line that takes 25 ms each way. Counted, not timed."""

import asyncio

from gateway.config import HopTls, MxRoute
from gateway.events import State
from tests.fakes.carrying import claimed, desk
from tests.peers.delay import CLIENT, SERVER, DelayProxy
from tests.peers.scripted import OFFERS, Scripted

ZONE = "example.test MX 10 one.test\none.test A 127.0.0.1"
TEN = [f"r{number}@example.test" for number in range(10)]


async def round_trips(offers: tuple[str, ...], *messages: list[str]) -> int:
    """Of one connection that carries these messages, from its beginning to its end."""
    async with Scripted(offers=offers) as host, DelayProxy(host.port) as proxy:
        route = MxRoute("direct", port=proxy.port, tls=HopTls.NONE, dane=False, mta_sts=False)
        async with desk([route], zone=ZONE) as at:
            carrier = at.carrier()
            for to in messages:
                [made] = await carrier.deliver(claimed(*to))
                assert {result.state for result in made.results} == {State.DELIVERED}
            carrier.close()
        async with asyncio.timeout(10):
            while host.open:
                await asyncio.sleep(0.005)
        assert [message.recipients for message in host.taken] == list(messages)
        [line] = proxy.lines
        assert line.turns[:2] == [SERVER, CLIENT]  # greeting, EHLO
        return line.round_trips


async def test_ten_recipients_in_five_round_trips() -> None:
    assert await round_trips(OFFERS, TEN) <= 5  # connection, EHLO, commands, content, QUIT


async def test_the_next_message_takes_two_more() -> None:
    assert await round_trips(OFFERS, TEN, TEN, TEN) <= 9


async def test_without_pipelining_every_recipient_is_a_round_trip() -> None:
    """The count counts."""
    assert await round_trips(OFFERS[1:], TEN[:4]) == 10
