"""Ports that systemd keeps open: a restart refuses nobody."""

import http.client
import os
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_json
from tests.peers.daemon import Daemon, relay_to
from tests.peers.manager import Manager
from tests.peers.process import free_port, require, wait_until
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

RECIPIENT = "you@example.net"


@contextmanager
def _open(*places: int | Path) -> Iterator[list[socket.socket]]:
    """Listening sockets on loopback ports and at paths, as a socket unit makes them."""
    with ExitStack() as stack:
        sockets = []
        for place in places:
            family = socket.AF_INET if isinstance(place, int) else socket.AF_UNIX
            sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", place) if isinstance(place, int) else str(place))
            sock.listen(1024)
            sockets.append(sock)
        yield sockets


def test_a_restart_refuses_nobody(make_daemon: MakeDaemon, sink: Sink) -> None:
    """Both doors, the socket of this machine's programs and the administrator's: who comes between two processes waits
    for the next one."""
    admin = free_port()
    daemon = make_daemon(relay_to(sink.port))
    local, more = daemon.directory / "s", yaml.safe_load(daemon.config.read_text())
    more["http"]["admin"] = f"127.0.0.1:{admin}"
    daemon.config.write_text(yaml.safe_dump(more | {"local": {"key": "shop", "socket": str(local)}}))
    with (
        _open(daemon.smtp_port, daemon.http_port, local, admin) as sockets,
        Manager(daemon, sockets=sockets) as manager,
    ):
        manager.wait_for_message("STATUS=0 queued, 0 on the wire")
        assert http_send(daemon.http_port, message_json(RECIPIENT)).status == 201
        assert manager.stop() == 0
        with (
            socket.create_connection(("127.0.0.1", daemon.smtp_port), timeout=60) as smtp,
            socket.create_connection(("127.0.0.1", daemon.http_port), timeout=60) as web,
            socket.create_connection(("127.0.0.1", admin), timeout=60) as metrics,
            socket.socket(socket.AF_UNIX) as here,
        ):
            here.settimeout(60)
            here.connect(str(local))
            web.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            metrics.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            manager.start()
            assert smtp.recv(100).startswith(b"220 ")
            assert here.recv(100).startswith(b"220 ")
            assert web.recv(100).startswith(b"HTTP/1.1 200 ")
            assert metrics.recv(100).startswith(b"HTTP/1.1 200 ")
        assert http_send(daemon.http_port, message_json(RECIPIENT)).status == 201
        sink.wait_for(2, 60)
        assert manager.stop() == 0
        assert local.exists(), "it is the manager's"


def test_a_socket_that_is_no_listeners(make_daemon: MakeDaemon, sink: Sink) -> None:
    daemon = make_daemon(relay_to(sink.port))
    other = free_port()
    with _open(other) as sockets, Manager(daemon, sockets=sockets, starts=False) as manager:
        assert manager.try_start() == 1
        assert f"no listener's: 127.0.0.1:{other} (mail)" in daemon.tail()


def test_systemds_own_program_hands_them_in(make_daemon: MakeDaemon, sink: Sink) -> None:
    program = require("systemd-socket-activate")
    daemon: Daemon = make_daemon(relay_to(sink.port))
    command = [program]
    for port in (daemon.smtp_port, daemon.http_port):
        command += [f"--listen=127.0.0.1:{port}"]
    command += ["--fdname=smtp:http", f"--setenv=PYTHONPATH={daemon._environment['PYTHONPATH']}"]
    with daemon.log.open("ab") as log:
        process = subprocess.Popen([*command, *daemon._command("serve")], stdout=log, stderr=log, env=os.environ)
    try:
        wait_until(lambda: "Listening on" in daemon.log.read_text(), "it listens", 60)
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=60) as client:  # which starts the daemon
            assert client.noop()[0] == 250
        connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=60)
        connection.request("GET", "/health/live")
        assert connection.getresponse().status == 200
        connection.close()
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
