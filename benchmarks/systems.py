"""What is measured: the gateway, and Postfix with OpenDKIM in its place, each in front of the same
counting sink.

Both sign with RSA-2048, keep their queue on the same disk and relay in clear to the sink. Postfix is
tuned as its own documentation advises for throughput; neither is pinned to a processor.
"""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import backlog
from benchmarks.backlog import Shape
from tests.peers import process
from tests.peers.daemon import SECRET, SELECTOR, Daemon, dkim_domain, relay_to
from tests.peers.postfix import Postfix
from tests.peers.process import cpu_s, descendants, find, free_port, listens, rss_mb, wait_until

SENDER = "bench@example.com"
RECIPIENT = "you@example.net"
_COUNTER = re.compile(rb"mesg= *(\d+)")


class Sink(Protocol):
    """Counts messages."""

    port: int

    def count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class System:
    """One system under test: where it takes mail, and which processes are its own."""

    name: str
    smtp_port: int
    http_port: int | None
    roots: tuple[int, ...]

    def cpu_s(self) -> float:
        """Processor seconds so far, all threads and all children, those that ended too."""
        return sum(cpu_s(descendants(pid), reaped=True) for pid in self.roots)

    def rss_mb(self) -> float:
        return sum(rss_mb(descendants(pid)) for pid in self.roots)


class CSink:
    """Postfix's smtp-sink: the cheapest receiver there is. It prints its counters at every message."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [process.require("smtp-sink"), "-c", "-m", "1000", f"127.0.0.1:{self.port}", "1024"]
        if os.geteuid() == 0:
            command[1:1] = ["-u", "nobody"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._count = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: listens(self.port), "smtp-sink listens")

    def count(self) -> int:
        return self._count

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            if found := _COUNTER.findall(chunk):
                self._count = int(found[-1])


class OwnSink:
    """The recording sink of the tests, where smtp-sink is not installed: it takes more CPU from the
    others."""

    def __init__(self) -> None:
        from tests.peers.sink import Sink as Recording

        self._sink = Recording()
        self._sink.__enter__()
        self.port = self._sink.port

    def count(self) -> int:
        return len(self._sink.accepted)

    def close(self) -> None:
        self._sink.__exit__()


@contextmanager
def counting_sink() -> Iterator[Sink]:
    sink = CSink() if find("smtp-sink") else OwnSink()
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def gateway(sink: Sink, directory: Path, *, waiting: int = 0) -> Iterator[System]:
    """The daemon with everything on; loopback submits without AUTH, because smtp-source has none. So many recipients
    wait for a time of the day to come, over ten thousand domains."""
    domains, _ = dkim_domain(directory / "dkim")
    secret = directory / "bench.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    smtp_port = free_port()
    listener = {
        "listen": f"127.0.0.1:{smtp_port}",
        "tls": "none",
        "auth": "none",
        "networks": {"127.0.0.0/8": "bench"},
    }
    settings = {
        **relay_to(sink.port),
        **domains,
        "smtp": {"listeners": [listener]},
        "keys": {"bench": {"secret": {"file": str(secret)}, "account": "bench"}},
        "limits": {"connections_per_ip": 1000, "connections": 2000},
    }
    made = Daemon(directory / "gateway", settings)
    if waiting:
        shape = Shape(waiting, domains=min(waiting, Shape().domains), giant=0.0, soonest_ms=6 * 3_600_000)
        backlog.fill(made.data / "gateway.db", shape)
    with made as daemon:
        yield System("gateway", smtp_port, daemon.http_port, (daemon.pid,))
        daemon.stop()


def has_postfix() -> bool:
    return os.geteuid() == 0 and all(find(program) for program in ("postfix", "opendkim", "smtp-source"))


@contextmanager
def postfix_with_opendkim(sink: Sink, directory: Path) -> Iterator[System]:
    """Postfix that signs by the OpenDKIM milter and relays to the sink."""
    settings = {
        "mydestination": "",
        "virtual_mailbox_domains": "",
        "relayhost": f"[127.0.0.1]:{sink.port}",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "milter_default_action": "tempfail",
        "disable_dns_lookups": "yes",
        "smtp_host_lookup": "native",
        "smtp_tls_security_level": "none",
        "default_process_limit": "200",
        "smtpd_client_connection_count_limit": "0",
        "smtpd_client_connection_rate_limit": "0",
        "in_flow_delay": "0",
        "default_destination_concurrency_limit": "20",
        "initial_destination_concurrency": "20",
    }
    postfix = Postfix(settings=settings)
    # A unix socket: over TCP, Nagle's algorithm and delayed acknowledgements cost every message 80 ms.
    milter = postfix.directory / "opendkim.sock"
    postfix.settings["smtpd_milters"] = f"unix:{milter}"
    with postfix, _opendkim(milter, directory) as opendkim:
        master = int((postfix.directory / "queue/pid/master.pid").read_text())
        yield System("postfix+opendkim", postfix.port, None, (master, opendkim))


@contextmanager
def _opendkim(milter: Path, directory: Path) -> Iterator[int]:
    settings, _ = dkim_domain(directory / "opendkim")
    config = directory / "opendkim.conf"
    config.write_text(
        f"Socket local:{milter}\nUMask 000\nMode s\nDomain example.com\nSelector {SELECTOR}\n"
        f"KeyFile {settings['domains']['example.com']['dkim'][0]['key']}\n"
        "Canonicalization relaxed/relaxed\nSignatureAlgorithm rsa-sha256\nSyslog no\nRequireSafeKeys no\n"
    )
    running = subprocess.Popen(
        [process.require("opendkim"), "-f", "-x", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(milter.exists, "OpenDKIM listens")
        yield running.pid
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(10)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        yield Path(name)


def wait_for_count(sink: Sink, wanted: int, timeout_s: float) -> float:
    """Wait until the sink has counted so many messages; returns the monotonic time of it."""
    deadline = time.monotonic() + timeout_s
    while sink.count() < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{sink.count()} of {wanted} messages after {timeout_s:g} s")
        time.sleep(0.002)
    return time.monotonic()
