"""Printers, scanners and programs of long ago: what each of them can do is enough, where the configuration says so.

They speak as such devices do: HELO, one octet a packet or all in one, lines that end in LF, names without a domain, no
Date, no Message-ID, TLS 1.0, AUTH in clear.
"""

import base64
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from tests.peers.daemon import SECRET, Daemon, relay_to
from tests.peers.process import free_port
from tests.peers.sink import Sink, Transaction

DEVICE: Final = "127.0.0.2"  # an address of the devices' network
OTHER: Final = "127.0.0.3"
SCAN: Final = b'From: "Scanner, 2nd floor" <scanner>\nTo: office\nSubject: Scan 17\n\nsee above\n'


@dataclass(slots=True)
class World:
    """A daemon with a listener of each kind, by name, and its next hop."""

    daemon: Daemon
    sink: Sink
    ports: dict[str, int]

    def call(self, listener: str, *, source: str = DEVICE) -> "Device":
        address = ("127.0.0.1", self.ports[listener])
        return Device(socket.create_connection(address, 10, source_address=(source, 0)))

    def arrived(self, recipient: str) -> Transaction:
        self.sink.wait_for_recipients({recipient})
        (transaction,) = self.sink.by_recipient()[recipient]
        return transaction


class Device:
    """A client that says what it is told to, and reads a reply for each line."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.greeting = self.reply()

    def close(self) -> None:
        self.sock.close()

    def reply(self) -> str:
        """All lines of a reply; "" where the other side is gone."""
        said = b""
        while not re.search(rb"^\d{3} .*\r\n\Z", said, re.MULTILINE):
            octet = self.sock.recv(1)
            if not octet:
                break
            said += octet
        return said.decode()

    def say(self, *lines: str, end: str = "\r\n") -> list[str]:
        """The codes of the replies."""
        codes = []
        for line in lines:
            self.sock.sendall((line + end).encode())
            codes.append(self.reply()[:3])
        return codes

    def start_tls(self, newest: ssl.TLSVersion) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # devices do not look
        context.minimum_version = context.maximum_version = newest
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        self.sock = context.wrap_socket(self.sock)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("devices")
    names = ("trusted", "both", "old", "strict")
    ports = {name: free_port() for name in names}
    with Sink() as sink, Daemon(directory / "gw", settings(directory, sink, ports)) as daemon:
        yield World(daemon, sink, ports)


def settings(directory: Path, sink: Sink, ports: dict[str, int]) -> dict[str, Any]:
    certificate = trustme.CA().issue_cert("gateway.test")
    files = {"certificate": directory / "cert.pem", "key": directory / "key.pem"}
    certificate.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    certificate.private_key_pem.write_to_path(str(files["key"]))
    files["key"].chmod(0o600)
    listeners: dict[str, dict[str, Any]] = {
        "trusted": {"tls": "none", "auth": "none", "networks": {f"{DEVICE}/32": "printers"}},
        "both": {"tls": "none", "auth": "required", "networks": {f"{DEVICE}/32": "printers"}},
        "old": {"tls": "starttls", "auth": "required", "min_tls": "1.0", "plaintext_auth": True},
        "strict": {"tls": "starttls", "auth": "required", "plaintext_auth": False},
    }
    printers = {
        "secret": {"file": str(directory / "gw" / "shop.secret")},
        "default_domain": "example.com",
        "aliases": {"office": "office@example.net"},
        "rewrite_from": "printers@example.com",
    }
    return relay_to(sink.port) | {
        "tls": {name: str(path) for name, path in files.items()},
        "smtp": {"listeners": [{"listen": f"127.0.0.1:{ports[name]}"} | one for name, one in listeners.items()]},
        "keys": {"printers": printers},
    }


def login(secret: str, user: str = "printers") -> list[str]:
    """AUTH LOGIN, as the oldest do."""
    return ["AUTH LOGIN", *(base64.b64encode(text.encode()).decode() for text in (user, secret))]


def test_a_scanner_without_a_password(world: World) -> None:
    """HELO, LF, names without a domain: the mail that arrives is whole."""
    with closing(world.call("trusted")) as device:
        lines = ("HELO scanner", "MAIL FROM: <scanner>", "RCPT TO: <office>", "DATA")
        assert device.say(*lines, end="\n") == ["250", "250", "250", "354"]
        device.sock.sendall(SCAN + b"\r\n.\r\n")
        assert device.reply().startswith("250 2.0.0 queued as ")
    arrived = world.arrived("office@example.net")
    assert arrived.sender == "printers@example.com"
    head, _, body = arrived.content.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.replace(b"\r\n\t", b" ").split(b"\r\n"))
    assert fields[b"From"] == b'"Scanner, 2nd floor" <printers@example.com>'
    assert fields[b"To"] == b"office"
    assert {b"Date", b"Message-ID", b"Received"} <= fields.keys()
    assert f"({DEVICE})" in fields[b"Received"].decode() or f"[{DEVICE}]" in fields[b"Received"].decode()
    assert body == b"see above\r\n\r\n"


@pytest.mark.parametrize("size", [1, 100_000])
def test_one_octet_a_packet_or_all_in_one(world: World, size: int) -> None:
    recipient = f"packets-{size}@example.net"
    script = f"HELO x\r\nMAIL FROM:<scanner>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    script += SCAN + b"\r\n.\r\nQUIT\r\n"  # only this ends content, whatever ends its lines
    with closing(world.call("trusted")) as device:
        device.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(script), size):
            device.sock.sendall(script[at : at + size])
        assert [device.reply()[:3] for _ in range(6)] == ["250", "250", "250", "354", "250", "221"]
    assert b"\r\n\r\nsee above\r\n" in world.arrived(recipient).content


def test_a_device_elsewhere_is_not_trusted(world: World) -> None:
    with closing(world.call("trusted", source=OTHER)) as device:
        assert device.say("HELO x", "MAIL FROM:<scanner>")[-1] in {"530", "550"}


def test_network_and_secret(world: World) -> None:
    with closing(world.call("both")) as device:
        assert device.say("EHLO x", "MAIL FROM:<scanner>") == ["250", "530"]
        assert device.say(*login(SECRET), "MAIL FROM:<scanner>") == ["334", "334", "235", "250"]
    with closing(world.call("both", source=OTHER)) as device:
        assert device.say("EHLO x", *login(SECRET)) == ["250", "334", "334", "535"]


def test_auth_in_clear_by_explicit_switch(world: World) -> None:
    with closing(world.call("old")) as device:
        device.sock.sendall(b"EHLO x\r\n")
        assert "250-AUTH=PLAIN LOGIN\r\n" in device.reply()  # how the oldest look for it
        assert device.say(*login(SECRET)) == ["334", "334", "235"]
    with closing(world.call("strict")) as device:
        device.sock.sendall(b"EHLO x\r\n")
        assert "AUTH" not in device.reply()
        assert device.say("AUTH LOGIN") == ["538"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")  # deprecated, and what such a device has
def test_old_tls_by_explicit_switch(world: World) -> None:
    with closing(world.call("old")) as device:
        assert device.say("EHLO x", "STARTTLS") == ["250", "220"]
        device.start_tls(ssl.TLSVersion.TLSv1)
        assert device.say("EHLO x", *login(SECRET), "MAIL FROM:<scanner>") == ["250", "334", "334", "235", "250"]
    with closing(world.call("strict")) as device:
        assert device.say("EHLO x", "STARTTLS") == ["250", "220"]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            device.start_tls(ssl.TLSVersion.TLSv1)


def test_a_short_key(world: World) -> None:
    """One that a person can type; it is good in its network only."""
    text = world.daemon.json("key", "create", "fax", "--short", "--ip", f"{DEVICE}/32")["secret"]
    assert re.fullmatch(r"[a-z0-9]{20}", text)
    with closing(world.call("old")) as device:
        assert device.say("EHLO x", *login(text, "fax"))[-1] == "235"
    with closing(world.call("old", source=OTHER)) as device:
        assert device.say("EHLO x", *login(text, "fax"))[-1] == "535"
