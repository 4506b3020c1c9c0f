"""OpenDKIM as the second opinion: its filter, in test mode, verifies what we sign with a key from a local file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.message import dkim
from gateway.message.canonical import BodyHasher
from gateway.message.dkim import Algorithm, PrivateKey

pytestmark = pytest.mark.slow

DOMAIN = "example.com"
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


def opendkim() -> str:
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which("opendkim", path=places)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("opendkim is not installed, and this is CI: install the package opendkim")
        pytest.skip("opendkim is not installed")
    return found


def sign(header: bytes, body: bytes, key: PrivateKey) -> bytes:
    hasher = BodyHasher()
    hasher.update(body)
    unsigned = dkim.prepare(
        header, hasher.digest(), domain=DOMAIN, selector="s1", now_s=1_750_000_000, algorithm=key.algorithm
    )
    return dkim.finish(unsigned, key.sign(unsigned.digest)) + header + body


def verdicts(messages: dict[str, bytes], key: PrivateKey, directory: Path) -> dict[str, str]:
    """OpenDKIM's last line about each message: `verification … succeeded`, `… failed` or why it did not come to it."""
    binary = opendkim()
    keys = directory / "keys"
    keys.write_text(f"s1._domainkey.{DOMAIN} {dkim.public_record(key)}\n")
    configuration = directory / "opendkim.conf"
    configuration.write_text(f"Mode v\nSyslog no\nTestPublicKeys {keys}\n")
    files = {name: directory / f"{name}.eml" for name in messages}
    for name, path in files.items():
        path.write_bytes(messages[name])
    done = subprocess.run(
        [binary, "-x", str(configuration), "-v", "-t", ",".join(map(str, files.values()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = done.stdout.splitlines()
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
