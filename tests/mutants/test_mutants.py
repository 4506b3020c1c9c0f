"""The suite finds what breaks: twins of the project, each with one fault, and for each a test that fails.

A twin is a copy of the package and the tests; the test runs in it as it does here. A fault whose place has moved fails
by itself and says so. Each of the tests passes on a copy without a fault, so that what it sees is the fault.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS, Mutant
from tests.peers.daemon import ROOT

COPIED = "gateway", "tests", "pyproject.toml"
TESTS_FAILED = 1  # pytest's exit code; 2 and more mean that they could not run
RUN_S = 120.0

pytestmark = pytest.mark.slow


def _copy(directory: Path) -> Path:
    for name in COPIED:
        if (ROOT / name).is_dir():
            # With what Python has compiled: times are copied too, and a file that is written anew is compiled anew.
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy(ROOT / name, directory / name)
    return directory


def _mutate(tree: Path, mutant: Mutant) -> None:
    path = tree / "gateway" / mutant.file
    text = path.read_text()
    found = text.count(mutant.old)
    assert found == 1, f"{mutant.file} holds {found} times {mutant.old!r}: the fault needs another place"
    path.write_text(text.replace(mutant.old, mutant.new))


def _run(tree: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of a tree with the package of that tree, up to the first that fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:schemathesis", *tests]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=RUN_S, check=False)


def test_each_is_another_one() -> None:
    assert len({mutant.breaks for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old) for mutant in MUTANTS}) == len(MUTANTS)


def test_without_a_fault_all_of_them_pass(tmp_path: Path) -> None:
    tests = [mutant.test for mutant in MUTANTS]
    done = _run(_copy(tmp_path), tests)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) >= len(tests)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_it_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    tree = _copy(tmp_path)
    _mutate(tree, mutant)
    done = _run(tree, [mutant.test])
    assert done.returncode == TESTS_FAILED, (
        f"{mutant.breaks}: {mutant.test} does not see it\n{done.stdout}{done.stderr}"
    )
    assert re.search(r"^1 failed", done.stdout, re.MULTILINE), done.stdout  # no error of a fixture or an import
