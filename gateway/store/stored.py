"""Keys, domains, their DKIM keys, templates and the instance's secrets on disk: `Records` over a writer and readers.

Guarantees: those of records.py. What is stored as text is what this module wrote: it is read without doubt.
"""

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any, TypeVar

import msgspec

from gateway.keyterms import Brakes, Duplicates, KeyRetention, Limit, Mode, ModeKind
from gateway.store.db import Cursor, Row, Statements, Transaction
from gateway.store.readers import Readers
from gateway.store.records import (
    DkimKeyRecord,
    DomainRecord,
    Duplicate,
    KeyRecord,
    StsRecord,
    TemplateRecord,
)
from gateway.store.writer import Writer

Result = TypeVar("Result")


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
            str(record.mode),
            record.track,
            _json(record.brakes),
            _json(record.retention),
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

    async def set_key_mode(self, name: str, mode: Mode) -> bool:
        return await self._change(lambda tx: tx.one(self._sql["key_mode"], (name, str(mode))) is not None)

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
            DomainRecord(name, bool(require_dkim), created_at, tuple(by_domain.get(name, ())), return_path)
            for name, require_dkim, created_at, return_path in domains
        ]

    async def add_domain(self, record: DomainRecord) -> None:
        def add(tx: Transaction) -> None:
            values = (record.name, record.require_dkim, record.created_at, record.return_path)
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

    async def set_return_path(self, domain: str, return_path: str | None) -> bool:
        return await self._change(lambda tx: tx.one(self._sql["domain_return_path"], (domain, return_path)) is not None)

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
        mode=_mode(row[17]),
        track=row[18],
        brakes=msgspec.json.decode(row[19], type=Brakes),
        retention=msgspec.json.decode(row[20], type=KeyRetention),
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


def _mode(text: str) -> Mode:
    """As it was written: `str` of a mode."""
    kind, _, values = text.partition(":")
    return Mode(ModeKind(kind), tuple(values.split(",")) if values else ())


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _tuple(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])
