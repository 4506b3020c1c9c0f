"""Fixtures for tests of the whole daemon. Fakes are real sockets; nothing here is a mock."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.peers.daemon import Daemon
from tests.peers.process import free_port
from tests.peers.sink import Sink

MakeDaemon = Callable[..., Daemon]

# A busy machine is no failure, nor is a fresh one: Hypothesis first makes its tables of Unicode, which takes seconds.
# CI is told the same each time: what is new is searched for by people, and becomes an example.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("any machine")


@pytest.fixture
def port() -> int:
    """A free loopback port."""
    return free_port()


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A recording SMTP sink."""
    with Sink() as running:
        yield running


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons (not started) that are killed at the end of the test. Arguments are those of `Daemon`
    but the directory."""
    made: list[Daemon] = []

    def make(settings: dict[str, Any], **more: Any) -> Daemon:
        daemon = Daemon(tmp_path / f"gw{len(made)}", settings, **more)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.__exit__()
