"""The daemon's part in a backup: how much stays free, and which files are its own to remove."""

import logging
import os
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.errors import StoreError
from gateway.manage.backup import COPY, BackupActions
from gateway.runtime import Clock
from gateway.store import space
from gateway.store.backup import Contents
from gateway.store.space import Disk

MB = 1_000_000
LEFT = "snapshot-0123456789abcdef.db"


class Copies:
    """Notes what is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Path, int]] = []

    async def take(self, target: Path, *, spare: int) -> Contents:
        self.asked.append((target, spare))
        return Contents(5, 4096, 0, 0)


@pytest.mark.parametrize(("size", "spare"), [(500 * MB, 25 * MB), (100_000 * MB, 1000 * MB)])
async def test_as_much_stays_free_as_for_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, spare: int
) -> None:
    monkeypatch.setattr(space, "look", lambda _: Disk(size, size, 0, 0))
    copies = Copies()
    said = await BackupActions(lambda: Config(data_dir=tmp_path), copies, Clock()).snapshot({})
    assert said["spare"] == spare
    assert copies.asked == [(tmp_path / said["file"], spare)]
    assert COPY.fullmatch(said["file"])


async def test_a_data_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be looked at: No such file"):
        await BackupActions(lambda: Config(data_dir=tmp_path / "absent"), Copies(), Clock()).snapshot({})


def test_only_copies_that_were_left_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = ["snapshot-2026", "snapshot-.db", f"{LEFT}.gz", f"old-{LEFT}", "snapshot-0123456789ABCDEF.db"]
    for name in (*mine, LEFT, f"{LEFT}-journal"):
        (tmp_path / name).touch()
    (tmp_path / "snapshot-fedcba9876543210.db").mkdir()
    (tmp_path / "snapshot-00000000000000ff.db").symlink_to("nowhere")
    with caplog.at_level(logging.DEBUG):
        actions = BackupActions(lambda: Config(data_dir=tmp_path), Copies(), Clock())
        actions.clear(age_ms=60_000)
        assert (tmp_path / LEFT).exists()
        os.utime(tmp_path / LEFT, (0, 0))
        actions.clear(age_ms=60_000)
        assert not (tmp_path / LEFT).exists()
        actions.clear()
    assert {path.name for path in tmp_path.iterdir()} == {*mine, "snapshot-fedcba9876543210.db"}
