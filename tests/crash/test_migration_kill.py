"""kill -9 in a migration: the step that was cut off has never happened, the next start goes on, and nothing is lost."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.store import connection, db
from gateway.store.vault import load_master_key
from tests.conftest import MakeDaemon
from tests.peers.daemon import ROOT
from tests.peers.sink import Sink
from tests.store.test_schemas import made, schema

pytestmark = pytest.mark.slow

MESSAGES = 300
CONTENT = b"From: s@example.org\r\nSubject: old\r\n\r\nFrom an old queue.\r\n"
KILLED = -9
WITHIN = 12  # kills spread over all steps

# A queue of schema 1: a message each for one recipient, a third of them each ready, waiting and in hand.
QUEUE = f"""
CREATE TEMP TABLE n AS
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MESSAGES}) SELECT n FROM n;
INSERT INTO destination VALUES (1, 'direct', '');
INSERT INTO key_ref VALUES (1, 'shop');
INSERT INTO instance VALUES ('epoch', 3);
INSERT INTO message SELECT n * 10, randomblob(16), 'shop', 1, 'smtp', 's@example.org', 's@example.org', 'old',
    n || '@example.org', {len(CONTENT)}, 40, zeroblob(32), 0, '[]', '{{}}', :now, :now + 400000000, 1, 1, 1 FROM n;
INSERT INTO content SELECT n * 10, x'{hashlib.sha256(CONTENT).hexdigest()}', x'{CONTENT.hex()}' FROM n;
INSERT INTO recipient (message, id, address, destination, state, next_at, updated_at)
    SELECT n * 10, n * 10 + 1, 'r' || n || '@example.net', 1, iif(n % 3 = 1, 'deferred', 'queued'),
    iif(n % 3 = 1, :now, 0), :now FROM n;
INSERT INTO ready SELECT 1, 1, 1, n * 10 + 1, n * 10 FROM n WHERE n % 3 = 0;
INSERT INTO waiting SELECT :now, n * 10 + 1, 1, 1, 1, n * 10, 'backoff' FROM n WHERE n % 3 = 1;
INSERT INTO leased SELECT n * 10 + 1, n, :now, 3, 1, 1, 1, n * 10, 0, 1, 1, :now + 400000000 FROM n WHERE n % 3 = 2;
INSERT INTO expiry SELECT :now + 400000000, n * 10 FROM n;
"""


def make_old(path: Path) -> None:
    old = connection.open_writer(path)
    db.migrate(old.cursor(), db.migrations()[:1])
    old.cursor().execute(QUEUE.replace(":now", str(int(time.time() * 1000)))).fetchall()
    old.close()


def killed_at(database: Path, *moments: str) -> list[str]:
    """What came of each moment, on a copy of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.killed_migration", str(database), *moments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def facts(database: Path) -> list[Any]:
    """Every row that there was from the beginning, by the columns that there were."""
    reader = apsw.Connection(str(database))
    assert reader.execute("PRAGMA integrity_check").get == "ok"
    rows = [
        reader.execute(sql).fetchall()
        for sql in (
            "SELECT id, uuid, account, size, expires_at FROM message ORDER BY id",
            "SELECT message, hash, bytes FROM content ORDER BY message",
            "SELECT message, id, address, state, next_at FROM recipient ORDER BY message, id",
            "SELECT recipient FROM ready",
            "SELECT recipient, at FROM waiting",
            "SELECT recipient, fence, owner FROM leased",
            "SELECT at, message FROM expiry",
        )
    ]
    reader.close()
    return rows


def test_a_killed_migration_loses_nothing(tmp_path: Path, make_daemon: MakeDaemon, sink: Sink) -> None:
    old = tmp_path / "old.db"
    make_old(old)
    before = facts(old)
    assert [len(rows) for rows in before[:4]] == [MESSAGES] * 3 + [MESSAGES // 3]
    steps = len(db.migrations())
    expected = {number: made(tmp_path / f"fresh{number}.db", number) for number in range(1, steps + 1)}

    said, _ = killed_at(old, "step 1000000000")
    instructions = int(said.split()[1])
    moments = [f"step {1 + instructions * number // WITHIN}" for number in range(WITHIN)]
    moments += [f"{kind} {number}" for kind in ("commit", "committed") for number in range(1, steps)]
    assert killed_at(old, *moments) == [str(KILLED)] * len(moments)

    versions = []
    for number, moment in enumerate(moments):
        database = old.with_name(f"old.db.{number}")
        assert facts(database) == before, moment
        shown = schema(database)
        versions.append(shown[0])
        assert shown == expected[shown[0]], moment
        again = connection.open_writer(database)
        db.migrate(again.cursor(), db.migrations())
        again.close()
        assert (schema(database), facts(database)) == (expected[steps], before), moment
    kinds = [moment.split()[0] for moment in moments]
    assert [version for version, kind in zip(versions, kinds, strict=True) if kind == "commit"] == [*range(1, steps)]
    assert [version for version, kind in zip(versions, kinds, strict=True) if kind == "committed"] == [
        *range(2, steps + 1)
    ]
    assert len(set(versions)) == steps

    route = {"type": "relay", "host": "127.0.0.1", "port": sink.port, "tls": "none"}
    daemon = make_daemon({"routes": {"direct": route}, "default_route": "direct"})
    daemon.data.mkdir(mode=0o700)
    load_master_key(daemon.data)
    killed_at(old, f"step {1 + instructions // 2}")
    old.with_name("old.db.0").rename(daemon.data / "gateway.db")
    for end in ("-wal", "-shm"):
        old.with_name(f"old.db.0{end}").rename(daemon.data / f"gateway.db{end}")
    with daemon:
        sink.wait_for(MESSAGES, 60)
        assert {to for one in sink.accepted for to in one.recipients} == {
            f"r{number}@example.net" for number in range(1, MESSAGES + 1)
        }
        assert all(one.content.endswith(CONTENT) for one in sink.accepted)
        assert daemon.stop() == 0
