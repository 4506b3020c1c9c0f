"""From a host's certificate up to a trust anchor that its zone names (DANE-TA: RFC 7672, 3.1.2). Pure.

Guarantees: every link is a signature by the next certificate's key, made with SHA-256 or better; every certificate of
the chain is in its dates, and every issuer is one by its own words; one of the names is the host's. Revocation,
policies, lengths of paths and name constraints are not looked at: the zone's owner chose the anchor.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

_LONGEST: Final = 10  # certificates of a chain that are looked at
_ODD: Final = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_WEAK: Final = (hashes.MD5, hashes.SHA1)

_KINDS: Final = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)

Trusts = Callable[[bytes], bool]
Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


def broken(
    chain: Sequence[bytes],
    names: Sequence[str],
    now: datetime,
    *,
    trusts: Trusts,
    certificates: Iterable[bytes] = (),
    keys: Iterable[bytes] = (),
) -> str | None:
    """Why there is no way from the first certificate to an anchor; None: there is one. All are in DER.

    `trusts` says whether a certificate of the chain is an anchor; `certificates` and `keys` (SubjectPublicKeyInfo) are
    anchors that the zone holds itself.
    """
    shown = [certificate for certificate in map(_load, chain[:_LONGEST]) if certificate is not None]
    if not shown or _load(chain[0]) is None:
        return "its certificate cannot be read"
    if not any(names_host(shown[0], name) for name in names):
        return f"its certificate is not for {names[0] if names else 'any name'}"
    if not _in_its_dates(shown[0], now):
        return "its certificate is not valid now"
    anchors = [anchor for anchor in map(_load, certificates) if anchor is not None]
    found = [*map(_load_key, keys), *(_key_of(anchor) for anchor in anchors if _can_issue(anchor, now))]
    known = [key for key in found if key is not None]
    if _leads_up(shown[0], shown[1:], now, trusts=trusts, keys=known):
        return None
    return "its certificate is not issued by any of the authorities in its TLSA records"


def _leads_up(
    start: x509.Certificate,
    others: Sequence[x509.Certificate],
    now: datetime,
    *,
    trusts: Trusts,
    keys: Sequence[Key],
) -> bool:
    """Each certificate is visited once, so that no chain takes long."""
    left = [certificate for certificate in others if _can_issue(certificate, now)]
    reached = [start]
    while reached:
        certificate = reached.pop()
        if any(_signed_by(certificate, key) for key in keys):
            return True
        issuers = [one for one in left if one.subject == certificate.issuer and _signed_by(certificate, _key_of(one))]
        if any(trusts(issuer.public_bytes(serialization.Encoding.DER)) for issuer in issuers):
            return True
        left = [one for one in left if one not in issuers]
        reached += issuers
    return False


def names_host(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate is for this host: by its DNS names, or without any by its common name (RFC 7672, 3.2.2)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        given = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        given = []
    if not given:
        given = [str(one.value) for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return any(_is_for(pattern.lower(), name.lower()) for pattern in given)


def _is_for(pattern: str, name: str) -> bool:
    """RFC 9525, 6.3: a wildcard is the whole of the first label, and stands for one."""
    if not pattern.startswith("*."):
        return pattern == name
    rest = name.partition(".")[2]
    return "." in rest and rest == pattern[2:]


def _in_its_dates(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _can_issue(certificate: x509.Certificate, now: datetime) -> bool:
    """RFC 5280, 4.2.1.9 and 4.2.1.3."""
    try:
        extensions = certificate.extensions
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    try:
        may_sign = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        may_sign = True
    return is_authority and may_sign and _in_its_dates(certificate, now)


def _signed_by(certificate: x509.Certificate, key: Key | None) -> bool:
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        digest, parameters = certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters
        if isinstance(digest, _WEAK):
            return False
        match key:
            case rsa.RSAPublicKey() if digest and isinstance(parameters, (padding.PKCS1v15, padding.PSS)):
                key.verify(signature, signed, parameters, digest)
            case ec.EllipticCurvePublicKey() if isinstance(parameters, ec.ECDSA):
                key.verify(signature, signed, parameters)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey() if digest is None:
                key.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _load(data: bytes) -> x509.Certificate | None:
    """None for what is none, or would raise when it is looked at."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd serial numbers, for example: they are none of our business
            certificate = x509.load_der_x509_certificate(data)
            _ = (certificate.public_key(), certificate.extensions, certificate.subject, certificate.issuer)
            _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except (ValueError, UnsupportedAlgorithm, *_ODD):
        return None
    return certificate


def _load_key(data: bytes) -> Key | None:
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, _KINDS) else None


def _key_of(certificate: x509.Certificate) -> Key | None:
    key = certificate.public_key()
    return key if isinstance(key, _KINDS) else None
