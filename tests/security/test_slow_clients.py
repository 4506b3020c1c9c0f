"""Clients that only wait, or send a byte now and then: honest ones go on being served, and the slow ones go.

The deadlines of the daemon are shortened to TIMEOUT_S, so that their end can be seen, or to GATHERED_S where all of a
crowd must have come before the first of it goes: that takes 7 s, and 15 on a machine that has much else to do. Where
the machine allows fewer open files than 10,000 idle and 2,000 dripping connections need, the crowd is smaller, and that
is printed.
"""

import base64
import json
import shutil
import smtplib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.peers.client import http_send, message_bytes, message_json, smtp_send, smtp_transaction
from tests.peers.daemon import ROOT, SECRET, Daemon
from tests.peers.process import cpu_s, rss_mb, wait_until
from tests.security.crowd import Crowd, Group, room
from tests.security.rawhttp import SEND, Raw, head

pytestmark = pytest.mark.slow

Fault = tuple[str, str, str]  # file, what stands there, what is put in its place

TIMEOUT_S: Final = 20.0
GATHERED_S: Final = 60.0
LATE_S: Final = 40.0  # the longest that a slow one may stay beyond that: checks, lingering, a busy machine
HTTP_IDLE, SMTP_IDLE, DRIPPING = 8000, 2000, 2000
HONEST: Final = 50  # messages by each door
MOST_RSS_MB: Final = 400
DEFAULT_FILES: Final = 1024  # that a service may open, where nothing else is said
FEW_FILES: Final = 80  # and fewer than both doors' parts and its own files: none can be opened for a connection

WATCHED_S: Final = 4.0
BUSY: Final = 0.2  # of one processor
SOURCES: Final = tuple(f"127.0.0.{n}" for n in range(2, 62))
BY_NOBODY: Final = {"connections": 100_000, "connections_per_ip": 100_000}
TEXT: Final = "It works.\n" * 1000
MAIL: Final = json.dumps(message_json("ann@example.net")).encode()
LOGIN: Final = base64.b64encode(f"\0client\0{SECRET}".encode()).decode()
INTO_DATA: Final = (
    f"EHLO client.test\r\nAUTH PLAIN {LOGIN}\r\nMAIL FROM:<shop@example.com>\r\nRCPT TO:<ann@example.net>\r\nDATA\r\n"
)


def _deadlines(timeout_s: float) -> tuple[Fault, ...]:
    return (
        ("api/connection.py", "KEEPALIVE_S: Final = 75.0", f"KEEPALIVE_S: Final = {timeout_s}"),
        ("api/body.py", "GRACE_S: Final = 30.0", f"GRACE_S: Final = {timeout_s}"),
        ("smtp/listener.py", "TIMEOUT_S: Final = 300.0", f"TIMEOUT_S: Final = {timeout_s}"),
    )


def _gateway(directory: Path, *faults: Fault) -> Path:
    """A copy of the gateway with other deadlines, or other faults."""
    shutil.copytree(ROOT / "gateway", directory / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in faults:
        path = directory / "gateway" / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} holds {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new))
    return directory


@contextmanager
def _daemon(
    directory: Path, limits: Mapping[str, Any], *faults: Fault, files: int = 0, timeout_s: float = TIMEOUT_S
) -> Iterator[Daemon]:
    """`files` it may open; as many as the machine allows unless said."""
    settings = {"routes": {"here": {"type": "capture"}}, "default_route": "here", "limits": limits}
    prefix = ["/bin/sh", "-c", 'ulimit -n "$0" && exec "$@"', str(files or room())]
    source = _gateway(directory / "source", *_deadlines(timeout_s), *faults)
    with Daemon(directory / "gw", settings, prefix=prefix, source=source) as running:
        yield running


def _whole_crowd(daemon: Daemon) -> list[Group]:
    """Everybody; less of them where the machine cannot have so many."""
    share = min(1.0, room() / (2.2 * HTTP_IDLE + DRIPPING))  # the HTTP door has half of what the daemon may open
    if share < 1:
        print(f"only {room()} connections can be open here: {share:.0%} of the crowd comes")
    http, smtp, few = daemon.http_port, daemon.smtp_port, int(DRIPPING * share) // 4
    large = head("Content-Length: 1000000").decode()
    return [
        # First those that could use up the memory: what they announce is more than all of it.
        Group("http large body", http, 100, large, " ", SOURCES),
        Group("http body", http, max(0, few - 100), head("Content-Length: 100000").decode(), " ", SOURCES),
        Group("http head", http, few, f"POST {SEND} HTTP/1.1\r\nHost: gateway.test\r\nX: ", "x", SOURCES),
        Group("smtp command", smtp, few, "EHLO ", "x", SOURCES),
        Group("smtp data", smtp, few, INTO_DATA, "x", SOURCES),
        Group("http idle", http, int(HTTP_IDLE * share), sources=SOURCES),
        Group("smtp idle", smtp, int(SMTP_IDLE * share), sources=SOURCES),
    ]


def _honest_are_served(daemon: Daemon, count: int = HONEST) -> None:
    for number in range(count):
        assert http_send(daemon.http_port, message_json(f"a{number}@example.net", text=TEXT)).status == 201
        smtp_send(daemon.smtp_port, "shop@example.com", ["ann@example.net"], message_bytes("ann@example.net"))


def test_honest_clients_among_thousands_of_slow_ones(tmp_path: Path) -> None:
    with _daemon(tmp_path, BY_NOBODY, timeout_s=GATHERED_S) as daemon:
        groups = _whole_crowd(daemon)
        with Crowd(groups) as crowd:
            _honest_are_served(daemon)
            rss = rss_mb([daemon.pid])
            seen = crowd.standing()
            print(seen, f"{rss:.0f} MB")
            for group in groups:
                # Large bodies wait for memory, and are told to come again when there is none for a while.
                if group.name != "http large body":
                    assert seen.open[group.name] == group.count
            assert rss < MOST_RSS_MB
            wait_until(lambda: not crowd.standing().open, "the slow ones are gone", GATHERED_S + LATE_S)
        _honest_are_served(daemon, 1)


def test_a_memory_that_large_bodies_may_use_up_is_seen(tmp_path: Path) -> None:
    fault = ("budget.py", "self.most_large = limit - limit // _FOR_SMALL", "self.most_large = limit")
    with _daemon(tmp_path, BY_NOBODY, fault, timeout_s=GATHERED_S) as daemon, Crowd(_whole_crowd(daemon)):
        assert http_send(daemon.http_port, message_json("ann@example.net", text=TEXT)).status == 503


def test_deadlines_that_do_not_come_are_seen(tmp_path: Path) -> None:
    deadline = "timer.reschedule(start + min(self._grace_s + size / MIN_BYTES_PER_S, MAX_S))"
    fault = ("api/body.py", deadline, "timer.reschedule(None)")
    with _daemon(tmp_path, BY_NOBODY, fault) as daemon, Raw(daemon.http_port, timeout_s=1.0) as client:
        client.send(head("Content-Length: 100000"))
        for _ in range(int(TIMEOUT_S + 5)):
            client.send(b" ")
            assert not client.closed()


def test_one_address_has_its_share_of_connections(tmp_path: Path) -> None:
    with _daemon(tmp_path, {"connections_per_ip": 50}) as daemon:
        many = ("127.0.0.7",)
        groups = [
            Group("one address", daemon.smtp_port, 200, sources=many),
            Group("many addresses", daemon.smtp_port, 600, sources=SOURCES[10:40]),
            Group("loopback", daemon.http_port, 200, sources=many),
        ]
        with Crowd(groups) as crowd:
            _honest_are_served(daemon)
            seen = crowd.standing()
            assert (seen.open["one address"], seen.refused["one address"]) == (50, 150)
            assert (seen.open["many addresses"], seen.refused["many addresses"]) == (600, 0)
            assert seen.open["loopback"] == 200  # by HTTP there may be a proxy before it


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("files", [DEFAULT_FILES, FEW_FILES])
def test_no_more_files_can_be_opened(tmp_path: Path, loop: str, files: int) -> None:
    with _daemon(tmp_path, BY_NOBODY, *_run_on(loop), files=files) as daemon:
        http, smtp = Raw(daemon.http_port), smtplib.SMTP("127.0.0.1", daemon.smtp_port, "client.test", 30)
        with http, smtp:
            smtp.ehlo()
            smtp.login("client", SECRET)
            http.send(head(method="GET", path="/health/live"))
            assert http.reply().status == 200
            many = 3 * files // 2
            groups = [Group("http", daemon.http_port, many), Group("smtp", daemon.smtp_port, many)]
            with Crowd(groups) as crowd:
                used = _used(daemon)
                seen = crowd.standing()
                print(seen, f"{used:.0%} of a processor")
                assert used < BUSY
                if files == DEFAULT_FILES:  # those beyond the doors' parts are told, and there is room for the rest
                    assert (seen.open + seen.refused) == {"http": many, "smtp": many}
                    assert "error" not in daemon.tail()
                # Who is known already sends mail.
                for _ in range(10):
                    smtp_transaction(smtp, "shop@example.com", ["ann@example.net"], message_bytes("ann@example.net"))
                    http.send(head(f"Content-Length: {len(MAIL)}") + MAIL)
                    assert http.reply().status == 201
            wait_until(lambda: _is_served(daemon), "a new client is served again")
        _honest_are_served(daemon, 1)


def _used(daemon: Daemon) -> float:
    """How much of a processor it uses, seen for a while."""
    before = cpu_s([daemon.pid])
    with pytest.raises(TimeoutError):
        wait_until(lambda: False, "it is watched", WATCHED_S)
    return (cpu_s([daemon.pid]) - before) / WATCHED_S


def _run_on(loop: str) -> tuple[Fault, ...]:
    return (("cli/serve.py", "import uvloop", "raise ImportError"),) if loop == "asyncio" else ()


def _is_served(daemon: Daemon) -> bool:
    try:
        return http_send(daemon.http_port, message_json("ann@example.net")).status == 201
    except OSError:
        return False
