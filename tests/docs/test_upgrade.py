"""docs/howto/upgrade.md: each version has a directory of its own, and the way back loses and repeats nothing."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs import blocks
from tests.docs.blocks import Block
from tests.docs.world import World
from tests.peers.process import require

BLOCKS: Final = blocks.of(blocks.ROOT / "docs/howto/upgrade.md")


def _with(text: str) -> Block:
    (found,) = [block for block in BLOCKS if text in block.text]
    return found


def test_a_second_upgrade_goes_beside_the_first() -> None:
    """Not into the directory in use, and the units come with it."""
    (name,) = re.findall(r"^new=(.*)$", _with("python3 -m venv").text, flags=re.MULTILINE)
    said = subprocess.run(["bash", "-c", f"echo {name}"], capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r"/opt/mail-gateway-\d{4}-\d\d-\d\d-\d{4}\n", said.stdout)
    assert "systemd/mail-gateway.service" in _with("systemctl restart").text


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    for program in ("bash", "jq", "comm"):
        require(program)
    with World(tmp_path) as made:
        yield made


def _open(world: World) -> set[tuple[str, str]]:
    rows: list[dict[str, Any]] = world.daemon.json("queue", "list")
    return {(row["id"], row["blocked_by"]) for row in rows}


@pytest.mark.slow
def test_the_way_back(world: World) -> None:
    """With the same version in place of an older one: what is queued afterwards is what was, less what went since."""
    went, stays = world.waiting_message(), world.waiting_message()
    world.run(_with("before-upgrade.backup\nmail-gateway --version"))
    world.daemon.cli("queue", "cancel", "--id", went)
    came = world.waiting_message()

    back = _with("restore --force")
    stop, start = "systemctl stop mail-gateway\n", "systemctl start mail-gateway\n"
    nothing, _, rest = back.text.partition(stop)
    stopped, _, started = rest.partition(start)
    assert nothing == ""
    assert world.daemon.stop() == 0
    world.run(replace(back, text=re.sub(r"^ln .*\n", "", stopped, flags=re.MULTILINE)))
    world.daemon.start()
    before_resume, resume, _ = started.partition("mail-gateway queue resume NUMBER")
    output = world.run(replace(back, text=before_resume))
    assert f"{came} you@example.net" in output
    assert f"{stays} you@example.net" not in output
    assert _open(world) == {(stays, "suspended")}
    (suspension,) = world.daemon.json("queue", "summary")["suspensions"]
    world.run(replace(back, text=resume.replace("NUMBER", str(suspension["number"]))))
    assert {id_ for id_, blocked_by in _open(world) if blocked_by != "suspended"} == {stays}
