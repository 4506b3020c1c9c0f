"""The daemon, dying by its own hand at a named point: `python -m tests.crash.points -c FILE serve`.

`MAIL_GATEWAY_CRASH_AT=point:n` names the point and the passage that is the last; passages count from the moment the
file `MAIL_GATEWAY_CRASH_ARMED` exists. The death is SIGKILL: nothing is flushed, closed or said. The product knows
nothing of this: the functions are wrapped here, and then its own main runs.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from gateway import __main__
from gateway.delivery.dialogue import Dialogue
from gateway.delivery.ledger import Ledger
from gateway.delivery.wire import Wire
from gateway.store.sqlite import SqliteStore

AT: Final = "MAIL_GATEWAY_CRASH_AT"
ARMED: Final = "MAIL_GATEWAY_CRASH_ARMED"
_TURNS = 3  # of the loop, until what was written has left the process

Result = TypeVar("Result")


class Fuse:
    """Burns down by one with each passage, once it is armed."""

    def __init__(self, passages: int, armed: Path) -> None:
        self._left = passages
        self._armed = armed

    def burns_out(self) -> bool:
        """Whether this passage is the last."""
        if self._left and self._armed.exists():
            self._left -= 1
            return self._left == 0
        return False

    def passed(self) -> None:
        if self.burns_out():
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(fuse: Fuse, function: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
    """The coroutine function, and its end is a passage."""

    async def wrapped(*values: Any, **more: Any) -> Result:
        result = await function(*values, **more)
        fuse.passed()
        return result

    return wrapped


def before(fuse: Fuse, function: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
    """The same, with its beginning."""

    async def wrapped(*values: Any, **more: Any) -> Result:
        fuse.passed()
        return await function(*values, **more)

    return wrapped


def after_spool_write(fuse: Fuse) -> None:
    """A piece of a large message is stored, its message is not."""
    SqliteStore.put_piece = after(fuse, SqliteStore.put_piece)  # type: ignore[assignment,method-assign]


def after_commit(fuse: Fuse) -> None:
    """The message is stored, and its client has not heard of it."""
    SqliteStore.enqueue = after(fuse, SqliteStore.enqueue)  # type: ignore[assignment,method-assign]


def after_dot(fuse: Fuse) -> None:
    """The end of the message has left, and its answer was not read."""
    finish = Wire._finish

    async def wrapped(self: Wire, end: bytes, dialogue: Dialogue) -> None:
        if not fuse.burns_out():
            return await finish(self, end, dialogue)
        self._channel.write(end)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        die()
        return None

    Wire._finish = wrapped  # type: ignore[method-assign]


def after_reply(fuse: Fuse) -> None:
    """The answer was read, and nothing of it is written down."""
    Ledger.settle = before(fuse, Ledger.settle)  # type: ignore[assignment,method-assign]


def after_result_commit(fuse: Fuse) -> None:
    """The result is stored, and the worker has not heard of it."""
    SqliteStore.settle = after(fuse, SqliteStore.settle)  # type: ignore[assignment,method-assign]


def during_checkpoint(fuse: Fuse) -> None:
    """A page was copied from the log into the database, others were not: nothing else writes to that file."""

    class Pages(apsw.VFSFile):
        def __init__(self, name: Any, flags: list[int]) -> None:
            super().__init__("unix", name, flags)
            self._main = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)

        def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
            super().xWrite(data, offset)
            if self._main:
                fuse.passed()

    class Files(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("points", "unix", makedefault=True)

        def xOpen(self, name: Any, flags: list[int]) -> Pages:  # noqa: N802
            return Pages(name, flags)

    _kept.append(Files())


POINTS: Final = {
    point.__name__: point
    for point in (after_spool_write, after_commit, after_dot, after_reply, after_result_commit, during_checkpoint)
}
_kept: list[apsw.VFS] = []  # SQLite uses it as long as the process lives


def main() -> None:
    if at := os.environ.get(AT):
        name, _, passages = at.partition(":")
        POINTS[name](Fuse(int(passages), Path(os.environ[ARMED])))
    __main__.main()


if __name__ == "__main__":
    main()
