"""A process that migrates a database and is killed at a moment of its own choice:
`python -m tests.crash.killed_migration DATABASE MOMENT...`.

The moment is `step N`, after so many instructions of SQLite; `commit N`, when the Nth transaction is about to be
committed; `committed N`, when it just was. A moment that does not come ends with the number of instructions there were.
Several moments may be given: each has a fresh copy of the database, DATABASE.0, DATABASE.1, … beside it.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import apsw

from gateway.store import connection, db

INSTRUCTIONS = 10  # between two calls of the handler


def main(database: Path, moments: list[str]) -> None:
    for number, moment in enumerate(moments):
        copy = database.with_name(f"{database.name}.{number}")
        for end in ("-wal", "-shm"):  # of an earlier run
            copy.with_name(copy.name + end).unlink(missing_ok=True)
        shutil.copy(database, copy)
        child = os.fork()
        if child == 0:
            migrate(copy, moment)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


def migrate(database: Path, moment: str) -> None:
    kind, _, number = moment.partition(" ")
    left = int(number)

    def come() -> bool:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    opened = connection.open_writer(database)
    driver = getattr(opened.cursor(), "connection")  # noqa: B009 - the driver's own
    assert isinstance(driver, apsw.Connection)
    if kind == "step":
        driver.set_progress_handler(come, INSTRUCTIONS)
    elif kind == "commit":
        driver.set_commit_hook(come)
    else:
        driver.set_wal_hook(lambda *_: int(come()))
    db.migrate(opened.cursor(), db.migrations())
    print(f"migrated: {int(number) - left} of them", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
