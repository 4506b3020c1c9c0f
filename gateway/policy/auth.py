"""Who is this client? Keys: their text, their digest, and the principal they stand for.

Guarantees: a key's text is never kept, only its SHA-256 (it is random, so a slow hash would only slow the hot path);
every reason for refusal is one and the same answer. It does not limit the rate of guesses: the listeners do.
"""

import hashlib
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.config import Limit, Network
from gateway.errors import Reason, Refused
from gateway.store.records import KeyRecord

DEFAULT_PREFIX: Final = "mgw_"
MIN_LENGTH: Final = 22  # of a text chosen by the operator: 128 bits in base 62
SCOPES: Final = ("send", "read", "manage", "admin")
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARACTERS: Final = 32  # 190 bits
_HINT_CHARACTERS: Final = 8
_REFUSAL: Final = "The key is missing, unknown, expired or revoked."


@dataclass(frozen=True, slots=True)
class Principal:
    """What an authenticated client may do. `senders` empty means any sender; `source` is `store` or `config`."""

    name: str
    account: str
    route: str | None
    senders: tuple[str, ...]
    scopes: frozenset[str]
    default_from: str | None
    expires_at: int | None
    source: str = "store"
    limits: tuple[Limit, ...] = ()
    networks: tuple[Network, ...] = ()  # where it may be used from; none: anywhere
    default_domain: str | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    rewrite_from: str | None = None


def make_key(prefix: str = DEFAULT_PREFIX) -> str:
    """A new key: prefix, 32 random base62 characters and a checksum of 6, so that a typo is told from a guess."""
    body = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARACTERS))
    return prefix + body + _checksum(body)


def digest(text: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def hint(text: str) -> str:
    """The first characters of a key, to recognise it by."""
    return text[:_HINT_CHARACTERS] + "…"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


class KeyRing:
    """All keys in memory, by digest and by name; reloaded when one changes."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Principal] = {}
        self._by_name: dict[str, Principal] = {}

    def load(self, stored: Iterable[KeyRecord], declared: Iterable[tuple[Principal, bytes]]) -> None:
        """Replace what is known; a revoked key is unknown. A key of the configuration wins over a stored namesake."""
        by_digest: dict[bytes, Principal] = {}
        by_name: dict[str, Principal] = {}
        pairs = [(_principal(record), record.digest) for record in stored if record.revoked_at is None]
        for principal, key_digest in [*pairs, *declared]:
            by_digest[key_digest] = principal
            by_name[principal.name] = principal
        self._by_digest = {d: p for d, p in by_digest.items() if by_name[p.name] is p}
        self._by_name = by_name

    def authenticate(self, text: str, now_ms: int, *, login: str | None = None) -> Principal:
        """The principal of a key's text. `login` is an SMTP user name: any, but not the name of another key.

        Refused with AUTHENTICATION_REQUIRED, in one wording whatever was wrong.
        """
        given = digest(text)
        principal = self._by_digest.get(given)
        if principal is None or _expired(principal, now_ms):
            raise Refused(Reason.AUTHENTICATION_REQUIRED, _REFUSAL)
        if login and login != principal.name and login in self._by_name:
            raise Refused(Reason.AUTHENTICATION_REQUIRED, _REFUSAL)
        return principal

    def named(self, name: str, now_ms: int) -> Principal:
        """The principal a listener's network stands for."""
        principal = self._by_name.get(name)
        if principal is None or _expired(principal, now_ms):
            raise Refused(Reason.AUTHENTICATION_REQUIRED, _REFUSAL)
        return principal

    def __len__(self) -> int:
        return len(self._by_name)


def require_scope(principal: Principal, scope: str) -> None:
    """Refused with INSUFFICIENT_PERMISSIONS where the key may not do that."""
    if scope not in principal.scopes:
        raise Refused(Reason.INSUFFICIENT_PERMISSIONS, f"The key {principal.name} lacks the scope {scope}.")


def _expired(principal: Principal, now_ms: int) -> bool:
    return principal.expires_at is not None and principal.expires_at <= now_ms


def _principal(record: KeyRecord) -> Principal:
    return Principal(
        name=record.name,
        account=record.account,
        route=record.route,
        senders=record.senders,
        scopes=frozenset(record.scopes),
        default_from=record.default_from,
        expires_at=record.expires_at,
        limits=record.limits,
    )
