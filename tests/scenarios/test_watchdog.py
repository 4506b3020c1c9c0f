"""A daemon that hangs is ended and started again by its manager, and no mail is lost (S26)."""

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_json
from tests.peers.daemon import broken_twin, relay_to
from tests.peers.manager import Manager
from tests.peers.process import wait_until
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

WATCHDOG_S = 8.0


def test_a_blocked_loop(make_daemon: MakeDaemon) -> None:
    with Sink(dot_delay_s=0.05) as sink:
        daemon = make_daemon(relay_to(sink.port))
        with Manager(daemon, watchdog_s=WATCHDOG_S, can_block=True) as manager:
            manager.wait_for_message("WATCHDOG=1", 2)
            wanted = {f"r{number}@example.net" for number in range(40)}
            for recipient in sorted(wanted):
                assert http_send(daemon.http_port, message_json(recipient)).status == 201
            ready = manager.messages.count("READY=1")
            os.kill(manager.pid, signal.SIGUSR1)  # 40 s asleep, with most of them in hand or queued
            wait_until(lambda: manager.aborted > 0, "it is ended for its silence", 60)
            manager.wait_for_message("READY=1", ready + 1)
            sink.wait_for_recipients(wanted, 60)
            log = daemon.log.read_text()
            assert "Fatal Python error: Aborted" in log
            assert "<lambda>" in log, "it shows where it hung"
            assert manager.stop() == 0
    assert sink.by_recipient().keys() >= wanted


def test_a_scheduler_that_hangs(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    """The loop turns, mail is taken, and none leaves: it is ended for that too, and says why."""
    claiming = "        taken = await _all("
    hangs = f"        await asyncio.Event().wait()\n{claiming}"
    twin = broken_twin(tmp_path / "twin", "delivery/scheduler.py", claiming, hangs)
    daemon = make_daemon(relay_to(sink.port), source=twin)
    with Manager(daemon, watchdog_s=WATCHDOG_S) as manager:
        manager.wait_for_message("WATCHDOG=1", 2)  # for as long as there is nothing to do
        assert http_send(daemon.http_port, message_json("you@example.net")).status == 201
        wait_until(lambda: manager.aborted > 0, "it is ended for its silence", 60)
        assert "the scheduler makes no progress" in daemon.log.read_text()
