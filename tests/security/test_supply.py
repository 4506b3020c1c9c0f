"""What others wrote and we rely on (S20): versions below which a hole is open are refused, and bandit finds nothing."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway.cli import floors
from gateway.store import library
from tests.peers.daemon import ROOT, Daemon

OLDER = {"aiohttp": "3.14.2", "aiosmtpd": "1.4.5", "aiosmtplib": "5.1.2.post1", "SQLite": "3.51.2"}
CAPTURE = {"routes": {"here": {"type": "capture"}}, "default_route": "here"}


@pytest.mark.parametrize("name", OLDER)
def test_what_is_older_is_named(name: str) -> None:
    (said,) = floors.faults(floors.FLOORS | {name: OLDER[name]})
    assert said.startswith(f"{name} {OLDER[name]} is installed, and below {floors.FLOORS[name]} ")


@pytest.mark.parametrize("version", ["3.14.3", "3.14.10", "4", "3.15.0rc1"])
def test_what_is_newer_is_not(version: str) -> None:
    assert floors.faults(floors.FLOORS | {"aiohttp": version}) == []


def test_what_is_not_there_is_older_than_anything() -> None:
    (said,) = floors.faults(floors.FLOORS | {"aiosmtpd": ""})
    assert said.startswith("aiosmtpd (no version is known) ")


def test_what_is_installed_here_is_new_enough() -> None:
    floors.require()
    assert re.fullmatch(r"3\.\d+\.\d+", library.version())


def test_the_floors_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(re.findall(r"(?m)^([\w-]+)>=([\d.]+)", "\n".join(project["dependencies"])))
    named = {"apsw" if name == floors.SQLITE else name: floor for name, floor in floors.FLOORS.items()}
    assert {name: wanted[name] for name in named} == named


@pytest.mark.slow
def test_a_daemon_with_an_old_library_does_not_start(tmp_path: Path) -> None:
    old = tmp_path / "old" / "aiohttp-3.14.2.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: aiohttp\nVersion: 3.14.2\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(old.parent), str(ROOT)])}
    daemon = Daemon(tmp_path / "gw", CAPTURE, environment=environment)
    with pytest.raises(RuntimeError, match=r"exit code 1"):
        daemon.start()
    assert daemon.tail().splitlines()[-1].startswith("mail-gateway: aiohttp 3.14.2 is installed, and below 3.14.3")
    assert not daemon.data.exists()  # nothing was touched


@pytest.mark.slow
def test_bandit_finds_nothing_that_was_not_judged() -> None:
    """Of what it finds, nothing is of high severity, and the rest stands on lines that say why it is no fault, as ruff
    wants to have it said of the same rules."""
    command = [sys.executable, "-m", "bandit", "-ll", "-q", "-r", "gateway", "-f", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(done.stdout)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 10_000
    unjudged = []
    for one in report["results"]:
        rule = one["test_id"].replace("B", "S")
        line = (ROOT / one["filename"]).read_text().splitlines()[one["line_number"] - 1]
        if one["issue_severity"] == "HIGH" or re.search(rf"# noqa: [^-]*\b{rule}\b[^-]* - \w+", line) is None:
            unjudged.append(f"{one['filename']}:{one['line_number']}: {one['test_id']} {one['issue_text']}")
    assert unjudged == []
