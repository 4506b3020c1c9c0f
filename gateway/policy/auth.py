"""Who is this client? Keys: their text, their digest, and the principal they stand for.

Guarantees: a key's text is never kept, only its SHA-256 (it is random, so a slow hash would only slow the hot path);
every reason for refusal costs the same work. It does not limit the rate of guesses (guard.py does), nor say anything to
the client.
"""

import hashlib
import hmac
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from gateway.config import Network
from gateway.errors import Reason, Refused
from gateway.keyterms import Brakes, Duplicates, Limit, Mode
from gateway.store.records import KeyRecord

DEFAULT_PREFIX: Final = "mgw_"
MIN_LENGTH: Final = 22  # of a text chosen by the operator: 128 bits in base 62
SHORT_LENGTH: Final = 20  # of a text made for devices
REFUSAL: Final = "The key is missing, unknown, expired or revoked."  # to the client, whatever it was
SCOPES: Final = ("send", "read", "manage", "admin")
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARACTERS: Final = 32  # 190 bits
_TYPEABLE: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # on a printer's panel, and no two of them look alike
_HINT_CHARACTERS: Final = 8
_SHORT_HINT: Final = 4
_LIVE: Final = Mode()


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
    duplicates: Duplicates = Duplicates.AT_LEAST_ONCE
    dsn: int | None = None  # this and the following as in KeyConfig
    mode: Mode = _LIVE
    track: int = 0
    brakes: Brakes | None = None  # None: it has none
    text: bytes = field(default=b"", compare=False, repr=False)  # digest of the text that was shown; b"": none was


def make_key(prefix: str = DEFAULT_PREFIX) -> str:
    """A new key: prefix, 32 random base62 characters and a checksum of 6, so that a typo is told from a guess."""
    body = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARACTERS))
    return prefix + body + _checksum(body)


def make_short_key() -> str:
    """A new key of 20 characters (99 bits) that a person can type; it has no prefix and no checksum."""
    return "".join(secrets.choice(_TYPEABLE) for _ in range(SHORT_LENGTH))


def digest(text: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def hint(text: str) -> str:
    """The first characters of a key, to recognise it by."""
    return text[: _HINT_CHARACTERS if len(text) > SHORT_LENGTH else _SHORT_HINT] + "…"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One text of a key: `until` is when this text or the key ends (Unix ms), None: never."""

    digest: bytes
    principal: Principal
    until: int | None
    revoked: bool = False


# Stands in where nothing was found, so that as much is compared as otherwise. No text has this digest.
_NOBODY: Final = _Entry(bytes(32), Principal("", "", None, (), frozenset(), None, None), None)


class Judged(NamedTuple):
    """`fault` is None where the key is good; else the reason, for the operator only, and `principal` whose key it is
    (None: nobody's)."""

    principal: Principal | None
    fault: str | None


class KeyRing:
    """All keys in memory, by digest and by name; reloaded when one changes."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, _Entry] = {}
        self._by_name: dict[str, Principal] = {}
        self._stored: tuple[_Entry, ...] = ()
        self.with_brakes: dict[str, Principal] = {}  # those that have brakes, by name

    def load(self, stored: Iterable[KeyRecord], declared: Iterable[tuple[Principal, bytes]]) -> None:
        """Replace what is known. A key of the configuration wins over a stored namesake, and over its text."""
        self._stored = tuple([entry for record in stored for entry in _entries(record)])
        self.declare(declared)

    def declare(self, declared: Iterable[tuple[Principal, bytes]]) -> None:
        """Replace the keys of the configuration; the stored ones stay."""
        fixed = [_Entry(key_digest, principal, principal.expires_at) for principal, key_digest in declared]
        taken = {entry.principal.name for entry in fixed}
        entries = [entry for entry in self._stored if entry.principal.name not in taken]
        entries += fixed
        self._by_digest = {
            entry.digest: replace(entry, principal=replace(entry.principal, text=entry.digest)) for entry in entries
        }
        self._by_name = {entry.principal.name: entry.principal for entry in entries if not entry.revoked}
        self.with_brakes = {name: one for name, one in self._by_name.items() if one.brakes is not None}

    def judge(self, text: str, now_ms: int, *, peer: str, login: str | None = None) -> Judged:
        """Is this a key, good now and from this address? `login` is a user name: any, but not that of another key.

        The same work is done whatever is wrong.
        """
        return self._judge(digest(text), now_ms, peer=peer, login=login)

    def judge_again(self, principal: Principal, now_ms: int, *, peer: str) -> Judged:
        """Is the text still good that a principal of `judge` was let in by?"""
        entry = self._by_digest.get(principal.text, _NOBODY)
        if entry.principal is principal and entry.until is None:
            return Judged(principal, None)  # no key has changed since
        return self._judge(principal.text, now_ms, peer=peer, login=None)

    def _judge(self, given: bytes, now_ms: int, *, peer: str, login: str | None) -> Judged:
        entry = self._by_digest.get(given, _NOBODY)
        principal = entry.principal
        # Found by its digest, which nobody can choose character by character; compared in constant time all the same.
        unknown = not hmac.compare_digest(given, entry.digest)
        ended = entry.until is not None and entry.until <= now_ms
        elsewhere = not _is_inside(peer, principal.networks)
        borrowed = bool(login) and login != principal.name and login in self._by_name
        if unknown:
            return Judged(None, "no key has this text")
        if entry.revoked:
            return Judged(principal, "the key is revoked")
        if ended:
            return Judged(principal, "the key, or this text of it, has expired")
        if elsewhere:
            return Judged(principal, "the key is not for this address")
        return Judged(principal, "the user name is the name of another key" if borrowed else None)

    def named(self, name: str, now_ms: int) -> Principal:
        """The principal a listener's network stands for. Refused with AUTHENTICATION_REQUIRED."""
        principal = self._by_name.get(name)
        if principal is None or (principal.expires_at is not None and principal.expires_at <= now_ms):
            raise Refused(Reason.AUTHENTICATION_REQUIRED, REFUSAL)
        return principal

    def tracked(self) -> list[str]:
        """Keys whose mail is tracked if nobody says anything."""
        return [name for name, principal in self._by_name.items() if principal.track]

    def __len__(self) -> int:
        return len(self._by_name)


def require_scope(principal: Principal, scope: str) -> None:
    """Refused with INSUFFICIENT_PERMISSIONS where the key may not do that."""
    if scope not in principal.scopes:
        raise Refused(Reason.INSUFFICIENT_PERMISSIONS, f"The key {principal.name} lacks the scope {scope}.")


def _is_inside(peer: str, networks: tuple[Network, ...]) -> bool:
    """Whether a key for these networks is for this address; one for none is for all."""
    if not networks:
        return True
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    address = (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
    return any(address in network for network in networks)


def _entries(record: KeyRecord) -> list[_Entry]:
    """A key under its text, and under the one before."""
    principal, revoked = _principal(record), record.revoked_at is not None
    entries = [_Entry(record.digest, principal, record.expires_at, revoked)]
    if record.old_digest is not None and record.old_until is not None:
        ends = (record.old_until, record.expires_at)
        entries.append(_Entry(record.old_digest, principal, min(end for end in ends if end is not None), revoked))
    return entries


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
        networks=record.networks,
        duplicates=record.duplicates,
        dsn=record.dsn,
        mode=record.mode,
        track=record.track,
        brakes=record.brakes or None,
    )
