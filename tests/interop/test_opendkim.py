"""OpenDKIM as the second opinion: its filter, in test mode, verifies what we sign with a key from a local file."""

import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.message import dkim
from gateway.message.canonical import BodyHasher
from gateway.message.dkim import Algorithm, PrivateKey
from tests.conftest import MakeDaemon
from tests.peers import opendkim as peer
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import relay_to
from tests.peers.process import require
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

DOMAIN = "example.com"
RECIPIENT = "you@example.net"
HEADER = (
    b"From: Joe <joe@example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>,\r\n\tBob <bob@shopping.example.net>\r\n"
    b"Subject:   Is   dinner\r\n ready? \r\n"
    b"Date: Fri, 11 Jul 2025 21:00:37 -0700\r\n"
    b"Message-ID: <20250712040037.46341.5F8J@example.com>\r\n"
    b"MIME-Version: 1.0\r\n\r\n"
)
BODY = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"

GOOD: dict[str, tuple[bytes, bytes]] = {
    "plain": (HEADER, BODY),
    "empty-body": (HEADER, b""),
    "only-empty-lines": (HEADER, b"\r\n\r\n\r\n"),
    "trailing-empty-lines": (HEADER, BODY + b"\r\n \r\n\t\r\n\r\n"),
    "eight-bit-body": (HEADER, b"Gr\xc3\xbc\xc3\x9fe \xff\xfe\x80  \t.\r\n..\r\n"),
    "spaces": (HEADER, (b" " * 300 + b"\t x\t\t \r\n") * 200),
    "long-lines": (HEADER, (b"x y " * 240 + b"\r\n") * 300),
    "utf8-header": (b"Subject: Gr\xc3\xbc\xc3\x9fe  aus M\xc3\xbcnchen\r\n" + HEADER, BODY),
    "folded-header": (
        b"References: <1@a>\r\n\t<2@a>\r\n \r\n\t<3@a>\r\nSender:\r\n joe@example.com\r\n" + HEADER,
        BODY,
    ),
    "repeated-header": (b"To: a@b.example\r\nSUBJECT: b\r\nTo: c@d.example\r\nsubject: a\r\n" + HEADER, BODY),
    "list-mail": (
        b"List-Unsubscribe: <https://example.com/u?a=b;c=d>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" + HEADER,
        BODY,
    ),
}


def signature(header: bytes, body: bytes, key: PrivateKey, selector: str = "s1") -> bytes:
    """The field alone."""
    hasher = BodyHasher()
    hasher.update(body)
    unsigned = dkim.prepare(
        header, hasher.digest(), domain=DOMAIN, selector=selector, now_s=1_750_000_000, algorithm=key.algorithm
    )
    return dkim.finish(unsigned, key.sign(unsigned.digest))


def sign(header: bytes, body: bytes, key: PrivateKey) -> bytes:
    return signature(header, body, key) + header + body


def run(messages: dict[str, bytes], records: dict[str, PrivateKey], directory: Path) -> tuple[str, dict[str, Path]]:
    """(what OpenDKIM prints about the messages, their files); `records` are the published keys by their selectors."""
    binary = require("opendkim")
    keys = directory / "keys"
    keys.write_text("".join(f"{s}._domainkey.{DOMAIN} {dkim.public_record(key)}\n" for s, key in records.items()))
    configuration = directory / "opendkim.conf"
    configuration.write_text(f"Mode v\nSyslog no\nTestPublicKeys {keys}\n")
    files = {name: directory / f"{name}.eml" for name in messages}
    for name, path in files.items():
        path.write_bytes(messages[name])
    done = subprocess.run(
        [binary, "-x", str(configuration), "-v", "-v", "-t", ",".join(map(str, files.values()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, files


def verdicts(messages: dict[str, bytes], key: PrivateKey, directory: Path) -> dict[str, str]:
    """OpenDKIM's last line about each message: `verification … succeeded`, `… failed` or why it did not come to it."""
    printed, files = run(messages, {"s1": key}, directory)
    lines = printed.splitlines()
    found = {}
    for name, path in files.items():
        [*_, found[name]] = [line for line in lines if line.startswith(f"opendkim: {path}: ")]
    return found


@pytest.fixture(params=list(Algorithm))
def key(request: pytest.FixtureRequest) -> PrivateKey:
    if request.param is Algorithm.RSA:
        return dkim.load_private_key(dkim.generate_rsa())
    return PrivateKey(Algorithm.ED25519, ed25519.Ed25519PrivateKey.generate())


def test_opendkim_verifies_what_we_sign(key: PrivateKey, tmp_path: Path) -> None:
    messages = {name: sign(header, body, key) for name, (header, body) in GOOD.items()}
    found = verdicts(messages, key, tmp_path)
    assert {name: line for name, line in found.items() if not line.endswith(" succeeded")} == {}


# Two signatures


def each_verdict(messages: dict[str, bytes], records: dict[str, PrivateKey], directory: Path) -> dict[str, list[str]]:
    """For each message, `algorithm result` of each of its signatures, from the top."""
    found = {}
    for name, message in messages.items():
        printed, _ = run({name: message}, records, directory)
        results = re.findall(r"dkim=(\w+) [^;]*?header\.a=([a-z0-9]+)-sha256", printed)
        found[name] = [f"{algorithm} {result}" for result, algorithm in results]
    return found


def test_opendkim_verifies_both_signatures(tmp_path: Path) -> None:
    records = {"s1": dkim.load_private_key(dkim.generate_rsa()), "s2": dkim.load_private_key(dkim.generate_ed25519())}
    messages = {}
    for name, (header, body) in GOOD.items():
        fields = [signature(header, body, key, selector) for selector, key in records.items()]
        messages[name] = b"".join(fields) + header + body
    found = each_verdict(messages, records, tmp_path)
    assert {name: said for name, said in found.items() if said != ["rsa pass", "ed25519 pass"]} == {}


def test_a_second_signature_does_no_harm_to_the_first(tmp_path: Path) -> None:
    """Whatever a verifier makes of Ed25519: here its key cannot be found, is RSA's, or the signature is broken."""
    rsa = dkim.load_private_key(dkim.generate_rsa())
    second = dkim.load_private_key(dkim.generate_ed25519())
    other = dkim.load_private_key(dkim.generate_ed25519())
    fields = signature(HEADER, BODY, rsa, "s1") + signature(HEADER, BODY, second, "s2")
    messages = {"message": fields + HEADER + BODY}
    for records in ({"s1": rsa}, {"s1": rsa, "s2": rsa}, {"s1": rsa, "s2": other}):
        found = each_verdict(messages, records, tmp_path)
        assert found["message"][0] == "rsa pass"
        assert found["message"][1:] != ["ed25519 pass"]
    altered = {
        "subject": messages["message"].replace(b"dinner", b"lunch"),
        "body": messages["message"].replace(b"Joe.\r\n", b"Jim.\r\n"),
        "second-to": messages["message"].replace(b"\r\nFrom: ", b"\r\nTo: added@example.com\r\nFrom: "),
    }
    found = each_verdict(altered, {"s1": rsa, "s2": second}, tmp_path)
    assert {name: said for name, said in found.items() if said != ["rsa fail", "ed25519 fail"]} == {}


def test_a_route_with_both_kinds_signs_twice_and_one_without_not_at_all(make_daemon: MakeDaemon, sink: Sink) -> None:
    """From the operator's command to the wire; OpenDKIM reads the records that the command printed."""
    settings = relay_to(sink.port, dkim="rsa+ed25519")
    settings["routes"]["bare"] = settings["routes"]["relay"] | {"dkim": "none"}
    with make_daemon(settings) as daemon:
        added = daemon.json("domain", "add", DOMAIN, "--ed25519")
        bare = daemon.json("key", "create", "bare", "--route", "bare")["secret"]
        smtp_send(daemon.smtp_port, f"shop@{DOMAIN}", [RECIPIENT], message_bytes(RECIPIENT))
        [by_smtp] = sink.wait_for(1)
        http_send(daemon.http_port, message_json(RECIPIENT))
        [_, by_http] = sink.wait_for(2)
        http_send(daemon.http_port, message_json(RECIPIENT), secret=bare)
        [*_, unsigned] = sink.wait_for(3)
    assert b"DKIM-Signature:" not in unsigned.content
    txt = {record["dns_name"]: record["dns_value"] for record in (added, added["ed25519"])}
    alone = {added["ed25519"]["dns_name"]: added["ed25519"]["dns_value"]}
    for message in (by_smtp.content, by_http.content):
        assert message.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;")
        assert message.count(b"DKIM-Signature: ") == 2
        assert peer.verify_dkimpy(message, txt)
        assert peer.verify_opendkim(message, txt)
        assert peer.verify_opendkim(message, alone), "OpenDKIM takes the second where the first has no key"
        assert not peer.verify_opendkim(message.replace(b"Subject: ", b"Subject: not "), txt)


# Altered messages


def test_opendkim_refuses_what_was_altered(key: PrivateKey, tmp_path: Path) -> None:
    message = sign(HEADER, BODY, key)
    altered = {
        f"second-{name.decode()}": message.replace(b"\r\nFrom: ", b"\r\n%b: added\r\nFrom: " % name)
        for name in dkim.SIGNED_FIELDS
    }
    altered["subject"] = message.replace(b"dinner", b"lunch")
    altered["body"] = message.replace(b"Joe.\r\n", b"Jim.\r\n")
    altered["appended"] = message + b"more\r\n"
    found = verdicts(altered, key, tmp_path)
    assert {name: line for name, line in found.items() if line.endswith(" succeeded")} == {}
    del found["second-from"]  # a message with two From fields is refused as malformed, before its signature
    assert {name: line for name, line in found.items() if " failed" not in line} == {}
