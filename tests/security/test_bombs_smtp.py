"""Mail made to cost more than it is worth, by SMTP: refused in shape, and without the memory it asks for."""

import re
import socket
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Final, Self

import pytest

from tests.peers.daemon import SECRET, Daemon, broken_twin
from tests.security.growth import growth

pytestmark = pytest.mark.slow

MAX_MESSAGE_MB: Final = 10
MOST_GROWTH_MB: Final = 32
DECLARED_S: Final = 5.0  # at once, on a busy machine, too
GIGABYTE: Final = 1_000_000_000
TIMEOUT_S: Final = 20.0
LINE: Final = b"x" * 70 + b"\r\n"
LINES: Final = LINE * 1000
ONE_LINE: Final = b"x" * 65536
HEAD: Final = b"From: shop@example.com\r\nTo: ann@example.net\r\nSubject: Hi\r\n"
CAPTURE: Final = {
    "routes": {"here": {"type": "capture"}},
    "default_route": "here",
    "max_message": f"{MAX_MESSAGE_MB}MB",
}


class Client:
    """A client that has logged in, and says whatever it likes."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._got = b""
        login = b64encode(f"\0client\0{SECRET}".encode())
        assert [self.reply(), self.say(b"EHLO client.test"), self.say(b"AUTH PLAIN " + login)] == [220, 250, 235]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def say(self, command: bytes) -> int:
        self._sock.sendall(command + b"\r\n")
        return self.reply()

    def begin(self, *parameters: bytes) -> None:
        assert self.say(b"MAIL FROM:<shop@example.com>" + b"".join(parameters)) == 250
        assert self.say(b"RCPT TO:<ann@example.net>") == 250
        assert self.say(b"DATA") == 354

    def content(self, parts: Iterable[bytes]) -> int:
        """The reply to a content and its end; the connection may be cut before, which is 0."""
        try:
            for part in parts:
                self._sock.sendall(part)
            return self.say(b"\r\n.")
        except ConnectionError:
            return 0

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def reply(self) -> int:
        """The code of the next reply; 0 where the connection ends instead."""
        while (found := re.match(rb"(?:\d{3}-[^\n]*\n)*(\d{3}) [^\n]*\n", self._got)) is None:
            data = self._sock.recv(65536)
            if not data:
                return 0
            self._got += data
        self._got = self._got[found.end() :]
        return int(found[1])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("bombs"), CAPTURE) as running:
        assert _sent(running, LINES * 100) == 250  # what a process takes once, it takes here
        yield running


def _sent(daemon: Daemon, *body: bytes, head: bytes = HEAD) -> int:
    with Client(daemon.smtp_port) as client:
        client.begin()
        return client.content((head, b"\r\n", *body))


def _gigabyte(part: bytes) -> Iterator[bytes]:
    return repeat(part, GIGABYTE // len(part))


@pytest.mark.parametrize("size", [GIGABYTE, 2**63, 10**19])
def test_a_message_that_declares_too_much(daemon: Daemon, size: int) -> None:
    with growth(daemon.pid) as seen, Client(daemon.smtp_port) as client:
        started = time.monotonic()
        assert client.say(b"MAIL FROM:<shop@example.com> SIZE=%d" % size) == 552
        assert time.monotonic() - started < DECLARED_S
    assert seen.by < MOST_GROWTH_MB


@pytest.mark.parametrize("declared", [b"", b" SIZE=1000"])
@pytest.mark.parametrize("part", [LINES, ONE_LINE], ids=["lines", "one line"])
def test_a_gigabyte_of_content(daemon: Daemon, part: bytes, declared: bytes) -> None:
    with growth(daemon.pid) as seen, Client(daemon.smtp_port) as client:
        client.begin(declared)
        assert client.content(chain((HEAD, b"\r\n"), _gigabyte(part))) == 552
        assert client.say(b"NOOP") == 250
    assert seen.by < MOST_GROWTH_MB


@pytest.mark.parametrize("part", [(b"X-A: " + LINE) * 1000, ONE_LINE, (b" " + LINE) * 1000, b" \r\n" * 20_000])
def test_a_header_of_a_gigabyte(daemon: Daemon, part: bytes) -> None:
    with growth(daemon.pid) as seen, Client(daemon.smtp_port) as client:
        client.begin()
        assert client.content(chain((b"X-A: b\r\nX-B: ",), _gigabyte(part))) in {550, 552}
        assert client.say(b"NOOP") == 250
    assert seen.by < MOST_GROWTH_MB


@pytest.mark.parametrize("part", [b"x" * 65536, b"\0" * 65536, b"\r" * 65536, b"\xff" * 65536])
def test_a_command_without_end(daemon: Daemon, part: bytes) -> None:
    with growth(daemon.pid) as seen, Client(daemon.smtp_port) as client:
        for _ in range(GIGABYTE // 10 // len(part)):
            client.send(part)
        assert client.reply() == 500
        assert client.say(b"\r\nNOOP") == 250  # the rest of the line is dropped with it
    assert seen.by < MOST_GROWTH_MB


def test_chunks_are_not_spoken(daemon: Daemon) -> None:
    with growth(daemon.pid) as seen, Client(daemon.smtp_port) as client:
        assert client.say(b"MAIL FROM:<shop@example.com>") == 250
        assert client.say(b"RCPT TO:<ann@example.net>") == 250
        assert client.say(b"BDAT %d LAST" % GIGABYTE) in {500, 502, 503}
    assert seen.by < MOST_GROWTH_MB


def test_a_thousand_attachments(daemon: Daemon) -> None:
    """They are bytes of a body like others: they pass."""
    part = (
        b'--x\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="a"\r\n\r\ny\r\n'
    )
    head = HEAD + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n"
    with growth(daemon.pid) as seen:
        assert _sent(daemon, part * 1000, b"--x--\r\n", head=head) == 250
    assert seen.by < MOST_GROWTH_MB


def test_parts_in_parts(daemon: Daemon) -> None:
    head = HEAD + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b0\r\n"
    body = b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(10_000))
    with growth(daemon.pid) as seen:
        assert _sent(daemon, body, head=head) == 250
    assert seen.by < MOST_GROWTH_MB


def test_ten_thousand_recipients(daemon: Daemon) -> None:
    with growth(daemon.pid) as seen, Client(daemon.smtp_port) as client:
        assert client.say(b"MAIL FROM:<shop@example.com>") == 250
        replies = []
        for start in range(0, 10_000, 1000):
            client.send(b"".join(b"RCPT TO:<a%d@example.net>\r\n" % n for n in range(start, start + 1000)))
            replies += [client.reply() for _ in range(1000)]
        # RFC 5321, 4.5.3.1.10: those beyond are for another transaction
        assert replies == [250] * 1000 + [452] * 9000
        assert client.say(b"DATA") == 354
        assert client.content((HEAD, b"\r\n", LINE)) == 250
    assert seen.by < MOST_GROWTH_MB


def test_an_address_list_of_a_header_field(daemon: Daemon) -> None:
    many = b",\r\n ".join(b"a%d <a%d@example.net>" % (n, n) for n in range(3000))
    nested = b"(" * 900
    for field in (b"To: " + many, b"To: " + nested, b"From: " + nested + b" <shop@example.com>"):
        with growth(daemon.pid) as seen:
            assert _sent(daemon, LINE, head=HEAD.replace(field[:3], b"X-" + field[:3]) + field + b"\r\n") in {250, 550}
        assert seen.by < MOST_GROWTH_MB


def test_a_content_that_is_kept_is_seen(tmp_path: Path) -> None:
    drop = "                self._drop(max(0, len(self._raw) - 4))\n"
    twin = broken_twin(tmp_path / "twin", "smtp/content.py", drop, "")
    with Daemon(tmp_path / "gw", CAPTURE, source=twin) as running:
        with growth(running.pid) as seen, Client(running.smtp_port) as client:
            client.begin()
            client.content(chain((HEAD, b"\r\n"), repeat(ONE_LINE, 2000)))
        assert seen.by > MOST_GROWTH_MB
