"""A disk that fails: SQLite's files on the system's, but for the call that is named.

As a program, put before the command of a daemon (`python -m tests.baddays.faulty KIND FILE python -m gateway ...`), it
is that command on such a disk: calls of that kind fail as long as FILE exists, or one does where FILE holds "once".
"""

import sys
from pathlib import Path
from typing import Any, Final

import apsw

ERRORS: Final = {
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "read": apsw.SQLITE_IOERR_READ,
}


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: "FaultyDisk", filename: Any, flags: list[int]) -> None:
        super().__init__("unix", filename, flags)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's names
        self._disk.call("sync")
        if self._disk.syncs:
            super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.call("write")
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.call("truncate")
        super().xTruncate(size)


class FaultyDisk(apsw.VFS):
    """The default of the process until `unregister`. The `at`th call of `kind` fails (0: none), or all that `fails`
    says."""

    def __init__(self, kind: str = "", at: int = 0) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.kind = kind
        self.at = at
        self.calls = 0
        self.failed = 0
        self.syncs = True  # in earnest; a test that reads the same files at once need not wait for the disk

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:  # noqa: N802
        return FaultyFile(self, name, flags)

    def call(self, kind: str) -> None:
        if kind != self.kind:
            return
        self.calls += 1
        if self.fails():
            self.failed += 1
            raise apsw.exception_for(ERRORS[kind])

    def fails(self) -> bool:
        return self.calls == self.at


class OrderedDisk(FaultyDisk):
    """Fails as a file says."""

    def __init__(self, kind: str, order: Path) -> None:
        super().__init__(kind)
        self._order = order

    def fails(self) -> bool:
        try:
            order = self._order.read_text()
        except OSError:
            return False
        if order == "once":
            self._order.unlink()
        return True


def main() -> int:
    from gateway import cli

    disk = OrderedDisk(sys.argv[1], Path(sys.argv[2]))
    try:
        return cli.main(sys.argv[sys.argv.index("gateway") + 1 :])
    finally:
        disk.unregister()


if __name__ == "__main__":
    sys.exit(main())
