"""Each known hole of aiosmtpd 1.4.6, and of servers like it, is a test named after it (trust.md, 1.3, 1.4 and 2)."""

import asyncio
import contextlib
import logging
import resource
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from gateway.config import Auth, BareNewlines, Limits, ListenerTls
from gateway.message.model import PIECE_BYTES
from gateway.smtp import listener
from gateway.smtp.content import ContentReader
from tests.fakes import certs
from tests.fakes.passing import Passing
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import HELLO, HOME, MESSAGE, TRANSACTION, WAIT_S, Client, client, config, ready, serving

LINE = b"x" * 62 + b"\r\n"


@pytest.fixture
def door() -> FakeDoor:
    return FakeDoor()


async def replies(made: Client, count: int) -> list[str]:
    return [(await asyncio.wait_for(made.reader.readline(), WAIT_S)).decode("ascii") for _ in range(count)]


async def refused_senders(door: FakeDoor, *paths: bytes) -> list[str]:
    """The replies to MAIL with each of these."""
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO, "250")
        await made.say(b"".join(b"MAIL FROM:" + path + b"\r\n" for path in paths))
        return await replies(made, len(paths))


# 1.3


async def test_memory_by_one_line_without_crlf(door: FakeDoor) -> None:
    tracemalloc.start()
    try:
        async with serving(config(max_message=1_000_000), door) as server, client(server) as made:
            await ready(made)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            part = b"x" * 100_000
            for _ in range(600):
                made.writer.write(part)
                await made.writer.drain()
            await made.say(b"\r\n.\r\nNOOP\r\n", "552 5.3.4", "250")
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - before < 16 * PIECE_BYTES  # of 60 MB, and the client's own buffers are among them
    assert door.accepted == []


def test_memory_of_two_or_three_times_a_message() -> None:
    """A body kept as a list of lines and then joined."""
    reader = ContentReader(max_bytes=10**9, convert=True)
    block = LINE * 1024
    tracemalloc.start()
    try:
        for _ in range(400):
            reader.feed(block)
            while reader.pull() is not None:
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * PIECE_BYTES  # of 26 MB


# 1.4


async def test_a_handler_exception_is_a_permanent_error_with_its_class_and_path(door: FakeDoor) -> None:
    for where in ("a@example.com", "b@example.org", "begin", "finish"):
        door.failures = {where: RuntimeError("db /var/lib/x locked")}
        async with serving(config(), door) as server, client(server) as made:
            await made.say(HELLO + TRANSACTION + MESSAGE + b".\r\nQUIT\r\n", "250")
            said = (await made.reader.read()).decode("ascii")
        assert "451 4.3.0 An error of ours, try again later\r\n" in said
        assert not any(word in said for word in ("Error", "RuntimeError", "/var", "locked"))
    assert door.accepted == []


async def test_one_exception_after_another(door: FakeDoor) -> None:
    door.failures = {"a@example.com": RuntimeError("first"), "b@example.com": RuntimeError("second")}
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO, "250")
        await made.say(b"MAIL FROM:<a@example.com>\r\nMAIL FROM:<b@example.com>\r\nNOOP\r\n", "451", "451", "250")


async def test_no_limit_of_auth_failures(door: FakeDoor) -> None:
    listening = replace(HOME, auth=Auth.REQUIRED, plaintext_auth=True)
    async with serving(config(listening), door) as server, client(server) as made:
        await made.say(HELLO + b"AUTH PLAIN AHNob3AAd3Jvbmc=\r\n" * 1000, "250", "535 5.7.8", "535 5.7.8", "421 4.7.0")
        await made.ended()
    assert len(door.logins) == 3


async def test_no_limit_of_recipients(door: FakeDoor) -> None:
    many = 3000
    async with serving(config(limits=Limits(recipients_per_message=100)), door) as server, client(server) as made:
        await made.say(HELLO + b"MAIL FROM:<a@example.com>\r\n" + b"RCPT TO:<b@example.org>\r\n" * many, "250", "250")
        said = await replies(made, many)
        await made.say(b"DATA\r\n", "354")
        await made.say(MESSAGE + b".\r\n", "250 2.0.0 queued")
    assert [line[:9] for line in said] == ["250 2.1.5"] * 100 + ["452 4.5.3"] * (many - 100)
    assert len(door.accepted[0].envelope.recipients) == 100


@pytest.mark.parametrize("command", [b"NOOP", b"VRFY x", b"RSET", b"HELP", b"EHLO x", b"XYZZY", b"EXPN x", b"MAIL"])
async def test_commands_without_end(door: FakeDoor, command: bytes) -> None:
    async with serving(config(), door) as server, client(server) as made:
        await made.say(command + b"\r\n" + (command + b"\r\n") * 2000)
        said = (await made.reader.read()).decode("ascii").splitlines()
    assert len([line for line in said if line[3] == " "]) <= 101
    assert said[-1].startswith("421 4.7.0 Too many ")


async def test_addresses_refused_without_end(door: FakeDoor) -> None:
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO, "250")
        sending = asyncio.get_running_loop().create_task(made.reader.read())
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                made.writer.write(b"MAIL FROM:<a b@example.com>\r\n" * 1000)
                await made.writer.drain()
        with contextlib.suppress(ConnectionError):
            assert len((await sending).splitlines()) <= 10_001


async def test_a_sender_ended_by_lf(door: FakeDoor) -> None:
    """`MAIL FROM:<a` LF `RCPT TO:…` was two commands, the first of them accepted."""
    for mode in BareNewlines:
        async with serving(config(replace(HOME, bare_newlines=mode)), door) as server, client(server) as made:
            await made.say(HELLO + b"MAIL FROM:<a\nRCPT TO:<b@example.org>\r\nNOOP\r\n", "250")
            assert "250 2.1" not in "".join(await replies(made, 2))


async def test_spaces_controls_and_eight_bits_in_a_sender(door: FakeDoor) -> None:
    paths = (
        b"<a b@a>",
        b"<a\rb@a>",
        b"<a\0b@a>",
        b"<\xff@x>",
        "<ü@x>".encode(),
        b"<a\x08@a>",
        b"<a@b\x7f>",
        b"<a@b>\0",
    )
    said = await refused_senders(door, *paths)
    assert [line[:9] for line in said] == [
        "501 5.1.3",
        "501 5.1.3",
        "501 5.1.3",
        "501 5.5.2",
        "553 5.6.7",
        "501 5.1.3",
        "501 5.1.3",
        "501 5.1.3",
    ]


async def test_replies_echo_a_bare_cr(door: FakeDoor) -> None:
    commands = (b"NO\rOP", b"MAIL FROM:<a\rb@a>", b"MAIL FROM:<a@b> X=\r250", b"EHLO a\rb", b"AUTH \rPLAIN", b"VRFY \r")
    async with serving(config(), door) as server, client(server) as made:
        await made.say(b"\r\n".join(commands) + b"\r\nQUIT\r\n")
        said = await made.reader.read()
    assert said.replace(b"\r\n", b"").isascii()
    assert not any(octet < 32 or octet == 127 for octet in said.replace(b"\r\n", b""))


async def test_eof_cancels_the_commit(door: FakeDoor) -> None:
    door.may_finish = asyncio.Event()
    async with serving(config(), door) as server:
        async with client(server) as made:
            await ready(made)
            await made.say(MESSAGE + b".\r\n")
            await door.finishing.wait()
            made.writer.close()
            (kept,) = server._connections
            while not kept._eof:
                await asyncio.sleep(0)
        door.may_finish.set()
        while not door.accepted:
            await asyncio.sleep(0)
    assert door.accepted[0].content == MESSAGE


async def test_no_pipelining_nor_enhanced_codes_announced(door: FakeDoor) -> None:
    async with serving(config(), door) as server, client(server) as made:
        await made.say(b"EHLO x\r\nQUIT\r\n")
        said = (await made.reader.read()).decode("ascii").split("\r\n")
    assert {"250-PIPELINING", "250 ENHANCEDSTATUSCODES", "250-8BITMIME", "250-SMTPUTF8", "250-DSN"} <= set(said)
    assert not [line for line in said if line[4:] in {"CHUNKING", "BINARYMIME", "REQUIRETLS"}]


async def test_a_slow_upload_killed_by_the_command_timeout(door: FakeDoor) -> None:
    async with serving(config(), door, timeout_s=30) as server, client(server) as made:
        await ready(made)
        time = Passing(server)
        for _ in range(18):  # 640 bytes in a second, for three timeouts
            await time.send(made, LINE * 50)
            time.wait(5)
        await made.say(b".\r\n", "250 2.0.0 queued")


async def test_a_drip_that_lives_for_ever(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the least rate a content still has a last moment."""
    monkeypatch.setattr("gateway.smtp.connection.TRANSACTION_S", 60)
    async with serving(config(), door, timeout_s=30) as server, client(server) as made:
        await ready(made)
        time = Passing(server)
        for _ in range(13):
            await time.send(made, LINE * 50)
            time.wait(5)
        await made.said("421 4.4.2")
    assert door.accepted == []


# 2


@pytest.mark.parametrize("command", [b"RSET\n", b"NOOP\nRSET\r\n"])
async def test_commands_end_at_a_bare_lf(door: FakeDoor, command: bytes) -> None:
    """But where old clients are let in, which know nothing else."""
    reject = replace(HOME, bare_newlines=BareNewlines.REJECT)
    async with serving(config(reject), door) as server, client(server) as made:
        await made.say(command + b"x\r\n", "500 5.5.2 A line ends with CR LF")


async def test_starttls_injection_and_a_lost_session(door: FakeDoor, tmp_path: Path) -> None:
    """CVE-2024-34083, #287: what was said in clear is forgotten, who the client is is not."""
    made_certs = certs.make(tmp_path)
    listening = replace(HOME, tls=ListenerTls.STARTTLS)
    async with serving(config(listening, tls=made_certs), door) as server, client(server) as made:
        await made.say(HELLO, "250")
        await made.say(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n", "220")
        await made.writer.start_tls(made_certs.client, server_hostname="localhost")
        await made.say(b"MAIL FROM:<a@example.com>\r\n", "503 5.5.1 Say EHLO first")
        await ready(made)
        await made.say(MESSAGE + b".\r\n", "250")
    assert door.accepted[0].principal == "printers"
    assert door.accepted[0].envelope.peer == "127.0.0.1"
    assert door.accepted[0].envelope.sender == "a@example.com"


async def test_a_failed_handshake_is_only_an_eof(
    door: FakeDoor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """#283, #37: the log says what it was."""
    listening = replace(HOME, tls=ListenerTls.STARTTLS)
    with caplog.at_level(logging.INFO, "gateway.smtp"):
        async with serving(config(listening, tls=certs.make(tmp_path)), door) as server, client(server) as made:
            await made.say(b"STARTTLS\r\n", "220")
            await made.say(b"this is no handshake\r\n")
            with contextlib.suppress(ConnectionError):
                await made.reader.read()
            while server._connections:
                await asyncio.sleep(0)
    assert "TLS with 127.0.0.1 failed: " in caplog.text


async def test_dsn_parameters(door: FakeDoor) -> None:
    """#183: known; nothing of them can become a line of a notification."""
    bad = (b"ENVID=a+0D+0ABcc:", b"ENVID=a+0a", b"RET=HDRS+0D", b"ENVID=+C2+85", b"RET=HDRS RET=FULL")
    said = await refused_senders(door, *[b"<a@example.com> " + one for one in bad])
    assert [line[:9] for line in said] == ["501 5.5.4"] * len(bad)


async def test_long_lines_are_refused(door: FakeDoor) -> None:
    """#285: 500 over 1001 octets; institutions send lines of a megabyte."""
    line = b"x" * 2_000_000 + b"\r\n"
    async with serving(config(), door) as server, client(server) as made:
        await ready(made)
        await made.say(b"Subject: x\r\n\r\n" + line + b".\r\n", "250 2.0.0 queued")
    assert door.accepted[0].content == b"Subject: x\r\n\r\n" + line
    assert max(map(len, door.accepted[0].pieces)) <= PIECE_BYTES


@contextlib.contextmanager
def calls() -> Iterator[list[int]]:
    """How many functions of Python were called."""
    count = [0]

    def note(_: FrameType, event: str, __: object) -> None:
        if event == "call":
            count[0] += 1

    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(None)


def test_the_process_stalls_on_large_mail() -> None:
    """#293: work for each line. Here it is for each piece: five million lines cost no more calls than one."""

    def work(line: bytes) -> int:
        reader = ContentReader(max_bytes=10**9, convert=False)
        block = line * (65_536 // len(line))
        with calls() as count:
            for _ in range(160):
                reader.feed(block)
                while reader.pull() is not None:
                    pass
        return count[0]

    short, long = work(b"\r\n"), work(b"x" * 65_534 + b"\r\n")
    assert short <= 1.2 * long
    assert short < 160 * 20


async def test_every_line_is_logged(door: FakeDoor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(config(), door) as server, client(server) as made:
            await made.say(HELLO + b"AUTH PLAIN AHNob3AAc2VjcmV0\r\n", "250", "235")
            await made.say(TRANSACTION, "250", "250", "354")
            await made.say(MESSAGE + b".\r\nQUIT\r\n", "250", "221")
    assert not any(word in caplog.text for word in ("a@example.com", "b@example.org", "AHNob3AAc2VjcmV0", "secret"))


# S14


async def test_nothing_left_to_open(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients get a part of the process's files; the rest is for the store, delivery and the other door."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4 * listener.DESCRIPTORS, 10_000))
    async with serving(config(), door) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(client(server))
        async with client(server, "421 4.7.0") as fifth:
            await fifth.ended()


async def test_idle_clients_keep_others_out(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """When connections run short, who says nothing goes sooner."""
    monkeypatch.setattr(listener, "HURRIED_S", 0.2)
    monkeypatch.setattr(listener, "_CHECK_S", 0.05)
    async with serving(config(limits=Limits(connections=4)), door) as server, contextlib.AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(client(server)) for _ in range(3)]
        for one in idle:
            await one.said("421 4.4.2")
        async with client(server) as honest:
            await ready(honest)
            await asyncio.sleep(0.3)
            await honest.say(MESSAGE + b".\r\n", "250")
