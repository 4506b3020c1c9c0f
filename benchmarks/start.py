"""`python -m benchmarks.start [--recipients N] [--seconds S]`: a daemon starts with a backlog behind it.

Prints how long it takes to READY=1 and to the first delivery, what the process holds, how long `queue summary` takes,
and, second by second at first, how many messages arrive and over how many connections: a start is no storm where both
begin small. The giant destination is a relay, the small ones are found by MX; all are the same counting sink. Asserts
nothing.
"""

import argparse
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import backlog
from benchmarks.backlog import Shape
from benchmarks.systems import Sink, counting_sink, scratch
from tests.peers.daemon import Daemon, dkim_domain, relay_to
from tests.peers.dns import PeerDns, aside
from tests.peers.process import cpu_s, descendants, rss_mb

STEPS: Final = (1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 60)
_LOOK_S: Final = 0.05
_ESTABLISHED: Final = "01"
_SYN_SENT: Final = "02"


class Wires:
    """The connections to a port of loopback, and the most there were since it was last asked."""

    def __init__(self, port: int) -> None:
        self._end = f"0100007F:{port:04X}"
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def most(self) -> int:
        most, self._most = self._most, 0
        return most

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            lines = (line.split(None, 4) for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
            self._most = max(
                self._most, sum(line[2] == self._end and line[3] in {_ESTABLISHED, _SYN_SENT} for line in lines)
            )


def settings(sink: Sink, dns: PeerDns, directory: Path) -> dict[str, Any]:
    """A relay for the giant, MX for the others."""
    domains, _ = dkim_domain(directory / "dkim")
    relay = relay_to(sink.port)
    direct = {"type": "mx", "port": sink.port, "tls": "none", "mta_sts": False, "dane": False}
    relay["routes"]["direct"] = direct
    return {**relay, **domains, "dns": {"nameservers": [str(dns.listen)]}}


@contextmanager
def resolving(domains: int) -> Iterator[PeerDns]:
    """A DNS server that knows the domains of a backlog: one host for all of them."""
    names = "".join(f"d{number}.test MX 10 mx.test\n" for number in range(domains))
    with aside(PeerDns(f"mx.test A 127.0.0.1\n{names}")) as dns:
        yield dns


def run(directory: Path, shape: Shape, made: Path | None, seconds: int) -> None:
    database = directory / "gateway/data/gateway.db"
    database.parent.mkdir(parents=True)
    if made is None:
        backlog.fill(database, shape)
    else:
        shutil.copyfile(made, database)
    os.sync()  # what is written back meanwhile would be measured, too
    with counting_sink() as sink, resolving(shape.domains) as dns:
        daemon = Daemon(directory / "gateway", settings(sink, dns, directory))
        wires = Wires(sink.port)
        try:
            began = time.monotonic()
            daemon.start(timeout_s=120)
            print(f"{shape.recipients} queued, {shape.due} of them due")
            print(f"READY after {time.monotonic() - began:.2f} s, {_cpu(daemon):.2f} s of CPU; {_resident(daemon)}")
            _watch(daemon, sink, wires, seconds)
            _summary(daemon)
            stopping = time.monotonic()
            daemon.stop()
            print(f"stopped after {time.monotonic() - stopping:.2f} s; {len(dns.queries)} DNS queries")
        finally:
            daemon.__exit__()
            wires.close()


def _watch(daemon: Daemon, sink: Sink, wires: Wires, seconds: int) -> None:
    ready = time.monotonic()
    while not sink.count():
        time.sleep(0.001)
    first = time.monotonic()
    print(f"first delivery {first - ready:.2f} s after it")
    print(f"{'second':>8}{'arrived':>10}{'a second':>10}{'connections':>13}{'CPU':>6}")
    before, last, cpu = 0, first, cpu_s([daemon.pid])
    for step in (step for step in STEPS if step <= seconds):
        time.sleep(max(0.0, first + step - time.monotonic()))
        now, count, used = time.monotonic(), sink.count(), cpu_s([daemon.pid])
        rate = (count - before) / (now - last)
        print(f"{step:8}{count:10}{rate:10.0f}{wires.most():13}{(used - cpu) / (now - last):6.0%}")
        before, last, cpu = count, now, used
    print(_resident(daemon))


def _summary(daemon: Daemon) -> None:
    asked, own = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    daemon.json("queue", "summary")
    own = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - own
    print(f"queue summary: {time.monotonic() - asked:.2f} s, of which the command itself used {own:.2f} s of CPU")


def _cpu(daemon: Daemon) -> float:
    return cpu_s([daemon.pid])


def _resident(daemon: Daemon) -> str:
    return f"{rss_mb([daemon.pid]):.0f} MB resident, {rss_mb(descendants(daemon.pid)):.0f} MB with the signer"


def main() -> None:
    usual = Shape(relay="relay")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--recipients", type=int, default=usual.recipients)
    parser.add_argument("--domains", type=int, default=usual.domains)
    parser.add_argument("--small", type=int, default=usual.small, help="destinations with one recipient due")
    parser.add_argument("--made", type=Path, help="a file of benchmarks.backlog with that shape, to be copied")
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    shape = Shape(arguments.recipients, arguments.domains, small=arguments.small, relay="relay")
    with scratch() as directory:
        run(directory, shape, arguments.made, arguments.seconds)


if __name__ == "__main__":
    main()
