"""Signatures of requests to endpoints: Standard Webhooks 1.0, and plain HMAC for clients of other APIs. Pure.

Guarantees: what is signed are the very bytes of the body together with the event's id and the time of this attempt, so
neither can be changed, and a request that is played back later is too old for its reader (5 minutes, as the
specification has it).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32  # of those that we make; the specification takes 24 to 64
_LEAST_BYTES: Final = 24
_MOST_BYTES: Final = 64
_LEAST_TEXT: Final = 16
_MOST_TEXT: Final = 128


def write_secret(raw: bytes) -> str:
    """`whsec_…`."""
    return PREFIX + base64.b64encode(raw).decode()


def check_secret(text: str, *, standard: bool) -> str:
    """A secret that somebody chose: `whsec_` with 24 to 64 bytes in base64; where it need not be `standard`, any 16 to
    128 visible ASCII characters. Raises ValueError."""
    if text.startswith(PREFIX) or standard:
        raw = _decoded(text)
        if raw is None or not _LEAST_BYTES <= len(raw) <= _MOST_BYTES:
            raise ValueError(f"must be {PREFIX} and {_LEAST_BYTES} to {_MOST_BYTES} bytes in base64")
    elif not (_LEAST_TEXT <= len(text) <= _MOST_TEXT and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError(f"must be {_LEAST_TEXT} to {_MOST_TEXT} characters of ASCII without spaces")
    return text


def standard(secrets: Sequence[str], id_: str, at_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret that is good now."""
    signed = f"{id_}.{at_s}.".encode() + body
    codes = (hmac.digest(_key(secret), signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(code).decode()}" for code in codes)


def plain(secret: str, signed: bytes) -> str:
    """HMAC-SHA256 in hexadecimal, keyed by the text of the secret as its owner has it."""
    return hmac.digest(secret.encode(), signed, hashlib.sha256).hex()


def _key(secret: str) -> bytes:
    return _decoded(secret) or secret.encode()


def _decoded(secret: str) -> bytes | None:
    if not secret.startswith(PREFIX):
        return None
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
