"""The certificate of a door: whole or not at all, told once, and never asked for at a terminal."""

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from gateway.certificates import ServerCertificate
from gateway.config import Tls
from gateway.errors import ConfigError
from tests.fakes import certs

LOWEST = ssl.TLSVersion.TLSv1_2


def plain(lowest: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = lowest
    return context


def in_use(tls: Tls) -> ServerCertificate:
    """One that shakes hands already."""
    certificate = ServerCertificate(tls, plain, logger="gateway.test")
    certificate.context(LOWEST)
    return certificate


def encrypt(key: Path) -> None:
    loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
    key.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")))


def test_a_context_that_was_given_out_is_not_changed(tmp_path: Path) -> None:
    certificate = in_use(certs.make(tmp_path).tls)
    first = certificate.context(LOWEST)
    assert certificate.context(LOWEST) is first
    certs.make(tmp_path, kind=trustme.KeyType.RSA)
    assert certificate.refresh()
    assert certificate.context(LOWEST) is not first


def test_a_change_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is looked for; what cannot be used is told anew when it is another file."""
    caplog.set_level("INFO", "gateway.test")
    old = certs.make(tmp_path)
    certificate = in_use(old.tls)
    key = old.tls.key.read_bytes()
    new = certs.make(tmp_path)
    new_key = new.tls.key.read_bytes()
    new.tls.key.write_bytes(key)
    for _ in range(3):
        assert not certificate.refresh()
    assert caplog.text.count("cannot be used yet") == 1
    new.tls.key.unlink()
    for _ in range(3):
        assert not certificate.refresh()
    assert caplog.text.count("cannot be used yet") == 2
    new.tls.key.write_bytes(new_key)
    assert certificate.refresh()
    assert not certificate.refresh()
    assert caplog.text.count(f"the changed certificate {new.tls.certificate} is used from now on") == 1


def test_what_could_not_be_read_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lets us read a file changes nothing that shows in it."""
    certificate = in_use(certs.make(tmp_path).tls)
    certs.make(tmp_path)

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as closed:
        closed.setattr("gateway.certificates.load", forbidden)
        assert not certificate.refresh()
    assert certificate.refresh()


def test_an_encrypted_key_is_refused_and_asks_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """OpenSSL would ask on the terminal, and all mail would wait for it."""
    made = certs.make(tmp_path)
    certificate = in_use(made.tls)
    encrypt(made.tls.key)
    assert not certificate.refresh()
    assert "the key is encrypted; store it without a passphrase" in caplog.text
    with pytest.raises(ConfigError, match="the key is encrypted"):
        in_use(made.tls)


def test_a_door_without_tls_does_not_look(tmp_path: Path) -> None:
    certificate = ServerCertificate(certs.make(tmp_path).tls, plain, logger="gateway.test")
    certs.make(tmp_path)
    assert not certificate.refresh()
