"""How much a process grows at its peak."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_KB = 1024 / 1e6  # in MB


@dataclass(slots=True)
class Growth:
    """In MB: resident before, and at the highest since (known when the block ended)."""

    before: float
    peak: float = 0.0

    @property
    def by(self) -> float:
        return self.peak - self.before


@contextmanager
def growth(pid: int) -> Iterator[Growth]:
    """Watches a process for the length of a block."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): forget the peak
    seen = Growth(_resident(pid, "VmRSS"))
    yield seen
    seen.peak = _resident(pid, "VmHWM")


def _resident(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * _KB
    raise ValueError(f"no {field} of process {pid}")
