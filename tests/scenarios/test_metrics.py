"""What operators see of a running daemon: metrics that add up, its readiness, and a log whose level they can change."""

import re
import smtplib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import free_port, require, wait_until
from tests.peers.sink import Sink

PREFIX = "mailgateway_"
GOOD, GREY, BAD = "good@example.net", "grey@example.net", "bad@example.net"


def answers(command: str) -> str | None:
    """A sink that knows good from bad."""
    if command.upper().startswith("RCPT"):
        if BAD in command:
            return "550 5.1.1 no such user"
        if GREY in command:
            return "450 4.2.0 come again"
    return None


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


class Watcher:
    """Scrapes one daemon."""

    def __init__(self, url: str) -> None:
        self._url = url

    def samples(self) -> dict[str, float]:
        """By name without the prefix, and labels in their order."""
        return {
            sample.name.removeprefix(PREFIX)
            + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(fetch(self._url))
            for sample in family.samples
        }

    def wait(self, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """The first scrape of which that holds."""
        seen: list[dict[str, float]] = [{}]

        def look() -> bool:
            seen[0] = self.samples()
            return condition(seen[0])

        wait_until(look, "the metrics are not as they should be", 60)
        return seen[0]


def send_all(daemon: Daemon) -> None:
    """Two messages by HTTP, one of them for three; one by SMTP; two that are refused, one by each door."""
    everybody = message_json(GOOD) | {"to": [GOOD, GREY, BAD]}
    for body in (message_json(GOOD), everybody):
        assert http_send(daemon.http_port, body).status == 201
    smtp_send(daemon.smtp_port, "shop@example.com", [GOOD], message_bytes(GOOD))
    assert http_send(daemon.http_port, message_json(GOOD), secret="x" * 30).status == 401
    with pytest.raises(smtplib.SMTPAuthenticationError):
        smtp_send(daemon.smtp_port, "shop@example.com", [GOOD], b"x\r\n", secret="x" * 30)


def test_what_happens_can_be_scraped(make_daemon: MakeDaemon) -> None:
    with Sink(answer=answers) as sink, make_daemon(relay_to(sink.port)) as daemon:
        watcher = Watcher(f"http://127.0.0.1:{daemon.http_port}/metrics")
        send_all(daemon)
        # The queue is counted once in a while: the first look should find all of it. The log comes after the figures.
        ends = re.compile(r" (delivered|deferred|bounced) id=")
        wait_until(lambda: len(ends.findall(daemon.log.read_text())) == 5, "not every recipient was tried", 60)
        found = watcher.samples()
        assert found["ready"] == 1
        outcomes = {end: found[f"recipient_outcomes_total {end} relay"] for end in ("delivered", "deferred", "bounced")}
        assert outcomes == {"delivered": 3, "deferred": 1, "bounced": 1}
        assert (found["queue_recipients waiting relay"], found["queue_recipients ready relay"]) == (1, 0)
        assert (found["messages_accepted_total http"], found["messages_accepted_total smtp"]) == (2, 1)
        assert (found["recipients_accepted_total http"], found["recipients_accepted_total smtp"]) == (4, 1)
        assert (found["accept_seconds_count http"], found["accept_seconds_count smtp"]) == (2, 1)
        assert found["submissions_refused_total http authentication_required"] == 1
        assert found["submissions_refused_total smtp authentication_required"] == 2  # smtplib tries PLAIN and LOGIN
        assert found["smtp_refusals_total smtp 535 5.7.8"] == 2
        assert found["recipients_not_delivered_total InvalidRecipient bounced"] == 1
        assert found["delivery_seconds_count relay"] == 3
        assert found["attempts_total relay"] == found["attempt_seconds_count relay"] == 3
        assert found["http_requests_total /api/v1/emails/send 201"] == 2
        assert found["http_requests_total /api/v1/emails/send 401"] == 1
        assert found["tls_sessions_total out none"] >= 1
        assert found["backlog_messages"] >= 1
        assert found["queue_oldest_age_seconds relay"] >= 0
        assert found["store_commit_seconds_count"] == found["store_commit_jobs_count"] > 3
        assert found["process_open_fds"] > 10
        assert found["loop_lag_seconds_count"] > 0


@pytest.mark.slow
def test_the_admin_address_is_there_until_the_end(make_daemon: MakeDaemon, sink: Sink) -> None:
    """It serves readiness too, and says why not while what is on the wire is waited for."""
    admin, http = free_port(), free_port()
    listeners = {"http": {"listeners": [{"listen": f"127.0.0.1:{http}"}], "admin": f"127.0.0.1:{admin}"}}
    sink.dot_delay_s = 3600  # the delivery outlasts the test
    with make_daemon(relay_to(sink.port) | listeners) as daemon:
        assert "/metrics" in fetch(f"http://127.0.0.1:{admin}/")
        assert fetch(f"http://127.0.0.1:{admin}/health/ready") == '{"status":"ok"}'
        assert Watcher(f"http://127.0.0.1:{admin}/metrics").samples()["ready"] == 1
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(f"http://127.0.0.1:{http}/metrics")
        assert http_send(http, message_json(GOOD)).status == 201
        wait_until(lambda: any(one.dot_at for one in sink.transactions), "nothing is on the wire", 60)
        daemon.terminate()
        Watcher(f"http://127.0.0.1:{admin}/metrics").wait(lambda now: now["ready"] == 0)
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(f"http://127.0.0.1:{admin}/health/ready")
        assert refused.value.code == 503
        assert b"shutting down" in refused.value.read()
        refused.value.close()
        daemon.kill()


@pytest.mark.slow
def test_a_busy_admin_address_is_told_with_its_option(make_daemon: MakeDaemon, sink: Sink) -> None:
    admin = {"http": {"listeners": [{"listen": f"127.0.0.1:{free_port()}"}], "admin": f"127.0.0.1:{sink.port}"}}
    daemon = make_daemon(relay_to(sink.port) | admin)
    with pytest.raises(RuntimeError, match=rf"http\.admin \(127\.0\.0\.1:{sink.port}\)") as failed:
        daemon.start()
    assert "Traceback" not in str(failed.value)


@pytest.mark.slow
def test_the_level_of_the_log_changes_while_it_runs(make_daemon: MakeDaemon, sink: Sink) -> None:
    """Debug tells the dialogue, warning not even mail; without a daemon there is no level."""
    with make_daemon(relay_to(sink.port)) as daemon:
        log = daemon.log
        assert daemon.json("log") == {"level": "info", "configured": "info", "format": "text", "mail_log": True}
        sent = http_send(daemon.http_port, message_json(GOOD)).id
        wait_until(lambda: f"delivered id={sent}" in log.read_text(), f"{sent} is not in the log", 60)
        assert "gateway.dialogue" not in log.read_text()
        assert "level:" in daemon.cli("log", "level", "debug")
        sent = http_send(daemon.http_port, message_json(GOOD)).id
        spoken = f'logger=gateway.dialogue id={sent} host=127.0.0.1 text="> RCPT TO:<{GOOD}>"'
        wait_until(lambda: f"delivered id={sent}" in log.read_text(), f"{sent} is not in the log", 60)
        assert spoken in log.read_text()
        assert daemon.json("log", "level", "warning")["mail_log"] is False
        sent = http_send(daemon.http_port, message_json(GOOD)).id
        sink.wait_for(3)
        daemon.cli("reload")
        assert daemon.json("log")["level"] == "info"  # as the configuration has it
        daemon.stop()
        assert sent not in log.read_text()
        without = subprocess.run(
            [sys.executable, "-m", "gateway", "-c", str(daemon.config), "log"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert without.returncode == 1
        assert "no daemon runs here" in without.stderr


@pytest.mark.slow
def test_prometheus_agrees(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """What a whole daemon shows after mail passes the checks of promtool."""
    with Sink(answer=answers) as sink, make_daemon(relay_to(sink.port)) as daemon:
        send_all(daemon)
        watcher = Watcher(f"http://127.0.0.1:{daemon.http_port}/metrics")
        watcher.wait(lambda now: now.get("recipient_outcomes_total bounced relay") == 1)
        text = fetch(f"http://127.0.0.1:{daemon.http_port}/metrics")
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
