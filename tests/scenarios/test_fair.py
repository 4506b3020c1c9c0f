"""Nobody in another's way: bulk, priorities, hosts that want less, tarpits, dead nameservers, counted in messages."""

import contextlib
import http.client
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import SECRET, Daemon, broken_twin, relay_to
from tests.peers.dns import PeerDns, aside
from tests.peers.process import wait_until
from tests.peers.scripted import HUSH, Act, Scripted, ScriptedThread
from tests.peers.sink import Sink
from tests.peers.status import wait_for_state

pytestmark = pytest.mark.slow

BULK = 2000
WIDTH = 20  # delivery.concurrency.maximum
IN_HAND = 60  # messages of a lane that delivers
OTHER = "another-key-of-30-characters-00"


def test_neither_a_single_message_nor_an_urgent_one_waits_for_anothers_bulk(make_daemon: MakeDaemon) -> None:
    with Sink(dot_delay_s=0.02) as sink, make_daemon(relay_to(sink.port)) as daemon:
        daemon.cli("key", "create", "other", "--account", "other", "--secret-stdin", stdin=OTHER)
        in_bulk(daemon, BULK)
        waited = {}
        for number, priority in enumerate(("high", "normal", "high", "normal")):
            wait_until(lambda number=number: len(sink.accepted) >= 200 + 300 * number, "the bulk is on its way")  # type: ignore[misc]
            to = f"{priority}{number}@example.net"
            body = message_json(to) | {"priority": priority}
            id_ = http_send(daemon.http_port, body, secret=OTHER).id
            before = len(sink.accepted)
            wait_until(lambda to=to: any(to in one.recipients for one in sink.accepted), f"{id_} at the sink")  # type: ignore[misc]
            order = sorted(sink.accepted, key=lambda one: one.accepted_at)
            waited[to] = next(place for place, one in enumerate(order) if to in one.recipients) - before
        assert all(count <= IN_HAND + WIDTH for count in waited.values()), waited
        sink.wait_for(BULK + 4, timeout_s=60)
        assert daemon.stop() == 0, daemon.tail()


def in_bulk(daemon: Daemon, count: int) -> None:
    """That many messages of the key `shop`, to as many recipients."""

    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=60)
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    for start in range(0, count, 500):
        messages = [message_json(f"bulk{number}@example.net") for number in range(start, start + 500)]
        connection.request("POST", "/api/v1/emails/send/batch", json.dumps({"messages": messages}), headers)
        response = connection.getresponse()
        assert response.status == 201, response.read(300)
        response.read()
    connection.close()


class Crowded(Sink):
    """Takes `most` connections at a time; the others are told to come back. Counts them all."""

    def __init__(self, most: int) -> None:
        super().__init__(dot_delay_s=0.02)
        self.most = most
        self.refused = 0
        self.most_open = 0
        self.first_open = 0  # when the first message was accepted
        self.answer = self._judge

    def _judge(self, line: str) -> str | None:
        if not line.startswith("MAIL"):
            return None
        in_use = len(self.sessions)
        self.most_open = max(self.most_open, in_use)
        if not self.accepted:
            self.first_open = self.most_open
        if in_use <= self.most:
            return None
        self.refused += 1
        return "421 4.7.0 too many connections"


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "deaf"])
def test_d14_a_host_that_wants_less_gets_less(make_daemon: MakeDaemon, tmp_path: Path, broken: bool) -> None:
    settings: dict[str, Any] = {"delivery": {"retry": ["1s"]}}
    twin: dict[str, Any] = {}
    if broken:
        twin["source"] = broken_twin(
            tmp_path / "twin", "delivery/pacing.py", "return Outcome.SLOWED", "return Outcome.ANSWERED"
        )
    with Crowded(6) as sink, make_daemon(relay_to(sink.port) | settings, **twin) as daemon:
        in_bulk(daemon, 500)
        sink.wait_for(500, timeout_s=60)
        assert sink.most_open <= WIDTH
        assert sink.first_open <= 5
        if broken:
            assert sink.refused > 60
        else:
            assert sink.most_open > 6  # it found out
            assert sink.refused <= 60


TARPITS = 12
PLACES = 8
LONG = b"well " * 80 + b"\r\n"


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "without bounds"])
def test_d6_tarpits_hold_their_own_places(make_daemon: MakeDaemon, tmp_path: Path, broken: bool) -> None:
    slow_greeting = {"greeting": Act(b"220 " + LONG, every_s=1.0)}
    slow_replies = {"mail": Act(b"250 " + LONG, every_s=1.0)}
    twin: dict[str, Any] = {}
    if broken:
        twin["source"] = broken_twin(
            tmp_path / "twin", "delivery/places.py", "= total - total // _NO_STRANGERS", "= total"
        )
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(ScriptedThread())
        tarpits = [
            stack.enter_context(ScriptedThread(script))
            for script in itertools.islice(itertools.cycle([slow_greeting, slow_replies, {"greeting": HUSH}]), TARPITS)
        ]
        routes = {"good": route(good)} | {f"t{number}": route(tarpit) for number, tarpit in enumerate(tarpits)}
        keys = {name: key(tmp_path, name) for name in routes}
        settings = {"routes": routes, "default_route": "good", "keys": keys, "delivery": {"connections": PLACES}}
        daemon = stack.enter_context(make_daemon(settings, **twin))
        send(daemon, "good", "first@good.test")
        wait_until(lambda: len(good.taken) == 1, "the first message")
        for _, name in itertools.product(range(6), list(routes)[1:]):
            send(daemon, name, f"r@{name}.test")
        wait_until(lambda: held(tarpits) >= (PLACES if broken else PLACES - 2), "the tarpits hold what they may")
        if broken:
            send(daemon, "good", "never@good.test")
            with pytest.raises(TimeoutError):
                wait_until(lambda: len(good.taken) > 1, "it", timeout_s=3)
            return
        for number in range(20):
            send(daemon, "good", f"{number}@good.test")
            wait_until(lambda number=number: len(good.taken) == number + 2, "delivery past the tarpits")  # type: ignore[misc]
            assert held(tarpits) <= PLACES - 2
        # Who says nothing is asked by one connection, whatever there is for it.
        assert all(tarpit.connections <= 1 for tarpit in tarpits if "greeting" in tarpit.script)
        assert not any(tarpit.taken for tarpit in tarpits)


def route(host: Scripted) -> dict[str, Any]:
    return {"type": "relay", "host": "127.0.0.1", "port": host.port, "tls": "none"}


def key(directory: Path, name: str) -> dict[str, Any]:
    """A key of that name and route; its text is the name, made long."""
    secret = directory / f"{name}.secret"
    secret.write_text(text_of(name))
    secret.chmod(0o600)
    return {"secret": {"file": str(secret)}, "account": "shop", "route": name}


def text_of(name: str) -> str:
    return f"key-of-{name}-".ljust(30, "0")


def send(daemon: Daemon, name: str, to: str) -> str:
    return smtp_send(daemon.smtp_port, "shop@example.com", [to], message_bytes(to), secret=text_of(name))


def held(tarpits: list[Scripted]) -> int:
    return sum(tarpit.open for tarpit in tarpits)


DEAD = 1000
EACH = 10


@pytest.fixture(scope="module")
def dead_dns() -> Iterator[PeerDns]:
    dead = "".join(f"d{number}.dead.test TIMEOUT\n" for number in range(DEAD))
    with aside(
        PeerDns(f"{dead}mx.test A 127.0.0.1\n" + "".join(f"g{n}.test MX 10 mx.test\n" for n in range(10)))
    ) as dns:
        yield dns


def test_d3_a_dead_nameserver_delays_only_its_own_domains(make_daemon: MakeDaemon, dead_dns: PeerDns) -> None:
    with ScriptedThread() as good:
        settings = {
            "dns": {"nameservers": [str(dead_dns.listen)]},
            "routes": {"direct": {"type": "mx", "port": good.port, "tls": "none", "mta_sts": False, "dane": False}},
            "default_route": "direct",
        }
        with make_daemon(settings) as daemon:
            dead = [f"r@d{number}.dead.test" for number in range(DEAD)]
            for number in range(EACH):
                smtp_send(daemon.smtp_port, "shop@example.com", dead, message_bytes(f"all{number}@dead.test"))
            wait_until(lambda: len({name for name, _, _ in dead_dns.queries if "dead" in name}) > DEAD // 2, "lookups")
            before = waiting(daemon)
            for number in range(20):  # the first ten go to domains nobody knows yet
                to = f"{number}@g{number % 10}.test"
                id_ = smtp_send(daemon.smtp_port, "shop@example.com", [to], message_bytes(to))
                assert wait_for_state(daemon, id_, "delivered")["attempts"] == 1
            assert len(good.taken) == 20
            # Behind them, each would have waited for thousands.
            assert waiting(daemon) - before < DEAD * EACH // 2
            total = daemon.json("queue", "summary")["total"]
            assert sum(total.values()) == DEAD * EACH  # nothing was given up for good


def waiting(daemon: Daemon) -> int:
    """How many recipients wait for another attempt."""
    return int(daemon.json("queue", "summary")["total"]["waiting"])
