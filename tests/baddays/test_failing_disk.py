"""The daemon on a disk that fails (trust.md, A6, A7): what it answers, what it tells, and how it goes on or ends."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.baddays.disk import ext4, is_ready, mend, turn_read_only
from tests.conftest import MakeDaemon
from tests.crash.load import Load
from tests.peers.client import http_send, message_json
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

_LONG_S: Final = 60.0

pytestmark = pytest.mark.slow


def faulty(make_daemon: MakeDaemon, order: Path, kind: str, port: int, **more: Any) -> Daemon:
    prefix = [sys.executable, "-m", "tests.baddays.faulty", kind, str(order)]
    daemon: Daemon = make_daemon({"delivery": {"retry": ["1s"]}} | relay_to(port) | more, prefix=prefix)
    return daemon


def test_after_a_failed_fsync_it_ends_and_the_next_start_has_everything(
    tmp_path: Path, make_daemon: MakeDaemon, sink: Sink
) -> None:
    order = tmp_path / "order"
    with faulty(make_daemon, order, "sync", sink.port) as daemon, Load(daemon.http_port, daemon.smtp_port) as load:
        load.wait_for(100, _LONG_S)
        order.write_text("once")
        assert daemon.wait(_LONG_S) == 1
        ended = daemon.log.read_text()
        daemon.restart()
        load.wait_for(50, _LONG_S)
        notes = load.stop()
        sink.wait_for_recipients(set(notes.acknowledged), _LONG_S)
    assert "stopped: The store has failed and must be restarted. The store failed: SQLITE_IOERR_FSYNC" in ended
    # What failed with the fsync may be on the disk all the same, and what was on the wire is in doubt.
    arrived = sink.by_recipient()
    twice = {recipient for recipient, copies in arrived.items() if len(copies) > 1}
    assert len(twice) <= 25
    assert not set(arrived) - set(notes.acknowledged) - set(notes.refused) - notes.unanswered


def test_while_nothing_can_be_written_nothing_is_acknowledged(
    tmp_path: Path, make_daemon: MakeDaemon, sink: Sink
) -> None:
    order = tmp_path / "order"
    with faulty(make_daemon, order, "write", sink.port) as daemon, Load(daemon.http_port, daemon.smtp_port) as load:
        load.wait_for(100, _LONG_S)
        order.touch()
        wait_until(lambda: not is_ready(daemon.http_port), "the daemon is not ready", _LONG_S)
        answer = http_send(daemon.http_port, message_json("none@example.net"))
        assert (answer.status, answer.body["error"]["code"]) == (503, "storage_unavailable")
        assert "Retry-After" in answer.headers
        order.unlink()
        wait_until(lambda: is_ready(daemon.http_port), "the daemon is ready again", _LONG_S)
        load.wait_for(50, _LONG_S)
        notes = load.stop()
        sink.wait_for_recipients(set(notes.acknowledged), _LONG_S)
        assert daemon.stop() == 0, daemon.tail()
    arrived = sink.by_recipient()
    assert not [recipient for recipient, copies in arrived.items() if len(copies) > 1]
    assert set(arrived) == set(notes.acknowledged)
    log = daemon.log.read_text()
    assert log.count("the queue cannot be written: no mail is taken") == 1
    assert "SQLITE_IOERR_WRITE" in log


def takes_mail(daemon: Daemon) -> bool:
    try:
        return is_ready(daemon.http_port)
    except OSError:
        return False


def touch_all(paths: Iterable[Path]) -> None:
    for path in paths:
        path.touch()


def test_no_more_files_can_be_made(tmp_path: Path, make_daemon: MakeDaemon, sink: Sink) -> None:
    with (
        ext4(tmp_path / "disk", 64, inodes=200) as disk,
        make_daemon({"data_dir": str(disk / "data")} | relay_to(sink.port)) as daemon,
        Load(daemon.http_port, daemon.smtp_port) as load,
    ):
        load.wait_for(50, _LONG_S)
        many = disk / "many"
        many.mkdir()
        with pytest.raises(OSError, match="No space left"):
            touch_all(many / str(number) for number in range(1000))
        wait_until(lambda: not is_ready(daemon.http_port), "the daemon is not ready", _LONG_S)
        assert "more files can be made where the data is" in daemon.log.read_text()
        wait_until(lambda: load.notes.refused != {}, "mail is refused", _LONG_S)
        for file in many.iterdir():
            file.unlink()
        wait_until(lambda: is_ready(daemon.http_port), "the daemon is ready again", _LONG_S)
        load.wait_for(50, _LONG_S)
        notes = load.stop()
        sink.wait_for_recipients(set(notes.acknowledged), _LONG_S)
        assert not notes.unanswered
        assert all("backlog_full" in reply or "452" in reply for reply in notes.refused.values())
        assert daemon.stop() == 0, daemon.tail()
    arrived = sink.by_recipient()
    assert not [recipient for recipient, copies in arrived.items() if len(copies) > 1]
    assert set(arrived) == set(notes.acknowledged)


def test_a_file_system_that_turned_read_only(tmp_path: Path, make_daemon: MakeDaemon, sink: Sink) -> None:
    with (
        ext4(tmp_path / "disk", 64, inodes=1000) as disk,
        make_daemon({"data_dir": str(disk / "data")} | relay_to(sink.port)) as daemon,
        Load(daemon.http_port, daemon.smtp_port) as load,
    ):
        load.wait_for(100, _LONG_S)
        turn_read_only(disk)
        wait_until(lambda: not takes_mail(daemon), "the daemon takes no mail", _LONG_S)
        # It has ended where the fsync was the first call that failed, and waits where it was a write.
        with suppress(ProcessLookupError):
            daemon.terminate()
        daemon.wait(_LONG_S)
        mend(disk)
        daemon.restart()
        load.wait_for(50, _LONG_S)
        notes = load.stop()
        sink.wait_for_recipients(set(notes.acknowledged), _LONG_S)
        assert daemon.stop() == 0, daemon.tail()
    assert all("storage_unavailable" in reply or "451" in reply for reply in notes.refused.values())
    # What was on the wire then is in doubt.
    assert len([recipient for recipient, copies in sink.by_recipient().items() if len(copies) > 1]) <= 25
