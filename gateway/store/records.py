"""Keys, domains, their DKIM keys, templates and the instance's secrets: what the CLI and the API make at run time.

Guarantees: a change returns after commit and fsync; names are unique. Secrets and private keys come and go
wrapped: this module never sees a plain one. It is not on the path of a message: policy keeps what it needs in
memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.config import Network
from gateway.errors import GatewayError
from gateway.keyterms import Brakes, Duplicates, KeyRetention, Limit, Mode

_LIVE: Final = Mode()
_UNBRAKED: Final = Brakes()
_AS_ALL: Final = KeyRetention()


class Duplicate(GatewayError):
    """There is one of that name already."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key. `digest` is the SHA-256 of its text, `hint` its first characters; `route` None: the default route.

    `networks` are where it may be used from (none: anywhere). `old_digest` is that of the text before the last
    rotation, good until `old_until`.
    """

    name: str
    digest: bytes
    hint: str
    account: str
    route: str | None
    senders: tuple[str, ...]
    scopes: tuple[str, ...]
    default_from: str | None
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    limits: tuple[Limit, ...] = ()
    networks: tuple[Network, ...] = ()
    old_digest: bytes | None = None
    old_until: int | None = None
    duplicates: Duplicates = Duplicates.AT_LEAST_ONCE
    dsn: int | None = None  # this and the following as in KeyConfig
    mode: Mode = _LIVE
    track: int = 0
    brakes: Brakes = _UNBRAKED
    retention: KeyRetention = _AS_ALL


@dataclass(frozen=True, slots=True)
class DkimKeyRecord:
    """A signing key of a domain; at most one of an algorithm is active. The private key is wrapped.

    One that is neither active nor retired is the next one.
    """

    selector: str
    algorithm: str
    private_wrapped: bytes
    created_at: int
    active: bool
    retired_at: int | None = None


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """A sending domain and its keys, oldest first. `return_path` is the domain of its envelope senders, None for
    none."""

    name: str
    require_dkim: bool
    created_at: int
    keys: tuple[DkimKeyRecord, ...] = ()
    return_path: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """A stored template of an account. `alias` "" where it has none; html or text may be absent, not both."""

    uuid: bytes
    account: str
    alias: str
    subject: str
    html: str | None
    text: str | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class StsRecord:
    """The MTA-STS policy of a domain as it was fetched (RFC 8461): `id` of its TXT record, the text of the policy."""

    domain: str
    id: str
    text: str
    fetched_at: int
    expires_at: int


class Records(Protocol):
    """Errors: StoreError, StoreFull; Duplicate where said."""

    async def keys(self) -> Sequence[KeyRecord]:
        """All keys by name, revoked and expired ones too."""

    async def add_key(self, record: KeyRecord) -> None:
        """Raises Duplicate where the name or the text is in use, by a revoked key too."""

    async def rotate_key(self, name: str, digest: bytes, hint: str, *, old_until: int) -> bool:
        """Another text for a key; the present one is good until `old_until`, one before it no more. False where there
        is no such key, or it is revoked; raises Duplicate where a key has or had this text."""

    async def set_key_mode(self, name: str, mode: Mode) -> bool:
        """For mail to come. False where there is no such key, or it is revoked."""

    async def revoke_key(self, name: str, at: int) -> bool:
        """False where there is no such key, or it was revoked before."""

    async def sts_policies(self, now: int) -> Sequence[StsRecord]:
        """Those that are not expired."""

    async def save_sts_policy(self, record: StsRecord) -> None:
        """In place of the one before. Expired ones go with the sweep."""

    async def domains(self) -> Sequence[DomainRecord]:
        """All domains by name."""

    async def add_domain(self, record: DomainRecord) -> None:
        """A domain with its keys. Raises Duplicate."""

    async def add_dkim_key(self, domain: str, record: DkimKeyRecord) -> bool:
        """An active key retires the others of its algorithm. False where there is no such domain; raises
        Duplicate where the selector is in use."""

    async def activate_dkim_key(self, domain: str, selector: str, at: int) -> bool:
        """The next key signs from now on, that of its algorithm before it is retired. False where it is no next key."""

    async def forget_dkim_keys(self, retired_before: int) -> Sequence[tuple[str, str]]:
        """Remove old keys; (domain, selector) of each."""

    async def set_return_path(self, domain: str, return_path: str | None) -> bool:
        """The domain of its envelope senders from now on; None: none. False where there is no such domain."""

    async def remove_domain(self, name: str) -> bool:
        """A domain with its keys. False where there is none."""

    async def templates(self, account: str) -> Sequence[TemplateRecord]:
        """The templates of an account without their bodies, by alias, then by creation."""

    async def template(self, account: str, uuid: bytes | None, alias: str) -> TemplateRecord | None:
        """The one with this id or, where `uuid` is None, this alias."""

    async def add_template(self, record: TemplateRecord, *, most: int) -> bool:
        """False where the account has `most` already. Raises Duplicate where the alias is in use."""

    async def replace_template(self, record: TemplateRecord) -> bool:
        """All but id, account and creation. False where there is none; raises Duplicate."""

    async def remove_template(self, account: str, uuid: bytes) -> bool:
        """False where there is none."""

    async def secret(self, name: str) -> bytes | None:
        """A wrapped secret."""

    async def put_secret(self, name: str, wrapped: bytes) -> None:
        """Store a wrapped secret, in place of an older one."""
