"""S1: nobody who did not authenticate gets mail taken, whatever it is addressed like."""

import itertools
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.peers.daemon import Daemon, broken_twin, relay_to
from tests.peers.process import free_port
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

TIMEOUT_S: Final = 10.0
SENDERS: Final = (
    "<>",
    "<spam@relay-test.example>",
    "<a@gateway.test>",
    "<root>",
    "<root@localhost>",
    "<a@[127.0.0.1]>",
    "<@gateway.test:spam@relay-test.example>",
    '<"spam@relay-test.example"@gateway.test>',
)
RECIPIENTS: Final = (
    "<victim@relay-test.example>",
    "<victim%relay-test.example@gateway.test>",
    "<victim%relay-test.example>",
    '<"victim@relay-test.example">',
    '<"victim%relay-test.example">',
    '<"victim@relay-test.example"@gateway.test>',
    "<victim@relay-test.example@gateway.test>",
    "<victim@relay-test.example@[127.0.0.1]>",
    "<@gateway.test:victim@relay-test.example>",
    "<@[127.0.0.1]:victim@relay-test.example>",
    "<@gateway.test,@other.example:victim@relay-test.example>",
    "<relay-test.example!victim>",
    "<relay-test.example!victim@gateway.test>",
    "<gateway.test!relay-test.example!victim>",
    "<victim@[192.0.2.1]>",
    "<victim@[IPv6:2001:db8::1]>",
    "<victim@localhost>",
    "<victim>",
    "<postmaster>",
    "<postmaster@gateway.test>",
    "victim@relay-test.example",
    " <victim@relay-test.example>",
    "<victim@relay-test.example> NOTIFY=NEVER",
    "<VICTIM@RELAY-TEST.EXAMPLE>",
    "<victim@relay-test.example.>",
)
PROBES: Final = tuple(itertools.product(SENDERS, RECIPIENTS))
BEFORE: Final = (
    "AUTH PLAIN AGFkbWluAGFkbWlu",  # admin, admin
    "AUTH PLAIN =",
    "AUTH PLAIN AAA=",  # no name, no password
    "AUTH PLAIN AHNob3AA",  # shop, no password
    "AUTH LOGIN c2hvcA==",
    "STARTTLS",
    "XCLIENT ADDR=192.0.2.1 LOGIN=shop",
    "XFORWARD ADDR=192.0.2.1",
    "PROXY TCP4 192.0.2.1 192.0.2.1 1 1",
    "MAIL FROM:<a@example.com> AUTH=shop@example.com",
)
LISTENERS: Final[dict[str, dict[str, object]]] = {
    "required": {"auth": "required"},
    "optional": {"auth": "optional", "networks": {"192.0.2.0/24": "shop"}},
    "networks": {"auth": "none", "networks": {"192.0.2.0/24": "shop"}},
}


class Talk:
    """A client that reads one reply for each command."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._file = self._sock.makefile("rb")
        self._read()

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def ask(self, command: str) -> str:
        """The code; "" where the connection is closed."""
        try:
            self._sock.sendall(command.encode() + b"\r\n")
            return self._read()
        except ConnectionError:
            return ""

    def _read(self) -> str:
        while (line := self._file.readline()) and line[3:4] == b"-":
            pass
        return line[:3].decode("ascii")


def accepted(port: int, sender: str, recipient: str, *before: str) -> bool:
    """Whether any part of a transaction is taken."""
    talk = Talk(port)
    try:
        for command in ("EHLO probe", *before):
            talk.ask(command)
        answers = [talk.ask(line) for line in (f"MAIL FROM:{sender}", f"RCPT TO:{recipient}", "DATA", "spam\r\n.")]
    finally:
        talk.close()
    return bool({"250", "354"} & set(answers))


def settings(sink: Sink) -> dict[str, object]:
    ports = {name: free_port() for name in LISTENERS}
    smtp = [{"listen": f"127.0.0.1:{ports[name]}", "tls": "none"} | more for name, more in LISTENERS.items()]
    return relay_to(sink.port) | {"smtp": {"listeners": smtp}}


def ports_of(daemon: Daemon) -> list[int]:
    return [
        int(port) for port in re.findall(r"listen: 127\.0\.0\.1:(\d+)", daemon.config.read_text().split("smtp:")[1])
    ]


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


def test_there_are_two_hundred_probes() -> None:
    assert len(set(PROBES)) >= 200


def test_nothing_is_taken_from_who_is_not_let_in(tmp_path: Path, sink: Sink) -> None:
    with Daemon(tmp_path / "gw", settings(sink)) as daemon:
        ports = ports_of(daemon)
        assert len(ports) == len(LISTENERS)
        taken = [(port, *probe) for port in ports for probe in PROBES if accepted(port, *probe)]
        assert daemon.stop() == 0
    assert taken == []
    assert sink.transactions == []


def test_nothing_said_before_lets_in(tmp_path: Path, sink: Sink) -> None:
    with Daemon(tmp_path / "gw", settings(sink)) as daemon:
        taken = [
            (port, words)
            for port in ports_of(daemon)
            for words in BEFORE
            if accepted(port, "<spam@relay-test.example>", "<victim@relay-test.example>", words)
        ]
        assert daemon.stop() == 0
    assert taken == []
    assert sink.transactions == []


def test_an_open_relay_is_seen(tmp_path: Path, sink: Sink) -> None:
    twin = broken_twin(
        tmp_path / "twin",
        "smtp/authority.py",
        "    if rules.auth is Auth.NONE:\n        raise BadCommand(replies.NOT_LISTED)",
        '    return door.network_principal("shop")\n    raise BadCommand(replies.NOT_LISTED)',
    )
    with Daemon(tmp_path / "gw", settings(sink), source=twin) as daemon:
        (port, *_) = ports_of(daemon)
        taken = [probe for probe in PROBES if accepted(port, *probe)]
    assert len(taken) > 50
