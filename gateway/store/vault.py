"""The master key of the data directory, and secrets wrapped by it.

Guarantees: a wrapped secret is AES-256-GCM bound to its name, so that one cannot be put in another's place;
the key file is readable by its owner only, and is never replaced. Whoever has the file and the database has
the secrets.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import StoreError

KEY_FILE: Final = "master.key"
KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"  # AES-256-GCM: version, 12 bytes of nonce, ciphertext with its tag
_NONCE_BYTES: Final = 12


class VaultError(StoreError):
    """The master key cannot be used, or a secret was not wrapped by it."""


def load_master_key(data_dir: Path) -> bytes:
    """The master key, made at the first start. Raises VaultError where it is damaged or others can read
    it."""
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise VaultError(f"{path} cannot be read or made: {error.strerror}.") from error


class Vault:
    """Wraps and unwraps under one master key."""

    def __init__(self, master: bytes) -> None:
        """`master` is KEY_BYTES long. Raises VaultError."""
        if len(master) != KEY_BYTES:
            raise VaultError(f"A master key has {KEY_BYTES} bytes, this one {len(master)}.")
        self._cipher = AESGCM(master)

    def wrap(self, name: str, plain: bytes) -> bytes:
        """`plain` under a fresh nonce, to be stored under `name` only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, name.encode())

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """The inverse of `wrap`. Raises VaultError."""
        if wrapped[:1] != _VERSION:
            raise VaultError(f"The secret {name} is wrapped in a form that this version does not know.")
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, name.encode())
        except (InvalidTag, ValueError) as error:
            raise VaultError(
                f"The secret {name} cannot be unwrapped: {KEY_FILE} is not the key it was wrapped with, or "
                "it is damaged."
            ) from error


def _make(path: Path) -> None:
    """Write a new key so that the file is there whole or not at all, even after a power cut."""
    draft = path.with_name(f"{KEY_FILE}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # fails where somebody was faster: a key is never replaced
    except FileExistsError:
        return
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise VaultError(f"{path} can be read by others than its owner: chmod 600 it.")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise VaultError(f"{path} is not a master key of {KEY_BYTES} bytes.")
    return key
