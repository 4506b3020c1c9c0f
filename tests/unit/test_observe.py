"""The mail log: one line an event, the id on it, nothing foreign breaks out of its field."""

import io
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import observe
from gateway.observe import AGAIN_S, FLUSH_LINES, MailLog, setup_logging


def attempted(log: MailLog, *, reply: str = "250 2.0.0 ok") -> None:
    log.attempted(
        "delivered",
        message="eml_1",
        to="a@example.com",
        route="direct",
        host="mx.example.com",
        address="192.0.2.1",
        tls="TLSv1.3",
        attempt=1,
        took_ms=12,
        reply=reply,
        extra={"possible_duplicate": True},
    )


def test_text_lines_hold_key_value_pairs() -> None:
    stream = io.StringIO()
    log = MailLog(stream)
    log.accepted(message="eml_1", door="smtp", key="shop", sender="a@b.c", recipients=2, size=5, client="127.0.0.1")
    attempted(log)
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z accepted id=eml_1 door=smtp key=shop from=a@b\.c recipients=2 size=5 "
        r"client=127\.0\.0\.1",
        first,
    )
    assert 'reply="250 2.0.0 ok" possible_duplicate=true' in second


def test_a_foreign_reply_cannot_forge_a_line_or_a_field() -> None:
    for as_json in (False, True):
        stream = io.StringIO()
        attempted(MailLog(stream, as_json=as_json), reply='250 ok\r\n2026 delivered id=eml_2 "x"\x1b[31m\u2028')
        assert len(stream.getvalue().splitlines()) == 1
        assert "\x1b" not in stream.getvalue()


def test_json_lines_parse() -> None:
    stream = io.StringIO()
    log = MailLog(stream, as_json=True)
    log.refused(door="http", key="shop", client="::1", reason="sender_not_allowed", text="no")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["key"], line["reason"]) == ("refused", "shop", "sender_not_allowed")


def test_lines_are_gathered_until_the_deferred_flush_or_the_bound() -> None:
    scheduled: list[Callable[[], None]] = []
    stream = io.StringIO()
    log = MailLog(stream, defer=scheduled.append)
    attempted(log)
    attempted(log)
    assert stream.getvalue() == ""
    assert len(scheduled) == 1
    scheduled[0]()
    assert stream.getvalue().count("\n") == 2
    for _ in range(FLUSH_LINES):
        attempted(log)
    assert stream.getvalue().count("\n") == 2 + FLUSH_LINES


def test_the_daemons_own_log_has_the_same_form() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        setup_logging("info", as_json=False, stream=stream)
        logging.getLogger("gateway.test").info("started %s", "now")
        logging.getLogger("other").info("not shown")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert stream.getvalue().endswith('info logger=gateway.test text="started now"\n')


def test_in_the_journal_lines_begin_with_their_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sd-daemon(3); the journal has the time, and knows by JOURNAL_STREAM that it is meant (systemd.exec(5))."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        try:
            setup_logging("debug", as_json=False, stream=stream)
            log = logging.getLogger("gateway.test")
            for tell in (log.debug, log.info, log.warning, log.error):
                tell("this")
            attempted(MailLog(stream))
            setup_logging("debug", as_json=True, stream=stream)
            log.info("this")
        finally:
            root.handlers[:] = before
            root.setLevel(level)
        stream.seek(0)
        *own, mail, as_json = stream.read().splitlines()
    assert [line.split(" ")[0] for line in own] == ["<7>debug", "<6>info", "<4>warning", "<3>error"]
    assert own[2] == "<4>warning logger=gateway.test text=this"
    assert mail.startswith("<6>delivered id=eml_1 to=")
    assert json.loads(as_json)["event"] == "info"


def test_another_stream_is_not_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of a unit whose log goes elsewhere has the variable too."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:15")
    with (tmp_path / "file").open("w+") as stream:
        attempted(MailLog(stream))
        stream.seek(0)
        assert re.match(r"\d{4}-.* delivered ", stream.read())
    no_file = io.StringIO()
    attempted(MailLog(no_file))
    assert re.match(r"\d{4}-.* delivered ", no_file.getvalue())


def test_the_form_and_the_level_can_change() -> None:
    stream = io.StringIO()
    log = MailLog(stream)
    log.reconfigure(as_json=True, enabled=False)
    attempted(log)
    log.reconfigure(as_json=True, enabled=True)
    attempted(log)
    assert json.loads(stream.getvalue())["event"] == "delivered"


def refused(
    log: MailLog, *, client: str = "192.0.2.7", reason: str = "x", key: str = "shop", always: bool = False
) -> None:
    log.refused(door="smtp", key=key, client=client, reason=reason, text="No.", always=always)


def test_the_same_refusal_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    stream, now = io.StringIO(), [100.0]
    log = MailLog(stream, monotonic=lambda: now[0])
    with caplog.at_level(logging.DEBUG, "gateway.mail"):
        for _ in range(3):
            refused(log)
        assert stream.getvalue().count("\n") == 1
        assert [record.getMessage() for record in caplog.records] == ["refused again: No."] * 2
    refused(log, client="192.0.2.8")
    refused(log, reason="y")
    refused(log, key="web")
    assert stream.getvalue().count("\n") == 4
    now[0] += AGAIN_S - 1
    refused(log)
    refused(log, always=True)
    assert stream.getvalue().count("\n") == 5
    now[0] += AGAIN_S
    refused(log)
    assert stream.getvalue().count("\n") == 6


def test_what_is_remembered_of_refusals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MOST_TOLD", 10)
    stream = io.StringIO()
    log = MailLog(stream)
    for number in range(11):
        refused(log, client=f"192.0.2.{number}")
    refused(log, client="192.0.2.10")
    assert stream.getvalue().count("\n") == 11
    refused(log, client="192.0.2.0")  # the oldest
    assert stream.getvalue().count("\n") == 12


def test_an_attempt_of_which_little_is_known_says_no_more() -> None:
    stream = io.StringIO()
    log = MailLog(stream)
    known: dict[str, Any] = {"message": "eml_1", "to": "a@example.com", "route": "direct", "attempt": 0, "took_ms": 0}
    nothing: dict[str, Any] = {"host": "", "address": "", "tls": "", "reply": ""}
    log.attempted("expired", **known, **nothing, extra={"class": "MessageExpired"})
    log.attempted("expired", **known, **(nothing | {"host": "mx.example.com", "reply": "450 later"}), extra={})
    first, second = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert first == "expired id=eml_1 to=a@example.com route=direct attempt=0 ms=0 class=MessageExpired"
    assert second.endswith('route=direct host=mx.example.com attempt=0 ms=0 reply="450 later"')
