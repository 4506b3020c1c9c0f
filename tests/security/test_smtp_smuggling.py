"""S5: one content is one message, for us and for whoever gets it next: nothing in it opens a second transaction, and
nothing is stored that another server could take for an end."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.config import BareNewlines
from gateway.message.model import PIECE_BYTES
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import HELLO, HOME, TRANSACTION, WAIT_S, client, config, serving
from tests.peers.daemon import ROOT, Daemon, broken_twin, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

# What servers took for CR LF . CR LF (CVE-2023-51764 to 51766, CVE-2024-27305 and their kin).
SEQUENCES: Final = (
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\r\n.\n\r\n",
    b"\r\n.\x0b\r\n",
)
EVIL: Final = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nspam"
HONEST: Final = b"From: a@example.com\r\nSubject: honest\r\n\r\ntext"
BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
FINAL_DOT: Final = b"\r\n.\r\n"
# The end cut off by the border of a piece is an end like any other, and so is what is none.
PADDINGS: Final = (0, PIECE_BYTES - len(HONEST) - 4, PIECE_BYTES - len(HONEST) - 2, PIECE_BYTES - len(HONEST))


def smuggling(sequence: bytes, padding: int) -> bytes:
    return HONEST + b"x" * padding + sequence + EVIL + sequence + b"rest" + FINAL_DOT


def test_there_are_fourteen_sequences() -> None:
    assert len(set(SEQUENCES)) == 14


@pytest.mark.parametrize("mode", BareNewlines)
@pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)
async def test_no_second_transaction(sequence: bytes, mode: BareNewlines) -> None:
    door = FakeDoor()
    listener = HOME.__class__(HOME.listen, auth=HOME.auth, networks=HOME.networks, bare_newlines=mode)
    async with serving(config(listener), door) as server:
        for padding in PADDINGS:
            for in_one_go in (True, False):
                async with client(server) as made:
                    await made.say(HELLO + TRANSACTION, "250", "250", "250", "354")
                    content = smuggling(sequence, padding)
                    for at in range(0, len(content), len(content) if in_one_go else len(content) // 3):
                        await made.say(content[at : at + (len(content) if in_one_go else len(content) // 3)])
                        await made.writer.drain()
                    await made.said("")  # one reply to the content
                    await made.say(b"QUIT\r\n", "221")
                    await made.ended()
    assert all(message.envelope.sender == "a@example.com" for message in door.begun)
    assert len(door.accepted) <= 2 * len(PADDINGS)
    for message in door.accepted:
        assert BARE.search(message.content) is None
        assert message.content.endswith(b"rest\r\n")
        assert b"MAIL FROM:<evil@example.com>\r\n" in message.content
    if mode is BareNewlines.REJECT and sequence != b"\r\n.\x0b\r\n":
        assert door.accepted == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"BDAT 10 LAST\r\n0123456789",
        b"BDAT 0 LAST\r\n",
        b"BDAT 4\r\ntextBDAT 0 LAST\r\n",
        b"BDAT 99999999999999999999 LAST\r\n",
        b"BDAT -1 LAST\r\n",
        b"BDAT 5 LAST\r\n.\r\n\r\n",
        b"BDAT x\r\n",
        b"BDAT\r\n",
        b"DATA\r\ntext\r\nBDAT 10 LAST\r\n.\r\nBDAT 10 LAST\r\n",
        b"bdat 3 last\r\n.\r\n",
    ],
)
async def test_bdat_opens_nothing(chunks: bytes) -> None:
    """CHUNKING is not announced: what follows a BDAT is nobody's command."""
    door = FakeDoor()
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO + TRANSACTION.removesuffix(b"DATA\r\n") + chunks + EVIL + FINAL_DOT)
        said = (await made.reader.read()).decode("ascii").splitlines()
    assert said[-1].startswith("502 5.5.1")
    assert len(door.accepted) <= chunks.count(b"DATA\r\n")
    assert all(message.envelope.sender == "a@example.com" for message in door.begun)


# The whole way, to the next server


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


def _send_all(daemon: Daemon) -> int:
    """Send every sequence; how many messages were queued."""
    queued = 0
    for sequence in SEQUENCES:
        with socket.create_connection(("127.0.0.1", daemon.smtp_port), WAIT_S) as sock:
            sock.sendall(HELLO + TRANSACTION + smuggling(sequence, 0))
            sock.shutdown(socket.SHUT_WR)
            said = b""
            while part := sock.recv(65536):
                said += part
        queued += said.count(b" queued as ")
    return queued


def _settings(sink: Sink, port: int) -> dict[str, object]:
    listener = {
        "listen": f"127.0.0.1:{port}",
        "tls": "none",
        "auth": "none",
        "networks": {"127.0.0.0/8": "shop"},
        "bare_newlines": "convert",
    }
    return relay_to(sink.port) | {"smtp": {"listeners": [listener]}}


def _daemon(directory: Path, sink: Sink, source: Path = ROOT) -> Daemon:
    daemon = Daemon(directory, {}, source=source)
    daemon.write_config(_settings(sink, daemon.smtp_port))
    return daemon


@pytest.mark.slow
def test_the_next_server_sees_one_message_each(tmp_path: Path, sink: Sink) -> None:
    with _daemon(tmp_path / "gw", sink) as daemon:
        queued = _send_all(daemon)
        assert queued == len([sequence for sequence in SEQUENCES if b"\0" not in sequence])
        wait_until(lambda: len([one for one in sink.transactions if one.accepted]) == queued, "a message is missing")
        assert daemon.stop() == 0
    assert len(sink.transactions) == queued
    for transaction in sink.transactions:
        assert transaction.sender == "a@example.com"
        assert BARE.search(transaction.content) is None
        assert b"smuggled" in transaction.content


@pytest.mark.slow
def test_an_end_that_is_none_is_seen(tmp_path: Path, sink: Sink) -> None:
    twin = broken_twin(
        tmp_path / "twin",
        "smtp/content.py",
        "        self._raw += data\n",
        '        self._raw += data.replace(b"\\n.\\n", b"\\r\\n.\\r\\n")\n',
    )
    with _daemon(tmp_path / "gw", sink, source=twin) as daemon:
        queued = _send_all(daemon)
        wait_until(lambda: len([one for one in sink.transactions if one.accepted]) == queued, "a message is missing")
    assert "evil@example.com" in {transaction.sender for transaction in sink.transactions}
