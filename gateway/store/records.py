"""Keys, domains, their DKIM keys, templates and the instance's secrets: what the CLI and the API make at run time.

Guarantees: a change returns after commit and fsync; names are unique. Secrets and private keys come and go
wrapped: this module never sees a plain one. It is not on the path of a message: policy keeps what it needs in
memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Protocol, TypeVar

import msgspec

from gateway.config import Duplicates, Limit, Network
from gateway.errors import GatewayError
from gateway.store.db import Cursor, Row, Statements, Transaction
from gateway.store.readers import Readers
from gateway.store.writer import Writer

Result = TypeVar("Result")


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
    dsn: int | None = None  # as in KeyConfig


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
    """A sending domain and its keys, oldest first."""

    name: str
    require_dkim: bool
    created_at: int
    keys: tuple[DkimKeyRecord, ...] = ()


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


class StoredRecords:
    """`Records` over a writer and readers."""

    def __init__(self, writer: Writer, readers: Readers, sql: Statements) -> None:
        self._writer = writer
        self._readers = readers
        self._sql = sql

    async def keys(self) -> Sequence[KeyRecord]:
        rows = await self._rows("keys_all")
        return [_key(row) for row in rows]

    async def add_key(self, record: KeyRecord) -> None:
        values = (
            record.name,
            record.digest,
            record.hint,
            record.account,
            record.route,
            _text(record.senders),
            _text(record.scopes),
            record.default_from,
            record.created_at,
            record.expires_at,
            record.revoked_at,
            msgspec.json.encode(record.limits).decode(),
            _text(tuple(map(str, record.networks))),
            record.duplicates.value,
            record.dsn,
        )

        def add(tx: Transaction) -> None:
            if self._digest_in_use(tx, record.digest) or tx.one(self._sql["key_add"], values) is None:
                raise Duplicate(f"There is a key named {record.name}, or one with the same text.")

        await self._change(add)

    async def rotate_key(self, name: str, digest: bytes, hint: str, *, old_until: int) -> bool:
        def rotate(tx: Transaction) -> bool:
            if self._digest_in_use(tx, digest):
                raise Duplicate("A key has or had this text.")
            return tx.one(self._sql["key_rotate"], (name, digest, hint, old_until)) is not None

        return await self._change(rotate)

    async def revoke_key(self, name: str, at: int) -> bool:
        return await self._change(lambda tx: tx.one(self._sql["key_revoke"], (name, at)) is not None)

    async def sts_policies(self, now: int) -> Sequence[StsRecord]:
        return [StsRecord(*row) for row in await self._rows("sts_policies", (now,))]

    async def save_sts_policy(self, record: StsRecord) -> None:
        values = (record.domain, record.id, record.text, record.fetched_at, record.expires_at)
        await self._change(lambda tx: tx.one(self._sql["sts_policy_put"], values))

    async def domains(self) -> Sequence[DomainRecord]:
        domains, keys = await self._readers.read(self._domain_rows)
        by_domain: dict[str, list[DkimKeyRecord]] = {}
        for domain, selector, algorithm, wrapped, created_at, active, retired_at in keys:
            record = DkimKeyRecord(selector, algorithm, wrapped, created_at, bool(active), retired_at)
            by_domain.setdefault(domain, []).append(record)
        return [
            DomainRecord(name, bool(require_dkim), created_at, tuple(by_domain.get(name, ())))
            for name, require_dkim, created_at in domains
        ]

    async def add_domain(self, record: DomainRecord) -> None:
        def add(tx: Transaction) -> None:
            values = (record.name, record.require_dkim, record.created_at)
            if tx.one(self._sql["domain_add"], values) is None:
                raise Duplicate(f"There is a domain {record.name} already.")
            for key in record.keys:
                self._add_dkim_key(tx, record.name, key)

        await self._change(add)

    async def add_dkim_key(self, domain: str, record: DkimKeyRecord) -> bool:
        def add(tx: Transaction) -> bool:
            if tx.one(self._sql["domain_known"], (domain,)) is None:
                return False
            self._add_dkim_key(tx, domain, record)
            return True

        return await self._change(add)

    async def activate_dkim_key(self, domain: str, selector: str, at: int) -> bool:
        def activate(tx: Transaction) -> bool:
            found = tx.one(self._sql["dkim_key_next"], (domain, selector))
            if found is None:
                return False
            tx.cursor.execute(self._sql["dkim_key_retire"], (domain, found[0], at))
            tx.cursor.execute(self._sql["dkim_key_activate"], (domain, selector))
            return True

        return await self._change(activate)

    async def forget_dkim_keys(self, retired_before: int) -> Sequence[tuple[str, str]]:
        return await self._change(lambda tx: tx.all(self._sql["dkim_keys_forget"], (retired_before,)))

    async def remove_domain(self, name: str) -> bool:
        def remove(tx: Transaction) -> bool:
            tx.cursor.execute(self._sql["dkim_keys_remove"], (name,))
            return tx.one(self._sql["domain_remove"], (name,)) is not None

        return await self._change(remove)

    async def templates(self, account: str) -> Sequence[TemplateRecord]:
        return [TemplateRecord(*row) for row in await self._rows("templates_of", (account,))]

    async def template(self, account: str, uuid: bytes | None, alias: str) -> TemplateRecord | None:
        if uuid is None:
            rows = await self._rows("template_by_alias", (account, alias))
        else:
            rows = await self._rows("template_by_uuid", (account, uuid))
        return TemplateRecord(*rows[0]) if rows else None

    async def add_template(self, record: TemplateRecord, *, most: int) -> bool:
        values = (*_template_values(record), record.created_at)

        def add(tx: Transaction) -> bool:
            counted = tx.one(self._sql["template_count"], (record.account,))
            if counted is None or counted[0] >= most:
                return False
            if tx.one(self._sql["template_add"], values) is None:
                raise _alias_in_use(record)
            return True

        return await self._change(add)

    async def replace_template(self, record: TemplateRecord) -> bool:
        def change(tx: Transaction) -> bool:
            owner = tx.one(self._sql["template_owner"], (record.account, record.alias))
            taken = owner is not None and owner[0] != record.uuid
            if taken and tx.one(self._sql["template_known"], (record.account, record.uuid)) is not None:
                raise _alias_in_use(record)
            return not taken and tx.one(self._sql["template_replace"], _template_values(record)) is not None

        return await self._change(change)

    async def remove_template(self, account: str, uuid: bytes) -> bool:
        return await self._change(lambda tx: tx.one(self._sql["template_remove"], (account, uuid)) is not None)

    async def secret(self, name: str) -> bytes | None:
        rows = await self._rows("secret_get", (name,))
        return rows[0][0] if rows else None

    async def put_secret(self, name: str, wrapped: bytes) -> None:
        await self._change(lambda tx: tx.one(self._sql["secret_put"], (name, wrapped)))

    def _digest_in_use(self, tx: Transaction, digest: bytes) -> bool:
        return tx.one(self._sql["key_digest_in_use"], (digest,)) is not None

    def _add_dkim_key(self, tx: Transaction, domain: str, key: DkimKeyRecord) -> None:
        if key.active:
            tx.cursor.execute(self._sql["dkim_key_retire"], (domain, key.algorithm, key.created_at))
        values = (domain, key.selector, key.algorithm, key.private_wrapped, key.created_at, key.active)
        if tx.one(self._sql["dkim_key_add"], values) is None:
            raise Duplicate(f"The domain {domain} has a key with the selector {key.selector} already.")

    def _domain_rows(self, cursor: Cursor) -> tuple[list[Row], list[Row]]:
        domains = cursor.execute(self._sql["domains_all"]).fetchall()
        return domains, cursor.execute(self._sql["dkim_keys_all"]).fetchall()

    async def _rows(self, name: str, values: tuple[Any, ...] = ()) -> list[Row]:
        return await self._readers.read(lambda cursor: cursor.execute(self._sql[name], values).fetchall())

    async def _change(self, change: Callable[[Transaction], Result]) -> Result:
        def verb(tx: Transaction, calls: Sequence[None]) -> list[Result]:
            return [change(tx) for _ in calls]

        return await self._writer.submit(verb, None)


def _key(row: Row) -> KeyRecord:
    return KeyRecord(
        name=row[0],
        digest=row[1],
        hint=row[2],
        account=row[3],
        route=row[4],
        senders=_tuple(row[5]),
        scopes=_tuple(row[6]),
        default_from=row[7],
        created_at=row[8],
        expires_at=row[9],
        revoked_at=row[10],
        limits=msgspec.json.decode(row[11], type=tuple[Limit, ...]),
        networks=tuple(map(ip_network, _tuple(row[12]))),
        old_digest=row[13],
        old_until=row[14],
        duplicates=Duplicates(row[15]),
        dsn=row[16],
    )


def _template_values(record: TemplateRecord) -> tuple[Any, ...]:
    return (
        record.account,
        record.uuid,
        record.alias,
        record.subject,
        record.html,
        record.text,
        record.updated_at,
    )


def _alias_in_use(record: TemplateRecord) -> Duplicate:
    return Duplicate(f"There is a template with the alias {record.alias} already.")


def _text(values: tuple[str, ...]) -> str:
    return msgspec.json.encode(values).decode()


def _tuple(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])
