"""`mail-gateway dev`: a first try without a configuration. Everything is captured, nothing leaves the machine."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import ROOT
from tests.peers.process import free_port, require

RECIPIENT = "you@example.net"


@contextmanager
def _dev(directory: Path, http_port: int, smtp_port: int) -> Iterator[tuple[str, str]]:
    """(the key, all that was printed up to the log) of a running `dev`; it must end well at SIGTERM."""
    command = [sys.executable, "-m", "gateway", "dev", "--data-dir", str(directory / "var")]
    command += ["--http", f"127.0.0.1:{http_port}", "--smtp", f"127.0.0.1:{smtp_port}"]
    running = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert running.stdout is not None
    try:
        printed = ""
        for line in running.stdout:
            printed += line
            if line.startswith("Ctrl-C"):
                break
        found = re.search(r"^key: (mgw_\w+)$", printed, re.MULTILINE)
        assert found is not None, printed
        yield found[1], printed
        running.terminate()
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


def test_dev_takes_and_captures_mail(tmp_path: Path) -> None:
    http_port, smtp_port = free_port(), free_port()
    with _dev(tmp_path, http_port, smtp_port) as (key, printed):
        answer = http_send(http_port, message_json(RECIPIENT), secret=key)
        assert (answer.status, answer.body["data"]["status"]) == (201, "captured")
        assert smtp_send(smtp_port, "me@example.com", [RECIPIENT], message_bytes(RECIPIENT), secret=key)
        assert f"http://127.0.0.1:{http_port}/api/v1/emails/send" in printed
        assert f"swaks --server 127.0.0.1:{smtp_port}" in printed
        tracked = message_json("open@simulator.test") | {"track": True, "unsubscribe": "news"}
        assert http_send(http_port, tracked, secret=key).status == 201
        webhook = urllib.request.Request(
            f"http://127.0.0.1:{http_port}/api/v1/webhooks",
            json.dumps({"url": f"http://127.0.0.1:{free_port()}/"}).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(webhook, timeout=30) as made:
            assert json.load(made)["data"]["state"] == "pending"  # nobody answers its ping
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=30) as metrics:
            assert b"mailgateway_ready 1.0" in metrics.read()
    with _dev(tmp_path, http_port, smtp_port) as (again, _):
        assert again == key


def test_the_printed_lines_work(tmp_path: Path) -> None:
    require("curl")
    with _dev(tmp_path, free_port(), free_port()) as (_, printed):
        found = re.search(r"^  (curl (?:.*\\\n)*.*)$", printed, re.MULTILINE)
        assert found is not None, printed
        done = subprocess.run(["sh", "-c", found[1] + " -sS"], capture_output=True, text=True, check=True, timeout=30)
    assert '"captured"' in done.stdout


@pytest.mark.slow
def test_a_busy_port_names_the_option(tmp_path: Path) -> None:
    http_port = free_port()
    with _dev(tmp_path, http_port, free_port()):
        second = subprocess.run(
            [
                *(sys.executable, "-m", "gateway", "dev", "--data-dir", str(tmp_path / "other")),
                *("--http", f"127.0.0.1:{http_port}", "--smtp", f"127.0.0.1:{free_port()}"),
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert second.returncode != 0
    assert "--http" in second.stderr
    assert "Traceback" not in second.stderr
