"""A changed configuration reaches a running daemon, whole or not at all; what cannot be applied is named."""

import gc
import http.client
import json
import logging
import os
import signal
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from trustme import KeyType

from gateway import configfile
from gateway.app import Gateway
from gateway.config import Config, Delivery, Limits
from tests.conftest import MakeDaemon
from tests.fakes import certs
from tests.peers.client import http_send, message_bytes, message_json
from tests.peers.daemon import SECRET, Daemon, dkim_domain, relay_to
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink
from tests.peers.status import wait_for_state

RECIPIENT = "you@example.net"
OTHER_SECRET = "another-key-of-thirty-chars-00"
EXIT_CONFIG = 78


def _run(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        daemon._command(*arguments),
        env=daemon._environment,
        cwd=daemon.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _change(daemon: Daemon, **settings: Any) -> None:
    """In the file, in place of what it says at the top."""
    daemon.config.write_text(yaml.safe_dump(yaml.safe_load(daemon.config.read_text()) | settings, sort_keys=False))


def _logged(daemon: Daemon, text: str) -> None:
    wait_until(lambda: text in daemon.log.read_text(), f"the log says {text!r}", timeout_s=60)


@pytest.mark.slow
def test_a_changed_route_reaches_queued_mail(make_daemon: MakeDaemon, sink: Sink) -> None:
    """And so do keys; what was refused before is taken, what was taken is refused; the store is where it was."""
    with make_daemon(relay_to(free_port())) as daemon:
        id_ = http_send(daemon.http_port, message_json(RECIPIENT)).id
        wait_for_state(daemon, id_, "deferred", 60)
        secret = daemon.directory / "web.secret"
        secret.write_text(OTHER_SECRET)
        secret.chmod(0o600)
        _change(
            daemon,
            **relay_to(sink.port),
            keys={"web": {"secret": {"file": str(secret)}, "account": "shop"}},
            store={"url": "sqlite:other.db"},
            hostname="other.test",
        )
        told = _run(daemon, "reload")
        assert told.returncode == 0, told.stderr
        assert told.stdout.splitlines() == [
            "applied: hostname",
            "applied: routes.relay.port",
            "applied: keys.shop",
            "applied: keys.web",
            "needs a restart: store.url",
        ]
        daemon.cli("queue", "retry", "--all")
        sink.wait_for(1, 60)
        assert http_send(daemon.http_port, message_json(RECIPIENT)).status == 401
        assert http_send(daemon.http_port, message_json(RECIPIENT), secret=OTHER_SECRET).status == 201
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
            assert client.ehlo()[1].startswith(b"other.test")
        assert daemon.json("status")["last_reload"]["needs_restart"] == ["store.url"]
        assert not (daemon.data / "other.db").exists()


@pytest.mark.slow
def test_a_bad_file_changes_nothing(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        before = daemon.config.read_text()
        daemon.config.write_text(
            before.replace("gateway.test", "other.test") + "limits: {connections: 0}\nnonsense: 1\n"
        )
        count = before.count("\n")
        told = _run(daemon, "reload")
        assert told.returncode == EXIT_CONFIG
        assert f"line {count + 1}: limits.connections" in told.stderr
        assert f"line {count + 2}: nonsense: unknown key" in told.stderr
        os.kill(daemon.pid, signal.SIGHUP)
        _logged(daemon, f"line {count + 2}: nonsense: unknown key")
        _logged(daemon, "nothing was changed")
        assert http_send(daemon.http_port, message_json(RECIPIENT)).status == 201
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
            assert client.ehlo()[1].startswith(b"gateway.test")
        status = daemon.json("status")
        assert not status["last_reload"]["ok"]
        assert len(status["last_reload"]["problems"]) == 2

        daemon.config.write_text(before)
        assert _run(daemon, "reload").stdout == "Nothing changed.\n"
        daemon.stop()
        assert _run(daemon, "status").returncode == 3
        assert _run(daemon, "reload").returncode == 1


@pytest.mark.slow
def test_the_daemon_is_asked_whatever_the_file_says(make_daemon: MakeDaemon, sink: Sink) -> None:
    """As the unit asks it: by its directory, which the file may no longer name."""
    with make_daemon(relay_to(sink.port)) as daemon:
        before = daemon.config.read_text()
        _change(daemon, data_dir=str(daemon.directory / "other"))
        alone = _run(daemon, "reload")
        assert alone.returncode == 1
        assert "name the old one: --data-dir" in alone.stderr
        named = ("reload", "--data-dir", str(daemon.data))
        told = _run(daemon, *named)
        assert (told.returncode, told.stdout) == (0, "needs a restart: data_dir\n")

        daemon.config.write_text("hostname: [\n")
        told = _run(daemon, *named)
        assert told.returncode == EXIT_CONFIG
        assert told.stderr.startswith(f"mail-gateway: {daemon.config}: the configuration cannot be used")
        _logged(daemon, "nothing was changed")
        assert _run(daemon, "status").returncode == EXIT_CONFIG
        status = daemon.json("status", "--data-dir", str(daemon.data))
        assert status["ready"]
        assert not status["last_reload"]["ok"]

        daemon.config.write_text(before)
        assert _run(daemon, *named).stdout == "Nothing changed.\n"


@pytest.mark.slow
def test_the_signal_does_the_same_and_the_manager_is_told(make_daemon: MakeDaemon, sink: Sink) -> None:
    with make_daemon(relay_to(sink.port)) as daemon:
        _change(daemon, hostname="other.test", log={"level": "info", "format": "json"})
        os.kill(daemon.pid, signal.SIGHUP)
        _logged(daemon, "applied: hostname, log.format")
        assert daemon._notify is not None
        daemon._notify.settimeout(60)
        told = b""
        while b"RELOADING=1" not in told or b"READY=1" not in told.partition(b"RELOADING=1")[2]:
            told += daemon._notify.recv(4096) + b"\n"
        assert b"RELOADING=1\nMONOTONIC_USEC=" in told
        http_send(daemon.http_port, message_json(RECIPIENT))
        _logged(daemon, '"event": "accepted"')


@pytest.mark.slow
def test_everything_that_can_change_does(make_daemon: MakeDaemon, sink: Sink, tmp_path: Path) -> None:
    """One look at each part that has its own idea of the configuration."""
    with make_daemon(relay_to(sink.port)) as daemon:
        domains, _ = dkim_domain(tmp_path / "keys")
        templates = tmp_path / "templates"
        (templates / "hello").mkdir(parents=True)
        (templates / "hello" / "body.txt").write_text("From a template.\n")
        _change(
            daemon,
            **domains,
            templates=str(templates),
            max_message="2MB",
            limits={"recipients_per_message": 1, "connections_per_ip": 50},
            smtp={
                "listeners": [
                    {
                        "listen": f"127.0.0.1:{daemon.smtp_port}",
                        "tls": "none",
                        "auth": "optional",
                        "networks": {"127.0.0.0/8": "shop"},
                    }
                ]
            },
            dialects={"disabled": ["guide"], "sendmux": {"success_status": 200}},
            delivery={"concurrency": {"initial": 1, "maximum": 2}, "connections": 3, "expire_after": "1h"},
            retention={"content": {"delivered": "1h"}},
        )
        told = _run(daemon, "reload")
        assert told.returncode == 0, told.stderr
        assert "needs a restart" not in told.stdout, told.stdout
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "2000000"
            assert "RCPTMAX=1" in client.esmtp_features["limits"]
            client.sendmail("shop@example.com", [RECIPIENT], message_bytes(RECIPIENT))  # its network is its key
        two = message_json(RECIPIENT) | {"to": [RECIPIENT, "two@example.net"]}
        assert http_send(daemon.http_port, two).status == 422
        by_template = {"from": "shop@example.com", "to": [RECIPIENT], "template": "hello"}
        answer = http_send(daemon.http_port, by_template)
        assert answer.status == 200
        sink.wait_for(2, 60)
        assert all(b"DKIM-Signature" in transaction.content for transaction in sink.accepted)
        shown = daemon.json("queue", "show", answer.id)
        lives = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
        assert lives <= timedelta(hours=1)  # five days were the default


@pytest.mark.slow
def test_new_certificates_for_both_doors(make_daemon: MakeDaemon, sink: Sink) -> None:
    """Sessions under way go on; half of a renewal is not used, and said. The new key is of another kind."""
    daemon = make_daemon(relay_to(sink.port))
    directory = daemon.directory / "tls"
    first = certs.make(directory)
    first.tls.key.chmod(0o600)
    _change(
        daemon,
        tls={"certificate": str(first.tls.certificate), "key": str(first.tls.key)},
        http={"listeners": [{"listen": f"127.0.0.1:{daemon.http_port}", "tls": "implicit"}], "admin": None},
        smtp={"listeners": [{"listen": f"127.0.0.1:{daemon.smtp_port}", "tls": "starttls"}]},
    )
    with daemon:
        old_client = smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30)
        old_client.starttls(context=first.client)
        old_client.login("shop", SECRET)
        old_requests = http.client.HTTPSConnection("localhost", daemon.http_port, context=first.client, timeout=30)
        assert _post(old_requests) == 201
        kept = old_requests.sock
        assert _works(daemon, first.client)

        key = first.tls.key.read_bytes()
        second = certs.make(directory, kind=KeyType.RSA)
        new_key = second.tls.key.read_bytes()
        second.tls.key.write_bytes(key)  # the certificate is new, its key not yet
        told = _run(daemon, "reload")
        assert told.returncode == EXIT_CONFIG
        assert "cannot be used together" in told.stderr
        _logged(daemon, "cannot be used together")
        assert _works(daemon, first.client)

        second.tls.key.write_bytes(new_key)
        os.kill(daemon.pid, signal.SIGHUP)
        _logged(daemon, "was read again; applied: ")
        assert _works(daemon, second.client)
        with pytest.raises(ssl.SSLCertVerificationError):
            _works(daemon, first.client)
        assert _post(old_requests) == 201
        assert old_requests.sock is kept
        old_requests.close()
        old_client.sendmail("shop@example.com", [RECIPIENT], message_bytes(RECIPIENT))
        old_client.quit()
        sink.wait_for(3, 60)


def _post(connection: http.client.HTTPSConnection) -> int:
    """Send a message on a kept connection; returns the status."""
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/emails/send", json.dumps(message_json(RECIPIENT)), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _works(daemon: Daemon, context: ssl.SSLContext) -> bool:
    with socket.create_connection(("127.0.0.1", daemon.http_port), timeout=30) as sock:
        context.wrap_socket(sock, server_hostname="localhost").close()
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
        client._host = "localhost"  # type: ignore[attr-defined]  # the name that the certificate has
        client.starttls(context=context)
    return True


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """A reload in this process sets up the log of this process."""
    root, ours = logging.getLogger(), logging.getLogger("gateway")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:], level, own = before
    root.setLevel(level)
    ours.setLevel(own)


@pytest.mark.usefixtures("logging_as_before")
async def test_nobody_keeps_what_was_in_force(tmp_path: Path) -> None:
    """Whatever works by the configuration works by the new one."""
    path = tmp_path / "gateway.yaml"
    text = """
data_dir: {data}
hostname: {name}
http: {{listeners: [{{listen: "127.0.0.1:0"}}], admin: null}}
smtp: {{listeners: [{{listen: "127.0.0.1:0"}}]}}
delivery: {{connections: {number}}}
limits: {{connections: {number}}}
keys: {{a{number}: {{secret: a-secret-of-enough-characters-{number}}}}}
local: {{key: a{number}, socket: {data}/s}}
"""
    path.write_text(text.format(data=tmp_path, name="a.test", number=7))
    path.chmod(0o600)
    async with Gateway(configfile.load(path)) as gateway:
        path.write_text(text.format(data=tmp_path, name="b.test", number=8))
        told = await gateway.actions()["reload"]({})
        assert told["applied"] == [
            "hostname",
            "limits.connections",
            "keys.a7",
            "keys.a8",
            "delivery.connections",
            "local.key",
        ]
        gc.collect()
        alive = [one for one in gc.get_objects() if isinstance(one, Config) and one.data_dir == tmp_path]
        assert {one.hostname for one in alive} == {"b.test"}
        assert not [one for one in gc.get_objects() if isinstance(one, Delivery | Limits) and one.connections == 7]
        assert gateway.config.hostname == "b.test"
