"""Private keys that sign mail, read from PEM and checked. Pure.

Guarantees: what is returned can sign: its kind and size are those that verifiers take, and an RSA key was seen to make
a signature that verifies. No error shows key material.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

MIN_RSA_BITS: Final = 2048  # RFC 8301, 3.2: signers should use at least that; receivers distrust less


def load(pem: bytes) -> rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    """A key from unencrypted PEM (PKCS #8, PKCS #1). ValueError says what is wrong with it. Takes 2 ms."""
    try:
        # OpenSSL takes 40 to 90 ms to look for primes in an RSA key.
        key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise ValueError("the key is encrypted; store it without a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this is not a private key in PEM") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"a DKIM key is Ed25519, or RSA of at least {MIN_RSA_BITS} bits")  # noqa: TRY004 - the file is wrong
    require_size(key.key_size)
    _require_sound(key)
    return key


def require_size(bits: int) -> None:
    """ValueError for an RSA key that is too short."""
    if bits < MIN_RSA_BITS:
        raise ValueError(f"the RSA key has {bits} bits; DKIM needs at least {MIN_RSA_BITS}")


def _require_sound(key: rsa.RSAPrivateKey) -> None:
    """Numbers that belong together make signatures that verify."""
    text, scheme, digest = b"mail", padding.PKCS1v15(), hashes.SHA256()
    try:
        key.public_key().verify(key.sign(text, scheme, digest), text, scheme, digest)
    except (InvalidSignature, ValueError) as error:
        raise ValueError("the RSA key is damaged: what it signs does not verify") from error
