"""DKIM signatures (RFC 6376, 8301, 8463): what is signed, the field, key material and the DNS record.

Guarantees: `relaxed/relaxed`, never `l=`; each field of SIGNED_FIELDS is signed in every instance and once
more than present, so that adding one breaks the signature; RSA keys have at least 2048 bits. It does not
verify, does not decide who signs, and does not hash bodies (`canonical.BodyHasher`). A signature is made in
two steps, `prepare` and `finish`: what lies between them is expensive and done elsewhere (`delivery.signer`).
"""

import binascii
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

import idna
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils

from gateway import privatekey
from gateway.errors import GatewayError
from gateway.message import canonical

SIGNED_FIELDS: Final = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"sender",
    b"in-reply-to",
    b"references",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
TXT_STRING_OCTETS: Final = 255  # RFC 1035, 3.3: a character-string

_FOLD: Final = b"\r\n "
_LINE_OCTETS: Final = 76
_RANKS: Final = {name: rank for rank, name in enumerate(SIGNED_FIELDS)}
_CACHED_FIELDS: Final = 64
_FIELD_NAME: Final = b"DKIM-Signature: "
_NAME: Final = re.compile(
    r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*", re.ASCII
)
_PKCS1: Final = padding.PKCS1v15()
_SHA256_DIGEST: Final = utils.Prehashed(hashes.SHA256())


class DkimKeyError(GatewayError):
    """A key, selector or domain that cannot be signed with; the text says why and shows no key material."""


class Algorithm(StrEnum):
    """The value of `a=`. RSA with SHA-1 is dead (RFC 8301, 3.1)."""

    RSA = "rsa-sha256"
    ED25519 = "ed25519-sha256"

    @property
    def key_type(self) -> str:
        """The value of `k=` in the record (RFC 6376, 3.6.1; RFC 8463, 4)."""
        return self.value.removesuffix("-sha256")


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs. Safe to use from several threads; its repr shows nothing secret."""

    algorithm: Algorithm
    _key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = field(repr=False)

    def sign(self, digest: bytes) -> bytes:
        """The raw signature over a SHA-256 digest: 0.3 to 0.7 ms for RSA-2048, outside the GIL."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, _PKCS1, _SHA256_DIGEST)
        return self._key.sign(digest)  # RFC 8463, 3: PureEdDSA over the digest

    def pem(self) -> bytes:
        """The key itself, for the process that signs (PKCS #8, unencrypted): never to be stored or shown."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_bytes(self) -> bytes:
        """What `p=` holds: a SubjectPublicKeyInfo for RSA, the bare 32 octets for Ed25519 (RFC 8463, 4)."""
        public = self._key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return public.public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A signature field up to its `b=`, folded, and the SHA-256 digest whose signature belongs there."""

    digest: bytes
    field: bytes


def prepare(
    header: bytes,
    body_hash: bytes,
    *,
    domain: str,
    selector: str,
    now_s: int,
    algorithm: Algorithm = Algorithm.RSA,
) -> Unsigned:
    """What has to be signed for a message: its raw header block (CRLF) and the hash of its body (32 octets).

    `domain` may be in Unicode; `now_s` is Unix time in seconds. Lines that are no fields are not signed.
    Raises DkimKeyError where domain or selector cannot stand in the field.
    """
    ranks, lines = [], []
    for name, value in canonical.header_fields(header):
        if (rank := _RANKS.get(name)) is not None:
            ranks.append(rank)
            lines.append(name + b":" + value)
    plan = _plan if len(ranks) <= _CACHED_FIELDS else _plan.__wrapped__
    names, order = plan(tuple(ranks))
    unsigned = b"%b%d;%b%b;%bbh=%b;%bb=" % (
        _opening(domain, selector, algorithm),
        now_s,
        _FOLD,
        names,
        _FOLD,
        binascii.b2a_base64(body_hash, newline=False),
        _FOLD,
    )
    signed = [lines[position] for position in order]
    # RFC 6376, 3.7: the field itself comes last, `b=` empty, without a CRLF; unfolded, it is in relaxed form.
    signed.append(b"dkim-signature:" + unsigned[len(_FIELD_NAME) :].replace(_FOLD, b" "))
    return Unsigned(hashlib.sha256(b"\r\n".join(signed)).digest(), unsigned)


def finish(unsigned: Unsigned, signature: bytes) -> bytes:
    """The whole DKIM-Signature field with its CRLF, to be put in front of the message."""
    text = binascii.b2a_base64(signature, newline=False)
    width = _LINE_OCTETS - len(" b=")
    return b"%b%b\r\n" % (
        unsigned.field,
        _FOLD.join([text[start : start + width] for start in range(0, len(text), width)]),
    )


def load_private_key(pem: bytes) -> PrivateKey:
    """A key from unencrypted PEM (PKCS #8, PKCS #1). DkimKeyError: unreadable, too short, damaged, of another kind."""
    try:
        key = privatekey.load(pem)
    except ValueError as error:
        raise DkimKeyError(str(error)) from error
    return PrivateKey(Algorithm.ED25519 if isinstance(key, ed25519.Ed25519PrivateKey) else Algorithm.RSA, key)


def generate_rsa(bits: int = privatekey.MIN_RSA_BITS) -> bytes:
    """A new RSA key as PEM (PKCS #8, unencrypted). Takes some 100 ms for 2048 bits."""
    try:
        privatekey.require_size(bits)
    except ValueError as error:
        raise DkimKeyError(str(error)) from error
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return PrivateKey(Algorithm.RSA, key).pem()


def generate_ed25519() -> bytes:
    """A new Ed25519 key as PEM (PKCS #8, unencrypted)."""
    return PrivateKey(Algorithm.ED25519, ed25519.Ed25519PrivateKey.generate()).pem()


def public_record(private: PrivateKey) -> str:
    """The text of the TXT record that publishes the key (RFC 6376, 3.6.1)."""
    public = binascii.b2a_base64(private.public_bytes(), newline=False).decode()
    return f"v=DKIM1; k={private.algorithm.key_type}; p={public}"


def publishes(text: str, private: PrivateKey) -> bool:
    """Whether a TXT record, its strings joined, publishes the key (RFC 6376, 3.6.1), however it is written."""
    tags = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        tags[name.strip()] = "".join(value.split())
    public = binascii.b2a_base64(private.public_bytes(), newline=False).decode()
    return (
        tags.get("v", "DKIM1") == "DKIM1"
        and tags.get("k", Algorithm.RSA.key_type) == private.algorithm.key_type
        and tags.get("p") == public
        and "sha256" in tags.get("h", "sha256").split(":")
        and not {"*", "email"}.isdisjoint(tags.get("s", "*").split(":"))
    )


def txt_strings(record: str) -> list[str]:
    """The record in strings of at most 255 octets; verifiers just join them (RFC 6376, 3.6.2.2)."""
    return [record[start : start + TXT_STRING_OCTETS] for start in range(0, len(record), TXT_STRING_OCTETS)]


def zone_lines(selector: str, domain: str, record: str) -> str:
    """The record as an entry of a zone file (RFC 1035, 5.1), without a line end; parentheses join lines."""
    strings = "\n\t".join(f'"{text}"' for text in txt_strings(record))
    return f"{_ascii_name(selector)}._domainkey.{_ascii_name(domain)}. IN TXT ( {strings} )"


@lru_cache(maxsize=4096)  # one per signing key: constant for as long as the key is used
def _opening(domain: str, selector: str, algorithm: Algorithm) -> bytes:
    """The field up to the value of `t=`."""
    return b"%bv=1; a=%b; c=relaxed/relaxed;%bd=%b; s=%b; t=" % (
        _FIELD_NAME,
        algorithm.encode(),
        _FOLD,
        _ascii_name(domain).encode(),
        _ascii_name(selector).encode(),
    )


def _ascii_name(name: str) -> str:
    """A domain or selector in lower case and A-labels (RFC 6376, 3.5, `d=` and `s=`)."""
    try:
        ascii_name = name.lower() if name.isascii() else idna.encode(name, uts46=True).decode()
    except idna.IDNAError as error:
        raise DkimKeyError(f"not a domain name: {name!r}") from error
    if not _NAME.fullmatch(ascii_name):
        raise DkimKeyError(f"not a domain name: {name!r}")
    return ascii_name


@lru_cache(maxsize=1024)  # mail of one program has a handful of shapes; a key is at most _CACHED_FIELDS numbers
def _plan(ranks: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
    """For a header whose fields to sign have these ranks: the `h=` tag and the order they are hashed in.

    RFC 6376, 5.4.2: instances of a name are taken from the bottom up. Each name stands once more often than
    it occurs; the one too many is the empty string in the hash, so that an added field breaks it (8.15).
    """
    order = sorted(range(len(ranks)), key=lambda position: (ranks[position], -position))
    counts = Counter(ranks)
    names = [name for rank, name in enumerate(SIGNED_FIELDS) for _ in range(counts[rank] + 1)]
    return _fold_names(names), tuple(order)


def _fold_names(names: list[bytes]) -> bytes:
    lines = [b"h=" + names[0]]
    for name in names[1:]:
        if len(lines[-1]) + len(name) + 2 > _LINE_OCTETS:
            lines[-1] += b":"
            lines.append(name)
        else:
            lines[-1] += b":" + name
    return _FOLD.join(lines)
