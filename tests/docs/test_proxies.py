"""docs/howto/nginx.md and caddy.md as they stand: the proxies take them, and the gateway knows who the client is."""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.conftest import MakeDaemon
from tests.docs import blocks
from tests.docs.blocks import Block
from tests.fakes import certs
from tests.fakes.certs import Certificates
from tests.peers import packages
from tests.peers.client import message_json
from tests.peers.daemon import SECRET, Daemon
from tests.peers.process import free_port, listens, require, wait_until

pytestmark = pytest.mark.slow

CLIENT: Final = "127.0.0.2"  # an address of this machine that the proxy has not
CLAIMED: Final = "203.0.113.9"
NGINX: Final = """\
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{server}
}}
"""


def _only(name: str, mark: str) -> Block:
    (found,) = [block for block in blocks.of(blocks.ROOT / f"docs/howto/{name}.md") if block.mark == mark]
    return found


def _daemon(name: str, make_daemon: MakeDaemon) -> Daemon:
    """As the document configures it, on a port of its own."""
    http_settings = yaml.safe_load(_only(name, "config").text)["http"]
    daemon = make_daemon({"routes": {"inbox": {"type": "capture"}}, "default_route": "inbox"})
    listen = http_settings["listeners"][0]
    listen["listen"] = f"127.0.0.1:{daemon.http_port}"
    settings = {"routes": {"inbox": {"type": "capture"}}, "default_route": "inbox"}
    daemon.write_config({**settings, "http": {**http_settings, "admin": f"127.0.0.1:{free_port()}"}})
    return daemon.start()


@contextmanager
def _running(command: list[str], directory: Path, port: int) -> Iterator[None]:
    output = directory / "output"
    home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, env=os.environ | home, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=directory
        )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "the proxy listens", 60)
        assert process.poll() is None, output.read_text()
        yield
    finally:
        process.terminate()
        process.wait(30)


def _check(connection: http.client.HTTPConnection, daemon: Daemon) -> None:
    """A message goes through, a claimed address does not, health is nobody's."""
    headers = {
        "Authorization": f"Bearer {SECRET}",
        "Content-Type": "application/json",
        "X-Forwarded-For": CLAIMED,
        "Host": "mail.example.com",
    }
    connection.request("POST", "/api/v1/emails/send", json.dumps(message_json("you@example.net")), headers)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 201, said
    connection.request("GET", "/health/live", headers={"Host": "mail.example.com"})
    hidden = connection.getresponse()
    hidden.read()
    assert hidden.status == 404
    wait_until(lambda: "accepted" in daemon.tail(), "the log has it", 60)
    assert f"client={CLIENT}" in daemon.tail()
    assert CLAIMED not in daemon.tail()


def test_nginx(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    program = require("nginx")
    daemon = _daemon("nginx", make_daemon)
    made: Certificates = certs.make(tmp_path / "tls", "mail.example.com", "127.0.0.1")
    port = free_port()
    server = (
        _only("nginx", "nginx")
        .text.replace("127.0.0.1:8025", f"127.0.0.1:{daemon.http_port}")
        .replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        .replace("/etc/mail-gateway", str(tmp_path / "tls"))
    )
    path = tmp_path / "nginx.conf"
    path.write_text(NGINX.format(directory=tmp_path, server=server))
    command = [program, "-p", str(tmp_path), "-c", str(path), "-e", str(tmp_path / "error.log")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    with _running(command, tmp_path, port):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=60, source_address=(CLIENT, 0), context=made.client
        )
        _check(connection, daemon)
        connection.close()


def test_caddy(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    program = str(packages.debian("caddy") / "usr/bin/caddy")
    daemon = _daemon("caddy", make_daemon)
    text = _only("caddy", "caddy").text
    port = free_port()
    path = tmp_path / "Caddyfile"
    path.write_text(text)
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [program, "validate", "--adapter", "caddyfile", "--config", str(path)],
        env=os.environ | home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not formatted" not in done.stderr
    # In clear on a port of ours: a certificate for that name is not to be had here.
    text = text.replace("mail.example.com {", f"http://127.0.0.1:{port}, http://mail.example.com:{port} {{", 1)
    path.write_text("{\n\tadmin off\n}\n" + text.replace("127.0.0.1:8025", f"127.0.0.1:{daemon.http_port}"))
    with _running([program, "run", "--adapter", "caddyfile", "--config", str(path)], tmp_path, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(CLIENT, 0))
        _check(connection, daemon)
        connection.close()


def test_postfix_takes_what_its_howto_says(tmp_path: Path) -> None:
    """Every parameter is one that Postfix knows and would use."""
    program = require("postconf")
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n" + _only("postfix", "postfix").text)
    (tmp_path / "master.cf").write_text("")
    done = subprocess.run([program, "-c", str(tmp_path), "-n"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "unused parameter" not in done.stderr
    for line in _only("postfix", "postfix").text.splitlines():
        assert line in done.stdout
