"""Certificates for TLS tests: a certificate authority of our own, made in memory."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from gateway.config import Tls


@dataclass(frozen=True, slots=True)
class Certificates:
    """A server certificate in files, and a client's context that trusts its authority (and nothing else)."""

    tls: Tls
    client: ssl.SSLContext


def make(directory: Path, *names: str, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> Certificates:
    """Write `fullchain.pem` and `privkey.pem` for these names (default: localhost and 127.0.0.1) by a new
    authority."""
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1")), key_type=kind)
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / "fullchain.pem", directory / "privkey.pem"
    key.write_bytes(issued.private_key_pem.bytes())
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Certificates(Tls(certificate, key), client)
