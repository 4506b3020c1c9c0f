"""The daemon, real DNSSEC, a real policy host: what a postmaster sees of mail that must not go in clear.

The daemon is the one that ships but for one line: its policy hosts have the test's port and may be on loopback.
"""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.fakes.mx import FakeMx
from tests.peers.client import http_send, message_json
from tests.peers.daemon import Daemon, broken_twin
from tests.peers.dns import aside
from tests.peers.policyhost import PolicyServer, answer, policy
from tests.peers.process import free_port, wait_until
from tests.peers.signingdns import SigningDns
from tests.peers.status import wait_for_state
from tests.peers.tlshosts import said_in_clear, show

pytestmark = pytest.mark.slow

_ZONE = """
@ MX 10 mx
mx A 127.0.0.1
"""
_STS = """
_mta-sts TXT "v=STSv1; id=1"
mta-sts A 127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class World:
    """The daemon, the one host that all domains have, and the policy host."""

    daemon: Daemon
    host: FakeMx
    policies: PolicyServer

    def send(self, domain: str, state: str, **more: Any) -> dict[str, Any]:
        """What becomes of a message to that domain."""
        taken = http_send(self.daemon.http_port, message_json(f"you@{domain}") | more)
        assert taken.status == 201, taken
        return wait_for_state(self.daemon, taken.id, state)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    authority, port, policy_port = trustme.CA(), free_port(), free_port()
    ca = directory / "ca.pem"
    ca.write_bytes(authority.cert_pem.bytes())
    shown = show(directory, authority, "mx.sts.test", "mx.wish.test")
    signed = {
        "good.test": f"{_ZONE}_{port}._tcp.mx TLSA {shown.tlsa(3, 1, 1)}\n",
        "wrong.test": f"{_ZONE}_{port}._tcp.mx TLSA 3 1 1 {'ab' * 32}\n",
    }
    unsigned = {"plain.test": _ZONE, "wish.test": _ZONE, "sts.test": _ZONE + _STS, "other.test": _ZONE + _STS}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mta-sts.sts.test", "mta-sts.other.test").configure_cert(context)
    with contextlib.ExitStack() as stack:
        dns = stack.enter_context(SigningDns(directory / "dns", signed, unsigned))
        offers = ("PIPELINING", "8BITMIME", "SMTPUTF8", "REQUIRETLS")
        host = stack.enter_context(aside(FakeMx(tls=shown.server, port=port, offers=offers)))
        policies = stack.enter_context(aside(PolicyServer(context, port=policy_port)))
        policies.answers["sts.test"] = answer(policy("enforce", "mx.sts.test"))
        policies.answers["other.test"] = answer(policy("enforce", "mx.sts.test"))
        yield World(stack.enter_context(_daemon(directory, dns, port, policy_port, ca)), host, policies)


def _daemon(directory: Path, dns: SigningDns, port: int, policy_port: int, ca: Path) -> Daemon:
    here = f"PolicyHost(core.resolver, port={policy_port}, anywhere=True)"
    twin = broken_twin(directory / "twin", "app/sending.py", "PolicyHost(core.resolver)", here)
    settings = {
        "dns": {"nameservers": [str(dns.listen)]},
        "routes": {"direct": {"type": "mx", "port": port, "ip_family": "ipv4"}},
        "default_route": "direct",
    }
    return Daemon(directory / "gw", settings, source=twin, environment={"SSL_CERT_FILE": str(ca)})


@pytest.mark.parametrize(
    ("domain", "more", "note"),
    [
        ("good.test", {}, "DANE: verified"),
        ("sts.test", {}, "MTA-STS: verified"),
        ("wish.test", {"require_tls": True}, "REQUIRETLS: verified"),
        ("plain.test", {}, ""),
    ],
)
def test_mail_that_has_its_tls(domain: str, more: dict[str, Any], note: str, world: World) -> None:
    world.send(domain, "delivered", **more)
    found: list[str] = []

    def told() -> bool:  # the log is written now and then
        lines = world.daemon.log.read_text().splitlines()
        found[:] = [line for line in lines if f" to=you@{domain} " in line and " delivered " in line]
        return bool(found)

    wait_until(told, f"a line about {domain}")
    line = found[0]
    assert "tls=TLSv1.3" in line
    assert (note in line) if note else ("note=" not in line)


@pytest.mark.parametrize(
    ("domain", "more", "why"),
    [
        ("wrong.test", {}, "which DANE requires, failed: its certificate matches none of its TLSA records"),
        ("other.test", {}, "451 4.7.5 the MTA-STS policy of other.test does not name mx.other.test"),
        ("plain.test", {"require_tls": True}, "which REQUIRETLS requires, failed: its certificate is not trusted"),
    ],
)
def test_mail_that_waits_for_its_tls(domain: str, more: dict[str, Any], why: str, world: World) -> None:
    before = len(world.host.transactions)
    recipient = world.send(domain, "deferred", **more)
    assert why in recipient["last_reply"]
    assert len(world.host.transactions) == before


def test_nothing_of_all_that_went_in_clear(world: World) -> None:
    world.send("good.test", "delivered")
    assert not any(word in said_in_clear(world.host) for word in (b"MAIL", b"RCPT", b"@", b"Subject"))


def test_policies_survive_a_restart(world: World) -> None:
    """With the policy host away and its answer gone, what is known counts."""
    world.send("sts.test", "delivered")
    asked = len(world.policies.asked)
    assert world.daemon.stop() == 0, world.daemon.tail()
    world.policies.answers.clear()
    world.daemon.restart()
    world.send("sts.test", "delivered")
    recipient = world.send("other.test", "deferred")
    assert "does not name" in recipient["last_reply"]
    assert len(world.policies.asked) == asked
