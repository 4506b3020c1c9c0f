"""The database and other programs that have it open: a shell, a backup."""

from collections.abc import Sequence
from pathlib import Path

import apsw

from gateway.store.db import Transaction
from gateway.store.sqlite import SqliteStore
from tests.store.mail import Now

ADD = "INSERT INTO secret (name, wrapped) VALUES (?1, x'00')"


async def test_another_program_cannot_write_into_our_transaction(tmp_path: Path, now: Now) -> None:
    """One that began as a reader would fail at its first write: what it had read is no longer so."""
    path = tmp_path / "queue.db"
    store = await SqliteStore.open(path, clock=now.clock)
    foreign = apsw.Connection(str(path))
    said: list[str] = []

    def read_and_write(tx: Transaction, calls: Sequence[None]) -> list[None]:
        tx.all("SELECT count(*) FROM secret")
        try:
            foreign.execute(ADD, ("theirs",))
            said.append("written")
        except apsw.BusyError:
            said.append("busy")
        tx.cursor.execute(ADD, ("ours",))
        return [None] * len(calls)

    await store._writer.submit(read_and_write, None)
    assert said == ["busy"]
    foreign.execute(ADD, ("theirs",))
    assert sorted(foreign.execute("SELECT name FROM secret").fetchall()) == [("ours",), ("theirs",)]
    foreign.close()
    await store.close()
