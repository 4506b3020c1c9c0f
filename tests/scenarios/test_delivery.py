"""What becomes of a message at the next hop, and what its sender and the operator can read about it."""

import time
from collections.abc import Iterator

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink
from tests.peers.status import status, wait_for_state

SENDER = "shop@example.com"


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Sink]]:
    """A daemon that others use too, and its next hop, which takes everything."""
    with Sink() as sink, Daemon(tmp_path_factory.mktemp("calm") / "gw", relay_to(sink.port)) as daemon:
        yield daemon, sink


def _sent(calm: tuple[Daemon, Sink], to: str, content: bytes) -> bytes:
    """The body as it arrives."""
    daemon, sink = calm
    smtp_send(daemon.smtp_port, SENDER, [to], content)
    wait_until(lambda: any(one.accepted for one in sink.by_recipient()[to]), f"mail to {to}")
    return sink.by_recipient()[to][0].content.partition(b"\r\n\r\n")[2]


def _answer(line: str) -> str | None:
    if line.startswith("RCPT TO:<gone@"):
        return "550 5.1.1 nobody of that name"
    if line.startswith("RCPT TO:<full@"):
        return "452 4.2.2 the mailbox is full"
    return None


def test_delivered(calm: tuple[Daemon, Sink]) -> None:
    daemon, sink = calm
    id_ = smtp_send(daemon.smtp_port, SENDER, ["you@example.net"], message_bytes("you@example.net"))
    recipient = wait_for_state(daemon, id_, "delivered")
    events = [event["type"] for event in daemon.json("queue", "show", id_)["events"]]
    assert (recipient["attempts"], recipient["blocked_by"]) == (1, None)
    assert recipient["last_reply"] == "250 2.0.0 ok"
    assert events == ["accepted", "delivered"]
    assert len(sink.by_recipient()["you@example.net"]) == 1


@pytest.mark.slow
def test_each_recipient_has_its_own_fate(make_daemon: MakeDaemon) -> None:
    to = ["you@example.net", "gone@example.net", "full@example.net"]
    with Sink(answer=_answer) as sink, make_daemon(relay_to(sink.port)) as daemon:
        id_ = smtp_send(daemon.smtp_port, SENDER, to, message_bytes(to[0]))
        sink.wait_for(1)
        wait_for_state(daemon, id_, "delivered")
        shown = {one["to"]: one for one in daemon.json("queue", "show", id_)["recipients"]}
        daemon.cli("queue", "list")  # for people: it prints
        listed = [row for row in daemon.json("queue", "list") if row["id"] == id_]  # the sender is told by other mail
    assert {to: one["state"] for to, one in shown.items()} == {
        "you@example.net": "delivered",
        "gone@example.net": "bounced",
        "full@example.net": "deferred",
    }
    assert shown["gone@example.net"]["last_reply"] == "550 5.1.1 nobody of that name"
    assert [(row["id"], row["to"], row["blocked_by"]) for row in listed] == [(id_, "full@example.net", "backoff")]
    assert listed[0]["next_attempt_at"] is not None


@pytest.mark.slow
@pytest.mark.slow
def test_what_is_accepted_waits_for_the_next_hop(make_daemon: MakeDaemon) -> None:
    port = free_port()
    daemon = make_daemon(relay_to(port))
    with daemon:
        id_ = http_send(daemon.http_port, message_json("you@example.net")).id
        wait_for_state(daemon, id_, "deferred")
        assert daemon.stop() == 0, daemon.tail()
        with Sink(port=port) as sink:
            daemon.restart()
            assert status(daemon, id_).body["data"]["recipients"][0]["state"] == "deferred"
            daemon.cli("queue", "retry", "--all")
            arrived = sink.wait_for(1)
            recipient = wait_for_state(daemon, id_, "delivered")
    assert arrived[0].recipients == ["you@example.net"]
    assert (recipient["attempts"], recipient["possible_duplicate"]) == (2, False)


@pytest.mark.slow
@pytest.mark.slow
def test_a_kept_connection_carries_many_messages(make_daemon: MakeDaemon) -> None:
    with Sink(dot_delay_s=0.02) as sink, make_daemon(relay_to(sink.port)) as daemon:
        for number in range(40):
            to = f"m{number}@example.net"
            smtp_send(daemon.smtp_port, SENDER, [to], message_bytes(to))
        sink.wait_for(40)
        assert daemon.stop() == 0, daemon.tail()
        wait_until(lambda: not any(connection.open for connection in sink.connections), "the end of all connections")
    assert len(sink.connections) < 40
    assert all(connection.quit for connection in sink.connections)


@pytest.mark.slow
@pytest.mark.parametrize("pause_s", [0.0, 0.03])
def test_what_comes_while_the_next_hop_is_slow_is_not_forgotten(pause_s: float, make_daemon: MakeDaemon) -> None:
    with Sink(dot_delay_s=0.3) as sink, make_daemon(relay_to(sink.port)) as daemon:
        for number in range(30):
            http_send(daemon.http_port, message_json(f"m{number}@example.net"))
            time.sleep(pause_s)  # messages come one by one, not in one claim
        sink.wait_for(30)  # nothing comes after them that could wake the scheduler up


@pytest.mark.slow
def test_large_mail_arrives_whole(calm: tuple[Daemon, Sink]) -> None:
    content = message_bytes("large@example.net", size=5_000_000)
    assert _sent(calm, "large@example.net", content) == content.partition(b"\r\n\r\n")[2]


@pytest.mark.slow
def test_dots_arrive_as_they_were(calm: tuple[Daemon, Sink]) -> None:
    body = b".\r\n..\r\n.leading\r\nin the . middle\r\n...\r\n\r\n.\r\n"
    assert _sent(calm, "dots@example.net", b"Subject: dots\r\n\r\n" + body) == body
