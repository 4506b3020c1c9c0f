"""Thousands of slow connections, held by a process of its own: `with Crowd(...)`, or as the program it starts.

Each group connects, says its first words and then one byte from time to time, or nothing. The program prints what
stands, as JSON, once all are connected and again for each line that it reads; it ends with its input.
"""

import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from tests.peers.daemon import ROOT

DRIP_S: Final = 0.5
_IN_ONE_GO: Final = 50  # connections that are begun before answers are looked at
_CONNECT_S: Final = 20.0
_REFUSALS: Final = (b"421", b"HTTP/1.1 503")
_SPARE: Final = 100  # open files of the program itself


@dataclass(frozen=True, slots=True)
class Group:
    """`count` connections to `port`; `drip` is sent again and again, b"" for silence. `sources` are the addresses they
    come from, in turn."""

    name: str
    port: int
    count: int
    first: str = ""
    drip: str = ""
    sources: tuple[str, ...] = ("127.0.0.1",)


@dataclass(frozen=True, slots=True)
class Standing:
    """Connections by the name of their group. `refused`: told that there are too many, and hung up on."""

    open: Counter[str]
    refused: Counter[str]


class Crowd:
    """A crowd that stands for the length of a block, or until the other side has had enough of it."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.security.crowd", json.dumps([asdict(group) for group in self._groups])]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self._read()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)

    def standing(self) -> Standing:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Standing:
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.readline())
        return Standing(Counter(found["open"]), Counter(found["refused"]))


def room() -> int:
    """How many connections one process of this machine may hold."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _SPARE


class _Member:
    """One connection."""

    __slots__ = ("drip", "heard", "name", "sock")

    def __init__(self, name: str, sock: socket.socket, drip: bytes) -> None:
        self.name = name
        self.sock = sock
        self.drip = drip
        self.heard = False


class _Program:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._members: set[_Member] = set()
        self._refused: Counter[str] = Counter()

    def run(self, groups: Sequence[dict[str, Any]]) -> None:
        for group in groups:
            self._gather(group)
        self._tell()
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        due = time.monotonic() + DRIP_S
        while self._look(max(0.0, due - time.monotonic())):
            if time.monotonic() >= due:
                due = time.monotonic() + DRIP_S
                self._drip()

    def _gather(self, group: dict[str, Any]) -> None:
        for number in range(group["count"]):
            sock = socket.socket()
            sock.settimeout(_CONNECT_S)
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: a port is taken when it connects
            sock.bind((group["sources"][number % len(group["sources"])], 0))
            sock.connect(("127.0.0.1", group["port"]))
            sock.setblocking(False)
            member = _Member(group["name"], sock, group["drip"].encode())
            self._members.add(member)
            self._selector.register(sock, selectors.EVENT_READ, member)
            self._say(member, group["first"].encode())
            if number % _IN_ONE_GO == 0:
                self._look(0)

    def _look(self, timeout_s: float) -> bool:
        """Hear what there is; False once the input ends."""
        for key, _ in self._selector.select(timeout_s):
            if key.data is not None:
                self._hear(key.data)
            elif os.read(key.fd, 4096):
                self._tell()
            else:
                return False
        return True

    def _hear(self, member: _Member) -> None:
        try:
            data = member.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._leave(member)
        elif not member.heard:
            member.heard = True
            self._refused[member.name] += data.startswith(_REFUSALS)

    def _drip(self) -> None:
        for member in tuple(self._members):
            if member.drip:
                self._say(member, member.drip)

    def _say(self, member: _Member, data: bytes) -> None:
        try:
            if data:
                member.sock.send(data)
        except OSError:
            self._leave(member)

    def _leave(self, member: _Member) -> None:
        if member in self._members:
            self._members.remove(member)
            self._selector.unregister(member.sock)
            member.sock.close()

    def _tell(self) -> None:
        standing = Counter(member.name for member in self._members)
        print(json.dumps({"open": standing, "refused": self._refused}), flush=True)


if __name__ == "__main__":
    _hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))
    _Program().run(json.loads(sys.argv[1]))
