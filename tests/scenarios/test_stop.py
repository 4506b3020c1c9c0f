"""The end of a daemon, whenever it is asked for: nothing is lost, and what may have arrived is marked."""

import asyncio
import http.client
import json
import os
import resource
import signal
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import configfile
from gateway.app import Gateway
from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json
from tests.peers.daemon import SECRET, Daemon, broken_twin, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

RECIPIENT = "you@example.net"
FOREVER_S = 300.0

pytestmark = pytest.mark.slow


def _recipient(daemon: Daemon, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.json("queue", "show", id_)["recipients"][0]
    return found


def _on_the_wire(sink: Sink) -> None:
    """Its final dot was read and is not answered."""
    wait_until(lambda: any(one.dot_at for one in sink.transactions), "a dot was read", 60)


def _stopping(daemon: Daemon) -> None:
    """It said that it stops."""
    _says(daemon, b"STOPPING=1")


def _says(daemon: Daemon, wanted: bytes) -> None:
    """Wait until it says so to its service manager."""
    assert daemon._notify is not None
    daemon._notify.settimeout(60)
    while wanted not in daemon._notify.recv(4096).split(b"\n"):
        pass


def test_a_second_signal_does_not_wait(make_daemon: MakeDaemon) -> None:
    """What was on the wire is in doubt: it is tried again and says so."""
    with Sink(dot_delay_s=FOREVER_S) as slow:
        daemon = make_daemon(relay_to(slow.port)).start()
        id_ = http_send(daemon.http_port, message_json(RECIPIENT)).id
        _on_the_wire(slow)
        daemon.terminate()
        _stopping(daemon)
        assert daemon.running
        daemon.terminate()
        assert daemon.wait() == 1
    with Sink() as sink:
        daemon.write_config(relay_to(sink.port))
        with daemon:
            sink.wait_for(1, 60)
            wait_until(lambda: bool(_recipient(daemon, id_)["state"] == "delivered"), "delivered", 60)
            assert _recipient(daemon, id_)["possible_duplicate"]
            assert daemon.stop() == 0


async def test_the_deadline_ends_what_does_not_end(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    with Sink(dot_delay_s=FOREVER_S) as slow:
        settings = relay_to(slow.port) | {
            "hostname": "gateway.test",
            "data_dir": str(tmp_path / "data"),
            "http": {"listeners": [{"listen": "127.0.0.1:0"}], "admin": None},
            "smtp": {"listeners": [{"listen": "127.0.0.1:0"}]},
            "keys": {"shop": {"secret": SECRET}},
        }
        path.write_text(json.dumps(settings))
        path.chmod(0o600)
        gateway = Gateway(configfile.load(path))
        gateway.stop_timeout_s = 1.0
        await gateway.open()
        sent = await gateway.actions()["send"]({"key": "shop", "body": message_json(RECIPIENT)})
        await asyncio.to_thread(_on_the_wire, slow)
        await gateway.close()
        again = Gateway(configfile.load(path))
        again.stop_timeout_s = 1.0
        async with again, asyncio.timeout(60):
            shown: dict[str, Any] = {}
            while not shown.get("possible_duplicate"):
                await asyncio.sleep(0.01)
                shown = (await again.actions()["queue.show"]({"id": sent["message_id"]}))["recipients"][0]
        assert shown["state"] != "delivered"


def test_clients_hear_that_it_stops(make_daemon: MakeDaemon) -> None:
    """A content whose dot was read is answered for what became of it, and the next one 421 4.3.2."""
    with Sink(dot_delay_s=FOREVER_S) as slow:
        daemon = make_daemon(relay_to(slow.port)).start()
        http_send(daemon.http_port, message_json(RECIPIENT))
        _on_the_wire(slow)
        in_mail = smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=60)
        idle = smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=60)
        for client in (in_mail, idle):
            client.login("shop", SECRET)
        assert in_mail.mail("shop@example.com")[0] == 250
        assert in_mail.rcpt(RECIPIENT)[0] == 250
        sending = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=60)
        body = json.dumps(message_json(RECIPIENT)).encode()
        sending.putrequest("POST", "/api/v1/emails/send")
        for name, value in (("Authorization", f"Bearer {SECRET}"), ("Content-Type", "application/json")):
            sending.putheader(name, value)
        sending.putheader("Content-Length", str(len(body)))
        sending.endheaders(body[:10])
        wait_until(lambda: daemon.json("status")["ready"], "it is there", 60)
        daemon.terminate()
        _stopping(daemon)
        assert idle.getreply() == (421, b"4.3.2 The service is shutting down")
        assert in_mail.data(message_bytes(RECIPIENT))[0] == 250
        assert in_mail.getreply()[0] == 421
        sending.send(body[10:])
        assert sending.getresponse().status in {201, 503}
        for over in (in_mail, idle, sending):
            over.close()
        daemon.terminate()
        daemon.wait()


def test_a_stop_before_the_store_is_open(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    """As while a long migration runs: it ends at once. Until then it is no daemon that is not there."""
    opening = "    writer = connection.open_writer(path)\n"
    slow = f"    import time\n    time.sleep({FOREVER_S})\n{opening}"
    daemon = make_daemon(relay_to(sink.port), source=broken_twin(tmp_path / "twin", "store/opened.py", opening, slow))
    with _starting(daemon, "serve") as process:
        wait_until((daemon.data / "lock").exists, "it has the data directory", 60)
        wait_until(lambda: _status(daemon).returncode != 3, "it is seen", 60)
        seen = _status(daemon)
        assert (seen.returncode, seen.stdout) == (75, "")
        assert "is starting or stopping" in seen.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, daemon.tail()


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_signals_from_the_first_moment(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path, command: str) -> None:
    """While it is still being loaded, nothing was taken: it ends well at once, and has nothing to read again."""
    loading = "from gateway.app.daemon import Gateway\n"
    slow = f"import time\ntime.sleep({FOREVER_S})\n{loading}"
    daemon = make_daemon(relay_to(sink.port), source=broken_twin(tmp_path / "twin", "app/__init__.py", loading, slow))
    for number in (signal.SIGTERM, signal.SIGINT):
        with _starting(daemon, command) as process:
            wait_until(lambda process=process: _heeds_signals(process), "it heeds signals", 60)  # type: ignore[misc]  # a default is no parameter
            process.send_signal(signal.SIGHUP)
            process.send_signal(number)
            assert process.wait(60) == 0, daemon.tail()


@contextmanager
def _starting(daemon: Daemon, command: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that is not waited for."""
    argv = daemon._command("serve") if command == "serve" else [sys.executable, "-m", "gateway", command]
    with daemon.log.open("ab") as log:
        process = subprocess.Popen(argv, env=daemon._environment, cwd=daemon.directory, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _status(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    command = daemon._command("status")
    return subprocess.run(
        command, env=daemon._environment, cwd=daemon.directory, capture_output=True, text=True, check=False, timeout=60
    )


def _heeds_signals(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has said what signals do: it hears of a stop, and of no hangup (which nohup ignores for it)."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught, ignored = (
        next((int(line.split()[1], 16) for line in lines if line.startswith(name)), 0)
        for name in ("SigCgt:", "SigIgn:")
    )
    return bool(_has(caught, signal.SIGTERM) and _has(ignored, signal.SIGHUP))


def _has(mask: int, number: signal.Signals) -> int:
    return mask >> (number - 1) & 1


def test_an_interrupt_in_a_reload(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    """Ctrl-C in a terminal is a stop like any other, whatever is going on."""
    reading = "            new, warnings = await asyncio.to_thread(_read, self.config)\n"
    slow = f"            await asyncio.sleep({FOREVER_S})\n{reading}"
    with make_daemon(relay_to(sink.port), source=broken_twin(tmp_path / "twin", "reload.py", reading, slow)) as daemon:
        http_send(daemon.http_port, message_json(RECIPIENT))
        sink.wait_for(1, 60)
        os.kill(daemon.pid, signal.SIGHUP)
        _says(daemon, b"RELOADING=1")
        os.kill(daemon.pid, signal.SIGINT)
        assert daemon.wait() == 0


def test_a_stop_while_nothing_can_be_written(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """It ends all the same, at its deadline; what was delivered and could not be recorded is in doubt."""
    twin = broken_twin(tmp_path / "twin", "app/daemon.py", "self.stop_timeout_s = 28.0", "self.stop_timeout_s = 5.0")
    asked, told = threading.Event(), threading.Event()

    def answer(line: str) -> None:
        if line == ".":
            asked.set()
            assert told.wait(60)

    with Sink(answer=answer) as sink:
        daemon = make_daemon(relay_to(sink.port), source=twin).start()
        id_ = http_send(daemon.http_port, message_json(RECIPIENT)).id
        assert asked.wait(60)
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow: a disk that is full
        told.set()
        sink.wait_for(1, 60)
        daemon.terminate()
        assert daemon.wait() == 0
        with daemon:
            sink.wait_for(2, 60)
            wait_until(lambda: bool(_recipient(daemon, id_)["state"] == "delivered"), "delivered", 60)
            assert _recipient(daemon, id_)["possible_duplicate"]
            daemon.stop()
