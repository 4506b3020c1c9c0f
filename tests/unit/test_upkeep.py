"""backup, restore, export and migrate as their user meets them, where no daemon runs."""

import asyncio
import fcntl
import io
import json
import mailbox
import os
import stat
import sys
import tarfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from gateway import cli
from gateway.cli import connect
from gateway.errors import StoreError
from gateway.store import backupfile, db
from gateway.store.newmail import NewMessage
from gateway.store.shown import Suspension
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import load_master_key
from tests.store.mail import Now, Post
from tests.store.test_schemas import load

NEWEST = len(db.migrations())
CONTENT = b"Subject: Hello\r\n\r\nFrom here\r\n>From there\r\nno end"
LARGE = [(0, b"Subject: large\r\n\r\n" + b"x" * 70_000 + b"\r\n"), (1, b"y" * 70_000 + b"\r\n")]


class Shell:
    """Runs commands with one configuration, and keeps what they printed."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data = directory / "data"
        self.database = self.data / "gateway.db"
        self.file = directory / "gateway.yaml"
        # What is not needed to find the data is of no concern: a secret that is not here, a route that cannot be.
        self.file.write_text(
            f"hostname: mail.example.org\ndata_dir: {self.data}\nroutes: {{out: {{type: relay}}}}\n"
            "keys: {shop: {secret: {env: NOT_HERE}}}\n"
        )
        self.file.chmod(0o600)
        self.posts = Post(Now(int(time.time() * 1000)))
        self._capsys = capsys
        self.out = self.err = ""

    def run(self, *argv: str | Path) -> int:
        try:
            code = cli.main(["-c", str(self.file), *map(str, argv)])
        except SystemExit as exit_:
            code = int(str(exit_.code))
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.err
        return code

    def json(self, *argv: str | Path) -> Any:
        assert self.run(*argv, "--json") == 0, self.err
        return json.loads(self.out)

    def store(self, *messages: NewMessage) -> None:
        """Messages in a store of its own, with its key."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        load_master_key(self.data)
        self.ask(lambda store: store.enqueue_all(messages, None))

    def ask(self, question: Callable[[SqliteStore], Coroutine[Any, Any, Any]]) -> Any:
        """What the store answers."""

        async def ask() -> Any:
            store = await SqliteStore.open(self.database)
            answer = await question(store)
            await store.close()
            return answer

        return asyncio.run(ask())

    def suspended(self) -> list[str]:
        """Why nothing is sent."""
        return [one.reason for one in self.ask(lambda store: store.suspensions())]

    def files(self) -> set[str]:
        return {path.name for path in self.data.iterdir()} - {"gateway.db-wal", "gateway.db-shm"}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


@pytest.fixture
def other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Another machine."""
    (tmp_path / "other").mkdir()
    return Shell(tmp_path / "other", capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.tar"


@pytest.fixture
def lock(shell: Shell) -> Iterator[None]:
    """A daemon that does not answer."""
    shell.store()
    descriptor = os.open(shell.data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def rewritten(file: Path, change: Callable[[backupfile.Manifest], backupfile.Manifest]) -> None:
    """A backup with another manifest."""
    database = io.BytesIO()
    read = backupfile.read(io.BytesIO(file.read_bytes()), lambda _: database.write)
    database.seek(0)
    with file.open("wb") as stream:
        backupfile.write(stream, change(read.manifest), database=database, master_key=read.master_key, made_at_s=0)


def test_a_backup_and_its_restore(shell: Shell, other: Shell, file: Path) -> None:
    shell.store(shell.posts.message("a@example.com", "b@example.com"), shell.posts.message())
    assert shell.run("backup", file) == 0
    assert "2 queued messages, 3 recipients" in shell.out
    assert "not encrypted" in shell.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert shell.files() == {"gateway.db", "master.key", "lock"}
    assert other.json("restore", "--check", file)["recipients"] == 3
    assert not other.data.exists()
    assert other.run("restore", file) == 0
    assert "Nothing is sent, new mail neither, until: mail-gateway queue resume 1\n" in other.out
    assert other.files() == {"gateway.db", "master.key", "lock"}
    assert (other.data / "master.key").read_bytes() == (shell.data / "master.key").read_bytes()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in other.data.iterdir())
    (why,) = other.suspended()
    assert why.startswith("restored from a backup of 2")


def test_what_is_restored_is_sent_where_that_is_asked_for(shell: Shell, other: Shell, file: Path) -> None:
    shell.store(shell.posts.message("a@example.com"), shell.posts.message("b@example.com", at_most_once=True))
    shell.run("backup", file)
    moved = other.json("restore", "--moved", file)
    assert (moved["possible_duplicates"], moved["held_at_most_once"], moved["suspension"]) == (0, 0, None)
    assert other.suspended() == []
    delivered = other.json("restore", "--deliver", "--force", file)
    assert (delivered["possible_duplicates"], delivered["held_at_most_once"], delivered["suspension"]) == (2, 1, None)
    assert other.suspended() == []
    rewritten(file, lambda manifest: replace(manifest, live=True))
    assert other.run("restore", "--moved", "--force", file) == 1
    assert "went on after it" in other.err


@pytest.mark.parametrize("how", ["--deliver", "--moved", None])
def test_what_a_restored_queue_will_not_do_is_said(shell: Shell, other: Shell, file: Path, how: str | None) -> None:
    shell.store(shell.posts.message("a@example.com"), shell.posts.message("b@example.com", lifetime_ms=-1))
    made = Suspension(0, None, None, None, "their storm", 0, None)
    number = shell.ask(lambda store: store.suspend(made)).id
    shell.run("backup", file)
    assert other.run("restore", *([how] if how else []), file) == 0
    assert "Too old by now, and failed at the start: 1 recipient.\n" in other.out
    assert f"  everything (their storm): mail-gateway queue resume {number}\n" in other.out
    assert (f"queue resume {number + 1}" in other.out) == (how is None)
    shown = other.json("restore", "--force", *([how] if how else []), file)
    assert shown["past_their_time"] == 1
    in_force = [number] if how else [number, number + 1]
    assert [one["number"] for one in shown["suspensions"]] == in_force


def test_data_that_is_there_is_not_touched_unless_it_is_to_be_moved_aside(
    shell: Shell, other: Shell, file: Path
) -> None:
    shell.store(shell.posts.message())
    shell.run("backup", file)
    other.store(other.posts.message("x@example.com", "y@example.com"))
    (other.data / "certificate.pem").write_text("mine")
    before = other.database.read_bytes()
    assert other.run("restore", file) == 1
    assert "--force" in other.err
    assert other.database.read_bytes() == before
    (other.data / f"restore-{'0' * 16}").mkdir()  # of a restore that was killed
    aside = Path(other.json("restore", "--force", file)["moved_aside"])
    assert other.files() == {"gateway.db", "master.key", "lock", "certificate.pem", aside.name}
    assert (aside / "gateway.db").read_bytes() == before
    assert (aside / "master.key").exists()
    assert (other.data / "certificate.pem").read_text() == "mine"
    assert other.json("backup", file)["recipients"] == 1


def test_what_cannot_be_restored_changes_nothing(shell: Shell, other: Shell, file: Path) -> None:
    shell.store(shell.posts.message())
    shell.run("backup", file)
    whole = file.read_bytes()
    other.store()
    before = other.files()
    file.write_bytes(whole[:-20_000])
    assert other.run("restore", "--force", file) == 1
    file.write_bytes(whole)
    rewritten(file, lambda manifest: replace(manifest, schema=NEWEST + 1, version="9.9"))
    assert other.run("restore", "--force", file) == 1
    assert f"made by version 9.9 and has schema {NEWEST + 1}" in other.err
    assert other.run("restore", "--check", file) == 1
    assert other.run("restore", "--force", file.parent / "absent") == 1
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        offset = tar.getmember("gateway.db").offset_data
    file.write_bytes(whole[: offset + 5000] + b"\xff" * 4000 + whole[offset + 9000 :])
    assert other.run("restore", "--force", file) == 1
    assert "SHA-256" in other.err
    assert other.files() == before | {"lock"}


def test_a_backup_by_way_of_pipes(shell: Shell, other: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.store(shell.posts.message())
    pipe = io.TextIOWrapper(io.BytesIO())
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert cli.main(["-c", str(shell.file), "backup", "-"]) == 0
    pipe.seek(0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", pipe)
        assert other.run("restore", "-") == 0
    assert "1 queued message, 1 recipient" in other.err
    assert (other.data / "master.key").read_bytes() == (shell.data / "master.key").read_bytes()


def test_a_backup_has_nowhere_to_go(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("backup", tmp_path / "b.tar") == 1
    assert "there is no database" in shell.err
    shell.store()
    assert shell.run("backup", tmp_path / "absent" / "b.tar") == 1
    assert shell.run("backup", tmp_path) == shell.run("backup", "/") == 1
    assert shell.run("export", "--mbox", tmp_path) == shell.run("export", "--mbox", "/") == 1
    os.mkfifo(tmp_path / "pipe")
    for command in (("backup",), ("export", "--mbox")):
        assert shell.run(*command, tmp_path / "pipe") == 1
        assert "is no plain file, and is not replaced: name another one" in shell.err
        assert ("(- is standard output)" in shell.err) is (command == ("backup",))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (shell.data / "master.key").unlink()
    assert shell.run("backup", tmp_path / "b.tar") == 75
    assert "without it the backup would be of no use" in shell.err
    assert not [path for path in tmp_path.iterdir() if "b.tar" in path.name]
    assert shell.files() == {"gateway.db", "lock"}


@pytest.mark.usefixtures("lock")
def test_a_daemon_has_the_directory(shell: Shell, other: Shell, file: Path) -> None:
    other.store()
    other.run("backup", file)
    assert shell.run("restore", "--force", file) == 75
    assert "stop it first" in shell.err
    assert shell.run("backup", file) == 75
    assert shell.run("export", file.parent / "out") == 75
    assert shell.run("migrate") == 0
    with apsw.Connection(str(shell.database)) as connection:
        connection.pragma("user_version", NEWEST - 1)
    assert shell.run("migrate", "--check") == 1
    assert shell.run("migrate") == 75
    assert "stop it first" in shell.err


def test_an_older_schema_is_backed_up_as_it_is_restored_and_brought_up(shell: Shell, other: Shell, file: Path) -> None:
    shell.data.mkdir(mode=0o700)
    load_master_key(shell.data)
    load(shell.database, 3)
    assert shell.json("backup", file)["schema"] == 3
    assert shell.run("migrate", "--check") == 1
    assert "would be brought up" in shell.out
    assert shell.json("backup", file)["schema"] == 3
    assert shell.run("migrate") == 0
    assert f"to schema {NEWEST} by 0004_notifications.sql" in shell.out
    assert shell.run("migrate", "--check") == 0
    assert shell.json("migrate") == {"schema": NEWEST, "known": NEWEST, "steps": [], "applied": False}
    assert other.run("restore", file) == 0
    assert other.run("migrate", "--check") == 0


def test_a_newer_schema_is_refused_and_backed_up(shell: Shell, file: Path) -> None:
    shell.store()
    with apsw.Connection(str(shell.database)) as connection:
        connection.pragma("user_version", NEWEST + 1)
    before = shell.database.read_bytes()
    for command in (("migrate",), ("migrate", "--check"), ("export", file)):
        assert shell.run(*command) == 78
        assert f"has schema {NEWEST + 1}; this version of Mail Gateway knows schemas up to {NEWEST}" in shell.err
        assert shell.database.read_bytes() == before
    assert shell.json("backup", file)["schema"] == NEWEST + 1


def test_an_export_to_files(shell: Shell, tmp_path: Path) -> None:
    odd = shell.posts.message("a@example.com", "b@example.org", pieces=[(0, CONTENT)])
    large = shell.posts.message("c@example.com", pieces=LARGE, piece_count=2, key="web")
    shell.store(odd, large)
    out = tmp_path / "out"
    assert shell.json("export", out) == {"messages": 2, "recipients": 3, "damaged": []}
    found = {json.loads(path.read_text())["key"]: path for path in out.glob("*.json")}
    assert found["shop"].with_suffix(".eml").read_bytes() == CONTENT
    assert found["web"].with_suffix(".eml").read_bytes() == LARGE[0][1] + LARGE[1][1]
    envelope = json.loads(found["shop"].read_text())
    assert envelope["envelope_sender"] == "sender@example.org"
    assert [(one["to"], one["state"], one["route"]) for one in envelope["recipients"]] == [
        ("a@example.com", "queued", "direct"),
        ("b@example.org", "queued", "direct"),
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    assert len(list(out.iterdir())) == 4
    assert shell.run("export", out) == 1
    assert "is not empty" in shell.err
    assert shell.json("export", tmp_path / "one", "--key", "shop", "--domain", "example.org")["recipients"] == 1
    (sidecar,) = (tmp_path / "one").glob("*.json")
    assert [one["to"] for one in json.loads(sidecar.read_text())["recipients"]] == ["b@example.org"]
    assert shell.json("export", tmp_path / "none", "--state", "held")["messages"] == 0
    assert shell.json("export", tmp_path / "first", "--limit", "1")["recipients"] == 1


def test_an_export_to_an_mbox(shell: Shell, tmp_path: Path) -> None:
    shell.store(
        shell.posts.message("a@example.com", "b@example.com", pieces=[(0, CONTENT)]),
        shell.posts.message("c@example.com", sender=""),
    )
    path = tmp_path / "queue.mbox"
    assert shell.run("export", "--mbox", path) == 0
    assert "2 messages, 3 recipients" in shell.out
    box = mailbox.mbox(path)
    first, second = box.values()
    assert first.get_all("X-Envelope-To") == ["<a@example.com>", "<b@example.com>"]
    assert (first["X-Envelope-From"], second["X-Envelope-From"]) == ("<sender@example.org>", "<>")
    assert first.get_payload() == ">From here\n>>From there\nno end\n"
    assert second.get_from().startswith("MAILER-DAEMON ")
    assert b"\r" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    box.close()


def test_many_messages_are_exported_in_parts(shell: Shell, tmp_path: Path) -> None:
    shell.store(*(shell.posts.message(f"r{number}@example.com", "z@example.com") for number in range(130)))
    assert shell.json("export", tmp_path / "out") == {"messages": 130, "recipients": 260, "damaged": []}
    assert len(list((tmp_path / "out").glob("*.eml"))) == 130


def test_a_message_with_many_recipients_is_one_however_it_is_found(shell: Shell, tmp_path: Path) -> None:
    to = [f"r{number}@example.com" for number in range(900)]
    shell.store(*(shell.posts.message(*to) for _ in range(3)))
    assert shell.json("export", tmp_path / "out") == {"messages": 3, "recipients": 2700, "damaged": []}
    for path in (tmp_path / "out").glob("*.json"):
        assert [one["to"] for one in json.loads(path.read_text())["recipients"]] == to


def test_a_damaged_message_is_named_and_the_others_are_exported(shell: Shell, tmp_path: Path) -> None:
    good, bad = shell.posts.message("a@example.com"), shell.posts.message("b@example.com")
    large = shell.posts.message("c@example.com", pieces=LARGE, piece_count=2)
    shell.store(good, bad, large)
    with apsw.Connection(str(shell.database)) as connection:
        connection.execute("UPDATE content SET bytes = x'00' WHERE message = ?", (bad.id,))
        connection.execute("DELETE FROM piece WHERE message = ?", (large.id,))
    assert shell.run("export", tmp_path / "out") == 1
    assert shell.err.count("is not exported") == 2
    assert "1 message, 1 recipient" in shell.out
    assert len(list((tmp_path / "out").glob("*.eml"))) == 1


def daemon_answers(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
    """One after another, whatever is asked."""
    left = iter(answers)

    def ask(_desk: connect.Desk, _action: str, _args: dict[str, Any]) -> Any:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(connect.Desk, "ask_daemon", ask)


def test_a_daemon_that_ends_ends_the_export(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon_answers(monkeypatch, {"export": "x"}, None)
    assert shell.run("export", tmp_path / "out") == 75
    assert "the daemon ended, and the export with it: begin anew" in shell.err


def test_a_store_that_is_away_damages_no_message(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, Any] = {
        "id": "eml_" + "0" * 24,
        "fault": "",
        "content": None,
        "size": 9,
        "number": 1,
        "recipients": [],
    }
    away = StoreError("The store is closed.")
    daemon_answers(monkeypatch, {"export": "x"}, {"messages": [shown], "end": True}, away)
    assert shell.run("export", tmp_path / "out") == 75
    assert shell.err == "mail-gateway: The store is closed.\n"
