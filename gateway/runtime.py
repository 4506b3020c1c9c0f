"""Tasks, time and identifiers of the process.

Guarantees: every task has a name and an owner; a dead long-lived task is reported to `on_fatal`; stopping drains to a
deadline and then cancels. It does not decide what to drain: the owners do.
"""

import asyncio
import functools
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, TypeVarTuple

log = logging.getLogger("gateway.runtime")

ID_EPOCH_MS: Final = 1_577_836_800_000  # 2020-01-01T00:00:00Z: 41 bits of milliseconds last until 2089
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PUBLIC_ID_LENGTH: Final = 24  # 122 free bits of a UUIDv7 in base 36
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


async def run(work: Callable[[*Given], Result], *given: *Given, apart: bool) -> Result:
    """Here and at once, or `apart`: in a thread, as it may take long."""
    return await asyncio.to_thread(work, *given) if apart else work(*given)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as a dependency, so that tests can hold it still. `now_ms` is Unix time in milliseconds."""

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    monotonic: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class IdSource:
    """Row ids made in the process: 41 bits of time, 22 of a counter; unique and rising within one process.

    The counter starts at 0 in each millisecond and borrows from the future when it is exhausted, so ids never repeat
    and never go back, even when the clock does. `last` is the highest id already used (after a restart).
    """

    clock: Clock = field(default_factory=Clock)
    last: int = 0

    def next(self) -> int:
        candidate = (self.clock.now_ms() - ID_EPOCH_MS) << 22
        self.last = candidate if candidate > self.last else self.last + 1
        return self.last


def id_at(at_ms: int) -> int:
    """The lowest id that `IdSource` makes at that time: rows below it are older."""
    return max(0, at_ms - ID_EPOCH_MS) << 22


def uuid7(now_ms: int) -> bytes:
    """A UUIDv7 (RFC 9562, 5.7) as 16 bytes: 48 bits of time, 74 random bits."""
    random = int.from_bytes(os.urandom(10))
    value = (now_ms & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (1 << 62) - 1
    return value.to_bytes(16, "big")


def show_uuid(uuid: bytes) -> str:
    """A UUID as RFC 9562, 4 writes it; a quarter of the time of `uuid.UUID`."""
    text = uuid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@functools.lru_cache(maxsize=1024)  # an id is said several times: in Received, to the client, in the log
def show_id(prefix: str, uuid: bytes) -> str:
    """A UUIDv7 as clients see it: `eml_` + 24 characters of [0-9a-z] (its 122 free bits in base 36)."""
    value = int.from_bytes(uuid, "big")
    high, low = divmod((value >> 80) << 74 | (value >> 64 & 0xFFF) << 62 | value & (1 << 62) - 1, 36**12)
    digits = []
    for half in (low, high):  # halves fit a machine word: three times as fast as one large number
        for _ in range(_PUBLIC_ID_LENGTH // 4):
            half, pair = divmod(half, 36 * 36)  # noqa: PLW2901 - consumed digit by digit
            digits.append(_PAIRS[pair])
    digits.reverse()
    return prefix + "".join(digits)


def read_id(prefix: str, text: str) -> bytes | None:
    """The inverse of `show_id`; None for anything that is not such an id."""
    body = text.removeprefix(prefix)
    if not text.startswith(prefix) or len(body) != _PUBLIC_ID_LENGTH or any(c not in _ALPHABET for c in body):
        return None
    free = int(body, 36)
    if free >> 122:
        return None
    time_part, rand_a, rand_b = free >> 74, free >> 62 & 0xFFF, free & (1 << 62) - 1
    return (time_part << 80 | 7 << 76 | rand_a << 64 | 2 << 62 | rand_b).to_bytes(16, "big")


def rfc3339(at_ms: int) -> str:
    """`2026-11-21T05:04:00.123Z`: UTC with milliseconds."""
    moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


class Supervisor:
    """Owns every task of the process.

    `start(..., critical=True)` is for long-lived tasks: when one ends by an exception, `on_fatal(name, error)` is
    called, because a daemon without its scheduler must not look alive. Other tasks only report through `on_error`.
    """

    def __init__(
        self,
        *,
        on_fatal: Callable[[str, BaseException], None],
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_fatal = on_fatal
        self._on_error = on_error

    def start(self, coroutine: Coroutine[Any, Any, Any], *, name: str, critical: bool = False) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._critical_done if critical else self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(task.get_name(), error)

    def _critical_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(task.get_name(), error)

    async def cancel_all(self, *, timeout_s: float = 5.0) -> None:
        """Cancel what is left and wait for it; called once, at the end of a stop."""
        current = asyncio.current_task()
        pending = [task for task in self._tasks if task is not current]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)


def notify_systemd(state: str) -> None:
    """Tell systemd about us (sd_notify(3)): `READY=1`, `STOPPING=1`. Does nothing outside a unit."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall(state.encode())
        except OSError as error:
            # The manager is gone or restarting; that must never end the daemon, least of all before it has drained.
            log.warning("systemd cannot be told %s: %s", state, error)
