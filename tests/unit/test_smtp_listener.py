"""The listener on real sockets: limits, time, back-pressure, and what happens when one side goes away."""

import asyncio
import smtplib
import socket
from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.budget import Budget
from gateway.config import Auth, Limits, Listen
from gateway.errors import Reason, Refused, StoreFull
from gateway.message.model import PIECE_BYTES
from gateway.smtp.connection import KEEP_BYTES
from gateway.smtp.peer import plain_address
from tests.fakes.passing import Passing
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import (
    HELLO,
    HOME,
    MESSAGE,
    TRANSACTION,
    WAIT_S,
    client,
    config,
    in_thread,
    on_both_loops,
    ready,
    serving,
)


@pytest.fixture
def door() -> FakeDoor:
    return FakeDoor()


@on_both_loops
async def test_smtplib_with_auth(door: FakeDoor) -> None:
    async with serving(config(), door) as server:
        port = server.addresses[0].port

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=WAIT_S) as smtp:
                smtp.login("shop", "secret")
                smtp.sendmail("a@example.com", ["b@example.org", "c@example.org"], MESSAGE + b".dot\r\n")

        await in_thread(send)
    assert door.logins == [("shop", "secret", "127.0.0.1")]
    (message,) = door.accepted
    assert message.principal == "shop"
    assert message.content == MESSAGE + b".dot\r\n"
    assert message.envelope.recipients == ("b@example.org", "c@example.org")
    assert message.envelope.protocol == "ESMTPA"
    assert message.envelope.peer == "127.0.0.1"


# Limits


@on_both_loops
async def test_connections_of_one_address_are_limited(door: FakeDoor) -> None:
    limits = Limits(connections_per_ip=2)
    async with serving(config(limits=limits), door) as server, client(server), client(server) as second:
        async with client(server, "421 4.7.0") as third:
            await third.ended()
        await second.say(b"QUIT\r\n", "221")
        await second.ended()
        while len(server._connections) > 1:
            await asyncio.sleep(0)
        async with client(server) as again:
            await again.say(b"NOOP\r\n", "250")


@on_both_loops
async def test_connections_are_limited_together(door: FakeDoor) -> None:
    limits = Limits(connections=1)
    async with serving(config(limits=limits), door) as server, client(server) as first:
        async with client(server, "421 4.7.0", local_addr=("127.0.0.2", 0)) as other:
            await other.ended()
        await first.say(b"NOOP\r\n", "250")


# Time


@on_both_loops
async def test_an_idle_connection_is_closed(door: FakeDoor) -> None:
    async with serving(config(), door, timeout_s=0.2) as server, client(server) as made:
        await made.said("421 4.4.2")
        await made.ended()


@on_both_loops
async def test_a_dripping_command_is_no_progress(door: FakeDoor) -> None:
    async with serving(config(), door, timeout_s=0.2) as server, client(server) as made:
        closed = asyncio.get_running_loop().create_task(made.said("421 4.4.2"))
        while not closed.done():
            made.writer.write(b"N")
            await asyncio.wait([closed], timeout=0.02)
        await closed


@on_both_loops
async def test_slow_content_lives_and_dripping_content_does_not(door: FakeDoor) -> None:
    line = b"x" * 98 + b"\r\n"
    async with serving(config(), door, timeout_s=30) as server, client(server) as slow:
        await ready(slow)
        time = Passing(server)
        for _ in range(18):  # 600 bytes in a second, for three timeouts
            await time.send(slow, line * 30)
            time.wait(5)
        await slow.say(b".\r\n", "250 2.0.0 queued")
    async with serving(config(), door, timeout_s=30) as server, client(server) as dripping:
        await ready(dripping)
        time = Passing(server)
        for _ in range(6):  # 400, for one
            await time.send(dripping, line * 20)
            time.wait(5)
        await dripping.said("421 4.4.2")
    assert len(door.accepted) == 1


@on_both_loops
async def test_a_commit_may_take_longer_than_a_timeout(door: FakeDoor) -> None:
    door.may_finish = asyncio.Event()
    async with serving(config(), door, timeout_s=30) as server, client(server) as made:
        await ready(made)
        await made.say(MESSAGE + b".\r\n")
        await door.finishing.wait()
        time = Passing(server)
        for _ in range(3):
            time.wait(31)
        door.may_finish.set()
        await made.said("250 2.0.0 queued")


# Flow


@on_both_loops
async def test_a_commit_in_flight_is_finished_when_the_client_goes(door: FakeDoor) -> None:
    door.may_finish = asyncio.Event()
    async with serving(config(), door) as server:
        async with client(server) as made:
            await ready(made)
            await made.say(MESSAGE + b".\r\n")
            await door.finishing.wait()
            made.vanish()
        while server._connections:
            await asyncio.sleep(0)
        door.may_finish.set()
        while not door.accepted:
            await asyncio.sleep(0)
    assert door.accepted[0].content == MESSAGE


@on_both_loops
async def test_a_client_that_closed_its_half_gets_its_reply(door: FakeDoor) -> None:
    door.may_finish = asyncio.Event()
    async with serving(config(), door) as server, client(server) as made:
        await ready(made)
        await made.say(MESSAGE + b".\r\nNOOP\r\n")
        made.writer.write_eof()
        await door.finishing.wait()
        (kept,) = server._connections
        while not kept._eof:
            await asyncio.sleep(0)
        door.may_finish.set()
        await made.said("250 2.0.0 queued")
        await made.said("250 2.0.0 OK")
        await made.ended()


@on_both_loops
async def test_nothing_is_begun_for_a_client_that_is_gone(door: FakeDoor) -> None:
    door.may_finish = asyncio.Event()
    async with serving(config(), door) as server:
        async with client(server) as made:
            await ready(made)
            await made.say(MESSAGE + b".\r\n" + TRANSACTION + MESSAGE + b".\r\n")
            await door.finishing.wait()
            made.vanish()
        while server._connections:
            await asyncio.sleep(0)
        door.may_finish.set()
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(door.begun) == len(door.accepted) == 1


@on_both_loops
async def test_a_message_without_its_end_is_not_taken(door: FakeDoor) -> None:
    async with serving(config(), door) as server, client(server) as made:
        await ready(made)
        await made.say(MESSAGE)
        made.writer.write_eof()
        await made.ended()
    assert door.begun == []


@on_both_loops
async def test_reading_stops_while_a_commit_is_in_flight(door: FakeDoor) -> None:
    door.may_finish = asyncio.Event()
    async with serving(config(max_message=64_000_000), door) as server, client(server) as made:
        await ready(made)
        await made.say(MESSAGE + b".\r\n")
        await door.finishing.wait()
        flood = TRANSACTION + b"x" * 62 + b"\r\n" + (b"y" * 62 + b"\r\n") * 250_000 + b".\r\n"
        made.writer.write(flood)
        for _ in range(50):
            await asyncio.sleep(0.002)
        (kept,) = server._connections
        assert kept._engine.buffered <= KEEP_BYTES + 2 * PIECE_BYTES
        door.may_finish.set()
        for answer in ("250 2.0.0 queued", "250", "250", "354", "250 2.0.0 queued"):
            await made.said(answer)
    assert [len(message.content) for message in door.accepted] == [len(MESSAGE), 250_001 * 64]
    assert all(len(piece) <= PIECE_BYTES for piece in door.accepted[1].pieces)


@on_both_loops
async def test_a_client_that_reads_nothing_is_not_read(door: FakeDoor) -> None:
    loop = asyncio.get_running_loop()
    async with serving(config(limits=Limits(recipients_per_message=1_000_000)), door) as server:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(sock, ("127.0.0.1", server.addresses[0].port))
            rcpt = b"RCPT TO:<b@example.org>\r\n"
            flood = HELLO + b"MAIL FROM:<a@example.com>\r\n" + rcpt * 900_000
            sending = loop.create_task(loop.sock_sendall(sock, flood))
            while not server._connections:
                await asyncio.sleep(0)
            (kept,) = server._connections
            # Or the system would take megabytes of replies before anything comes to a stop.
            kept._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            while not kept._hold:
                await asyncio.sleep(0)
            assert kept._transport.get_write_buffer_size() < 2_000_000
            assert not sending.done()
            sending.cancel()
            await asyncio.wait([sending])


# Memory


LARGE = (b"y" * 62 + b"\r\n") * 12_000


async def serving_content(begun: bool = True) -> None:
    """Until a task has content in hand, or none."""
    while begun is not any(task.get_name() == "smtp: content" for task in asyncio.all_tasks()):
        await asyncio.sleep(0)


@on_both_loops
async def test_content_counts_while_it_is_in_hand(door: FakeDoor) -> None:
    memory = Budget(10_000_000)
    async with serving(config(), door, budget=memory) as server:
        async with client(server) as made:
            await ready(made)
            assert memory.held == 0
            await made.say(LARGE)
            while not memory.held:
                await asyncio.sleep(0)
            await made.say(b".\r\n", "250 2.0.0 queued")
            assert memory.held == 0
            await made.say(TRANSACTION, "250", "250", "354")
            await made.say(b"Subject: small\r\n" * 500 + b".\r\n", "250")
            await made.say(TRANSACTION, "250", "250", "354")
            await made.say(LARGE)
            while not memory.held:
                await asyncio.sleep(0)
        while server._connections:  # it went in the middle
            await asyncio.sleep(0)
    assert memory.held == 0
    assert len(door.accepted) == 2


@on_both_loops
async def test_content_waits_for_memory(door: FakeDoor) -> None:
    memory = Budget(1_000_000)
    assert memory.try_take(900_000)
    async with serving(config(), door, budget=memory) as server, client(server) as made:
        await ready(made)
        await made.say(LARGE + b".\r\n")
        await serving_content()
        assert memory.held == 900_000
        memory.release(900_000)
        await made.said("250 2.0.0 queued")
    assert door.accepted[0].content == LARGE
    assert memory.held == 0


@on_both_loops
async def test_who_goes_while_it_waits_for_memory_waits_no_more(door: FakeDoor) -> None:
    memory = Budget(1_000_000)
    assert memory.try_take(1_000_000)
    async with serving(config(), door, budget=memory, room_wait_s=0.1) as server:
        async with client(server) as made:
            await ready(made)
            await made.say(LARGE)
            await serving_content()
            made.vanish()
        while server._connections:
            await asyncio.sleep(0)
        await serving_content(False)
    assert memory.held == 1_000_000
    assert door.begun == []


@on_both_loops
async def test_who_waits_too_long_for_memory_is_told_to_come_again(door: FakeDoor) -> None:
    memory = Budget(1_000_000)
    assert memory.try_take(1_000_000)
    async with serving(config(), door, budget=memory, room_wait_s=0.01) as server, client(server) as made:
        await ready(made)
        await made.say(LARGE + b".\r\n", "452 4.3.1")
        declared = b"MAIL FROM:<a@example.com> SIZE=500000\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
        await made.say(declared, "250", "250", "452 4.3.1")
        memory.release(1_000_000)
        await made.say(declared, "250", "250", "354")
        await made.say(LARGE + b".\r\n", "250 2.0.0 queued")
    assert memory.held == 0
    assert len(door.accepted) == 1


@on_both_loops
@pytest.mark.parametrize(
    ("where", "error", "reply"),
    [
        ("begin", Refused(Reason.NO_ROUTE, "no route"), "451 4.3.5 no route"),
        ("add", StoreFull("full"), "452 4.3.1"),
        ("add", RuntimeError("boom"), "451 4.3.0 An error of ours"),
        ("finish", RuntimeError("boom"), "451 4.3.0 An error of ours"),
    ],
)
async def test_large_content_that_is_not_taken(door: FakeDoor, where: str, error: Exception, reply: str) -> None:
    door.failures[where] = error
    async with serving(config(), door) as server, client(server) as made:
        await ready(made)
        await made.say((b"y" * 62 + b"\r\n") * 12_000 + b".\r\nNOOP\r\n", reply, "250 2.0.0 OK")
        door.failures.clear()
        await made.say(TRANSACTION, "250", "250", "354")
        await made.say(MESSAGE + b".\r\n", "250 2.0.0 queued as eml_1")
    assert door.accepted[0].content == MESSAGE


@on_both_loops
async def test_an_unforeseen_error_shows_nothing(door: FakeDoor, caplog: pytest.LogCaptureFixture) -> None:
    door.failures["a@example.com"] = KeyError("/var/lib/secret")
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO + b"MAIL FROM:<a@example.com>\r\nNOOP\r\n", "250")
        await made.said("451 4.3.0 An error of ours, try again later\r\n")
        await made.said("250 2.0.0 OK")
    assert "a command from 127.0.0.1 failed" in caplog.text


# Addresses


@on_both_loops
async def test_the_narrowest_network_decides(door: FakeDoor) -> None:
    door.networks = {"wide": "wide", "narrow": "narrow"}
    networks = ((ip_network("127.0.0.0/8"), "wide"), (ip_network("127.0.0.1/32"), "narrow"))
    async with serving(config(replace(HOME, networks=networks)), door) as server:
        for address in ("127.0.0.1", "127.0.0.2"):
            async with client(server, local_addr=(address, 0)) as made:
                await ready(made)
                await made.say(MESSAGE + b".\r\n", "250")
    assert [message.principal for message in door.accepted] == ["narrow", "wide"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"), ("::1", "::1")],
)
def test_an_address_as_people_write_it(given: str, shown: str) -> None:
    assert plain_address(given) == shown


# Stopping


@on_both_loops
async def test_stopping_closes_the_idle_and_waits_for_the_others(door: FakeDoor) -> None:
    async with serving(config(), door) as server, client(server) as idle, client(server) as busy:
        await ready(busy)
        address = server.addresses[0]
        stopped = asyncio.get_running_loop().create_task(server.stop(WAIT_S))
        await idle.said("421 4.3.2")
        await idle.ended()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(address.host, address.port)
        assert not stopped.done()
        await busy.say(MESSAGE + b".\r\nMAIL FROM:<a@example.com>\r\n", "250 2.0.0 queued", "421 4.3.2")
        await busy.ended()
        await asyncio.wait_for(stopped, WAIT_S)
    assert len(door.accepted) == 1


@on_both_loops
async def test_stopping_ends_at_its_deadline(door: FakeDoor) -> None:
    async with serving(config(), door) as server, client(server) as made:
        await ready(made)
        await server.stop(0.05)
        await made.said("421 4.3.2")
        await made.ended()
    assert door.accepted == []


@on_both_loops
async def test_stopping_denies_no_commit_in_flight(door: FakeDoor) -> None:
    door.may_finish = asyncio.Event()
    async with serving(config(), door) as server, client(server) as made:
        await ready(made)
        await made.say(MESSAGE + b".\r\n")
        await door.finishing.wait()
        stopped = asyncio.get_running_loop().create_task(server.stop(0))
        await asyncio.sleep(0.02)
        door.may_finish.set()
        await made.said("250 2.0.0 queued")
        await made.said("421 4.3.2")
        await made.ended()
        await asyncio.wait_for(stopped, WAIT_S)


@on_both_loops
async def test_listeners_are_independent(door: FakeDoor) -> None:
    second = replace(HOME, auth=Auth.REQUIRED)
    async with serving(config(HOME, second), door) as server:
        assert len({address.port for address in server.addresses}) == 2
        async with client(server) as made:
            await ready(made)


@on_both_loops
async def test_a_busy_port_is_an_error_and_frees_the_others(door: FakeDoor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listener = replace(HOME, listen=Listen("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(OSError, match="address already in use"):
            async with serving(config(HOME, listener), door):
                pass
