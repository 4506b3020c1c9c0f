"""DANE for SMTP (RFC 7672): do the certificates that a host has shown match its TLSA records? Pure.

Guarantees: only usages 2 (DANE-TA) and 3 (DANE-EE) count; with usage 3 neither names nor dates matter, with usage 2 the
chain to the trust anchor, its dates and the host's name do. What cannot be read does not match. It asks no resolver and
does not know whether the records are authentic (tls_policy.py).
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from gateway.delivery.tls import dane_chain, dane_key

EE: Final = 3
TA: Final = 2
_WHOLE: Final = 0  # matching types: RFC 6698, 2.1.3
_SHA256: Final = 1
_SHA512: Final = 2
_DIGESTS: Final = {_SHA256: hashlib.sha256, _SHA512: hashlib.sha512}
_SELECTORS: Final = frozenset({0, 1})  # the certificate; its SubjectPublicKeyInfo


class Tlsa(NamedTuple):
    """A TLSA record (RFC 6698, 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


def usable(records: Iterable[tuple[int, int, int, bytes]]) -> tuple[Tlsa, ...]:
    """Those that a host can be authenticated by. Usages 0 and 1 are not (RFC 7672, 3.1.3)."""
    known = [Tlsa(*record) for record in records if _is_usable(Tlsa(*record))]
    strong = {(one.usage, one.selector) for one in known if one.matching == _SHA512}
    # RFC 7671, 9: where a stronger digest of the same kind is published, the weaker one does not count.
    return tuple(one for one in known if one.matching != _SHA256 or (one.usage, one.selector) not in strong)


def mismatch(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: datetime) -> str | None:
    """Why the host is not authenticated; None: it is. `chain` is what it has shown, in DER, its own certificate first;
    `names` are those that usage 2 accepts; `now` is aware of its zone."""
    if not chain:
        return "it has shown no certificate"
    if any(_matches(one, chain[0]) for one in records if one.usage == EE):
        return None
    anchors = [one for one in records if one.usage == TA]
    if not anchors:
        return "its certificate matches none of its TLSA records"
    return dane_chain.broken(
        chain,
        names,
        now,
        trusts=lambda certificate: any(_matches(one, certificate) for one in anchors),
        certificates=[one.data for one in anchors if one.matching == _WHOLE and one.selector == 0],
        keys=[one.data for one in anchors if one.matching == _WHOLE and one.selector == 1],
    )


def _is_usable(record: Tlsa) -> bool:
    if record.usage not in {EE, TA} or record.selector not in _SELECTORS:
        return False
    if record.matching == _WHOLE:
        return bool(record.data)
    digest = _DIGESTS.get(record.matching)
    return digest is not None and len(record.data) == digest().digest_size


def _matches(record: Tlsa, certificate: bytes) -> bool:
    selected = certificate if record.selector == 0 else dane_key.public_key_info(certificate)
    if selected is None:
        return False
    digest = _DIGESTS.get(record.matching)
    return record.data == (digest(selected).digest() if digest else selected)
