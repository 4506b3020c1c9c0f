"""No more files can be opened: clients wait, what cannot go out is tried again, nothing is flooded, and all goes on
when there are some."""

import resource
import smtplib
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.baddays.disk import is_ready
from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send, smtp_transaction
from tests.peers.daemon import SECRET, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

_LONG_S: Final = 60.0
_SENDER: Final = "shop@example.com"

pytestmark = pytest.mark.slow


def test_out_of_file_descriptors(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon({"delivery": {"retry": ["1s"]}} | relay_to(sink.port)) as daemon, ExitStack() as clients:
        client = clients.enter_context(smtplib.SMTP("127.0.0.1", daemon.smtp_port, "client.test", timeout=30))
        client.ehlo()
        client.login("client", SECRET)
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        used = sorted(int(file.name) for file in Path(f"/proc/{daemon.pid}/fd").iterdir())
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used[-1] + 1, hard))
        for _ in range(20):
            for port in (daemon.http_port, daemon.smtp_port):
                clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        wait_until(lambda: "no more files can be opened" in daemon.log.read_text(), "it is told", _LONG_S)
        # Who is connected already goes on; what is taken waits.
        smtp_transaction(client, _SENDER, ["you@example.net"], message_bytes("you@example.net"))
        wait_until(lambda: "Too many open files" in daemon.log.read_text(), "a delivery was tried", _LONG_S)
        assert not sink.accepted
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        sink.wait_for(1, _LONG_S)
        assert is_ready(daemon.http_port)
        assert http_send(daemon.http_port, message_json("her@example.net")).status == 201
        smtp_send(daemon.smtp_port, _SENDER, ["him@example.net"], message_bytes("him@example.net"))
        sink.wait_for(3, _LONG_S)
        wait_until(lambda: "files can be opened again" in daemon.log.read_text(), "it is told", _LONG_S)
        log = daemon.log.read_text()
        assert log.count("no more files can be opened") == 1
        assert "Traceback" not in log
    assert sorted(to for one in sink.accepted for to in one.recipients) == [
        "her@example.net",
        "him@example.net",
        "you@example.net",
    ]
