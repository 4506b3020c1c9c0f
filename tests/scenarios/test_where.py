"""Where the daemon takes mail to, and what it says where there is no way: a real DNS server, real hosts."""

import json
from collections.abc import Iterator

import pytest

from tests.conftest import MakeDaemon
from tests.fakes.mx import FakeMx
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon
from tests.peers.dns import PeerDns, aside
from tests.peers.process import wait_until
from tests.peers.status import wait_for_state

SENDER = "shop@example.com"
ZONE = """
mx.test            A     127.0.0.1
fine.test          MX 10 mx.test
xn--bcher-kva.test MX 10 mx.test
null.test          MX 0 .
bare.test          A     127.0.0.1
homeless.test      MX 10 nowhere.test
broken.test        SERVFAIL
refused.test       REFUSED
circle.test        CNAME circle2.test
circle2.test       CNAME circle.test
"""


@pytest.fixture(scope="module")
def dns() -> Iterator[PeerDns]:
    with aside(PeerDns(ZONE)) as server:
        yield server


@pytest.fixture(scope="module")
def mx() -> Iterator[FakeMx]:
    with aside(FakeMx()) as host:
        yield host


@pytest.fixture(scope="module")
def daemon(dns: PeerDns, mx: FakeMx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    settings = {
        "dns": {"nameservers": [str(dns.listen)]},
        "routes": {"direct": {"type": "mx", "port": mx.port, "tls": "none", "mta_sts": False}},
        "default_route": "direct",
    }
    with Daemon(tmp_path_factory.mktemp("where") / "gw", settings) as running:
        yield running


def _recipients(host: FakeMx) -> list[list[str]]:
    return [transaction.recipients for transaction in host.transactions]


@pytest.mark.parametrize(
    ("domain", "state", "said"),
    [
        ("fine.test", "delivered", "250 2.0.0"),
        ("bare.test", "delivered", "250 2.0.0"),
        ("nowhere.test", "bounced", "550 5.1.2 the domain nowhere.test does not exist"),
        ("null.test", "bounced", "550 5.1.10 the domain accepts no mail (null MX)"),
        ("homeless.test", "bounced", "550 5.4.4 no host takes mail for homeless.test"),
        ("broken.test", "deferred", "451 4.4.3 the DNS lookup of broken.test failed: SERVFAIL"),
        ("refused.test", "deferred", "451 4.4.3 the DNS lookup of refused.test failed: REFUSED"),
        ("circle.test", "deferred", "451 4.4.3 the DNS lookup of circle.test failed"),
    ],
)
def test_d2_what_becomes_of_mail(daemon: Daemon, domain: str, state: str, said: str) -> None:
    id_ = http_send(daemon.http_port, message_json(f"you@{domain}")).id
    recipient = wait_for_state(daemon, id_, state)
    assert recipient["last_reply"].startswith(said)
    assert recipient["attempts"] == 1


def test_an_international_domain_is_looked_up_as_a_labels(daemon: Daemon, dns: PeerDns, mx: FakeMx) -> None:
    id_ = http_send(daemon.http_port, message_json("you@Bücher.test")).id
    wait_for_state(daemon, id_, "delivered")
    assert ("xn--bcher-kva.test", "MX", "udp") in dns.queries
    assert ["you@xn--bcher-kva.test"] in _recipients(mx)


def test_address_literals_of_both_families(daemon: Daemon, mx: FakeMx) -> None:
    with aside(FakeMx(address="::1", port=mx.port)) as six:
        for literal, host in (("[127.0.0.1]", mx), ("[IPv6:::1]", six)):
            id_ = smtp_send(daemon.smtp_port, SENDER, [f"you@{literal}"], message_bytes("you@example.net"))
            wait_for_state(daemon, id_, "delivered")
            assert [f"you@{literal}"] in _recipients(host)


def test_d5_many_messages_to_a_domain_are_one_question(daemon: Daemon, dns: PeerDns) -> None:
    dns.load(ZONE + "crowd.test MX 10 mx.test")
    ids = [http_send(daemon.http_port, message_json(f"m{number}@crowd.test")).id for number in range(30)]
    for id_ in ids:
        wait_for_state(daemon, id_, "delivered")
    assert dns.asked("crowd.test", "MX") == 1


@pytest.mark.slow
def test_d17_mail_routed_to_ourselves_ends(make_daemon: MakeDaemon) -> None:
    """Once by our own name among the hosts, once by the hop limit where we are somebody else's address."""
    zone = "loop.test MX 10 gateway.test\naway.test MX 10 mx.away.test\nmx.away.test A 127.0.0.1"
    with aside(PeerDns(zone)) as dns:
        daemon = make_daemon({})
        listener = {"listen": f"127.0.0.1:{daemon.smtp_port}", "auth": "optional", "networks": {"127.0.0.0/8": "shop"}}
        daemon.write_config(
            {
                "dns": {"nameservers": [str(dns.listen)]},
                "smtp": {"listeners": [listener | {"tls": "none"}]},
                "routes": {"direct": {"type": "mx", "port": daemon.smtp_port, "tls": "none", "mta_sts": False}},
                "default_route": "direct",
                "delivery": {"max_hops": 6},
                "log": {"format": "json"},
            }
        )
        with daemon:
            own = http_send(daemon.http_port, message_json("you@loop.test")).id
            assert wait_for_state(daemon, own, "bounced")["last_reply"].startswith("554 5.4.6")
            first = http_send(daemon.http_port, message_json("you@away.test")).id
            wait_for_state(daemon, first, "delivered")
            wait_until(lambda: "5.4.6 More than 6 Received" in daemon.log.read_text(), "the hop limit")
            lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    taken = [line for line in lines if (line.get("event"), line.get("door")) == ("accepted", "smtp")]
    assert len(taken) == 7  # with 0 to 6 fields
