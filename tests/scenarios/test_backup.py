"""Backups of a daemon that works: what was acknowledged is in them, and a restored daemon delivers it when it may."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from gateway.store.vault import load_master_key
from tests.conftest import MakeDaemon
from tests.crash.load import Load
from tests.peers import opendkim
from tests.peers.client import message_bytes, smtp_send
from tests.peers.daemon import ROOT, Daemon, relay_to
from tests.peers.process import missing, python_for_all, wait_until
from tests.peers.sink import Sink
from tests.peers.status import status
from tests.store.test_schemas import load

pytestmark = pytest.mark.slow

OWNER = 12345
LEFT = "snapshot-0123456789abcdef.db"
_DEADLINE_S = 60.0


def every_other(line: str) -> str | None:
    """Half of the recipients are put off, so that a queue builds up while mail flows."""
    number = line.partition("<m")[2][:6]
    return "450 4.2.0 later" if line.startswith("RCPT") and number.isdigit() and int(number) % 2 else None


def integrity(data: Path) -> str:
    connection = apsw.Connection(str(data / "gateway.db"))
    (said,) = connection.execute("PRAGMA integrity_check").fetchall()[0]
    connection.close()
    return str(said)


def test_a_backup_while_mail_flows_has_whatever_was_acknowledged_before(
    tmp_path: Path, make_daemon: MakeDaemon, sink: Sink
) -> None:
    with Sink(answer=every_other) as first_hop:
        source = make_daemon(relay_to(first_hop.port))
        source.data.mkdir(mode=0o700)
        (source.data / LEFT).write_bytes(b"left by a command that died")
        (source.data / "snapshot-before-the-move.tar").write_bytes(b"an operator's")
        with source, Load(source.http_port, source.smtp_port) as traffic:
            assert not (source.data / LEFT).exists()
            wanted = []
            for number in range(2):
                traffic.wait_for(40, _DEADLINE_S)
                wanted.append(set(traffic.notes.acknowledged))
                made = source.json("backup", str(tmp_path / f"{number}.tar"))
                assert made["live"]
                assert made["messages"] > 0
            traffic.wait_for(20, _DEADLINE_S)  # it goes on
            traffic.stop()
            assert {path.name for path in source.data.iterdir() if path.name.startswith("snapshot")} == {
                "snapshot-before-the-move.tar"
            }
            source.kill()
        delivered = set(first_hop.by_recipient())

    restored = make_daemon(relay_to(sink.port))
    for number, before in enumerate(wanted):
        done = restored.json("restore", "--deliver", "--force", str(tmp_path / f"{number}.tar"))
        assert done["recipients"] == done["possible_duplicates"] > 0
        assert integrity(restored.data) == "ok"
        have = {row["to"] for row in restored.json("queue", "list", "--limit", "10000")}
        # What was delivered before the backup is no more in it, and what came meanwhile may be.
        assert before - delivered <= have
    have -= delivered
    with restored:
        restored.cli("queue", "retry", "--all")
        wait_until(lambda: have <= sink.by_recipient().keys(), "everything restored to arrive", _DEADLINE_S)
        some = min(have)
        assert status(restored, traffic.notes.acknowledged[some]).body["data"]["recipients"][0]["possible_duplicate"]
        assert restored.stop() == 0


def test_a_restored_gateway_sends_nothing_until_it_is_told_to(
    tmp_path: Path, make_daemon: MakeDaemon, sink: Sink
) -> None:
    backup, exported = str(tmp_path / "b.tar"), tmp_path / "exported"
    with Sink(answer=lambda line: "450 4.2.0 later" if line.startswith("RCPT") else None) as first_hop:
        source = make_daemon(relay_to(first_hop.port))
        with source:
            secret = source.json("key", "create", "web", "--from", "*@example.com")["secret"]
            added = source.json("domain", "add", "example.com")
            for number in range(3):
                to = f"old{number}@example.net"
                smtp_send(source.smtp_port, "shop@example.com", [to], message_bytes(to, size=90_000), secret=secret)
            done = source.json("export", str(exported), "--key", "web")
            assert done == {"messages": 3, "recipients": 3, "damaged": []}
            source.cli("backup", backup)
            assert "stop it first" in refused(source, "restore", "--force", backup)
    restored = make_daemon(relay_to(sink.port))
    assert "went on after it" in refused(restored, "restore", "--moved", backup)
    suspension = restored.json("restore", backup)["suspension"]
    with restored:
        # The keys work, new mail is taken, and waits as the old does.
        new = "new@example.net"
        id_ = smtp_send(restored.smtp_port, "shop@example.com", [new], message_bytes(new), secret=secret)
        assert status(restored, id_, secret=secret).body["data"]["recipients"][0]["blocked_by"] == "suspended"
        restored.cli("queue", "retry", "--all")
        rows = restored.json("queue", "list")
        assert {row["blocked_by"] for row in rows} == {"suspended"}
        assert [row["possible_duplicate"] for row in rows if row["to"] != new] == [True] * 3
        assert sink.transactions == []
        restored.cli("queue", "resume", str(suspension))
        sink.wait_for(4, _DEADLINE_S)
        # The master key is the one that the DKIM key was wrapped with.
        txt = {added["dns_name"]: added["dns_value"]}
        assert all(opendkim.verify_dkimpy(one.content, txt) for one in sink.accepted)
        arrived = {one.recipients[0]: one.content for one in sink.accepted}
        for path in exported.glob("*.json"):
            (recipient,) = json.loads(path.read_text())["recipients"]
            assert arrived[recipient["to"]].endswith(path.with_suffix(".eml").read_bytes())
        assert restored.stop() == 0


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory that everybody may pass through; pytest's own are not, and other runs see to that."""
    directory = Path(tempfile.mkdtemp(prefix="mail-gateway-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


def test_as_root_a_backup_is_roots_and_what_is_restored_the_owners(everybodys: Path) -> None:
    if os.geteuid() != 0:
        missing("only root may become another user")
    python = python_for_all()
    source, target, mine = (everybodys / name for name in ("source", "target", "mine"))
    for data_dir in (source, target):
        data_dir.mkdir(mode=0o700)
        data_dir.with_suffix(".yaml").write_text(f"hostname: gateway.test\ndata_dir: {data_dir}\n")
    mine.mkdir(mode=0o700)
    load(source / "gateway.db", 4)
    load_master_key(source)
    for path in (source, *source.iterdir(), target):
        os.chown(path, OWNER, OWNER)
    command(python, source, "backup", str(mine / "b.tar"))
    assert (mine / "b.tar").stat().st_uid == 0
    assert owners(source) == {OWNER}
    command(python, target, "restore", str(mine / "b.tar"))
    command(python, target, "restore", "--force", str(mine / "b.tar"))
    command(python, target, "export", str(mine / "exported"))
    assert len(list((mine / "exported").glob("*.eml"))) == 3
    assert owners(target) == {OWNER}
    assert owners(mine) == {0}


def command(python: str, data_dir: Path, *arguments: str) -> None:
    """A command of an interpreter that everybody may use."""
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)])
    done = subprocess.run(
        [python, "-m", "gateway", "-c", str(data_dir.with_suffix(".yaml")), *arguments],
        env=os.environ | {"PYTHONPATH": path},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def owners(directory: Path) -> set[int]:
    return {path.stat().st_uid for path in (directory, *directory.rglob("*"))}


def refused(daemon: Daemon, *arguments: str) -> str:
    """What a command says that is refused."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "-c", str(daemon.config), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr
