"""Mutated configurations are read or refused, every problem with its line; nothing unknown is ever let through (S24).

500 files; a fifth of them by the command's own code, and a few (slow) by real processes that would start.
"""

import contextlib
import copy
import functools
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from gateway import cli, configfile, yamltree
from gateway.config import Config
from gateway.errors import ConfigError, Problem
from tests.fuzz import effort
from tests.peers.daemon import ROOT, Daemon, broken_twin

pytestmark = pytest.mark.slow

COMMENTED = (Path(__file__).parents[2] / "etc" / "gateway.yaml").read_bytes()
LINES = [line for line in COMMENTED.splitlines(keepends=True) if not line.lstrip().startswith(b"#")]
SHIPPED = b"".join(LINES)  # comments only cost time
BAD = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "bad_configs").glob("*.yaml"))]
PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"- ",
    b"#",
    b"&a ",
    b"*a ",
    b"!!str ",
    b"\t",
    b"\0",
    b"\xff",
    b"|\n",
    b"'",
    b'"',
]
WORDS = [
    "0",
    "-1",
    "9" * 400,
    "1e9",
    ".inf",
    "null",
    "~",
    "yes",
    "true",
    "''",
    "[]",
    "{}",
    "2026-11-21",
    "1:30",
    "\u2028",
]
mutated = effort.examples(100, HealthCheck.function_scoped_fixture)
EDITS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3), st.sampled_from(PIECES) | st.binary(max_size=5)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    private = tmp_path / "gateway.yaml"
    private.touch(mode=0o600)
    return private


def problems(path: Path, content: bytes) -> tuple[Problem, ...]:
    """What a start says, which is what `check` says: in the order of lines, each with its line."""
    path.write_bytes(content)
    config, found, _ = configfile.read_config(path, {})
    assert isinstance(config, Config)
    refused = at_start(path, config)
    lines = [problem.line or 0 for problem in refused]
    assert 0 not in lines, refused
    assert lines == sorted(lines)
    assert set(found) <= set(refused)
    assert not any(yamltree.CONTROL.search(str(problem)) for problem in refused)
    return refused


def at_start(path: Path, config: Config) -> tuple[Problem, ...]:
    try:
        loaded = configfile.load(path, {})
    except ConfigError as refusal:
        return refusal.problems
    assert loaded == config
    return ()


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, cut, piece in edits:
        at %= len(content) + 1  # noqa: PLW2901 - anywhere in the file
        content = content[:at] + piece + content[at + cut :]
    return content


@mutated
@given(st.sampled_from([SHIPPED, *BAD]), EDITS)
def test_mutated_bytes(path: Path, content: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    problems(path, edited(content, edits))


@mutated
@given(st.sampled_from([SHIPPED, *BAD]), EDITS)
def test_the_command_says_78_and_the_lines(path: Path, content: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    path.write_bytes(edited(content, edits))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = cli.main(["check", "--json", "-c", str(path)])
    told = json.loads(said.getvalue())["problems"]
    assert code == (78 if told else 0)
    assert all(problem["line"] > 0 and problem["message"] for problem in told)
    if told:  # a start is the same code, and says it to people
        with contextlib.redirect_stderr(said := io.StringIO()):
            assert cli.main(["serve", "-c", str(path)]) == 78
        assert "Traceback" not in said.getvalue()
        assert str(path) in said.getvalue() or "line" in said.getvalue()


@mutated
@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.integers(0, 4)), min_size=1, max_size=4))
def test_mutated_lines(path: Path, edits: list[tuple[int, int]]) -> None:
    lines = list(LINES)
    for at, kind in edits:
        line = lines[at]
        lines[at] = [line * 2, b"", line[: len(line) // 2] + b"\n", b"  " + line, line.lstrip()][kind]
    problems(path, b"".join(lines))


def places(node: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of the tree."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [way, *(place for key, child in children for place in places(child, (*way, key)))]


@functools.cache
def _shipped() -> Any:
    return yaml.safe_load(SHIPPED) | {
        "routes": {
            "direct": {"type": "mx"},
            "ses": {"type": "relay", "host": "a.example", "username": "u", "password": "p"},
        },
        "domains": {"example.com": {"require_dkim": True}},
        "keys": {
            "shop": {
                "secret": "x" * 30,
                "from": ["*@example.com"],
                "scopes": ["send"],
                "limits": [{"recipients": "100/min", "burst": 200}, {"messages": "50000/day"}],
                "ip": ["192.168.1.0/24", "2001:db8::/32"],
            },
            "old": {
                "secret": "y" * 30,
                "default_domain": "example.com",
                "aliases": {"root": "ops@example.com", "scanner": "office@example.com"},
                "rewrite_from": "printers@example.com",
            },
        },
    }


def shipped() -> Any:
    """A tree of one's own."""
    return copy.deepcopy(_shipped())


PLACES = places(shipped())
MAPPINGS_OF_NAMES = {("routes",), ("domains",), ("keys",), ("keys", "old", "aliases")}


def at(tree: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        tree = tree[step]
    return tree


SECTIONS = [way for way in PLACES if isinstance(at(_shipped(), way), dict) and way not in MAPPINGS_OF_NAMES]
VALUES = st.sampled_from(WORDS) | st.text(max_size=20)


@mutated
@given(st.sampled_from(PLACES[1:]), VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(VALUES, VALUES, max_size=2))
def test_a_value_in_the_place_of_another(path: Path, way: tuple[Any, ...], value: Any) -> None:
    tree = shipped()
    at(tree, way[:-1])[way[-1]] = value
    problems(path, yaml.safe_dump(tree).encode())


def with_unknown_key(way: tuple[Any, ...], name: str) -> bytes:
    tree = shipped()
    at(tree, way)[name] = "y"
    return yaml.safe_dump(tree).encode()


@mutated
@given(st.sampled_from(SECTIONS), st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_an_unknown_key_never_starts(path: Path, way: tuple[Any, ...], name: str) -> None:
    found = problems(path, with_unknown_key(way, "x-" + name))
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way).lstrip(".")
    assert [problem.path for problem in found] == [f"{where}.x-{name}".lstrip(".")]
    assert "unknown key" in found[0].message


def serve(path: Path) -> "subprocess.CompletedProcess[str]":
    """A start as the service manager does it."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", "-c", str(path), "serve"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_real_start_says_78_and_a_line(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    if seed % 2:
        content = with_unknown_key(rng.choice(SECTIONS), "x-surprise")
    else:
        content = rng.choice([SHIPPED, *BAD])
        while not problems(path, content):
            content = edited(content, [(rng.randrange(3000), rng.randrange(4), rng.choice(PIECES))])
    path.write_bytes(content)
    done = serve(path)
    assert (done.returncode, done.stdout) == (78, "")
    assert re.search(r"^  line [1-9][0-9]*: ", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.parent.iterdir()) == [path]  # nothing was begun


def test_a_twin_that_takes_unknown_keys_starts(tmp_path: Path) -> None:
    twin = broken_twin(tmp_path, "yamltree.py", "if name not in self._known:", 'if name == "never":')
    with pytest.raises(RuntimeError, match="exit code 78"):
        Daemon(tmp_path / "gw", {"x-surprise": "y"}).start()
    with Daemon(tmp_path / "gw", {"x-surprise": "y"}, source=twin) as daemon:
        assert daemon.running
