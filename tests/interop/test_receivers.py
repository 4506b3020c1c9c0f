"""Through the daemon into Postfix, Exim and OpenSMTPD, as MX hosts found by DNS and as relays with a password.

What arrives is read from their mailboxes: every octet that was submitted is there behind the fields that the daemon and
the receiver put before it, and the signatures are good for dkimpy and for OpenDKIM.
"""

import contextlib
import functools
import itertools
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop.test_bytes import _canonical, _without_removed
from tests.peers import corpora, opendkim, receiver
from tests.peers.client import http_send, message_bytes, message_json, smtp_send, smtp_transaction
from tests.peers.daemon import SELECTOR, Daemon, dkim_domain
from tests.peers.dns import PeerDns, aside
from tests.peers.exim import Exim
from tests.peers.opensmtpd import OpenSmtpd
from tests.peers.postfix import PASSWORD, USER, Postfix
from tests.peers.process import wait_until
from tests.peers.status import status

pytestmark = pytest.mark.slow

ZONE: Final = "example.net MX 10 mx.example.net\nmx.example.net A 127.0.0.1"
SENDER: Final = "shop@example.com"
RECIPIENT: Final = "you@example.net"
Peer = Postfix | Exim | OpenSmtpd
PEERS: Final[dict[str, Callable[..., Peer]]] = {
    # For Postfix what comes from loopback is local mail, whose addresses it completes unless told not to.
    "postfix": functools.partial(Postfix, settings={"local_header_rewrite_clients": ""}),
    "exim": Exim,
    "opensmtpd": OpenSmtpd,
}
# What the receiver's own Received field says of the connection.
CLEAR: Final = {"postfix": rb"with ESMTP id", "exim": rb"with esmtp ", "opensmtpd": rb"\(OpenSMTPD\) with E?SMTP id"}
TLS: Final = {"postfix": rb"using TLSv1.3", "exim": rb"with esmtps ", "opensmtpd": rb"with ESMTPS id .*\(TLSv1.3:"}
LOGIN: Final = {
    "postfix": rb"Authenticated sender: relay-user@",
    "exim": rb"with esmtpsa ",
    "opensmtpd": rb"with ESMTPSA id",
}
# What a receiver changes of the corpora: the first two begin the body of a message without an empty line themselves,
# the third completes addresses without a domain.
CHANGED: Final = {
    "postfix": {"cpython/msg_35.txt"},
    "exim": {"cpython/msg_35.txt"},
    "opensmtpd": {"cpython/msg_05.txt", "cpython/msg_15.txt", "authheaders/test.nofrom.message"},
}
# What it refuses for its content.
REFUSED: Final[dict[str, dict[str, str]]] = {
    "postfix": {},
    "exim": {},
    "opensmtpd": {
        "cpython/msg_35.txt": "550 5.7.1 Delivery not authorized, message refused: Message is not RFC 2822 compliant"
    },
}
# A From field in the body alone, or one that cannot be read for certain.
UNSIGNED: Final = {
    "cpython/msg_05.txt",
    "cpython/msg_43.txt",
    "dkimpy/rfc6376.w1258.msg",
    "flufl.bounce/bounce_01.txt",
    "flufl.bounce/simple_35.txt",
}
_FROM_DOMAIN: Final = re.compile(rb"(?im)^From:[^\r\n]*@([a-z0-9.-]+\.[a-z]{2,})>?\s*$")
_OURS: Final = re.compile(rb"(?m)^DKIM-Signature:(?:[^\r\n]|\r\n[ \t])*\bs=s1;")
_FOR: Final = re.compile(rb"\sfor <?(\d+)@example\.net")


@dataclass(frozen=True, slots=True)
class Field:
    """One kind of receiver in both roles, and a daemon with a route and a key for each way."""

    name: str
    mx: Peer
    relay: Peer
    daemon: Daemon
    txt: dict[str, str]

    def peer(self, way: str) -> Peer:
        return self.relay if way.startswith("relay") else self.mx


@pytest.fixture(scope="module", params=PEERS)
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    directory = tmp_path_factory.mktemp(request.param)
    make = PEERS[request.param]
    with make() as mx, make(submission=True) as relay, aside(PeerDns(ZONE)) as dns:
        routes = _routes(mx, relay, directory)
        domains, txt = dkim_domain(directory)
        (key,) = domains["domains"]["example.com"]["dkim"]
        for domain in _from_domains(corpora.cpython() | corpora.packages()):
            domains["domains"][domain] = {"dkim": [dict(key)]}
            txt[f"{SELECTOR}._domainkey.{domain}"] = txt[f"{SELECTOR}._domainkey.example.com"]
        settings = {
            "dns": {"nameservers": [str(dns.listen)]},
            "routes": routes,
            "default_route": "mx",
            "keys": {way: _key(directory, way) for way in routes},
        }
        with Daemon(directory / "gw", settings | domains) as daemon:
            yield Field(request.param, mx, relay, daemon, txt)


def _routes(mx: Peer, relay: Peer, directory: Path) -> dict[str, Any]:
    password = _private(directory / "relay.password", PASSWORD)
    login = {
        "type": "relay",
        "host": "127.0.0.1",
        "ca": str(relay.ca_file),
        "username": USER,
    }
    secret = {"file": str(password)}
    direct = {"type": "mx", "port": mx.port, "mta_sts": False}
    return {
        "mx": direct,
        "mx-clear": direct | {"tls": "none"},
        "mx-tls": direct | {"tls": "starttls"},
        "relay-starttls": login | {"port": relay.port, "tls": "starttls", "password": dict(secret)},
        "relay-implicit": login | {"port": relay.tls_port, "tls": "implicit", "password": dict(secret)},
    }


def _private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def _secret(way: str) -> str:
    return f"key-of-the-way-{way}".ljust(30, "0")


def _key(directory: Path, way: str) -> dict[str, Any]:
    secret = _private(directory / f"{way}.key", _secret(way))
    return {"secret": {"file": str(secret)}, "account": way, "route": way}


WAYS: Final = {
    "mx": TLS,
    "mx-clear": CLEAR,
    "mx-tls": TLS,
    "relay-starttls": LOGIN,
    "relay-implicit": LOGIN,
}


@pytest.mark.parametrize("door", ["smtp", "http"])
@pytest.mark.parametrize("way", WAYS)
def test_it_arrives_signed_the_way_its_route_says(field: Field, way: str, door: str) -> None:
    peer = field.peer(way)
    before = len(peer.messages())
    subject = f"{way} by {door}"
    if door == "smtp":
        content = message_bytes(RECIPIENT).replace(f"to {RECIPIENT}".encode(), subject.encode())
        smtp_send(field.daemon.smtp_port, SENDER, [RECIPIENT], content, secret=_secret(way))
    else:
        http_send(field.daemon.http_port, message_json(RECIPIENT) | {"subject": subject}, secret=_secret(way))
    arrived = receiver.wait_for(peer, before + 1)[-1].replace(b"\n", b"\r\n")
    assert f"Subject: {subject}\r\n".encode() in arrived
    assert re.search(WAYS[way][field.name], _unfolded(arrived)), arrived
    assert opendkim.verify(arrived, field.txt)


def _unfolded(message: bytes) -> bytes:
    return re.sub(rb"\s*\r\n[ \t]+", b" ", message)


def test_a_wrong_password_and_a_stranger_are_refused(field: Field) -> None:
    """The relays take nothing without TLS and a login: what arrived above had both."""
    refusals = (smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused)
    with smtplib.SMTP("127.0.0.1", field.relay.port, timeout=20) as client, pytest.raises(refusals):
        client.sendmail(SENDER, [RECIPIENT], message_bytes(RECIPIENT))
    with smtplib.SMTP("127.0.0.1", field.relay.port, timeout=20) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(field.relay.ca_file)))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(USER, "wrong")
        with pytest.raises(refusals):
            client.sendmail(SENDER, [RECIPIENT], message_bytes(RECIPIENT))


def _from_domains(messages: dict[str, bytes]) -> set[str]:
    """Whose keys sign what the senders of the messages wrote: a domain signs for those below it, so the topmost do."""
    found = (_FROM_DOMAIN.search(content) for content in messages.values())
    return {match[1].decode().lower().rpartition(".")[2] for match in found if match is not None}


def test_d20_a_corpus_arrives_byte_for_byte_and_signed(field: Field) -> None:
    messages = corpora.cpython() | corpora.packages()
    before = len(field.mx.messages())
    ids = _submit(field.daemon, messages)
    fates = {name: _fate(field.daemon, id_) for name, id_ in ids.items()}
    assert {name: reply for name, (state, reply) in fates.items() if state != "delivered"} == REFUSED[field.name]
    delivered = [name for name, (state, _) in fates.items() if state == "delivered"]
    arrived = _by_number(receiver.wait_for(field.mx, before + len(delivered))[before:])
    assert len(arrived) == len(delivered)
    contents = {name: arrived[list(messages).index(name)] for name in delivered}
    differences = {name: _difference(messages[name], contents[name]) for name in delivered}
    altered = [f"{name}: {difference}" for name, difference in differences.items() if difference]
    assert {entry.partition(":")[0] for entry in altered} == CHANGED[field.name], "\n".join(altered)
    whole = [name for name in delivered if not differences[name]]
    signed = [name for name in whole if _OURS.search(contents[name])]
    unsigned = {name for name in whole if name not in signed and _FROM_DOMAIN.search(messages[name])}
    assert unsigned == UNSIGNED - CHANGED[field.name]
    assert [name for name in signed if not opendkim.verify_dkimpy(contents[name], field.txt)] == []
    # With signatures of others beside ours, OpenDKIM speaks of all of them.
    alone = [name for name in signed if contents[name].lower().count(b"dkim-signature:") == 1]
    assert alone
    assert [name for name in alone if not opendkim.verify_opendkim(contents[name], field.txt)] == []


def _submit(daemon: Daemon, messages: dict[str, bytes]) -> dict[str, str]:
    """Ids by name, of those that the daemon takes."""
    ids = {}
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30) as client:
        client.ehlo()
        client.login("mx", _secret("mx"))
        for number, (name, content) in enumerate(messages.items()):
            with contextlib.suppress(smtplib.SMTPDataError):
                ids[name] = smtp_transaction(client, SENDER, [f"{number}@example.net"], _canonical(content))
    return ids


def _fate(daemon: Daemon, id_: str) -> tuple[str, str]:
    """State and reply at the end."""
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(status(daemon, id_, secret=_secret("mx")).body["data"]["recipients"][0])
        return found["state"] in {"delivered", "bounced", "failed"}

    wait_until(ended, f"the end of {id_}\n{daemon.tail()}", 60)
    return found["state"], found["last_reply"]


def _by_number(stored: list[bytes]) -> dict[int, bytes]:
    """By the number in the recipient's address, which the receiver's Received field has."""
    found = ((_FOR.search(content), content) for content in stored)
    return {int(match[1]): content.replace(b"\n", b"\r\n") for match, content in found if match is not None}


def _difference(sent: bytes, arrived: bytes) -> str:
    """Where it is not the same at its end, "" where it is."""
    expected, _ = _without_removed(_canonical(sent))
    if arrived.endswith(expected):
        return ""
    backwards = zip(reversed(expected), reversed(arrived), strict=False)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], backwards))
    return f"sent {expected[-same - 80 :][:120]!r}, arrived {arrived[-same - 80 :][:120]!r}"
