"""Sockets that systemd opened: each goes to the listener of its address."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gateway import activation
from gateway.activation import ActivationError, Handed
from gateway.config import Listen

Open = tuple[socket.socket, str]


def _listening(family: int, host: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0))
    sock.listen()
    return sock


@pytest.fixture
def ipv4() -> Iterator[socket.socket]:
    with closing(_listening(socket.AF_INET, "127.0.0.1")) as sock:
        yield sock


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


def test_each_goes_to_its_listener(ipv4: socket.socket, unix: socket.socket, tmp_path: Path) -> None:
    handed = Handed([(ipv4, "smtp"), (unix, "")])
    port = ipv4.getsockname()[1]
    assert handed.take(Listen("127.0.0.1", port + 1)) == []
    assert handed.take(Listen("127.0.0.2", port)) == []
    assert handed.take(Listen("0.0.0.0", port)) == []
    assert handed.take(Listen("127.0.0.1", port)) == [ipv4]
    assert handed.take(Listen("127.0.0.1", port)) == []
    assert handed.take_path(tmp_path / "t") is None
    assert handed.take_path(tmp_path / "s") is unix
    handed.close()


def test_a_name_has_several_addresses(ipv4: socket.socket) -> None:
    port = ipv4.getsockname()[1]
    assert Handed([(ipv4, "")]).take(Listen("localhost", port)) == [ipv4]


def test_one_that_nobody_takes_is_named(ipv4: socket.socket, unix: socket.socket) -> None:
    handed = Handed([(ipv4, "smtp"), (unix, "")])
    port = ipv4.getsockname()[1]
    path = unix.getsockname()
    with pytest.raises(ActivationError, match=rf"127\.0\.0\.1:{port} \(smtp\), {path}\."):
        handed.close()
    assert ipv4.fileno() == unix.fileno() == -1


def test_nothing_was_handed_in() -> None:
    for environ in ({}, {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}):
        activation.receive(environ).close()
        assert environ == {}, "children must not take it for theirs"


def test_a_count_that_is_none() -> None:
    with pytest.raises(ActivationError, match="LISTEN_FDS is 'x'"):
        activation.receive({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"})


_CHILD = """
import os, sys
from gateway import activation
from gateway.config import Listen
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
try:
    handed = activation.receive()
except activation.ActivationError as error:
    sys.exit(str(error))
sock, = handed.take(Listen("127.0.0.1", int(sys.argv[2])))
print(sock.getsockname()[1], os.get_inheritable(sock.fileno()), sock.getblocking(), "LISTEN_FDS" in os.environ)
"""


def _child(sock: socket.socket, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _CHILD, str(sock.fileno()), str(port)],
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_ours_alone(ipv4: socket.socket) -> None:
    port = ipv4.getsockname()[1]
    done = _child(ipv4, port)
    assert done.stdout.split() == [str(port), "False", "False", "False"], done.stderr


def test_a_socket_that_does_not_listen() -> None:
    with ExitStack() as stack:
        one, other = socket.socketpair()
        stack.enter_context(one)
        stack.enter_context(other)
        assert "does not listen" in _child(one, 1).stderr
