"""Each file of this directory is refused, for the reasons that its first lines state and no other."""

from pathlib import Path

import pytest

from gateway import configfile
from gateway.errors import ConfigError

EXPECT = "# expect: "
FILES = sorted(Path(__file__).parent.glob("*.yaml"))


def test_there_are_files() -> None:
    assert len(FILES) >= 70


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_refused_for_the_stated_reason(path: Path, tmp_path: Path) -> None:
    """The first lines are `# expect: ` and a problem: its line, its path, its text."""
    content = path.read_bytes()
    expected = [line.decode().removeprefix(EXPECT) for line in content.splitlines() if line.startswith(EXPECT.encode())]
    private = tmp_path / "gateway.yaml"  # in a checkout others can read it
    private.write_bytes(content)
    private.chmod(0o600)
    with pytest.raises(ConfigError) as refusal:
        configfile.load(private, {})
    assert [str(problem) for problem in refusal.value.problems] == expected
    assert all(problem.startswith("line ") for problem in expected)


def test_all_problems_at_once(tmp_path: Path) -> None:
    several = tmp_path / "several.yaml"
    several.write_text("hostnam: x\nmax_message: big\nroutes: {direct: {type: pigeon}}\nlog: {level: chatty}\n")
    with pytest.raises(ConfigError) as refusal:
        configfile.load(several, {})
    assert [(problem.line, problem.path) for problem in refusal.value.problems] == [
        (1, "hostnam"),
        (2, "max_message"),
        (3, "routes.direct.type"),
        (4, "log.level"),
    ]
