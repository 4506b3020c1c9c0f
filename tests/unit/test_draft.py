"""Files that commands make: what they replace, and what is left where they fail."""

import os
import stat
from pathlib import Path

import pytest

from gateway.cli import draft
from gateway.cli.draft import NotWritten

SOMEBODY = 12345


def write(file: Path, data: bytes = b"new") -> None:
    with draft.of(file, synced=True) as stream:
        stream.write(data)


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"one", b"two"):
        write(file, data)
        assert file.read_bytes() == data
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(TypeError), draft.of(file) as stream:
        stream.writelines((b"half", None))  # type: ignore[arg-type] # what fails is not ours
    with pytest.raises(NotWritten, match="file cannot be written: No space left"), draft.of(file):
        raise OSError(28, "No space left on device")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(NotWritten, match="absent/file cannot be written: No such file"):
        write(tmp_path / "absent" / "file")


def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path) -> None:
    pipe, link, loop = tmp_path / "pipe", tmp_path / "link", tmp_path / "loop"
    os.mkfifo(pipe)  # never a device here: where this fails, it would be the machine's
    link.symlink_to(pipe)
    loop.symlink_to(loop)
    for file in (pipe, link):
        with pytest.raises(NotWritten, match="is no plain file, and is not replaced"):
            write(file)
    with pytest.raises(NotWritten, match="is a directory: name a file"):
        write(tmp_path)
    with pytest.raises(NotWritten, match="loop cannot be written"):
        write(loop)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link", "loop"}


def test_a_link_is_followed(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "link"
    elsewhere.mkdir()
    link.symlink_to("elsewhere/file")
    for data in (b"one", b"two"):  # where it leads nowhere yet, and where it does
        write(link, data)
        assert link.is_symlink()
        assert (elsewhere / "file").read_bytes() == data
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link somebody else's")
def test_a_link_of_somebody_elses_is_not(tmp_path: Path) -> None:
    mine, link = tmp_path / "mine", tmp_path / "link"
    mine.write_text("old")
    link.symlink_to(mine)
    os.lchown(link, SOMEBODY, SOMEBODY)
    with pytest.raises(NotWritten, match="is a link of somebody else's"):
        write(link)
    assert mine.read_text() == "old"
