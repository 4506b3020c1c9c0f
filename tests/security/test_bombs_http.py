"""Requests made to cost more than they are worth: refused at once, in shape, and without the memory they ask for."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import pytest

from tests.peers.daemon import Daemon, broken_twin
from tests.security.growth import growth
from tests.security.rawhttp import Raw, head

pytestmark = pytest.mark.slow

MAX_MESSAGE_MB = 10  # a body up to 15.7 MB is read: as much as one in base64 may take
MOST_GROWTH_MB = 32
DECLARED_S = 5.0  # at once, on a busy machine, too
GIGABYTE = 1_000_000_000
PART = b" " * 65536
MAIL = {"from": "shop@example.com", "to": "ann@example.net", "subject": "Hi", "text": "Hello"}
CAPTURE = {"routes": {"here": {"type": "capture"}}, "default_route": "here", "max_message": f"{MAX_MESSAGE_MB}MB"}


def _with(name: str, value: str) -> bytes:
    """The mail with one more member, its value as text."""
    return json.dumps(MAIL)[:-1].encode() + f', "{name}": {value}}}'.encode()


# Made when they are sent: some take a while, and every collection of the tests would pay for it.
BOMBS: dict[str, Callable[[], bytes]] = {
    "nested lists": lambda: _with("metadata", "[" * 200_000 + "]" * 200_000),
    "nested objects": lambda: _with("metadata", '{"a":' * 200_000 + "1" + "}" * 200_000),
    "nested without end": lambda: b"[" * 200_000,
    "nested without end in a string's place": lambda: b'{"a":' * 200_000,
    "a number of 100,000 digits": lambda: _with("priority", "1" * 100_000),
    "a fraction of 100,000 digits": lambda: _with("priority", "0." + "1" * 100_000),
    "an exponent out of reach": lambda: _with("priority", "1e" + "9" * 100_000),
    "an infinite number": lambda: _with("priority", "1e999"),
    "NaN": lambda: _with("priority", "NaN"),
    "Infinity": lambda: _with("metadata", '{"a": -Infinity}'),
    "a name twice": lambda: _with("subject", '"again"'),
    "a name twice, escaped": lambda: _with("\\u0073ubject", '"again"'),
    "a lone surrogate": lambda: _with("html", '"\\ud800"'),
    "a lone low surrogate": lambda: _with("html", '"\\udc00 x"'),
    "a surrogate as a name": lambda: _with("metadata", '{"\\ud83d": 1}'),
    "a surrogate in UTF-8": lambda: _with("html", '"?"').replace(b"?", b"\xed\xa0\x80"),
    "invalid UTF-8": lambda: _with("html", '"?"').replace(b"?", b"\xff\xfe"),
    "an overlong slash": lambda: _with("html", '"?"').replace(b"?", b"\xc0\xaf"),
    "UTF-16": lambda: json.dumps(MAIL).encode("utf-16"),
    "half a million values": lambda: _with("metadata", json.dumps([0] * 500_000)),
    "half a million names": lambda: _with("metadata", json.dumps({str(n): 0 for n in range(500_000)})),
    "a million strings": lambda: _with("metadata", json.dumps(["x"] * 1_000_000)),
    "a thousand attachments": lambda: _with("attachments", json.dumps([{"filename": "a", "content": "eA=="}] * 1000)),
    "ten thousand recipients": lambda: _with("cc", json.dumps([f"a{n}@example.net" for n in range(10_000)])),
    "nothing": lambda: b"",
    "a string": lambda: b'"x"',
    "NUL": lambda: b"\0" * 100_000,
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("bombs"), CAPTURE) as running:
        _warm(running)
        yield running


def _warm(daemon: Daemon) -> None:
    """What a process takes once, it takes here: modules, pools, buffers for one large body."""
    for text in ("x", "x " * 100_000, "lorem ipsum\n" * (MAX_MESSAGE_MB * 1_000_000 // 14)):
        assert _post(daemon, json.dumps({**MAIL, "text": text}).encode()) == 201


def _post(daemon: Daemon, body: bytes, *fields: str) -> int:
    with Raw(daemon.http_port) as client:
        client.send(head(f"Content-Length: {len(body)}", *fields) + body)
        reply = client.reply()
    if reply.status >= 400:
        error = json.loads(reply.body)
        assert error["ok"] is False
        assert error["meta"]["request_id"] == reply.request_id
    return reply.status


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_json_is_refused(daemon: Daemon, bomb: str) -> None:
    with growth(daemon.pid) as seen:
        status = _post(daemon, BOMBS[bomb]())
    assert status in {400, 413, 422}
    assert seen.by < MOST_GROWTH_MB
    assert _post(daemon, json.dumps(MAIL).encode()) == 201


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x-gzip"])
def test_nothing_is_unpacked(daemon: Daemon, coding: str) -> None:
    assert _post(daemon, json.dumps(MAIL).encode(), f"Content-Encoding: {coding}") == 415


def test_a_packed_transfer_is_not_unpacked_either(daemon: Daemon) -> None:
    with Raw(daemon.http_port) as client:
        client.send(head("Transfer-Encoding: gzip, chunked") + b"5\r\nhello\r\n0\r\n\r\n")
        assert client.reply().status in {400, 415}


@pytest.mark.parametrize("size", [GIGABYTE, 2**63, 10**30])
def test_a_body_that_declares_too_much(daemon: Daemon, size: int) -> None:
    with growth(daemon.pid) as seen, Raw(daemon.http_port) as client:
        started = time.monotonic()
        client.send(head(f"Content-Length: {size}"))
        reply = client.reply()
        took = time.monotonic() - started
    assert reply.status in ({413} if size < 2**63 else {400, 413})
    assert reply.closes
    assert took < DECLARED_S
    assert seen.by < MOST_GROWTH_MB


def _chunks() -> Iterator[bytes]:
    return repeat(b"%x\r\n%b\r\n" % (len(PART), PART), GIGABYTE // len(PART))


def _gigabyte_in_chunks(daemon: Daemon) -> tuple[int, float]:
    """How many bytes were sent before the answer, and by how much the daemon grew."""
    with growth(daemon.pid) as seen, Raw(daemon.http_port) as client:
        client.send(head("Transfer-Encoding: chunked"))
        sent = client.send_until_answered(_chunks())
        assert client.reply().status == 413
    return sent, seen.by


def test_a_gigabyte_in_chunks_ends_where_it_is_too_large(daemon: Daemon) -> None:
    sent, grown = _gigabyte_in_chunks(daemon)
    assert sent < 3 * MAX_MESSAGE_MB * 1_000_000
    assert grown < MOST_GROWTH_MB


def test_one_chunk_of_a_gigabyte(daemon: Daemon) -> None:
    with growth(daemon.pid) as seen, Raw(daemon.http_port) as client:
        client.send(head("Transfer-Encoding: chunked") + b"%x\r\n" % GIGABYTE)
        client.send_until_answered(repeat(PART, GIGABYTE // len(PART)))
        assert client.reply().status == 413
    assert seen.by < MOST_GROWTH_MB


def test_who_has_no_key_is_answered_before_the_body(daemon: Daemon) -> None:
    with growth(daemon.pid) as seen, Raw(daemon.http_port) as client:
        client.send(head("Transfer-Encoding: chunked", secret="wrong"))
        assert client.reply().status == 401
        client.send_until_answered(_chunks())  # it is read for a while, so that the answer arrives, and dropped
        assert client.closed()
    assert seen.by < MOST_GROWTH_MB


def test_a_head_without_end(daemon: Daemon) -> None:
    for line in (b"X: " + b"x" * 65536, b"X: x\r\n" * 10_000):
        with growth(daemon.pid) as seen, Raw(daemon.http_port) as client:
            client.send(b"GET /health/live HTTP/1.1\r\n")
            sent = client.send_until_answered(repeat(line, GIGABYTE // len(line)))
            assert client.reply().status == 400
        assert sent < 50_000_000  # what the kernel holds on both sides
        assert seen.by < MOST_GROWTH_MB


def test_a_daemon_that_reads_to_the_end_is_seen(tmp_path: Path) -> None:
    old = "                    if size > most:\n                        raise _too_large(most)\n                    if"
    twin = broken_twin(tmp_path / "twin", "api/body.py", old, "                    if")
    with Daemon(tmp_path / "gw", CAPTURE | {"limits": {"buffers": "1GB"}}, source=twin) as running:
        _warm(running)
        with growth(running.pid) as seen, Raw(running.http_port) as client:
            client.send(head("Transfer-Encoding: chunked"))
            sent = client.send_until_answered(repeat(b"%x\r\n%b\r\n" % (len(PART), PART), 100_000_000 // len(PART)))
    assert sent > 3 * MAX_MESSAGE_MB * 1_000_000
    assert seen.by > MOST_GROWTH_MB
