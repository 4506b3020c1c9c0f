"""HTTP by hand over plain sockets, for requests that no client library would send."""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from tests.peers.daemon import SECRET

SEND: Final = "/api/v1/emails/send"
TIMEOUT_S: Final = 20.0
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_REQUEST_ID: Final = re.compile(rb"(?i)\r\nx-request-id: ([^\r]*)\r\n")


@dataclass(frozen=True, slots=True)
class Reply:
    """`request_id` is what the gateway says it answers."""

    status: int
    head: bytes
    body: bytes

    @property
    def request_id(self) -> str:
        found = _REQUEST_ID.search(self.head)
        return found[1].decode("latin-1") if found else ""

    @property
    def closes(self) -> bool:
        return b"\r\nconnection: close\r\n" in self.head.lower()


class Raw:
    """One connection. Times out after TIMEOUT_S unless told otherwise."""

    def __init__(self, port: int, *, timeout_s: float = TIMEOUT_S, source: str = "127.0.0.1") -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout_s, source_address=(source, 0))
        self._got = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send_until_answered(self, parts: Iterable[bytes]) -> int:
        """Send until an answer begins to come, or the other side hangs up; how many bytes that took."""
        sent = 0
        self._sock.setblocking(True)
        self._sock.settimeout(TIMEOUT_S)
        for part in parts:
            try:
                self._sock.sendall(part)
            except ConnectionError:
                break
            sent += len(part)
            if self._waiting():
                break
        return sent

    def reply(self) -> Reply:
        """The next answer. EOFError where the connection ends instead."""
        while b"\r\n\r\n" not in self._got:
            self._read()
        head, _, rest = self._got.partition(b"\r\n\r\n")
        status = _STATUS.match(head)
        assert status is not None, f"not an answer: {head[:200]!r}"
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        assert length is not None, f"an answer without its length: {head!r}"
        self._got = rest
        while len(self._got) < int(length[1]):
            self._read()
        body, self._got = self._got[: int(length[1])], self._got[int(length[1]) :]
        return Reply(int(status[1]), head + b"\r\n", body)

    def request_ids(self, quiet_s: float) -> list[str]:
        """Of all answers until the other side hangs up or, after the first, is silent for so long."""
        try:
            while True:
                self._read()
                self._sock.settimeout(quiet_s)
        except (EOFError, TimeoutError, ConnectionError):
            return [found.decode("latin-1") for found in _REQUEST_ID.findall(self._got)]

    def closed(self) -> bool:
        """Does the other side hang up before the timeout?"""
        try:
            while self._sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def _waiting(self) -> bool:
        self._sock.setblocking(False)
        try:
            return len(self._sock.recv(1, socket.MSG_PEEK)) >= 0
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self._sock.settimeout(TIMEOUT_S)

    def _read(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        self._got += data


def head(*fields: str, method: str = "POST", path: str = SEND, secret: str = SECRET) -> bytes:
    """The head of a request with a key; `fields` are further lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test", f"Authorization: Bearer {secret}", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
