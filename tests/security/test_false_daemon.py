"""Root's backup and export where whoever has the data directory answers on its control socket, and not the daemon.

The service user may be taken over; root's cron job runs `backup` all the same. What that user says and leaves in its
directory must name no file of root's: none is read, none is removed, none is made.
"""

import base64
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import cli

OWNER = 12345
COPY = "snapshot-0123456789abcdef.db"
SECRET = b"root's alone\n" * 100
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can have what others may not read")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may pass through, and whose name is short enough for a socket in it."""
    directory = Path(tempfile.mkdtemp(prefix="mg-"))
    directory.chmod(0o711)
    (directory / "data").mkdir(mode=0o700)
    (directory / "data" / "master.key").write_bytes(bytes(32))
    (directory / "gateway.yaml").write_text(f"hostname: gateway.test\ndata_dir: {directory / 'data'}\n")
    (directory / "secret").write_bytes(SECRET)
    (directory / "secret").chmod(0o600)
    yield directory
    shutil.rmtree(directory)


@contextmanager
def answering(place: Path, answers: Sequence[Any]) -> Iterator[None]:
    """The control socket of somebody else: an answer for each connection."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "data" / "control.sock"))
    listener.listen()
    listener.settimeout(60)

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(json.dumps({"ok": True, "result": answer}).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        listener.close()


def copied(name: Any) -> dict[str, Any]:
    """What the daemon says of a copy."""
    counts = {"messages": 0, "recipients": 0, "database_bytes": len(SECRET), "spare": 0}
    return {"file": name, "version": "1", "schema": 5, "made_at": "x", "made_at_s": 1, "hostname": "h", **counts}


def backup(place: Path, name: Any) -> int:
    with answering(place, [copied(name)]):
        return cli.main(["-c", str(place / "gateway.yaml"), "backup", str(place / "backup.tar")])


@pytest.mark.parametrize(
    "name", ["{}/secret", "../secret", f"{COPY}/../../secret", f"./{COPY}", "master.key", f"{COPY}\n", "", None, 7]
)
def test_no_other_file_than_a_copy_is_opened_or_removed(
    place: Path, name: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backup(place, name.format(place) if isinstance(name, str) else name) == 1
    assert "which no copy is called" in capsys.readouterr().err
    assert (place / "secret").read_bytes() == SECRET
    assert (place / "data" / "master.key").exists()
    assert not (place / "backup.tar").exists()


@needs_root
@pytest.mark.parametrize("what", [COPY, "master.key"])
def test_a_copy_and_the_key_are_read_with_the_rights_of_their_owner(
    place: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = place / "data"
    (data / COPY).write_bytes(SECRET)
    for path in (data, *data.iterdir()):
        os.chown(path, OWNER, OWNER)
    (data / what).unlink()
    os.link(place / "secret", data / what)  # as a user may do where fs.protected_hardlinks is off
    assert backup(place, COPY) == 75
    assert f"{what} cannot be read: Permission denied" in capsys.readouterr().err.replace("the copy ", "")
    assert (place / "secret").read_bytes() == SECRET
    assert (data / what).exists()
    assert not (place / "backup.tar").exists()


@needs_root
def test_what_is_the_owners_is_taken(place: Path) -> None:
    data = place / "data"
    (data / COPY).write_bytes(SECRET)
    for path in (data, *data.iterdir()):
        os.chown(path, OWNER, OWNER)
    assert backup(place, COPY) == 0
    assert SECRET in (place / "backup.tar").read_bytes()
    assert (place / "backup.tar").stat().st_uid == 0
    assert not (data / COPY).exists()


@pytest.mark.parametrize("id_", ["{}/victim/daemon", "../victim/daemon", "", 7, "eml_" + "0" * 24 + "/../../x"])
def test_a_message_that_is_exported_names_no_file_outside(
    place: Path, id_: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "victim").mkdir()
    message: dict[str, Any] = {
        "id": id_.format(place) if isinstance(id_, str) else id_,
        "recipients": [],
        "content": base64.b64encode(b"evil\n").decode(),
        "fault": "",
        "number": 1,
        "size": 5,
    }
    with answering(place, [{"export": "x"}, {"messages": [message], "end": True}]):
        code = cli.main(["-c", str(place / "gateway.yaml"), "export", str(place / "out")])
    assert code == 1
    assert "which is no id" in capsys.readouterr().err
    assert [*(place / "victim").iterdir(), *(place / "out").iterdir()] == []
