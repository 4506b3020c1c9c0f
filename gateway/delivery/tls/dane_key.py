"""The public key of a certificate, byte for byte as it stands there. A digest of it is what most TLSA records hold."""

from typing import Final

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_BEFORE_THE_KEY: Final = 5  # serial number, signature algorithm, issuer, validity, subject (RFC 5280, 4.1)


class _Malformed(Exception):
    pass


def public_key_info(certificate: bytes) -> bytes | None:
    """SubjectPublicKeyInfo of a certificate, both in DER; None where it is not one."""
    try:
        _, at, end = _element(certificate, 0, len(certificate))  # Certificate
        tag, at, end = _element(certificate, at, end)  # TBSCertificate
        if tag != _SEQUENCE:
            return None
        tag, _, after = _element(certificate, at, end)
        if tag == _VERSION:
            at = after
        for _ in range(_BEFORE_THE_KEY):
            at = _element(certificate, at, end)[2]
        tag, _, after = _element(certificate, at, end)
    except _Malformed:
        return None
    return certificate[at:after] if tag == _SEQUENCE else None


def _element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """(tag, where its content begins, where it ends) of the element at `at`."""
    if at + 2 > end:
        raise _Malformed
    tag, size, at = data[at], data[at + 1], at + 2
    if size & 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4 or at + octets > end:
            raise _Malformed
        size = int.from_bytes(data[at : at + octets], "big")
        at += octets
    if at + size > end:
        raise _Malformed
    return tag, at, at + size
