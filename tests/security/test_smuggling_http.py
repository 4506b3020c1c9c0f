"""Request smuggling: no request is ever answered as another client's, behind nginx or directly.

Each case is a request whose end two readers could see in different places, with a second request hidden in it that
would send mail, or with the beginning of one that would swallow the next client's. Behind nginx clients share a
connection to the gateway: after each case other clients ask for their own, and each must get the answer with its own
request id. Directly, the connection of the case itself must not give an answer too many.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.peers.daemon import SECRET, Daemon, broken_twin
from tests.peers.nginx import Nginx
from tests.security.rawhttp import SEND, TIMEOUT_S, Raw, head

pytestmark = pytest.mark.slow

QUIET_S: Final = 0.3  # nothing more comes
VICTIMS: Final = 3
CAPTURE: Final = {"routes": {"here": {"type": "capture"}}, "default_route": "here"}
BODY: Final = json.dumps(
    {"from": "shop@example.com", "to": "ann@example.net", "subject": "Hi", "text": "Hello"}
).encode()
HIDDEN: Final = head("X-Request-Id: hidden", f"Content-Length: {len(BODY)}") + BODY
# The same length of the beginning of a request: whatever comes next on the connection would be the rest of its header.
BEGINNING: Final = b"GET /health/live HTTP/1.1\r\nHost: gateway.test\r\nX-Request-Id: hidden\r\nX-Rest: ".ljust(
    len(HIDDEN), b"a"
)
AS_CHUNK: Final = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
_numbers = itertools.count()


def _lines(*lines: bytes, method: bytes = b"POST", path: str = SEND) -> bytes:
    """A head whose lines end as each says for itself, CRLF where it says nothing."""
    first = (
        b"%b %b HTTP/1.1" % (method, path.encode()),
        b"Host: gateway.test",
        b"X-Request-Id: outer",
        b"Authorization: Bearer " + SECRET.encode(),
    )
    return b"".join(line if line.endswith(b"\n") else line + b"\r\n" for line in (*first, *lines)) + b"\r\n"


def _length(size: int, form: bytes = b"Content-Length: %d") -> bytes:
    return form % size


OWN: Final = len(BODY)
ALL: Final = len(BODY) + len(HIDDEN)
CHUNKED: Final = b"Transfer-Encoding: chunked"

# The request, and how many answers it may have at most when the gateway reads it directly.
CASES: Final[dict[str, tuple[bytes, int]]] = {
    "CL and TE": (_lines(_length(len(AS_CHUNK)), CHUNKED) + AS_CHUNK + HIDDEN, 1),
    "TE and CL": (_lines(CHUNKED, _length(len(AS_CHUNK) + len(HIDDEN))) + AS_CHUNK + HIDDEN, 1),
    "CL 0 and TE": (_lines(_length(0), CHUNKED) + AS_CHUNK + HIDDEN, 1),
    "two CL, the same": (_lines(_length(OWN), _length(OWN)) + BODY + HIDDEN, 1),
    "two CL, different": (_lines(_length(OWN), _length(ALL)) + BODY + HIDDEN, 1),
    "two CL, in one": (_lines(b"Content-Length: %d, %d" % (OWN, ALL)) + BODY + HIDDEN, 1),
    "two CL, in one, the same": (_lines(b"Content-Length: %d, %d" % (OWN, OWN)) + BODY + HIDDEN, 1),
    "CL with a plus": (_lines(_length(OWN, b"Content-Length: +%d")) + BODY + HIDDEN, 1),
    "CL with a minus": (_lines(_length(OWN, b"Content-Length: -%d")) + BODY + HIDDEN, 1),
    "CL in hexadecimal": (_lines(_length(OWN, b"Content-Length: 0x%x")) + BODY + HIDDEN, 1),
    "CL with an underscore": (_lines(b"Content-Length: 1_0") + BODY + HIDDEN, 1),
    "CL with a fraction": (_lines(_length(OWN, b"Content-Length: %d.0")) + BODY + HIDDEN, 1),
    "CL with zeros before": (_lines(_length(OWN, b"Content-Length: 000%d")) + BODY + HIDDEN, 2),
    "CL empty": (_lines(b"Content-Length:") + BODY + HIDDEN, 1),
    "CL with words": (_lines(_length(OWN, b"Content-Length: %d bytes")) + BODY + HIDDEN, 1),
    "CL with other digits": (_lines("Content-Length: ١٠".encode()) + BODY + HIDDEN, 1),
    "CL with space before the colon": (_lines(_length(ALL, b"Content-Length : %d")) + BODY + HIDDEN, 1),
    "CL with tab before the colon": (_lines(_length(ALL, b"Content-Length\t: %d")) + BODY + HIDDEN, 1),
    "CL with a vertical tab": (_lines(_length(ALL, b"Content-Length:\x0b%d")) + BODY + HIDDEN, 1),
    "CL with NUL": (_lines(_length(ALL, b"Content-Length: %d\0")) + BODY + HIDDEN, 1),
    "CL with NUL in the name": (_lines(_length(ALL, b"Content-Length\0: %d")) + BODY + HIDDEN, 1),
    "CL on a folded line": (_lines(b"X-A: b", _length(ALL, b" Content-Length: %d")) + BODY + HIDDEN, 1),
    "CL folded": (_lines(b"Content-Length:", b" %d" % ALL) + BODY + HIDDEN, 1),
    "CL after a bare LF": (_lines(_length(OWN, b"X-A: b\nContent-Length: %d")) + BODY + HIDDEN, 2),
    "CL after a bare CR": (_lines(_length(ALL, b"X-A: b\rContent-Length: %d")) + BODY + HIDDEN, 1),
    "CL with an underscore for the dash": (_lines(_length(ALL, b"Content_Length: %d")) + HIDDEN, 2),
    "TE folded": (_lines(b"Transfer-Encoding:", b" chunked", _length(len(AS_CHUNK))) + AS_CHUNK + HIDDEN, 1),
    "TE with space before the colon": (_lines(b"Transfer-Encoding : chunked", _length(5)) + AS_CHUNK + HIDDEN, 1),
    "TE xchunked": (_lines(b"Transfer-Encoding: xchunked", _length(OWN)) + BODY + HIDDEN, 1),
    "TE identity, CL": (_lines(b"Transfer-Encoding: identity", _length(OWN)) + BODY + HIDDEN, 1),
    "TE chunked, identity": (_lines(b"Transfer-Encoding: chunked, identity", _length(OWN)) + AS_CHUNK + HIDDEN, 1),
    "TE identity, chunked": (_lines(b"Transfer-Encoding: identity, chunked") + AS_CHUNK + HIDDEN, 2),
    "TE chunked, chunked": (_lines(b"Transfer-Encoding: chunked, chunked") + AS_CHUNK + HIDDEN, 1),
    "TE twice": (_lines(CHUNKED, b"Transfer-Encoding: identity") + AS_CHUNK + HIDDEN, 1),
    "TE in quotes": (_lines(b'Transfer-Encoding: "chunked"', _length(OWN)) + BODY + HIDDEN, 1),
    "TE with a vertical tab": (_lines(b"Transfer-Encoding:\x0bchunked", _length(OWN)) + BODY + HIDDEN, 1),
    "TE with NUL": (_lines(b"Transfer-Encoding: chunked\0", _length(OWN)) + BODY + HIDDEN, 1),
    "TE with 0xFF": (_lines(b"Transfer-Encoding: chunked\xff", _length(OWN)) + BODY + HIDDEN, 1),
    "TE in HTTP/1.0": (
        _lines(CHUNKED, b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0", 1) + AS_CHUNK + HIDDEN,
        1,
    ),
    "TE with an underscore for the dash": (_lines(b"Transfer_Encoding: chunked", _length(OWN)) + BODY + HIDDEN, 2),
    "chunk size with a plus": (_lines(CHUNKED) + b"+" + AS_CHUNK + HIDDEN, 1),
    "chunk size with 0x": (_lines(CHUNKED) + b"0x" + AS_CHUNK + HIDDEN, 1),
    "chunk size with an underscore": (_lines(CHUNKED) + b"0_" + AS_CHUNK + HIDDEN, 1),
    "chunk size with a space before": (_lines(CHUNKED) + b" " + AS_CHUNK + HIDDEN, 1),
    "chunk size beyond 64 bits": (_lines(CHUNKED) + b"1" + b"0" * 16 + AS_CHUNK + HIDDEN, 1),
    "chunk size negative": (_lines(CHUNKED) + b"-1\r\n" + AS_CHUNK + HIDDEN, 1),
    "chunk size ends in a bare LF": (_lines(CHUNKED) + AS_CHUNK.replace(b"\r\n", b"\n", 1) + HIDDEN, 1),
    "chunk ends in a bare LF": (_lines(CHUNKED) + b"%x\r\n%b\n0\r\n\r\n" % (OWN, BODY) + HIDDEN, 1),
    "chunk without its end": (_lines(CHUNKED) + b"%x\r\n%b0\r\n\r\n" % (OWN, BODY) + HIDDEN, 1),
    "chunk longer than it says": (_lines(CHUNKED) + b"1\r\n%b\r\n0\r\n\r\n" % BODY + HIDDEN, 1),
    "last chunk ends in a bare LF": (_lines(CHUNKED) + b"%x\r\n%b\r\n0\n\n" % (OWN, BODY) + HIDDEN, 1),
    "last chunk without its end": (_lines(CHUNKED) + b"%x\r\n%b\r\n0\r\n" % (OWN, BODY) + HIDDEN, 2),
    "chunk extension": (_lines(CHUNKED) + b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (OWN, BODY) + HIDDEN, 2),
    "chunk extension with a bare LF": (_lines(CHUNKED) + b"%x;a\n%b\r\n0\r\n\r\n" % (OWN, BODY) + HIDDEN, 1),
    "chunk extension with a bare CR": (_lines(CHUNKED) + b"%x;a\rb\r\n%b\r\n0\r\n\r\n" % (OWN, BODY) + HIDDEN, 1),
    "chunk extension with a quoted line end": (
        _lines(CHUNKED) + b'%x;a="\r\n%b"\r\n0\r\n\r\n' % (OWN, BODY) + HIDDEN,
        1,
    ),
    "trailer with a length": (
        _lines(CHUNKED) + b"%x\r\n%b\r\n0\r\nContent-Length: %d\r\n\r\n" % (OWN, BODY, len(HIDDEN)) + HIDDEN,
        2,
    ),
    "trailer ends in a bare LF": (_lines(CHUNKED) + b"%x\r\n%b\r\n0\r\nX: y\n\n" % (OWN, BODY) + HIDDEN, 1),
    "head ends in bare LFs": (_lines(_length(OWN))[:-4] + b"\n\n" + BODY + HIDDEN, 2),
    "head ends in a bare CR": (_lines(_length(OWN))[:-4] + b"\r\r" + HIDDEN, 1),
    "NUL in a field": (_lines(b"X-A: \0", _length(OWN)) + BODY + HIDDEN, 1),
    "space in a name": (_lines(b"X A: b", _length(OWN)) + BODY + HIDDEN, 1),
    "field without a colon": (_lines(b"X-A", _length(OWN)) + BODY + HIDDEN, 1),
    "space before the first field": (
        _lines(_length(OWN)).replace(b"\r\nHost", b"\r\n Host", 1) + BODY + HIDDEN,
        1,
    ),
    "two hosts": (_lines(b"Host: other.test", _length(OWN)) + BODY + HIDDEN, 2),
    "request line with a tab": (_lines(_length(OWN)).replace(b" HTTP/1.1", b"\tHTTP/1.1", 1) + BODY + HIDDEN, 1),
    "request line with HTTP/1.1 twice": (
        _lines(_length(OWN)).replace(b" HTTP/1.1", b" HTTP/1.1 HTTP/1.1", 1) + BODY + HIDDEN,
        1,
    ),
    "request line with HTTP/0.9": (_lines(_length(OWN)).replace(b"HTTP/1.1", b"HTTP/0.9", 1) + BODY + HIDDEN, 1),
    "request line without a version": (_lines(_length(OWN)).replace(b" HTTP/1.1", b"", 1) + BODY + HIDDEN, 1),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN, 1),
    "GET with a body": (_lines(_length(len(HIDDEN)), method=b"GET", path="/health/live") + HIDDEN, 1),
    "GET with chunks": (
        _lines(CHUNKED, method=b"GET", path="/health/live") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
        1,
    ),
    "HEAD with a body": (_lines(_length(len(HIDDEN)), method=b"HEAD", path="/health/live") + HIDDEN, 1),
    "upgrade with a body": (
        _lines(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", _length(len(HIDDEN)))
        + HIDDEN,
        1,
    ),
    "upgrade with chunks": (
        _lines(b"Connection: Upgrade", b"Upgrade: websocket", CHUNKED)
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
        1,
    ),
    "upgrade of a GET with a body": (
        _lines(
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Version: 13",
            _length(len(HIDDEN)),
            method=b"GET",
            path="/health/live",
        )
        + HIDDEN,
        1,
    ),
    "upgrade to h2c": (
        _lines(
            b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__", _length(OWN)
        )
        + BODY
        + HIDDEN,
        2,
    ),
    "CONNECT": (_lines(_length(0), method=b"CONNECT", path="gateway.test:443") + HIDDEN, 1),
    "expectation unmet": (_lines(b"Expect: 200-ok", _length(OWN)) + BODY + HIDDEN, 2),
    "refused with its body on the way": (_lines(b"Content-Type: text/plain", _length(len(HIDDEN))) + HIDDEN, 1),
    "refused by its key": (
        _lines(_length(len(HIDDEN))).replace(SECRET.encode(), b"wrong", 1) + HIDDEN,
        1,
    ),
    "connection names the length": (_lines(b"Connection: keep-alive, Content-Length", _length(OWN)) + BODY + HIDDEN, 2),
    "connection names the encoding": (_lines(b"Connection: Transfer-Encoding", CHUNKED) + AS_CHUNK + HIDDEN, 2),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("smuggling"), CAPTURE) as running:
        yield running


@pytest.fixture(scope="module", params=["passed on as it comes", "read first", "with upgrades"])
def nginx(request: pytest.FixtureRequest, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("nginx") / "nginx"
    buffering, upgrade = request.param == "read first", request.param == "with upgrades"
    with Nginx(directory, daemon.http_port, buffering=buffering, upgrade=upgrade) as running:
        yield running


def _answers(port: int, request: bytes, first_s: float = TIMEOUT_S) -> list[str]:
    """The request ids of all answers on one connection; the first comes within `first_s`, or none."""
    with Raw(port, timeout_s=first_s) as attacker:
        with suppress(ConnectionError):  # refused before it was all sent
            attacker.send(request)
        return attacker.request_ids(QUIET_S)


def _victims_are_served(port: int) -> bool:
    """Does each of several other clients get the answer to its own question?"""
    for _ in range(VICTIMS):
        own = f"victim-{next(_numbers)}"
        with Raw(port) as victim:
            victim.send(head(f"X-Request-Id: {own}", method="GET", path="/health/live"))
            reply = victim.reply()
        if (reply.status, reply.request_id) != (200, own):
            return False
    return True


@pytest.mark.parametrize("case", CASES)
def test_directly(daemon: Daemon, case: str) -> None:
    request, most = CASES[case]
    ids = _answers(daemon.http_port, request)
    assert 1 <= len(ids) <= most
    assert "hidden" not in ids[:1]
    assert "hidden" not in ids or most > 1
    assert _victims_are_served(daemon.http_port)


@pytest.mark.parametrize("hidden", [HIDDEN, BEGINNING], ids=["whole", "begun"])
@pytest.mark.parametrize("case", CASES)
def test_behind_nginx(nginx: Nginx, case: str, hidden: bytes) -> None:
    assert _victims_are_served(nginx.port)
    _answers(nginx.port, CASES[case][0].replace(HIDDEN, hidden), 2.0)  # there are some that nginx waits for the end of
    assert _victims_are_served(nginx.port), nginx.log()


def test_a_body_left_on_the_connection_is_seen(tmp_path: Path) -> None:
    """A twin that answers a refused request and goes on reading in the middle of its body."""
    twin = broken_twin(
        tmp_path / "twin",
        "api/connection.py",
        "        self._server = server\n\n    def connection_made",
        "        self._server = server\n\n    def data_received(self, data):\n"
        '        super().data_received(data.replace(b"Content-Length: %d" % '
        + str(len(HIDDEN))
        + ', b"Content-Length: 0"))\n'
        "\n    def connection_made",
    )
    with (
        Daemon(tmp_path / "gw", CAPTURE, source=twin) as running,
        Nginx(tmp_path / "nginx", running.http_port) as nginx,
    ):
        assert _victims_are_served(nginx.port)
        _answers(nginx.port, CASES["refused by its key"][0].replace(HIDDEN, BEGINNING))
        assert not _victims_are_served(nginx.port)
