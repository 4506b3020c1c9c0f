"""Each file of this directory is refused, for the reason that its first line states."""

import re
from pathlib import Path

import pytest

from gateway import configfile
from gateway.errors import ConfigError

FILES = sorted(Path(__file__).parent.glob("*.yaml"))


def test_there_are_files() -> None:
    assert len(FILES) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_refused_for_the_stated_reason(path: Path) -> None:
    expected = path.read_text().partition("\n")[0].removeprefix("# expect: ")
    with pytest.raises(ConfigError) as refusal:
        configfile.load(path, {})
    assert expected in "\n".join(map(str, refusal.value.problems))
    wrong = [problem for problem in refusal.value.problems if problem.line is None]
    assert not wrong, "every problem of a file has its line"


def test_all_problems_at_once(tmp_path: Path) -> None:
    several = tmp_path / "several.yaml"
    several.write_text("hostnam: x\nmax_message: big\nroutes: {out: {type: pigeon}}\nlog: {level: chatty}\n")
    with pytest.raises(ConfigError) as refusal:
        configfile.load(several, {})
    lines = [problem.line for problem in refusal.value.problems]
    assert lines == [1, 2, 3, 4]
    assert re.search(r"line 2: max_message:", str(refusal.value))
