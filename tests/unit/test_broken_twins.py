"""The faults of broken twins are where the tests say: found here in a moment, not after half an hour."""

import ast
import itertools
from collections.abc import Iterator

import pytest

from tests.mutants.table import MUTANTS
from tests.peers.daemon import ROOT

TESTS = [
    path
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if "twin" in (text := path.read_text()) or "fault" in text
]


def faults(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """A file of the gateway and the text in it that is to be changed, wherever one follows the other."""
    for node in ast.walk(tree):
        values = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
        for file, old in itertools.pairwise(values):
            match file, old:
                case ast.Constant(str(name)), ast.Constant(str(text)) if (
                    name.endswith(".py") and (ROOT / "gateway" / name).is_file()
                ):
                    yield name, text


FAULTS = sorted(
    {fault for path in TESTS for fault in faults(ast.parse(path.read_text()))}
    | {(mutant.file, mutant.old) for mutant in MUTANTS}
)


@pytest.mark.parametrize(("file", "old"), FAULTS)
def test_a_fault_has_its_place(file: str, old: str) -> None:
    assert (ROOT / "gateway" / file).read_text().count(old) == 1


def test_there_are_some() -> None:
    assert len(FAULTS) > 20
