"""End to end: messages a second and CPU per message, from the first submission to the last message at the
sink."""

import subprocess
import time
from dataclasses import dataclass

from benchmarks.systems import RECIPIENT, SENDER, Sink, System, wait_for_count
from tests.peers.process import require

SIZE = 5 * 1024
_SETTLE_S = 0.5  # what a system does after its last message belongs to the cost of the messages
_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A load: `kept` sends a session's messages on one connection, else each has its own."""

    kept: bool
    sessions: int
    messages: int

    def __str__(self) -> str:
        return f"{'kept' if self.kept else 'a connection each'}, {self.sessions} sessions"


@dataclass(frozen=True, slots=True)
class Flow:
    """What came of it. `cpu_ms` is per message."""

    per_second: float
    cpu_ms: float


def submit(port: int, shape: Shape, *, size: int = SIZE) -> None:
    """Run smtp-source to its end; fails where a message is refused."""
    command = [require("smtp-source"), "-s", str(shape.sessions), "-m", str(shape.messages), "-l", str(size)]
    command += ["-d"] if shape.kept else []
    command += ["-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, timeout=_TIMEOUT_S)


def measure(system: System, sink: Sink, shape: Shape) -> Flow:
    """One run. The system and the sink must be idle before it."""
    before, cpu = sink.count(), system.cpu_s()
    began = time.monotonic()
    submit(system.smtp_port, shape)
    ended = wait_for_count(sink, before + shape.messages, _TIMEOUT_S)
    time.sleep(_SETTLE_S)
    return Flow(
        per_second=shape.messages / (ended - began),
        cpu_ms=(system.cpu_s() - cpu) * 1000 / shape.messages,
    )
