"""The daemon with a wall clock that is set from outside: `python -m tests.peers.shifted -c FILE serve`.

`MAIL_GATEWAY_CLOCK` names a file with the seconds by which the wall clock is ahead; monotonic time is as it is, and
so are all waits. The sweeper comes every fifth of a second, and counts its rounds in the file beside it. (libfaketime
would do for the clock, but absolute sleeps fail under it once only the wall clock is shifted.)
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway import __main__
from gateway.delivery import scheduler
from gateway.store.sqlite import SqliteStore
from tests.peers.daemon import Daemon
from tests.peers.process import wait_until

FILE: Final = "MAIL_GATEWAY_CLOCK"
_SWEEP_S = 0.2
_BYTES = 32


class ShiftedDaemon(Daemon):
    """A daemon whose clock can be set."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self._shift = directory / "clock"
        super().__init__(directory, settings, environment={FILE: str(self._shift)})
        self.ahead_s = 0
        self.set_clock(0)

    def set_clock(self, ahead_s: int) -> None:
        """By so many seconds before (or, negative, behind) the true time."""
        self.ahead_s = ahead_s
        # In one piece and of one length, so that no reader finds half a number.
        self._shift.write_bytes(str(ahead_s).encode().ljust(_BYTES))

    def wait_for_sweeps(self, count: int = 3) -> None:
        """Until the sweeper has come so often from now on."""
        wanted = self._sweeps() + count
        wait_until(lambda: self._sweeps() >= wanted, f"{count} rounds of the sweeper", 60)

    def _sweeps(self) -> int:
        path = _rounds(self._shift)
        return path.stat().st_size if path.exists() else 0

    def _command(self, *arguments: str) -> list[str]:
        return ["tests.peers.shifted" if word == "gateway" else word for word in super()._command(*arguments)]


def _rounds(shift: Path) -> Path:
    return shift.with_suffix(".rounds")


def _shift_clock(shift: Path) -> None:
    handle = os.open(shift, os.O_RDONLY | os.O_CLOEXEC)
    true_ns = time.time_ns
    ahead_ns = 0

    def time_ns() -> int:
        nonlocal ahead_ns
        # Nothing is there for a moment while it is written.
        if text := os.pread(handle, _BYTES, 0).strip(b"\0 "):
            ahead_ns = int(text) * 1_000_000_000
        return true_ns() + ahead_ns

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


def _count_sweeps(rounds: Path) -> None:
    sweep: Callable[[SqliteStore, int], Any] = SqliteStore.sweep

    async def counted(self: SqliteStore, now: int) -> None:
        await sweep(self, now)
        with rounds.open("ab") as file:
            file.write(b".")

    SqliteStore.sweep = counted  # type: ignore[method-assign]
    scheduler.SWEEP_S = _SWEEP_S  # type: ignore[misc]


def main() -> None:
    shift = Path(os.environ[FILE])
    _shift_clock(shift)
    _count_sweeps(_rounds(shift))
    __main__.main()


if __name__ == "__main__":
    main()
