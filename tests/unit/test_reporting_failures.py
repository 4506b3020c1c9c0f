"""The reporter over a queue that fails as it is told: nothing lost, nothing for ever, nobody flooded."""

import asyncio
import io
import logging
from collections.abc import Sequence
from itertools import islice

import pytest

from gateway.delivery import reporting
from gateway.delivery.reporting import NOTICES, Reporter
from gateway.errors import StoreError
from gateway.events import State
from gateway.keyterms import Limit
from gateway.message import notify
from gateway.observe import MailLog
from gateway.runtime import IdSource, Supervisor, show_id, uuid7
from gateway.store.newmail import NewMessage
from gateway.store.queue import Report, Told
from tests.unit.test_reporting import BODY, CONFIG, FACTS, HEADER, HOUR_MS, START_MS, THREE, Time, told_of


class Failing:
    """Reports that stay until they are told. `failures` of the next calls of a verb are raised instead."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self.waiting = {report.message: report for report in reports}
        self.accepted: list[NewMessage] = []
        self.failures: dict[str, list[Exception]] = {"reports": [], "report": [], "piece": []}
        self.asked: list[int] = []

    def _fail(self, verb: str) -> None:
        if self.failures[verb]:
            raise self.failures[verb].pop(0)

    async def reports(self, before: int, limit: int) -> Sequence[Report]:
        self._fail("reports")
        self.asked.append(limit)
        return list(islice(self.waiting.values(), limit))

    async def report(self, report: Report, notices: Sequence[NewMessage]) -> None:
        self._fail("report")
        del self.waiting[report.message]
        self.accepted += notices

    async def piece(self, message: int, index: int) -> bytes:
        self._fail("piece")
        return HEADER + BODY


def report(number: int, *, sender: str = "ann@example.com", kind: int = notify.FAILURE, to: int = 1) -> Report:
    told = [
        Told(
            recipient=number * 1000 + i,
            address=f"u{number}-{i}@example.net",
            orcpt="",
            kind=kind,
            at=START_MS,
            state=State.DEFERRED if kind == notify.DELAY else State.BOUNCED,
            attempts=1,
            reply="550 5.1.1 no such user",
            host="mx.example.net",
            bounce_class="InvalidRecipient",
            stage="rcpt",
        )
        for i in range(to)
    ]
    return Report(
        message=number,
        uuid=uuid7(START_MS),
        account="acme",
        key="shop",
        route="direct",
        envelope_sender=sender,
        subject="Hello",
        message_id="1@example.com",
        facts=FACTS,
        piece_count=1,
        ret="FULL",
        envid="",
        created_at=START_MS,
        expires_at=START_MS + 120 * HOUR_MS,
        recipients=tuple(told),
    )


def reporter(queue: Failing, time: Time, *, notices: Limit = NOTICES, log: io.StringIO | None = None) -> Reporter:
    return Reporter(
        CONFIG,
        queue,  # type: ignore[arg-type]  # a reporter asks for three of the verbs only
        clock=time.clock,
        ids=IdSource(time.clock),
        log=MailLog(log or io.StringIO()),
        notices=notices,
    )


async def test_a_flood_of_failures_gives_a_bounded_number_of_notices() -> None:
    """D18: 20,000 recipients of one sender are refused."""
    queue, time, log = Failing([report(i, to=10) for i in range(2000)]), Time(), io.StringIO()
    desk = reporter(queue, time, log=log)
    await desk.tell()
    assert not queue.waiting
    assert len(queue.accepted) == NOTICES.burst
    withheld = [line for line in log.getvalue().splitlines() if " withheld id=" in line]
    assert len(withheld) == 2000 - NOTICES.burst
    assert 'kind=failure recipients="u1999-0@example.net u1999-1@example.net ' in withheld[-1]
    time.ms += HOUR_MS
    queue.waiting = {one.message: one for one in (report(i) for i in range(500))}
    await desk.tell()
    assert len(queue.accepted) == NOTICES.burst + NOTICES.count


async def test_one_sender_and_one_kind_use_up_no_other() -> None:
    queue = Failing([report(i) for i in range(4)])
    desk = reporter(queue, Time(), notices=THREE)
    await desk.tell()
    assert len(queue.accepted) == THREE.burst
    queue.accepted.clear()
    queue.waiting = {1: report(1, sender="bob@example.com"), 2: report(2, kind=notify.DELAY), 3: report(3)}
    await desk.tell()
    assert [message.subject for message in queue.accepted] == ["Mail could not be delivered", "Mail is delayed"]
    assert [message.recipients[0].address for message in queue.accepted] == ["bob@example.com", "ann@example.com"]


@pytest.mark.parametrize("verb", ["reports", "report"])
async def test_a_store_that_is_away_is_asked_again_and_nothing_is_lost(
    verb: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporting, "WRITE_RETRY_S", 0.01)
    queue, time = Failing([report(i) for i in range(3)]), Time()
    queue.failures[verb] = [StoreError("the disk is away")] * 2
    desk = reporter(queue, time)
    deaths: list[str] = []
    supervisor = Supervisor(on_fatal=lambda name, error: deaths.append(name), on_error=lambda name, error: None)
    with caplog.at_level(logging.ERROR, "gateway.delivery"):
        desk.start(supervisor)
        async with asyncio.timeout(10):
            while queue.waiting:
                await asyncio.sleep(0.01)
    await supervisor.cancel_all()
    assert len(queue.accepted) == 3
    assert not deaths
    assert "notifications wait for the store: the disk is away" in caplog.text


async def test_a_failed_write_takes_nothing_from_the_sender() -> None:
    queue = Failing([report(0)])
    desk = reporter(queue, Time(), notices=THREE)
    for _ in range(THREE.burst + 1):
        queue.failures["report"] = [StoreError("away")]
        with pytest.raises(StoreError):
            await desk.tell()
    await desk.tell()
    assert len(queue.accepted) == 1


async def test_what_cannot_be_composed_is_forgotten_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    bad = report(1, sender="no address")
    queue = Failing([report(0), bad, report(2)])
    await reporter(queue, Time()).tell()
    assert not queue.waiting
    assert [len(told_of(notice)) for notice in queue.accepted] == [1, 1]
    assert f"what became of {show_id('eml_', bad.uuid)} cannot be told" in caplog.text


async def test_a_message_whose_content_is_lost_is_told_of_without_it(caplog: pytest.LogCaptureFixture) -> None:
    queue = Failing([report(0)])
    queue.failures["piece"] = [StoreError("Piece 0 of a message is missing from the store.")]
    await reporter(queue, Time()).tell()
    (notice,) = queue.accepted
    assert told_of(notice) == {"u0-0@example.net": "failed"}
    assert "cannot be quoted" in caplog.text


async def test_a_kick_is_answered_before_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, time = Failing([]), Time()
    desk = reporter(queue, time)
    monkeypatch.setattr(reporting, "LOOK_S", 3600.0)
    supervisor = Supervisor(on_fatal=lambda name, error: None, on_error=lambda name, error: None)
    desk.start(supervisor)
    async with asyncio.timeout(10):
        while not queue.asked:
            await asyncio.sleep(0)
        queue.waiting = {0: report(0, to=reporting._IN_THREAD + 1)}
        desk.kick()
        while queue.waiting:
            await asyncio.sleep(0.01)
    await supervisor.cancel_all()
    assert len(told_of(queue.accepted[0])) == reporting._IN_THREAD + 1


async def test_a_line_of_the_log_names_ten_recipients_at_most() -> None:
    queue, log = Failing([report(i, to=12) for i in range(4)]), io.StringIO()
    await reporter(queue, Time(), notices=THREE, log=log).tell()
    lines = log.getvalue().splitlines()
    assert len(lines) == 4
    assert " reported id=eml_" in lines[0]
    assert "notice=eml_" in lines[0]
    assert " withheld id=eml_" in lines[-1]
    assert 'u3-9@example.net and 2 more" note=' in lines[-1]
