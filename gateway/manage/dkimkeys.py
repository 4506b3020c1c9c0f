"""Signing keys of domains: made, wrapped for the store, and read back. A private key leaves memory only wrapped."""

import asyncio
import re
from typing import Final

from gateway.configfile import grammar
from gateway.manage import refusals
from gateway.message import dkim
from gateway.message.dkim import Algorithm
from gateway.policy.domains import SigningKey
from gateway.runtime import Clock
from gateway.store.records import DkimKeyRecord
from gateway.store.vault import Vault

DEFAULT_SELECTOR: Final = "mgw1"
_GENERATORS: Final = {Algorithm.RSA: dkim.generate_rsa, Algorithm.ED25519: dkim.generate_ed25519}
_NUMBER: Final = re.compile(r"\d{1,9}")


class DkimKeys:
    """Makes and reads the keys of one store."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock
        self._parsed: dict[bytes, dkim.PrivateKey] = {}  # by their wrapped form

    async def make(self, domain: str, selector: str, algorithm: Algorithm, *, active: bool) -> DkimKeyRecord:
        """A new key, not stored yet. Refused for what cannot be a selector."""
        checked_selector(selector)
        pem = await asyncio.to_thread(_GENERATORS[algorithm])
        wrapped = self._vault.wrap(_label(domain, selector), pem)
        return DkimKeyRecord(selector, algorithm.key_type, wrapped, created_at=self._clock.now_ms(), active=active)

    def read(self, domain: str, record: DkimKeyRecord) -> SigningKey:
        """Takes some milliseconds the first time: not in the loop. VaultError."""
        private = self._parsed.get(record.private_wrapped)
        if private is None:
            pem = self._vault.unwrap(_label(domain, record.selector), record.private_wrapped)
            private = self._parsed[record.private_wrapped] = dkim.load_private_key(pem)
        return SigningKey(domain, record.selector, private)


def checked_selector(text: str) -> str:
    """As it was given; Refused for what cannot be published."""
    try:
        return grammar.selector(text)
    except ValueError as error:
        raise refusals.invalid("selector", str(error)) from error


def ed25519_selector(rsa_selector: str) -> str:
    """Each key needs its own (RFC 8463, 6: a record holds one key)."""
    return f"{rsa_selector}-ed25519"


def next_selector(selector: str) -> str:
    """The name of the key after that one: its first number goes up, or there is one at last."""
    if (found := _NUMBER.search(selector)) is None:
        return f"{selector}2"
    return f"{selector[: found.start()]}{int(found[0]) + 1}{selector[found.end() :]}"


def _label(domain: str, selector: str) -> str:
    """What the vault binds a wrapped key to."""
    return f"dkim:{domain}:{selector}"
