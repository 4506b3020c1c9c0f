"""Texts that only this instance can make: in links, in the addresses that mail comes back to, in cursors.

Guarantees: what was not made here, or was altered in one bit, or made for another purpose, is None; a comparison takes
the same time wherever they differ. A token says which recipient is meant, no more: nobody's address is in it.

Keys are derived from one secret of the instance by HKDF (RFC 5869), one for each purpose; a code is HMAC-SHA256 cut to
128 bits. Tokens of local parts are base32 in lower case (RFC 4648, 6), which survive hosts that change the case.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SECRET_BYTES: Final = 32
_VERSION: Final = 1
_CODE_BYTES: Final = 16
_ID_BYTES: Final = 8
_BODY_BYTES: Final = 1 + 2 * _ID_BYTES
_LOCAL: Final = re.compile(r"[a-z2-7]{53}", re.ASCII)
_URL_SAFE: Final = re.compile(r"[A-Za-z0-9_-]{44}", re.ASCII)
_TARGET: Final = re.compile(r"[A-Za-z0-9_-]{1,11000}", re.ASCII)
_URL_SAFE_DIGITS: Final = bytes.maketrans(b"+/", b"-_")
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)


class Purpose(StrEnum):
    """What a token is good for."""

    OPEN = "open"
    CLICK = "click"
    UNSUBSCRIBE = "unsubscribe"
    RETURN_PATH = "return path"


@dataclass(frozen=True, slots=True)
class Subject:
    """Row ids. `recipient` 0: of a message that went to several at once."""

    message: int
    recipient: int


class Tokens:
    """Makes and reads them. `secret` is SECRET_BYTES long."""

    def __init__(self, secret: bytes) -> None:
        self._keys = {purpose: _derived(secret, purpose.value) for purpose in Purpose}
        self._event_key = _derived(secret, "event id")
        self._hash_key = _derived(secret, "address hash")
        # One block: AES as the permutation of 128-bit numbers that it is.
        self._cursor = Cipher(algorithms.AES(_derived(secret, "cursor")), modes.ECB())  # noqa: S305 - one block of our own, not text

    # Of links

    def link(self, purpose: Purpose, subject: Subject) -> str:
        """44 characters that are safe in a URL."""
        return _url_safe(self._sealed(purpose, subject, b""))

    def read_link(self, purpose: Purpose, text: str) -> Subject | None:
        return self._read(purpose, text, b"")

    def click(self, subject: Subject, target: str) -> str:
        """`token/target` as two segments of a path: the code covers where it leads."""
        encoded = target.encode()
        return f"{_url_safe(self._sealed(Purpose.CLICK, subject, encoded))}/{_url_safe(encoded)}"

    def read_click(self, token: str, target: str) -> tuple[Subject, str] | None:
        """Whom a link was made for, and where it leads."""
        if not _TARGET.fullmatch(target):
            return None
        try:
            url = base64.urlsafe_b64decode(target + "=" * (-len(target) % 4))
            if _url_safe(url) != target:
                return None  # another spelling
            subject = self._read(Purpose.CLICK, token, url)
            return (subject, url.decode()) if subject is not None else None
        except (binascii.Error, UnicodeDecodeError):
            return None

    # Of local parts

    def local(self, purpose: Purpose, subject: Subject) -> str:
        """53 characters of a local part, with letters in lower case only."""
        return base64.b32encode(self._sealed(purpose, subject, b"")).decode().rstrip("=").lower()

    def read_local(self, purpose: Purpose, text: str) -> Subject | None:
        """In whatever case it came back."""
        lower = text.lower() if text.isascii() else ""
        if not _LOCAL.fullmatch(lower):
            return None
        raw = base64.b32decode(lower.upper() + "===")
        if base64.b32encode(raw).decode().rstrip("=").lower() != lower:
            return None  # bits that mean nothing
        return self._opened(purpose, raw, b"")

    # Of the event log

    def cursor(self, seq: int) -> str:
        """A place in the event log as clients hold it: 22 characters that say nothing of how much there is."""
        encryptor = self._cursor.encryptor()
        return _url_safe(encryptor.update(bytes(8) + seq.to_bytes(8)) + encryptor.finalize())

    def read_cursor(self, text: str) -> int | None:
        if not _CURSOR.fullmatch(text):
            return None
        raw = base64.urlsafe_b64decode(text + "==")
        if _url_safe(raw) != text:
            return None
        decryptor = self._cursor.decryptor()
        plain = decryptor.update(raw) + decryptor.finalize()
        return int.from_bytes(plain[8:]) if plain[:8] == bytes(8) else None

    def event_id(self, seq: int, at: int) -> bytes:
        """The id of an event, always the same: as a UUIDv7 (RFC 9562, 5.7), for `runtime.show_id`."""
        random = int.from_bytes(_code(self._event_key, seq.to_bytes(8)))
        value = (at & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 64 & 0xFFF) << 64 | 2 << 62 | random & (1 << 62) - 1
        return value.to_bytes(16)

    def hashed(self, address: str) -> str:
        """What stands for an address where it must not be kept: the same for each way of writing its letters."""
        return "hash:" + base64.b32encode(_code(self._hash_key, address.lower().encode())).decode().rstrip("=").lower()

    def _read(self, purpose: Purpose, text: str, more: bytes) -> Subject | None:
        if not _URL_SAFE.fullmatch(text):
            return None
        return self._opened(purpose, base64.urlsafe_b64decode(text), more)

    def _sealed(self, purpose: Purpose, subject: Subject, more: bytes) -> bytes:
        body = bytes((_VERSION,)) + subject.message.to_bytes(_ID_BYTES) + subject.recipient.to_bytes(_ID_BYTES)
        return body + _code(self._keys[purpose], body + more)

    def _opened(self, purpose: Purpose, sealed: bytes, more: bytes) -> Subject | None:
        body, code = sealed[:_BODY_BYTES], sealed[_BODY_BYTES:]
        if not hmac.compare_digest(code, _code(self._keys[purpose], body + more)) or body[0] != _VERSION:
            return None
        return Subject(int.from_bytes(body[1:9]), int.from_bytes(body[9:]))


def _derived(secret: bytes, purpose: str) -> bytes:
    return HKDFExpand(hashes.SHA256(), 32, f"mail-gateway {purpose}".encode()).derive(secret)


def _code(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)[:_CODE_BYTES]


def _url_safe(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE_DIGITS).rstrip(b"=").decode()
