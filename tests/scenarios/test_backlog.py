"""A start with thousands due is no storm: the sink counts connections step by step, and new mail goes past the old."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.backlog import Shape, fill
from tests.peers.client import message_bytes, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.gated import Gated
from tests.peers.process import wait_until

pytestmark = pytest.mark.slow

QUEUED = 3000
WAIT_S = 60.0
NEW = "new@example.net"


@pytest.fixture
def sink() -> Iterator[Gated]:
    with Gated() as running:
        yield running


def daemon_over(directory: Path, shape: Shape, sink: Gated) -> Daemon:
    """Not started; with that in its queue."""
    daemon = Daemon(directory, relay_to(sink.port) | {"delivery": {"concurrency": {"initial": 5, "maximum": 20}}})
    fill(daemon.data / "gateway.db", shape)
    return daemon


@pytest.mark.parametrize("night", [False, True], ids=["never tried", "retries of a night"])
def test_connections_grow_with_what_is_delivered_and_new_mail_goes_past(
    tmp_path: Path, sink: Gated, *, night: bool
) -> None:
    shape = Shape(QUEUED, domains=10, giant=1.0, small=0, relay="relay", night=night)
    with daemon_over(tmp_path / "gw", shape, sink) as daemon:
        sink.wait_until_connected(1)
        wait_until(lambda: in_hand(daemon) > 0, "something in hand", WAIT_S)
        assert sink.connections == 1  # nobody knows yet whether it answers
        sink.greet()
        # Five at first, and one more for each delivery; one in ten, at least one, is kept for mail of high priority.
        sink.wait_until_held(4)
        for delivered in range(1, 15):
            assert sink.connections == 3 + delivered
            sink.allow(1)
            sink.wait_until_held(4 + delivered)
        for _ in range(50):
            sink.allow(1)
        wait_until(lambda: len(sink.arrived) >= 14 + 50 + 18, "arrivals", WAIT_S)
        sink.wait_until_held(18)
        assert sink.connections == 18
        before = len(sink.arrived)
        smtp_send(daemon.smtp_port, "shop@example.com", [NEW], message_bytes(NEW))
        sink.allow(200)
        wait_until(lambda: len(sink.arrived) >= before + 200, "arrivals", WAIT_S)
        if night:  # behind what was in hand and half of a claim, not behind three thousand
            assert sink.arrived.index(NEW) - before < 150
        sink.allow(QUEUED)
        wait_until(lambda: len(sink.arrived) == QUEUED + 1, "everything", WAIT_S)
        assert len(set(sink.arrived)) == QUEUED + 1


def in_hand(daemon: Daemon) -> int:
    return int(daemon.json("queue", "summary")["total"]["in_hand"])
