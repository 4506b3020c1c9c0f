"""Endpoints that are told of events: what operators and clients make, and how far each of them is.

Guarantees: a change returns after commit and fsync; an endpoint that is disabled has its event in the same transaction;
what is kept of each endpoint is bounded. Secrets come and go wrapped. What is to be delivered is not copied here: it is
in the event log, and an endpoint is a place in it. Who delivers is webhooks/dispatcher.py.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from gateway.errors import GatewayError
from gateway.events import EventType
from gateway.store import db
from gateway.store.db import Cursor, Row, Statements, Transaction
from gateway.store.eventlog import readable
from gateway.store.names import Counter, Names
from gateway.store.readers import Readers
from gateway.store.webhook import (
    MOST_ATTEMPTS,
    MOST_DEAD,
    MOST_PARKED,
    Dead,
    Format,
    NewWebhook,
    Parked,
    Progress,
    Shown,
    Standing,
    Tried,
    WebhookRecord,
)
from gateway.store.writer import Writer

Result = TypeVar("Result")

# What the columns of a webhook hold, in order: one bad byte can make another kind of any.
_KINDS: Final = (
    *(int, bytes, str, str, str, bytes, bytes | None, int | None, str, str),
    *(str, int, str, str, int, int, int | None, int, int),
)

log = logging.getLogger("gateway.store")


class TooMany(GatewayError):
    """The account has as many endpoints as it can have."""


class WebhookStore:
    """Over a writer and readers. Errors: StoreError, StoreFull."""

    def __init__(self, writer: Writer, readers: Readers, names: Names, *, events: Counter) -> None:
        self._writer = writer
        self._readers = readers
        self._names = names
        self._events = events
        self._sql: Statements = db.load("webhooks")
        self._event_add = db.load("common", "sqlite")["event_add"]

    # What people make

    async def all(self) -> list[WebhookRecord]:
        """Of every account, by age."""
        return await self._records("webhooks_all", ())

    async def of(self, account: str) -> list[WebhookRecord]:
        return await self._records("webhooks_of", (account,))

    async def one(self, uuid: bytes) -> WebhookRecord | None:
        found = await self._records("webhook_one", (uuid,))
        return found[0] if found else None

    async def add(self, new: NewWebhook, *, most: int) -> None:
        """Raises TooMany where the account has `most` already."""

        def add(tx: Transaction) -> None:
            counted = tx.one(self._sql["webhook_count"], (new.account,))
            if counted is None or counted[0] >= most:
                raise TooMany
            tx.one(self._sql["webhook_add"], (*_new_values(new), new.at))

        await self._change(add)

    async def change(self, record: WebhookRecord, at: int, *, seen_url: str) -> bool:
        """URL, format and filters; with another URL it is pending. False where it has another one meanwhile, or is
        gone."""
        values = (
            record.uuid,
            record.url,
            record.format.value,
            _texts(record.types),
            _texts(record.keys),
            _texts(record.tags),
            record.final_only,
            record.why,
            at,
            seen_url,
        )
        return await self._done("webhook_change", values)

    async def put_state(
        self,
        uuid: bytes,
        state: Standing,
        why: str,
        failing_since: int | None,
        at: int,
        *,
        seen: Standing | None = None,
    ) -> bool:
        """`seen`: the state that it must be in. False where it is in another, or gone."""
        return await self._done("webhook_state", (uuid, state.value, why, failing_since, at, seen and seen.value))

    async def begin(
        self,
        uuid: bytes,
        url: str,
        at: int,
        *,
        state: Standing = Standing.ACTIVE,
        why: str = "",
        failing_since: int | None = None,
    ) -> bool:
        """A pending endpoint that answered at that URL is active: it is told what happened since it was made; or it is
        in the state that it was in before. False where it is not pending any more, or has another URL."""
        return await self._done("webhook_begin", (uuid, url, at, state.value, why, failing_since))

    async def rotate(self, uuid: bytes, wrapped: bytes, *, old_until: int, at: int) -> bool:
        """Another secret; the present one is good until `old_until`. False where it is gone."""
        return await self._done("webhook_rotate", (uuid, wrapped, old_until, at))

    async def remove(self, uuid: bytes) -> bool:
        """With all that is kept of it. False where there is none."""

        def remove(tx: Transaction) -> bool:
            row = tx.one(self._sql["webhook_remove"], (uuid,))
            if row is None:
                return False
            for name in ("webhook_parked_drop_all", "webhook_dead_drop_all", "webhook_attempts_drop_all"):
                tx.cursor.execute(self._sql[name], row)
            return True

        return await self._change(remove)

    async def rewind(self, uuid: bytes, cursor: int, at: int) -> bool:
        """All events behind that place are to be delivered again; where it is behind that itself, it goes on from where
        it is. False where it is gone."""

        def rewind(tx: Transaction) -> bool:
            row = tx.one(self._sql["webhook_rewind"], (uuid, cursor, at))
            if row is None:
                return False
            for name in ("webhook_parked_drop_after", "webhook_dead_drop_after"):
                tx.cursor.execute(self._sql[name], row)
            return True

        return await self._change(rewind)

    async def revive(self, uuid: bytes, at: int) -> int:
        """Dead events are tried again, as many as can be parked, oldest first; how many. What is gone stays dead."""

        def revive(tx: Transaction) -> int:
            row = tx.one(self._sql["webhook_revive"], (uuid, at))
            if row is None:
                return 0
            counted = tx.one(self._sql["webhook_parked_count"], row)
            assert counted is not None
            dead = tx.all(self._sql["webhook_dead_first"], (row[0], max(0, MOST_PARKED - counted[0])))
            many = tx.cursor.executemany
            many(self._sql["webhook_dead_drop"], [(row[0], seq) for seq, _ in dead])
            many(self._sql["webhook_parked_put"], [(row[0], seq, message, 0, at) for seq, message in dead])
            return len(dead)

        return await self._change(revive)

    async def attempts(self, id_: int, limit: int) -> list[Shown]:
        """The last requests, newest first."""
        rows = await self._rows("webhook_attempts_of", (id_, limit))
        return [Shown(Tried(*row[:6]), row[6] or "", row[7] or 0) for row in rows]

    async def dead(self, id_: int, limit: int) -> list[Shown]:
        """The last events that were given up, newest first."""
        rows = await self._rows("webhook_dead_of", (id_, limit))
        return [Shown(Dead(*row[:4]), row[4] or "", row[5] or 0) for row in rows]

    async def counts(self, id_: int) -> tuple[int, int]:
        """How many events are parked, and dead."""

        def count(cursor: Cursor) -> tuple[int, int]:
            parked = cursor.execute(self._sql["webhook_parked_count"], (id_,)).fetchall()
            return parked[0][0], cursor.execute(self._sql["webhook_dead_count"], (id_,)).fetchall()[0][0]

        return await self._readers.read(count)

    # What comes of deliveries

    async def parked(self, id_: int) -> list[Parked]:
        """By age. What is damaged of one is 0: it is due."""
        rows = await self._rows("webhook_parked_of", (id_,))
        return [Parked(*(value if isinstance(value, int) else 0 for value in row)) for row in rows]

    async def save(self, progress: Progress) -> bool:
        """False where the endpoint is gone, or was rewound meanwhile: then nothing of it counts."""
        return await self._writer.submit(self._save, progress)

    async def tried(self, id_: int, tried: Tried) -> None:
        """Note a ping."""
        await self._change(lambda tx: self._note(tx, id_, (tried,)))

    def _save(self, tx: Transaction, steps: Sequence[Progress]) -> list[bool]:
        return [self._save_one(tx, step) for step in steps]

    def _save_one(self, tx: Transaction, step: Progress) -> bool:
        sql, many, id_ = self._sql, tx.cursor.executemany, step.webhook
        row = tx.one(sql["webhook_progress"], (id_, step.epoch, step.cursor, step.failing_since))
        if row is None:
            return False
        if step.parked:
            values = [(id_, one.seq, one.message, one.attempts, one.next_at) for one in step.parked]
            many(sql["webhook_parked_put"], values)
        if step.done:
            many(sql["webhook_parked_drop"], [(id_, seq) for seq in step.done])
        if step.dead:
            many(sql["webhook_dead_put"], [(id_, one.seq, one.attempts, one.at, one.why) for one in step.dead])
            tx.cursor.execute(sql["webhook_dead_trim"], (id_, MOST_DEAD))
        self._note(tx, id_, step.tried)
        if step.disabled and tx.one(sql["webhook_disable"], (id_, step.disabled, step.at)) is not None:
            account = self._names.account(tx, row[0]) if row[0] else 0
            disabled = EventType.WEBHOOK_DISABLED.value
            tx.cursor.execute(self._event_add, (self._events.next(), 0, 0, disabled, step.at, step.event, account))
        return True

    def _note(self, tx: Transaction, id_: int, tried: Sequence[Tried]) -> None:
        if not tried:
            return
        values = [
            (id_, one.seq, one.at, one.attempt, one.status, one.took_ms, one.error) for one in tried[-MOST_ATTEMPTS:]
        ]
        tx.cursor.executemany(self._sql["webhook_attempt_put"], values)
        tx.cursor.execute(self._sql["webhook_attempt_trim"], (id_, MOST_ATTEMPTS))

    async def _records(self, name: str, values: tuple[Any, ...]) -> list[WebhookRecord]:
        found = []
        rows, unreadable = await self._readers.read(lambda cursor: readable(cursor, self._sql[name], values))
        # One bad byte must not keep the others from being told, nor the daemon from starting.
        if unreadable:
            log.error("the database is damaged: webhooks that cannot be read: %d; see docs/baddays.md", unreadable)
        for row in rows:
            try:
                found.append(_record(row))
            except ValueError:  # of an enumeration, of JSON, or of a kind
                log.error("the database is damaged: webhook %d cannot be read; see docs/baddays.md", row[0])  # noqa: TRY400 - the row says it all
        return found

    async def _rows(self, name: str, values: tuple[Any, ...]) -> list[Row]:
        return await self._readers.read(lambda cursor: cursor.execute(self._sql[name], values).fetchall())

    async def _done(self, name: str, values: tuple[Any, ...]) -> bool:
        return await self._change(lambda tx: tx.one(self._sql[name], values) is not None)

    async def _change(self, change: Callable[[Transaction], Result]) -> Result:
        def verb(tx: Transaction, calls: Sequence[None]) -> list[Result]:
            return [change(tx) for _ in calls]

        return await self._writer.submit(verb, None)


def _new_values(new: NewWebhook) -> tuple[Any, ...]:
    return (
        new.uuid,
        new.account,
        new.url,
        new.format.value,
        new.secret_wrapped,
        _texts(new.types),
        _texts(new.keys),
        _texts(new.tags),
        new.final_only,
        Standing.PENDING.value,
        "",
    )


def _record(row: Row) -> WebhookRecord:
    if not all(map(isinstance, row, _KINDS)):
        raise ValueError
    return WebhookRecord(
        id=row[0],
        uuid=row[1],
        account=row[2],
        url=row[3],
        format=Format(row[4]),
        secret_wrapped=row[5],
        old_secret_wrapped=row[6],
        old_until=row[7],
        types=tuple(map(EventType, _tuple(row[8]))),
        keys=_tuple(row[9]),
        tags=_tuple(row[10]),
        final_only=bool(row[11]),
        state=Standing(row[12]),
        why=row[13],
        cursor=row[14],
        epoch=row[15],
        failing_since=row[16],
        created_at=row[17],
        updated_at=row[18],
    )


def _texts(values: Sequence[str]) -> str:
    return msgspec.json.encode(list(map(str, values))).decode()


def _tuple(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])
