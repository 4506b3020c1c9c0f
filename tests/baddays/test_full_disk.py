"""The disk is full (trust.md, A5): mail is refused before anything breaks, what was acknowledged arrives once, and the
daemon goes on by itself when there is room."""

import os
import re
import resource
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.baddays.disk import Hog, ext4, free_bytes, is_ready, tmpfs
from tests.conftest import MakeDaemon
from tests.crash.load import Load, Notes
from tests.peers.client import http_send, message_bytes, message_json
from tests.peers.daemon import SECRET, Daemon, relay_to
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink

_LONG_S: Final = 60.0
_REFUSED: Final = re.compile(r"503 .*(backlog_full|storage_unavailable)|45[12] .*4\.3\.[01]")

QUIET: Final = {"delivery": {"retry": ["1h"]}}

Disk = Callable[[Path, int], AbstractContextManager[Path]]  # a place, and megabytes

pytestmark = pytest.mark.slow


def settings(data: Path, port: int, **more: Any) -> dict[str, Any]:
    return {"data_dir": str(data), "delivery": {"retry": ["1s"]}} | relay_to(port) | more


@contextmanager
def filling(hog: Hog) -> Iterator[None]:
    """Whatever becomes free is gone at once."""
    stop = threading.Event()

    def fill() -> None:
        while not stop.wait(0.02):
            hog.fill()

    thread = threading.Thread(target=fill, name="hog")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LONG_S)
        hog.go()


def nothing_lost_nothing_twice(sink: Sink, notes: Notes) -> None:
    """Mail whose answer did not come may have been taken: it may arrive, once."""
    sink.wait_for_recipients(set(notes.acknowledged), _LONG_S)
    arrived = sink.by_recipient()
    twice = [recipient for recipient, copies in arrived.items() if len(copies) > 1]
    assert not twice
    assert not set(arrived) - set(notes.acknowledged) - notes.unanswered


def ready_again(daemon: Daemon) -> None:
    wait_until(lambda: is_ready(daemon.http_port), "the daemon is ready again", _LONG_S)


def smtp_until_refused(daemon: Daemon) -> tuple[int, smtplib.SMTPResponseException]:
    """Send what is large until it is refused: how many were taken, and the refusal."""
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=_LONG_S) as client:
        client.login("shop", SECRET)
        for count in range(20):
            try:
                client.sendmail("shop@example.com", ["you@example.net"], message_bytes("you@example.net", size=250_000))
            except smtplib.SMTPResponseException as refusal:
                return count, refusal
    raise AssertionError("nothing is refused")


def test_mail_is_refused_before_the_disk_is_full(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    port = free_port()  # nobody takes it: the queue grows
    with tmpfs(tmp_path / "disk", 16) as disk, make_daemon(settings(disk, port, **QUIET)) as daemon:
        body = message_json("you@example.net", text="x" * 250_000)
        accepted = 0
        while (answer := http_send(daemon.http_port, body)).status == 201:
            accepted += 1
        assert accepted > 5
        assert (answer.status, answer.body["error"]["code"]) == (503, "backlog_full")
        assert int(answer.headers["Retry-After"]) > 0
        assert str(disk) not in str(answer.body)
        assert free_bytes(disk) > 100_000
        by_smtp, refusal = smtp_until_refused(daemon)
        assert refusal.smtp_code == 452
        assert b"4.3.1" in refusal.smtp_error
        assert not re.search("FullError|cannot be written|ballast", daemon.log.read_text())
        with Sink(port=port) as sink:
            daemon.cli("queue", "retry", "--all")
            sink.wait_for(accepted + by_smtp, _LONG_S)
        ready_again(daemon)


def test_a_small_file_system_keeps_a_part_free(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    with tmpfs(tmp_path / "disk", 32) as disk, make_daemon(settings(disk, free_port())) as daemon:
        assert is_ready(daemon.http_port)
        assert "1.7 MB stay free there instead" in daemon.log.read_text()
        ballast = disk / "ballast"
        wait_until(lambda: ballast.exists() and ballast.stat().st_blocks * 512 > 1_600_000, "it is held", _LONG_S)
        hog = disk / "hog"
        with hog.open("wb") as file:  # all but 1 MB
            os.posix_fallocate(file.fileno(), 0, free_bytes(disk) - 1_000_000)
        wait_until(lambda: not is_ready(daemon.http_port), "the daemon is not ready", _LONG_S)
        assert daemon.log.read_text().count("no mail is taken: ") == 1
        assert http_send(daemon.http_port, message_json("you@example.net")).status == 503
        hog.unlink()
        ready_again(daemon)
        assert http_send(daemon.http_port, message_json("you@example.net")).status == 201
        assert daemon.log.read_text().count("mail is taken again: ") == 1


@pytest.mark.parametrize("made", [tmpfs, partial(ext4, inodes=1000)], ids=["tmpfs", "ext4"])
def test_another_program_takes_everything(tmp_path: Path, make_daemon: MakeDaemon, made: Disk) -> None:
    with (
        Sink(dot_delay_s=0.02) as sink,
        made(tmp_path / "disk", 48) as disk,
        make_daemon(settings(disk / "data", sink.port)) as daemon,
    ):
        with Load(daemon.http_port, daemon.smtp_port) as load:
            load.wait_for(200, _LONG_S)
            with filling(Hog(disk)):
                wait_until(lambda: not is_ready(daemon.http_port), "the daemon is not ready", _LONG_S)
                refused = len(load.notes.refused)
                wait_until(lambda: len(load.notes.refused) > refused + 50, "mail is refused", _LONG_S)
                assert daemon.running
            ready_again(daemon)
            load.wait_for(50, _LONG_S)
            notes = load.stop()
        nothing_lost_nothing_twice(sink, notes)
        assert all(_REFUSED.search(reply) for reply in notes.refused.values()), set(notes.refused.values())
        assert not notes.unanswered


def _gone(ballast: Path, hog: Hog) -> bool:
    hog.fill(only_while=ballast.exists)
    return not ballast.exists()


def test_results_are_written_down_on_a_full_disk(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    """By what the ballast held: nothing else becomes free meanwhile."""
    asked, goes_on = threading.Event(), threading.Event()

    def answer(line: str) -> None:
        if line == ".":
            asked.set()
            assert goes_on.wait(_LONG_S)

    port = free_port()  # nobody takes it yet
    with tmpfs(tmp_path / "disk", 48) as disk, make_daemon(settings(disk, port, **QUIET)) as daemon:
        with Load(daemon.http_port, daemon.smtp_port, count=400, pause_s=0) as load:
            notes = load.finish()
        assert len(notes.acknowledged) == 400
        assert daemon.stop() == 0, daemon.tail()
        daemon.restart()  # with an empty log: a long one has room for all results
        ballast, hog = disk / "ballast", Hog(disk)
        wait_until(ballast.exists, "it is held", _LONG_S)
        with Sink(port=port, answer=answer) as sink:
            daemon.cli("queue", "retry", "--all")
            assert asked.wait(_LONG_S)
            hog.fill()
            assert ballast.exists()
            goes_on.set()
            # What the log gives back is taken too, or it would do without.
            wait_until(lambda: _gone(ballast, hog), "it is given up", _LONG_S)
            wait_until(lambda: not sum(daemon.json("queue", "summary")["total"].values()), "all is recorded", _LONG_S)
            wait_until(lambda: not is_ready(daemon.http_port), "no mail is taken", _LONG_S)  # it looks once a second
            hog.go()
            ready_again(daemon)
            nothing_lost_nothing_twice(sink, notes)


def test_results_are_written_down_when_there_is_room_again(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    """No file may grow: a delivery that was made is not made again, and no other is begun."""
    with Sink(dot_delay_s=0.01) as sink, make_daemon(settings(tmp_path / "data", sink.port)) as daemon:
        with Load(daemon.http_port, daemon.smtp_port, count=400, pause_s=0) as load:
            load.wait_for(100, _LONG_S)
            _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (200_000, hard))
            wait_until(lambda: not is_ready(daemon.http_port), "the daemon is not ready", _LONG_S)
            delivered = len(sink.accepted)
            load.finish()
            # Each connection has at most one result that waits: five at first, twenty at most.
            assert len(sink.accepted) <= delivered + 25
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
            ready_again(daemon)
        nothing_lost_nothing_twice(sink, load.notes)
        assert http_send(daemon.http_port, message_json("after@example.net")).status == 201
        sink.wait_for_recipients({"after@example.net"}, _LONG_S)
        assert daemon.stop() == 0, daemon.tail()
    log = daemon.log.read_text()
    assert "the queue cannot be written: no mail is taken" in log
