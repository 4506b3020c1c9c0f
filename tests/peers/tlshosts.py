"""Certificates and faults of hosts: everything that TLS with one can fail of."""

import hashlib
import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.fakes.mx import Do, FakeMx, Reaction


@dataclass(frozen=True, slots=True)
class Shown:
    """What a host shows: its context, and its certificate and its authority's in DER."""

    server: ssl.SSLContext
    leaf: bytes
    authority: bytes

    def tlsa(self, usage: int, selector: int, matching: int) -> str:
        """The data of a TLSA record for it: its authority's for usage 2."""
        certificate = x509.load_der_x509_certificate(self.authority if usage == 2 else self.leaf)
        selected = certificate.public_bytes(serialization.Encoding.DER)
        if selector:
            selected = certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        data = {0: selected, 1: hashlib.sha256(selected).digest(), 2: hashlib.sha512(selected).digest()}[matching]
        return f"{usage} {selector} {matching} {data.hex()}"


def show(directory: Path, authority: trustme.CA, *names: str, ended: bool = False) -> Shown:
    """A context that shows a certificate of the authority for these names, and the authority's own with it."""
    now = datetime.now(UTC)
    dates = (now - timedelta(days=9), now - timedelta(days=1)) if ended else (None, None)
    issued = authority.issue_cert(*names, not_before=dates[0], not_after=dates[1])
    directory.mkdir(parents=True, exist_ok=True)
    chain = directory / f"{names[0]}{'-ended' if ended else ''}.pem"
    chain.write_bytes(issued.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    return Shown(
        server,
        ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode()),
        ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode()),
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """A way in which a host's TLS is not what it should be. `encrypts`: TLS comes about all the same where nobody asks
    who the host is."""

    server: ssl.SSLContext | None
    script: Mapping[str, Reaction]
    encrypts: bool = False

    def host(self, **more: int | str) -> FakeMx:
        """A host with that fault."""
        return FakeMx(dict(self.script), tls=self.server, **more)  # type: ignore[arg-type] # port, address


def faults(directory: Path, authority: trustme.CA, name: str) -> dict[str, Fault]:
    """All of them, for a host of that name; clients trust the authority."""
    good = show(directory, authority, name).server
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(old)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    return {
        "not offered": Fault(None, {}),
        "refused for now": Fault(good, {"STARTTLS": "454 4.7.0 no TLS today"}),
        "refused": Fault(good, {"STARTTLS": "501 5.5.4 no"}),
        "dropped": Fault(good, {"STARTTLS": Do("220 go", drop=True)}),
        "no handshake": Fault(good, {"STARTTLS": Do("220 go", raw=b"\x15\x03\x01\x00\x02\x02\x28", drop=True)}),
        "old": Fault(old, {}),
        "ended": Fault(show(directory, authority, name, ended=True).server, {}, encrypts=True),
        "by nobody known": Fault(show(directory / "nobody", trustme.CA(), name).server, {}, encrypts=True),
        "another name": Fault(show(directory, authority, "another.test").server, {}, encrypts=True),
    }


def said_in_clear(host: FakeMx) -> bytes:
    """What left without TLS, on all connections."""
    return b"\n".join(bytes(conversation.clear) for conversation in host.conversations)
