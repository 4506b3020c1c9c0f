"""SMTP clients as they are in the field, each against a real daemon whose next hop is the recording sink.

What is shown for each: what it sent arrives (fields and body the same but for the documented changes; subject, text and
attachment read the same; envelope the same), in clear, with STARTTLS and with implicit TLS, by AUTH PLAIN and LOGIN as
far as it can; it ends with its documented exit code and shows our text where it is refused. Where it checks
certificates, it does so here.
"""

import base64
import email
import email.policy
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from tests.peers import composers, submitters
from tests.peers.daemon import SECRET, Daemon, relay_to
from tests.peers.mailers import Desk, Mail, Outcome, Server
from tests.peers.process import free_port
from tests.peers.recorder import Recorder
from tests.peers.sink import Sink, Transaction

pytestmark = pytest.mark.slow

SUBJECT: Final = "Ihre Bestellung über 12 € – zürück? 日本"
TEXT: Final = (
    "Grüße aus dem Lager!\n\n.this line begins with a dot\n..and this with two\n.\n"
    + "a long line of 900 octets ".ljust(900, "x")
    + "\nFrom here on it is short.\nThe last line.\n"
)
BLOB: Final = bytes(range(256)) * 20 + b"\r\n.\r\n"
MAX_MESSAGE: Final = 200_000
WRONG: Final = "wrong-key-of-thirty-characters"
BAD_KEY: Final = "Authentication failed"
BAD_SENDER: Final = "The key shop may not send as eve@example.org; allowed: *@example.com."
TOO_LARGE: Final = "The message is too large"
REMOVED: Final = {b"bcc"}  # of the fields that clients here send
ADDED: Final = {b"date", b"from", b"message-id"}  # where missing


@dataclass(frozen=True, slots=True)
class Client:
    """`codes` are its exit codes where the key is wrong, the message too large, the sender not allowed. `tls` and
    `auth` are what it can be told; one that chooses the mechanism itself has one of them. `says` is what it shows of a
    wrong key and of a sender that is not allowed: our text, unless it has only words of its own."""

    send: Callable[[Desk, Mail, Server], Outcome]
    codes: tuple[int, int, int] = (1, 1, 1)
    tls: tuple[str, ...] = ("", "starttls", "implicit")
    auth: tuple[str, ...] = ("PLAIN", "LOGIN")
    says: tuple[str, str] = (BAD_KEY, BAD_SENDER)
    helo: bool = False  # says HELO where it has neither user name nor TLS
    verifies: bool = True
    attaches: bool = True
    stuffs: bool = True  # doubles the dot of a line that begins with one


CLIENTS: Final = {
    "msmtp": Client(submitters.msmtp, (77, 69, 65)),  # of sysexits.h
    "curl": Client(submitters.curl, (67, 55, 55)),
    "git": Client(submitters.git_send_email, (255, 255, 255), attaches=False),
    "ssmtp": Client(submitters.ssmtp, auth=("LOGIN",), helo=True, verifies=False),
    "nullmailer": Client(submitters.nullmailer, (20, 35, 35), helo=True),  # 32 and above: never again
    "esmtp": Client(
        submitters.esmtp, (70, 70, 70), tls=("", "starttls"), auth=("PLAIN",), says=("0 (null)", "0 (null)")
    ),
    "smtplib": Client(submitters.smtplib, helo=True),
    "net_smtp": Client(submitters.net_smtp, (255, 255, 255), helo=True),
    "go": Client(submitters.go),
    "swaks": Client(composers.swaks, (28, 26, 23), helo=True),
    "s-nail": Client(composers.s_nail, (4, 4, 4), helo=True),
    "mutt": Client(composers.mutt, says=("SASL authentication failed", BAD_SENDER)),
    "sendemail": Client(
        composers.sendemail,
        tls=("", "starttls"),
        auth=("PLAIN",),
        says=("SMTP-AUTH: Authentication to", BAD_SENDER),
        stuffs=False,
    ),
    "nodemailer": Client(composers.nodemailer),
    "phpmailer": Client(composers.phpmailer, says=("Could not authenticate", BAD_SENDER)),
}
CASES: Final = [(name, tls, auth) for name, client in CLIENTS.items() for tls in client.tls for auth in client.auth]
every_client = pytest.mark.parametrize("name", CLIENTS)


@dataclass(slots=True)
class World:
    """A daemon, its next hop, and one client at a time between them and a recorder. `ports` is by kind of TLS;
    "network" takes loopback without a password."""

    directory: Path
    sink: Sink
    ports: dict[str, int]
    cas: dict[str, Path]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def mail(self) -> Mail:
        """A message to four recipients of its own, one of them Bcc."""
        number = next(self.numbers)
        to = tuple(f"{name}-{number}@example.net" for name in ("anna", "bob", "carla"))
        blob = self.directory / "report.bin"
        return Mail(to, (f"dora-{number}@example.net",), SUBJECT, TEXT, blob)

    def send(self, name: str, mail: Mail, listener: str, **server: Any) -> "Sent":
        """Let a client send to a listener, in clear and with the key `shop` unless told otherwise."""
        home = self.directory / f"home-{next(self.numbers)}"
        home.mkdir(mode=0o700)
        with Recorder(self.ports[listener]) as recorder:
            defaults: dict[str, Any] = {"user": "shop", "secret": SECRET, "ca": self.cas["ours"]}
            outcome = CLIENTS[name].send(Desk(home), mail, Server(recorder.port, **defaults | server))
        return Sent(outcome, recorder)

    def arrived(self, mail: Mail) -> Transaction:
        """What the next hop got: one transaction with exactly the recipients of the mail."""
        wanted = set(mail.recipients)
        self.sink.wait_for_recipients(wanted)
        found = [one for one in self.sink.accepted if wanted & set(one.recipients)]
        assert sorted(found[0].recipients) == sorted(mail.recipients)
        assert len(found) == 1
        return found[0]


@dataclass(frozen=True, slots=True)
class Sent:
    outcome: Outcome
    recorder: Recorder

    @property
    def replies(self) -> list[str]:
        """What the gateway said; of use in clear only."""
        return [line for conversation in self.recorder.conversations for line in conversation.replies]

    def refused(self, code: int, reply: str, text: str) -> None:
        """The client ended with this code after this reply, nothing was taken, and its user reads this text."""
        assert self.outcome.code == code, self.outcome.text
        assert any(line.startswith(reply) for line in self.replies), self.recorder.dialogue
        assert not any("queued as" in line for line in self.replies), self.recorder.dialogue
        assert text in self.outcome.flat


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("clients")
    (directory / "report.bin").write_bytes(BLOB)
    cas = {name: trustme.CA() for name in ("ours", "other")}
    issued = cas["ours"].issue_cert("localhost", "127.0.0.1")
    for name, ca in cas.items():
        ca.cert_pem.write_to_path(str(directory / f"{name}.pem"))
    issued.cert_chain_pems[0].write_to_path(str(directory / "certificate.pem"))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    (directory / "key.pem").chmod(0o600)
    ports = {kind: free_port() for kind in ("", "starttls", "implicit", "network")}
    with Sink() as sink, Daemon(directory, _settings(directory, ports) | relay_to(sink.port)):
        yield World(directory, sink, ports, {name: directory / f"{name}.pem" for name in cas})


def _settings(directory: Path, ports: dict[str, int]) -> dict[str, Any]:
    tls = {"auth": "required", "plaintext_auth": False}
    secrets = {"shop": SECRET, "office": "office-key-of-thirty-characters"}
    return {
        "tls": {"certificate": str(directory / "certificate.pem"), "key": str(directory / "key.pem")},
        "smtp": {
            "listeners": [
                {"listen": f"127.0.0.1:{ports['']}", "tls": "none", "auth": "required"},
                {"listen": f"127.0.0.1:{ports['starttls']}", "tls": "starttls"} | tls,
                {"listen": f"127.0.0.1:{ports['implicit']}", "tls": "implicit"} | tls,
                {"listen": f"127.0.0.1:{ports['network']}", "auth": "none", "networks": {"127.0.0.0/8": "office"}},
            ]
        },
        "keys": {name: {"secret": secret, "from": ["*@example.com"]} for name, secret in secrets.items()},
        "max_message": MAX_MESSAGE,
        "limits": {"auth_failures": "1000/min"},  # this file fails on purpose
    }


@pytest.mark.parametrize(("name", "tls", "auth"), CASES)
def test_mail_arrives(world: World, name: str, tls: str, auth: str) -> None:
    mail = world.mail()
    sent = world.send(name, mail, tls, tls=tls, auth=auth)
    assert sent.outcome.code == 0, sent.outcome.text
    arrived = world.arrived(mail)
    assert arrived.sender == mail.sender
    _reads_the_same(mail, CLIENTS[name], arrived.content)
    if not tls:
        assert any(line.startswith(f"AUTH {auth}") for line in sent.recorder.conversations[0].commands) or (
            len(CLIENTS[name].auth) == 1
        )
        [content] = sent.recorder.contents
        _is_as_sent(content, arrived.content)


@every_client
def test_a_client_without_a_key_sends_from_its_network(world: World, name: str) -> None:
    mail = world.mail()
    sent = world.send(name, mail, "network", auth="")
    assert sent.outcome.code == 0, sent.outcome.text
    arrived = world.arrived(mail)
    [content] = sent.recorder.contents
    _is_as_sent(content, arrived.content)
    hello = sent.recorder.conversations[0].commands[0].split()[0].upper()
    assert hello == ("HELO" if CLIENTS[name].helo else "EHLO")
    received = " ".join(_fields(arrived.content)[0][0].decode().split())
    assert (" with SMTP " in received) == CLIENTS[name].helo


@every_client
def test_a_wrong_key(world: World, name: str) -> None:
    client = CLIENTS[name]
    sent = world.send(name, world.mail(), "", secret=WRONG)
    sent.refused(client.codes[0], "535 5.7.8 Authentication failed", client.says[0])


@every_client
def test_a_message_that_is_too_large(world: World, name: str) -> None:
    mail = replace(world.mail(), text="0123456789 0123456789\n" * 20_000)
    sent = world.send(name, mail, "")
    sent.refused(CLIENTS[name].codes[1], "552 5.3.4 The message is too large", TOO_LARGE)


@every_client
def test_a_sender_that_is_not_allowed(world: World, name: str) -> None:
    client = CLIENTS[name]
    sent = world.send(name, replace(world.mail(), sender="eve@example.org"), "")
    sent.refused(client.codes[2], f"550 5.7.1 {BAD_SENDER}", client.says[1])


@pytest.mark.parametrize("name", sorted(CLIENTS.keys() - {"go"}))  # Go's net/smtp says STARTTLS unasked
def test_in_clear_where_tls_is_asked_for(world: World, name: str) -> None:
    sent = world.send(name, world.mail(), "starttls")
    assert sent.outcome.code != 0
    assert not any(line.startswith(("235", "354")) for line in sent.replies), sent.recorder.dialogue
    said = "\n".join(sent.recorder.conversations[0].commands)
    assert not any(base64.b64encode(words).decode() in said for words in (b"shop", SECRET.encode()))


@pytest.mark.parametrize("name", [name for name, one in CLIENTS.items() if one.verifies and "starttls" in one.tls])
def test_a_certificate_of_an_unknown_authority(world: World, name: str) -> None:
    """The client does check, in the tests above too."""
    mail = world.mail()
    sent = world.send(name, mail, "starttls", tls="starttls", ca=world.cas["other"])
    assert sent.outcome.code != 0
    assert not world.sink.by_recipient().keys() & set(mail.recipients)


def _reads_the_same(mail: Mail, client: Client, content: bytes) -> None:
    message = email.message_from_bytes(content, policy=email.policy.SMTPUTF8)
    assert message["Subject"] == mail.subject
    assert "Bcc" not in message
    body = message.get_body(("plain",))
    assert body is not None
    text = body.get_payload(decode=True)  # swaks does not say the character set
    assert isinstance(text, bytes)
    # What stands behind it is git's signature, or the line end before a boundary.
    wanted = mail.text if client.stuffs else re.sub(r"(?m)^\.(?=.)", "", mail.text)
    assert text.decode().replace("\r\n", "\n").startswith(wanted)
    blobs = [part.get_content() for part in message.iter_attachments()]
    assert blobs == ([BLOB] if client.attaches else [])


def _is_as_sent(sent: bytes, arrived: bytes) -> None:
    """Byte for byte, but for the documented changes of the header."""
    sent_fields, sent_body = _fields(sent)
    fields, body = _fields(arrived)
    assert body == sent_body
    kept = [one for one in sent_fields if _name(one) not in REMOVED]
    added = len(fields) - len(kept)
    assert fields[added:] == kept
    present = {_name(one) for one in kept}
    assert [_name(one) for one in fields[:added]] == [b"received", *sorted(ADDED - present)]


def _fields(content: bytes) -> tuple[list[bytes], bytes]:
    header, _, body = content.partition(b"\r\n\r\n")
    return re.split(rb"\r\n(?![ \t])", header), body


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()
