"""The commands of the documents, as a reader would type them, one document after the other, on one machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.docs import blocks
from tests.docs.world import World
from tests.peers.process import require

pytestmark = pytest.mark.slow

DOCUMENTS: Final = [
    path for path in blocks.documents() if any(block.mark.startswith("run") for block in blocks.of(path))
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    for program in ("bash", "curl", "ss", "swaks"):
        require(program)
    with World(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(blocks.ROOT)))
def test_the_commands_of(path: Path, world: World) -> None:
    text = path.read_text()
    if "domain check example.com" in text or "domain add example.com" in text:
        world.has_domain("example.com", wanted="domain add example.com" not in text)
    for block in blocks.of(path):
        if block.mark.startswith("run"):
            world.run(block)
