"""Clients of SMTP as metrics: what they are refused, wherever it stands among the replies, and how many there are."""

import logging
from dataclasses import replace

import pytest

from gateway.config import Limits
from gateway.errors import Reason, Refused
from gateway.metrics import PREFIX, Metrics
from gateway.metrics.connections import TELL_S, ConnectionFigures
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import HELLO, MESSAGE, TRANSACTION, client, config, on_both_loops, serving
from tests.unit.test_metrics import scraped


def refusals(metrics: Metrics) -> dict[str, float]:
    """By reply."""
    found = {name.partition(" reply=")[2]: value for name, value in scraped(metrics).items() if "smtp_refusals" in name}
    return {reply: value for reply, value in found.items() if reply}


@on_both_loops
async def test_refusals_are_counted_wherever_they_stand() -> None:
    metrics = Metrics()
    door = FakeDoor(failures={"bad@example.org": Refused(Reason.RATE_LIMITED, "too many")})
    async with serving(config(), door, figures=ConnectionFigures(metrics)) as server, client(server) as one:
        await one.say(HELLO, "250")
        await one.say(b"NONSENSE\r\n", "500")
        await one.say(TRANSACTION, "250", "250", "354")
        await one.say(MESSAGE + b".\r\n", "250")
        assert refusals(metrics) == {"500 5.5.2": 1}
        await one.say(TRANSACTION.replace(b"DATA", b"RCPT TO:<bad@example.org>\r\nDATA"), "250", "250", "450", "354")
        await one.say(MESSAGE + b"\0\r\n.\r\n", "550")
        assert refusals(metrics) == {"500 5.5.2": 1, "450 4.7.1": 1, "550 5.6.0": 1}


def test_one_too_many_is_counted_each_time_and_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    metrics, now = Metrics(), [5.0]
    figures = ConnectionFigures(metrics, monotonic=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for door in ("http", "http", "smtp"):
            figures.one_too_many(door, "192.0.2.7", 20, 30)
        now[0] += TELL_S
        figures.one_too_many("http", "192.0.2.8", 1, 30)
    assert [record.getMessage() for record in caplog.records] == [
        "too many connections by http: 192.0.2.7 has 20 of 30",
        "too many connections by smtp: 192.0.2.7 has 20 of 30",
        "too many connections by http: 192.0.2.8 has 1 of 30",
    ]
    assert scraped(metrics)[f"{PREFIX}connections_refused_total door=http"] == 3


@on_both_loops
async def test_connections_are_counted() -> None:
    metrics = Metrics()
    limits = replace(Limits(), connections_per_ip=1)
    async with serving(config(limits=limits), FakeDoor(), figures=ConnectionFigures(metrics)) as server:
        assert server.open_connections == 0
        async with client(server):
            assert server.open_connections == 1
            async with client(server, greeting="421"):
                pass
    found = scraped(metrics)
    assert found[f"{PREFIX}connections_refused_total door=smtp"] == 1
    assert refusals(metrics)["421 4.7.0"] == 1
