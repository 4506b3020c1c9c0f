"""Every command in a document for operators is run by a test, or says why not; every configuration passes `check`."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway import configfile
from tests.docs import blocks
from tests.docs.blocks import Block
from tests.fakes import certs
from tests.peers.daemon import dkim_domain

MARKS: Final = r"run|run: exit \d+|config|nginx|caddy|postfix|not run: \w.{8,}"
ALL: Final = [block for path in blocks.documents() for block in blocks.of(path)]
CONFIGURATIONS: Final = [block for block in ALL if block.mark == "config"] + [
    block for name in ("legacy", "tls") for block in blocks.of(blocks.ROOT / f"docs/{name}.md") if block.kind == "yaml"
]


def test_no_fence_is_overlooked() -> None:
    for path in blocks.documents():
        fences = re.findall(r"^ *```", path.read_text(), flags=re.MULTILINE)
        assert len(fences) == 2 * len(blocks.of(path)), path.name


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_is_tried_or_says_why_not(block: Block) -> None:
    if block.kind not in blocks.SHOWN:
        assert re.fullmatch(MARKS, block.mark), f"what is to be done with this? {block.text}"


def test_most_are_run() -> None:
    run = [block for block in ALL if block.mark.startswith("run")]
    assert len(run) > len([block for block in ALL if block.mark.startswith("not run")])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with what configurations point at."""
    directory = tmp_path_factory.mktemp("data")
    certs.make(directory, "mail.example.com").tls.key.chmod(0o600)
    dkim_domain(directory / "dkim")
    (directory / "dkim" / "example.com.pem").rename(directory / "dkim" / "s1.pem")
    return directory


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_a_configuration_has_no_problem(block: Block, place: Path) -> None:
    text = block.text.replace("/etc/mail-gateway", str(place)).replace("/var/lib/mail-gateway", str(place))
    text = re.sub(r"/run/secrets", str(place), text)
    document = yaml.safe_load(text)
    environment = _provide(document, place)
    path = place / "gateway.yaml"
    named = {"hostname": "mail.example.com", "data_dir": str(place)} | document
    path.write_text(yaml.safe_dump(named, sort_keys=False))
    path.chmod(0o600)
    _, problems, _ = configfile.read_config(path, environment)
    assert [str(problem) for problem in problems] == []


def _provide(value: Any, place: Path) -> dict[str, str]:
    """Make every secret that a configuration names; those of the environment are returned."""
    environment = {"CREDENTIALS_DIRECTORY": str(place)}
    if isinstance(value, dict):
        for kind, name in value.items():
            if kind in {"file", "credential"} and isinstance(name, str):
                path = place / name
                path.write_text(f"a-secret-for-{len(name)}-{path.name}".ljust(32, "x"))
                path.chmod(0o600)
            elif kind == "env" and isinstance(name, str):
                environment[name] = f"a-secret-of-{name}".ljust(32, "x")
            else:
                environment |= _provide(name, place)
    elif isinstance(value, list):
        for item in value:
            environment |= _provide(item, place)
    return environment
