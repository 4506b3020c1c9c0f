"""Postfix, Exim and OpenSMTPD take our mail and send it back later: the recipient is bounced and suppressed, and who
submitted it is told."""

import contextlib
import email
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import Daemon, relay_to
from tests.peers.exim import Exim
from tests.peers.opensmtpd import OpenSmtpd
from tests.peers.postfix import Postfix
from tests.peers.process import free_port, wait_until
from tests.peers.sink import Sink
from tests.peers.status import wait_for_state

pytestmark = pytest.mark.slow

RETURN_PATH: Final = "bounces.example.com"
SENDER: Final = "shop@example.com"
GONE: Final = "nobody@gone.example"
Peer = Postfix | Exim | OpenSmtpd


def _postfix(onward: Mapping[str, int]) -> Postfix:
    ways = ", ".join(f"{{{domain} = smtp:[127.0.0.1]:{port}}}" for domain, port in onward.items())
    settings = {
        "transport_maps": f"inline:{{ {ways} }}",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "smtp_host_lookup": "native",
    }
    return Postfix(domains=("example.com",), settings=settings)


PEERS: Final[dict[str, Callable[[Mapping[str, int]], Peer]]] = {
    "postfix": _postfix,
    "exim": lambda onward: Exim(onward=onward),
    "opensmtpd": lambda onward: OpenSmtpd(onward=onward),
}


def _refuse(line: str) -> str | None:
    return "550 5.1.1 nobody of that name" if line.upper().startswith("RCPT") else None


@contextlib.contextmanager
def _set_up(name: str, make_daemon: MakeDaemon) -> Iterator[tuple[Peer, Daemon]]:
    """A peer that hands mail for GONE's domain to a host that refuses it, and its bounces to us."""
    port = free_port()
    with Sink(answer=_refuse) as last, PEERS[name]({RETURN_PATH: port, "gone.example": last.port}) as peer:
        daemon = make_daemon(relay_to(peer.port) | {"domains": {"example.com": {"return_path": RETURN_PATH}}})
        listeners = [
            {"listen": f"127.0.0.1:{daemon.smtp_port}", "tls": "none", "auth": "required"},
            {"listen": f"127.0.0.1:{port}", "role": "return_path"},
        ]
        daemon.write_config(
            relay_to(peer.port)
            | {"domains": {"example.com": {"return_path": RETURN_PATH}}, "smtp": {"listeners": listeners}}
        )
        with daemon:
            yield peer, daemon


@pytest.mark.parametrize("name", PEERS)
def test_what_a_host_sends_back(name: str, make_daemon: MakeDaemon) -> None:
    with _set_up(name, make_daemon) as (peer, daemon):
        id_ = smtp_send(daemon.smtp_port, SENDER, [GONE], message_bytes(GONE))
        try:
            recipient = wait_for_state(daemon, id_, "bounced")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{peer.log()[-3000:]}") from error
        notice = _notice(peer)
        again = http_send(daemon.http_port, message_json(GONE))
    assert "nobody of that name" in _said(recipient)
    assert "suppress" in str(again.body), again
    assert notice["X-Failed-Recipients"] is None  # ours, not the peer's
    (final,) = [str(part["Final-Recipient"]) for part in notice.walk() if part["Final-Recipient"]]
    assert final.endswith(GONE)


def _said(recipient: dict[str, Any]) -> str:
    """Whatever of the other side's words is shown."""
    return str(recipient)


def _notice(peer: Peer) -> email.message.Message:
    """What came to the submitter."""
    wait_until(lambda: any(b"delivery-status" in one for one in peer.messages()), "a notification to the submitter")
    (found,) = [one for one in peer.messages() if b"delivery-status" in one]
    return email.message_from_bytes(found)
