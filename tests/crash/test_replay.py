"""The power-cut model itself, on plain SQLite: synchronous=FULL keeps what was acknowledged, NORMAL does
not."""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import apsw
import pytest

from tests.crash.replay import Disk, replay, strace
from tests.peers.client import ACK_SMTP
from tests.peers.process import require

COUNT = 20
WRITER = f"""\
import apsw, socket, sys
ours, theirs = socket.socketpair()
database = apsw.Connection(sys.argv[1] + "/x.db")
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=" + sys.argv[2])
database.execute("CREATE TABLE t (a, b)")
for number in range({COUNT}):
    database.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 3000))
    ours.send(f"250 queued as eml_{{number:024d}}".encode())
"""


def _incomplete_images(directory: Path, synchronous: str) -> int:
    """How many images at an acknowledgement lack something acknowledged, of three kinds of image each."""
    require("strace")
    data = directory / "data"
    data.mkdir()
    trace = directory / "trace"
    subprocess.run([*strace(trace), sys.executable, "-c", WRITER, str(data), synchronous], check=True)
    disk, acknowledged, bad = Disk(data), 0, 0

    def on_ack(_id: str) -> None:
        nonlocal acknowledged, bad
        acknowledged += 1
        for rng, strict in ((None, False), (random.Random(acknowledged), False), (None, True)):
            with tempfile.TemporaryDirectory(dir=directory) as image:
                disk.image(Path(image), rng=rng, strict=strict)
                bad += _rows(Path(image) / "x.db") != acknowledged

    replay(trace, disk, ACK_SMTP, on_ack)
    assert acknowledged == COUNT
    return bad


def _rows(path: Path) -> int:
    database = apsw.Connection(str(path))
    try:
        return len(database.execute("SELECT a FROM t").fetchall())
    except apsw.SQLError:
        return -1
    finally:
        database.close()


@pytest.mark.slow
def test_full_keeps_everything(tmp_path: Path) -> None:
    assert _incomplete_images(tmp_path, "FULL") == 0


@pytest.mark.slow
def test_normal_loses(tmp_path: Path) -> None:
    assert _incomplete_images(tmp_path, "NORMAL") > COUNT
