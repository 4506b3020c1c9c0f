"""A power cut at any moment loses nothing acknowledged: shown on images rebuilt from the daemon's system
calls.

MAIL_GATEWAY_POWER_CUT_MESSAGES sets how many messages (300).
"""

import os
import random
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from tests.conftest import MakeDaemon
from tests.crash.load import Load
from tests.crash.replay import Disk, replay, strace
from tests.peers.client import ACK_HTTP, ACK_SMTP
from tests.peers.daemon import ROOT, Daemon, broken_twin, relay_to
from tests.peers.process import require
from tests.peers.sink import Sink

MESSAGES = int(os.environ.get("MAIL_GATEWAY_POWER_CUT_MESSAGES", "300"))
EVERY = max(1, MESSAGES // 50)  # about fifty instants
ACK = re.compile(ACK_HTTP.pattern + rb"|" + ACK_SMTP.pattern)
IMAGES = "plain", "strict", "torn 1", "torn 2", "torn 3"

pytestmark = pytest.mark.slow


@dataclass(slots=True)
class Checker:
    """Checks an image at every EVERY-th acknowledgement."""

    disk: Disk
    recipients: dict[str, str]  # message id -> its recipient
    directory: Path
    acknowledged: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    images: int = 0

    def on_ack(self, id_: str) -> None:
        self.acknowledged.append(id_)
        if len(self.acknowledged) % EVERY:
            return
        for kind in IMAGES:
            seed = int(kind.split()[1]) * 1000 + len(self.acknowledged) if kind.startswith("torn") else None
            with tempfile.TemporaryDirectory(dir=self.directory) as image:
                rng = None if seed is None else random.Random(seed)
                self.disk.image(Path(image), rng=rng, strict=kind == "strict")
                fault = self._fault(Path(image))
            self.images += 1
            if fault:
                self.faults.append(f"{kind} image after {len(self.acknowledged)} acknowledgements: {fault}")

    def _fault(self, image: Path) -> str:
        """What is wrong with an image, "" where nothing is."""
        try:
            database = apsw.Connection(str(image / "gateway.db"), flags=apsw.SQLITE_OPEN_READWRITE)
        except apsw.CantOpenError:
            return "there is no database"
        try:
            checked = database.execute("PRAGMA integrity_check").fetchall()
            if checked != [("ok",)]:
                return f"integrity check: {checked}"
            return self._missing(_stored(database))
        except apsw.Error as error:
            return f"the database cannot be read: {error!r}"
        finally:
            database.close()

    def _missing(self, stored: set[tuple[str, bool, bool]]) -> str:
        lost = [id_ for id_ in self.acknowledged if (self.recipients[id_], True, True) not in stored]
        return f"{len(lost)} acknowledged messages are not whole, as {lost[0]}" if lost else ""


def _stored(database: apsw.Connection) -> set[tuple[str, bool, bool]]:
    """(recipient, whether its content is there, whether it stands in the queue) of every message.

    The schema is read as it is on the disk, past all code of the gateway.
    """
    rows = database.execute(
        """
        SELECT r.address, length(c.bytes) = m.size AND instr(c.bytes, CAST(r.address AS BLOB)) > 0,
            (SELECT count(*) FROM ready q WHERE q.recipient = r.id)
            + (SELECT count(*) FROM waiting q WHERE q.recipient = r.id)
            + (SELECT count(*) FROM leased q WHERE q.recipient = r.id) = 1
        FROM recipient r JOIN message m ON m.id = r.message LEFT JOIN content c ON c.message = m.id
        """
    )
    return {(str(address), bool(whole), bool(queued)) for address, whole, queued in rows}


def _cut(daemon: Daemon, trace: Path, directory: Path) -> Checker:
    """Submit by both doors under strace, then check images along the way."""
    require("strace")
    with daemon, Load(daemon.http_port, daemon.smtp_port, count=MESSAGES, pause_s=0) as load:
        notes = load.finish(120)
        assert daemon.stop() == 0, daemon.tail()
    assert len(notes.acknowledged) == MESSAGES, (notes.refused, notes.unanswered)
    recipients = {id_: recipient for recipient, id_ in notes.acknowledged.items()}
    checker = Checker(Disk(daemon.data), recipients, directory)
    replay(trace, checker.disk, ACK, checker.on_ack)
    assert sorted(checker.acknowledged) == sorted(recipients), "the trace and the clients saw different answers"
    assert checker.images >= len(IMAGES) * min(MESSAGES, 50)
    return checker


def _postpone(line: str) -> str | None:
    # The next hop takes nothing now: every message stays whole in the queue and can be counted there.
    return "450 4.2.0 not now" if line.startswith("RCPT") else None


def test_a_power_cut_loses_nothing(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with Sink(answer=_postpone) as sink:
        daemon = make_daemon(relay_to(sink.port), prefix=strace(trace))
        checker = _cut(daemon, trace, tmp_path)
    assert checker.faults == []
    _starts_on(checker, daemon, tmp_path)


def _starts_on(checker: Checker, daemon: Daemon, directory: Path) -> None:
    """The daemon starts on the last image, torn, and knows the message acknowledged last."""
    for seed in (1, 2):
        image = directory / f"image{seed}"
        checker.disk.image(image, rng=random.Random(seed))
        survivor = Daemon(directory / f"survivor{seed}", {"data_dir": str(image), **relay_to(9)})
        with survivor:
            shown = survivor.json("queue", "show", checker.acknowledged[-1])
            assert [to["to"] for to in shown["recipients"]] == [checker.recipients[checker.acknowledged[-1]]]
            assert survivor.stop() == 0, survivor.tail()


def test_the_check_sees_a_store_that_does_not_sync(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    twin = broken_twin(tmp_path / "twin", "store/connection.py", '"synchronous = FULL"', '"synchronous = NORMAL"')
    assert twin != ROOT
    with Sink(answer=_postpone) as sink:
        daemon = make_daemon(relay_to(sink.port), prefix=strace(trace), source=twin)
        checker = _cut(daemon, trace, tmp_path)
    assert len(checker.faults) > checker.images // 2, "images of a store that does not sync look whole"
