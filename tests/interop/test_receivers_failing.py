"""What becomes of mail at a Postfix smtp-sink that fails at one stage: hangs up, refuses for now, refuses for good."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.peers.client import http_send, message_json
from tests.peers.daemon import Daemon
from tests.peers.process import free_port, listens, require, wait_until
from tests.peers.status import status

pytestmark = pytest.mark.slow

RECIPIENT: Final = "you@example.net"
HANG_UP, FOR_NOW, FOR_GOOD = "-q", "-r", "-f"
FATES: Final[dict[tuple[str, str], str]] = {
    **{(HANG_UP, stage): "deferred" for stage in ("connect", "ehlo", "mail", "rcpt", "data", ".")},
    **{(FOR_NOW, stage): "deferred" for stage in ("mail", "rcpt", "data", ".")},
    **{(FOR_GOOD, stage): "bounced" for stage in ("mail", "rcpt", "data", ".")},
    (FOR_NOW, "ehlo"): "deferred",
    (FOR_GOOD, "ehlo"): "delivered",  # by HELO: a host may know no EHLO
    # A greeting is about us, not about the recipient.
    (FOR_NOW, "connect"): "deferred",
    (FOR_GOOD, "connect"): "deferred",
    # What was accepted stays so, whatever is said afterwards.
    (HANG_UP, "quit"): "delivered",
    (FOR_NOW, "quit"): "delivered",
    (FOR_GOOD, "quit"): "delivered",
    ("-s", "mail"): "delivered",  # it logs
    ("-a", ""): "delivered",  # no ESMTP
    ("-p", ""): "delivered",  # no PIPELINING
    ("-8", ""): "delivered",  # no 8BITMIME
}


def _name(case: tuple[str, str]) -> str:
    return "".join(case).replace("-", "x").replace(".", "dot")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a route and a key for each sink."""
    directory = tmp_path_factory.mktemp("sinks")
    ports = {case: free_port() for case in FATES}
    sinks = [_sink(case, port) for case, port in ports.items()]
    routes = {
        _name(case): {"type": "relay", "host": "127.0.0.1", "port": port, "tls": "none"} for case, port in ports.items()
    }
    settings = {
        "routes": routes,
        "default_route": next(iter(routes)),
        "keys": {name: _key(directory, name) for name in routes},
    }
    try:
        for port in ports.values():
            wait_until(lambda port=port: listens(port), "a sink listens")  # type: ignore[misc] # the port of this turn
        with Daemon(directory / "gw", settings) as running:
            yield running
    finally:
        for sink in sinks:
            sink.kill()
            sink.wait()


def _sink(case: tuple[str, str], port: int) -> subprocess.Popen[bytes]:
    option, stage = case
    return subprocess.Popen(
        [require("smtp-sink"), "-u", "postfix", option, *([stage] if stage else []), f"127.0.0.1:{port}", "20"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _secret(name: str) -> str:
    return f"key-of-{name}".ljust(30, "0")


def _key(directory: Path, name: str) -> dict[str, Any]:
    path = directory / f"{name}.key"
    path.write_text(_secret(name))
    path.chmod(0o600)
    return {"secret": {"file": str(path)}, "account": name, "route": name}


@pytest.mark.parametrize("case", FATES, ids=_name)
def test_a_failing_host(daemon: Daemon, case: tuple[str, str]) -> None:
    secret = _secret(_name(case))
    id_ = http_send(daemon.http_port, message_json(RECIPIENT), secret=secret).id
    found: dict[str, Any] = {}

    def tried() -> bool:
        found.update(status(daemon, id_, secret=secret).body["data"]["recipients"][0])
        return bool(found["attempts"])

    wait_until(tried, "an attempt")
    assert (found["state"], found["attempts"]) == (FATES[case], 1), found
    assert found["possible_duplicate"] is (case == (HANG_UP, ".")), found
