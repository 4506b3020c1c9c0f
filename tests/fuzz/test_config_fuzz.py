"""Mutated configurations are read or refused, every problem with its line; nothing unknown is ever let through."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import configfile, yamltree
from gateway.config import Config
from gateway.errors import ConfigError, Problem

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
mutated = settings(max_examples=125, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


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


@mutated
@given(
    st.sampled_from([SHIPPED, *BAD]),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3), st.sampled_from(PIECES) | st.binary(max_size=5))),
)
def test_mutated_bytes(path: Path, content: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for at, cut, piece in edits:
        at %= len(content) + 1  # noqa: PLW2901 - anywhere in the file
        content = content[:at] + piece + content[at + cut :]
    problems(path, content)


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


def shipped() -> Any:
    return yaml.safe_load(SHIPPED) | {
        "routes": {
            "direct": {"type": "mx"},
            "ses": {"type": "relay", "host": "a.example", "username": "u", "password": "p"},
        },
        "domains": {"example.com": {"require_dkim": True}},
        "keys": {"shop": {"secret": "x" * 30, "from": ["*@example.com"], "scopes": ["send"]}},
    }


PLACES = places(shipped())
MAPPINGS_OF_NAMES = {("routes",), ("domains",), ("keys",)}
VALUES = st.sampled_from(WORDS) | st.text(max_size=20)


@mutated
@given(st.sampled_from(PLACES[1:]), VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(VALUES, VALUES, max_size=2))
def test_a_value_in_the_place_of_another(path: Path, way: tuple[Any, ...], value: Any) -> None:
    tree = shipped()
    node = tree
    for step in way[:-1]:
        node = node[step]
    node[way[-1]] = value
    problems(path, yaml.safe_dump(tree).encode())


@mutated
@given(st.sampled_from(PLACES), st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_an_unknown_key_never_starts(path: Path, way: tuple[Any, ...], name: str) -> None:
    tree = shipped()
    node = tree
    for step in way:
        node = node[step]
    if not isinstance(node, dict) or way in MAPPINGS_OF_NAMES:
        return
    node["x-" + name] = "y"
    found = problems(path, yaml.safe_dump(tree).encode())
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way).lstrip(".")
    assert [problem.path for problem in found] == [f"{where}.x-{name}".lstrip(".")]
    assert "unknown key" in found[0].message
