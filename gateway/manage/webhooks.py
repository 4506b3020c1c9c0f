"""Endpoints of webhooks: made, listed, changed, tested, paused, replayed and removed, whoever asks (the HTTP API, the
CLI).

Guarantees: an endpoint is told nothing before it answered a ping; a secret is shown once, when it is made, and stored
wrapped; an account sees its own endpoints, and one of another account is as one that is not there. Each change is in
the log, without the URL's path, in which some services keep a secret.
"""

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from gateway import eventview
from gateway.errors import Problem, Reason, Refused
from gateway.events import EventType
from gateway.manage import webhookviews
from gateway.runtime import Clock, read_id, uuid7
from gateway.store import webhook as endpoints
from gateway.store.eventlog import EventLog
from gateway.store.vault import Vault
from gateway.store.webhook import (
    MOST_ATTEMPTS,
    PREFIX,
    Format,
    NewWebhook,
    Standing,
    Tried,
    WebhookRecord,
)
from gateway.store.webhooks import TooMany, WebhookStore
from gateway.tokens import Tokens

MOST: Final = 100  # endpoints of an account
MOST_FILTERS: Final = 100  # types, keys or tags of an endpoint
OVERLAP_S: Final = 86_400.0  # how long the secret before a rotation stays good
LONGEST_OVERLAP_S: Final = 30 * 86_400.0
_BEFORE: Final = " before: "  # in why one is pending: how it stood at another URL, and why
_LAST: Final = (1 << 63) - 1  # place of an event log; those above are of other lists

log = logging.getLogger("gateway.manage")


class Pings(Protocol):
    """Asks endpoints whether they are there (webhooks/pinging.py)."""

    async def ping(self, record: WebhookRecord) -> Tried: ...


@dataclass(frozen=True, slots=True)
class Ways:
    """What is asked of the package that sends: `check_url` gives a URL as it will be asked for, `check_secret` raises
    ValueError for what cannot be one (text, whether it must be as Standard Webhooks has it), `write_secret` makes text
    of bytes; `words` gives the types of events that a format can tell of; `pings` asks an endpoint."""

    check_url: Callable[[str], str]
    check_secret: Callable[[str, bool], str]
    write_secret: Callable[[bytes], str]
    words: Callable[[Format], Collection[EventType]]
    pings: Pings


@dataclass(frozen=True, slots=True)
class WebhookWish:
    """What is wanted of an endpoint; None: as it is, or as it is by default. `types` as clients write them."""

    url: str | None = None
    format: str | None = None
    types: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    final_only: bool | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class From:
    """From where an endpoint is told again: one of them. `since` in Unix ms; `dead`: what was given up."""

    cursor: str | None = None
    since: int | None = None
    dead: bool = False


class WebhookManager:
    """Endpoints of one store. `on_change` is told of each that was made, changed or removed."""

    def __init__(
        self, store: WebhookStore, events: EventLog, ways: Ways, *, vault: Vault, tokens: Tokens, clock: Clock
    ) -> None:
        self._store = store
        self._events = events
        self._ways = ways
        self._vault = vault
        self._tokens = tokens
        self._clock = clock
        self.on_change: Callable[[bytes], Awaitable[None]] = _nobody

    async def add(self, account: str, wish: WebhookWish) -> dict[str, Any]:
        """Make and ping one; its secret is in the answer, and nowhere else. `account` "": it is told of all. Raises
        Refused, StoreError."""
        if not wish.url:
            raise Refused(Reason.MISSING_PARAMETER, "url: is required", param="url")
        now = self._clock.now_ms()
        uuid = uuid7(now)
        format_ = _format(wish.format)
        url = self._url(wish.url)
        secret = self._secret(wish.secret, format_)
        new = NewWebhook(
            uuid=uuid,
            account=account,
            url=url,
            format=format_,
            secret_wrapped=self._vault.wrap(endpoints.vault_label(uuid), secret.encode()),
            types=self._told(_types(wish.types), format_),
            keys=_filters("keys", wish.keys),
            tags=_filters("tags", wish.tags),
            final_only=bool(wish.final_only),
            at=now,
        )
        try:
            await self._store.add(new, most=MOST)
        except TooMany:
            text = f"There are {MOST} webhooks already, and no room for more: remove one."
            raise Refused(Reason.VALIDATION_ERROR, text) from None
        record = await self._known(account, uuid)
        _tell("added", record)
        return {**await self._tested(record), "secret": secret}

    async def listing(self, account: str | None) -> list[dict[str, Any]]:
        """By age; None: of everybody. Raises StoreError."""
        records = await (self._store.all() if account is None else self._store.of(account))
        return [await self._view(record) for record in records]

    async def show(self, account: str | None, reference: str) -> dict[str, Any]:
        """Raises Refused (NOT_FOUND), StoreError."""
        return await self._view(await self._get(account, reference))

    async def change(self, account: str | None, reference: str, wish: WebhookWish) -> dict[str, Any]:
        """What is named of it. One with another URL must answer a ping again, now or at a later test; one that was
        paused or disabled is so again after it. Raises Refused, StoreError."""
        old = await self._get(account, reference)
        url = self._url(wish.url) if wish.url is not None else old.url
        format_ = _format(wish.format) if wish.format is not None else old.format
        moved = url != old.url
        if format_ is Format.NATIVE and old.format is not Format.NATIVE:
            self._check_standard(old)
        record = replace(
            old,
            url=url,
            format=format_,
            types=self._told(old.types if wish.types is None else _types(wish.types), format_),
            keys=old.keys if wish.keys is None else _filters("keys", wish.keys),
            tags=old.tags if wish.tags is None else _filters("tags", wish.tags),
            final_only=old.final_only if wish.final_only is None else wish.final_only,
            state=Standing.PENDING if moved else old.state,
            why=_standing_before(old) if moved else old.why,
        )
        if not await self._store.change(record, self._clock.now_ms(), seen_url=old.url):
            return await self.change(account, reference, wish)  # it has another URL meanwhile, or is gone
        _tell("changed", record)
        return await (self._tested(record) if moved else self._changed(record))

    async def remove(self, account: str | None, reference: str) -> dict[str, Any]:
        """For good, with what waits for it. Raises Refused (NOT_FOUND), StoreError."""
        record = await self._get(account, reference)
        view = await self._view(record)
        if not await self._store.remove(record.uuid):
            raise _unknown()
        await self.on_change(record.uuid)
        _tell("removed", record)
        return {**view, "removed": True}

    async def test(self, account: str | None, reference: str) -> dict[str, Any]:
        """Ping it; one that was pending is active if it answers. Raises Refused, StoreError."""
        return await self._tested(await self._get(account, reference))

    async def pause(self, account: str | None, reference: str) -> dict[str, Any]:
        """It is told nothing until it is resumed; what happens meanwhile waits. Raises Refused, StoreError."""
        record = await self._get(account, reference)
        if record.state is not Standing.ACTIVE:
            raise _cannot(record, "paused")
        return await self._put(record, Standing.PAUSED, "paused by an operator")

    async def resume(self, account: str | None, reference: str) -> dict[str, Any]:
        """It goes on where it stopped, paused or disabled. Raises Refused, StoreError."""
        record = await self._get(account, reference)
        if record.state not in {Standing.PAUSED, Standing.DISABLED}:
            raise _cannot(record, "resumed")
        return await self._put(record, Standing.ACTIVE, "")

    async def replay(self, account: str | None, reference: str, start: From) -> dict[str, Any]:
        """It is told again, with the same ids: everything from a place on, or what was given up. The answer has
        `revived`, how many of those. Raises Refused, StoreError."""
        if sum((start.cursor is not None, start.since is not None, start.dead)) != 1:
            raise Refused(Reason.INVALID_PARAMETER, "Say from where: one of cursor, since or dead.")
        record = await self._get(account, reference)
        now, revived = self._clock.now_ms(), 0
        if start.dead:
            revived = await self._store.revive(record.uuid, now)
            _tell(f"replays {revived} events that were given up", record)
        else:
            await self._store.rewind(record.uuid, await self._place(start), now)
            _tell("replays", record)
        return {**await self._changed(record), "revived": revived}

    async def rotate(
        self, account: str | None, reference: str, secret: str | None, overlap_s: float | None
    ) -> dict[str, Any]:
        """Another secret; requests are signed with both for a while. It is in the answer, and nowhere else. Raises
        Refused, StoreError."""
        record = await self._get(account, reference)
        overlap_s = OVERLAP_S if overlap_s is None else overlap_s
        if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
            raise _invalid("overlap", "must be within 30 days")
        new = self._secret(secret, record.format)
        now = self._clock.now_ms()
        wrapped = self._vault.wrap(endpoints.vault_label(record.uuid), new.encode())
        if not await self._store.rotate(record.uuid, wrapped, old_until=now + int(overlap_s * 1000), at=now):
            raise _unknown()
        _tell("has another secret", record)
        return {**await self._changed(record), "secret": new}

    async def attempts(self, account: str | None, reference: str) -> list[dict[str, Any]]:
        """The last requests, newest first. Raises Refused, StoreError."""
        record = await self._get(account, reference)
        return [webhookviews.attempt(one, self._tokens) for one in await self._store.attempts(record.id, MOST_ATTEMPTS)]

    async def dead(self, account: str | None, reference: str) -> list[dict[str, Any]]:
        """The last events that were given up, newest first. Raises Refused, StoreError."""
        record = await self._get(account, reference)
        return [webhookviews.dead(one, self._tokens) for one in await self._store.dead(record.id, MOST_ATTEMPTS)]

    # Inside

    async def _get(self, account: str | None, reference: str) -> WebhookRecord:
        uuid = read_id(PREFIX, reference)
        if uuid is None:
            raise _unknown()
        return await self._known(account, uuid)

    async def _known(self, account: str | None, uuid: bytes) -> WebhookRecord:
        record = await self._store.one(uuid)
        if record is None or account not in {None, record.account}:
            raise _unknown()
        return record

    async def _put(self, record: WebhookRecord, state: Standing, why: str) -> dict[str, Any]:
        since = record.failing_since if state is not Standing.ACTIVE else None
        now = self._clock.now_ms()
        if not await self._store.put_state(record.uuid, state, why, since, now, seen=record.state):
            raise Refused(Reason.CONFLICT, "The webhook was changed or removed meanwhile: look at it, and try again.")
        _tell(f"is {state.value}", record)
        return await self._changed(record)

    async def _tested(self, record: WebhookRecord) -> dict[str, Any]:
        """After a ping: with `test`, what came of it."""
        await self.on_change(record.uuid)
        tried = await self._ways.pings.ping(record)
        if not tried.error and record.state is Standing.PENDING:
            await self._begun(record)
        return {**await self._changed(record), "test": webhookviews.test(tried)}

    async def _begun(self, record: WebhookRecord) -> None:
        """It answered at its URL, unless it has another one meanwhile, and is as it was at the one before."""
        uuid, url, now = record.uuid, record.url, self._clock.now_ms()
        before, was_told, why = record.why.partition(_BEFORE)
        state = Standing(before) if was_told else Standing.ACTIVE
        since = record.failing_since if was_told else None
        if await self._store.begin(uuid, url, now, state=state, why=why, failing_since=since):
            _tell(f"answered, and is {state.value}", record)

    async def _changed(self, record: WebhookRecord) -> dict[str, Any]:
        await self.on_change(record.uuid)
        return await self._view(await self._known(None, record.uuid))

    async def _view(self, record: WebhookRecord) -> dict[str, Any]:
        parked, dead = await self._store.counts(record.id)
        return webhookviews.webhook(record, self._tokens, parked=parked, dead=dead, now=self._clock.now_ms())

    async def _place(self, start: From) -> int:
        if start.since is not None:
            return await self._events.before(start.since)
        assert start.cursor is not None
        place = self._tokens.read_cursor(start.cursor)
        if place is None or place > _LAST:
            raise _invalid("cursor", "is no place in this gateway's event log")
        return min(place, self._events.last)

    def _told(self, types: tuple[EventType, ...], format_: Format) -> tuple[EventType, ...]:
        """Refuses those of which the format can tell none: such an endpoint would be told nothing, ever."""
        if types and set(types).isdisjoint(self._ways.words(format_)):
            raise _invalid("types", f"the format {format_.value} has no word for any of these")
        return types

    def _url(self, text: str) -> str:
        try:
            return self._ways.check_url(text)
        except ValueError as error:
            raise _invalid("url", str(error)) from None

    def _check_standard(self, record: WebhookRecord) -> None:
        secret = self._vault.unwrap(endpoints.vault_label(record.uuid), record.secret_wrapped).decode()
        try:
            self._ways.check_secret(secret, True)
        except ValueError:
            raise _invalid("format", "its secret is none of this format: rotate it first") from None

    def _secret(self, given: str | None, format_: Format) -> str:
        if given is None:
            return self._ways.write_secret(secrets.token_bytes(32))
        try:
            return self._ways.check_secret(given, format_ is Format.NATIVE)
        except ValueError as error:
            raise _invalid("secret", str(error)) from None


def _standing_before(record: WebhookRecord) -> str:
    """What it is again when it has answered; "" for active."""
    if record.state in {Standing.PAUSED, Standing.DISABLED}:
        return f"{record.state.value}{_BEFORE}{record.why}"
    return record.why


async def _nobody(_uuid: bytes) -> None:
    """No daemon runs: there is nobody to tell."""


def _format(text: str | None) -> Format:
    try:
        return Format(text or Format.NATIVE.value)
    except ValueError:
        raise _invalid("format", f"must be one of {', '.join(Format)}") from None


def _types(texts: tuple[str, ...] | None) -> tuple[EventType, ...]:
    problems: list[Problem] = []
    found: dict[EventType, None] = {}
    for index, text in enumerate(texts or ()):
        type_ = eventview.read_name(text)
        if type_ is None:
            words = f"is no type of event; there are {', '.join(eventview.NAMES)}"
            problems.append(Problem(f"types[{index}]", words, "validation_error"))
        else:
            found[type_] = None
    if problems:
        first = problems[0]
        raise Refused(Reason.VALIDATION_ERROR, str(first), param=first.path, problems=problems)
    return tuple(found)


def _filters(name: str, values: tuple[str, ...] | None) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(values or ()))
    if len(found) > MOST_FILTERS:
        raise _invalid(name, f"must be at most {MOST_FILTERS}")
    return found


def _invalid(param: str, text: str) -> Refused:
    return Refused(Reason.VALIDATION_ERROR, f"{param}: {text}", param=param)


def _unknown() -> Refused:
    return Refused(Reason.NOT_FOUND, "There is no webhook with this id.")


def _cannot(record: WebhookRecord, what: str) -> Refused:
    hint = ": it has not answered a test yet" if record.state is Standing.PENDING else ""
    return Refused(Reason.CONFLICT, f"The webhook is {record.state.value} and cannot be {what}{hint}.")


def _tell(what: str, record: WebhookRecord) -> None:
    host = urlsplit(record.url).hostname
    log.info("webhook %s %s: account=%s host=%s", endpoints.show(record.uuid), what, record.account or "all", host)
