"""Damaged rows of the queue: found when a claim stumbles over them, failed with their reason, never delivered.

Guarantees: what fits its seal goes on; what does not fails at once, with an event, and its submitter is told where the
message itself is whole; a place in the queue without its recipient is dropped. A destination whose rows cannot even be
read is set aside for a while and told, and all others go on. While nothing is damaged this costs nothing: the claim
itself leaves out what does not fit its seal.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.errors import StoreError
from gateway.events import BounceClass, EventType, Scope, State
from gateway.runtime import Clock, show_id
from gateway.store import connection, reports
from gateway.store.claims import Claims, Stumbled, Wish
from gateway.store.connection import Damaged
from gateway.store.db import Row, Statements, Transaction
from gateway.store.ending import Endings, Undelivered
from gateway.store.hardship import AWAY, Hardship
from gateway.store.names import Counter, Names
from gateway.store.picking import Pick
from gateway.store.queue import Claimed
from gateway.store.settlement import EventData
from gateway.store.writer import Writer

REPLY: Final = "The record of this recipient is damaged in the database: it was not sent."
ROWS: Final = 500  # looked at between two looks at the bounds
MOST: Final = 20_000  # about 0.3 s of the writer
ASIDE_S: Final = 600.0

_START: Final = (-(1 << 63),) * 3  # before all (priority, key, recipient)
# What a row that no code of ours wrote can make of a claim.
_STUMBLES: Final = (LookupError, TypeError, ValueError, StoreError)

log = logging.getLogger("gateway.store")


@dataclass(frozen=True, slots=True)
class Look:
    """Where to look: at what a claim had picked, or, where it did not come to that, at what is next."""

    destination: int
    picks: Sequence[Pick] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A place in the queue that was dropped; `id` names the message where it can be read."""

    id: str
    recipient: int
    what: str


class Inspection:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names, *, events: Counter, endings: Endings, clock: Clock) -> None:
        self._sql = sql
        self._names = names
        self._events = events
        self._endings = endings
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode

    def look(self, tx: Transaction, looks: Sequence[Look]) -> list[list[Broken]]:
        """Fail what is damaged; nothing is found where it is something else."""
        return [self._look(tx, one) for one in looks]

    def set_aside(self, tx: Transaction, destinations: Sequence[int]) -> list[None]:
        """Claim nothing there for now."""
        tx.due.update(dict.fromkeys(destinations))
        return [None] * len(destinations)

    def take_up(self, tx: Transaction, destinations: Sequence[int]) -> list[None]:
        for destination in destinations:
            tx.due[destination] = self._names.due(tx, destination)
        return [None] * len(destinations)

    def _look(self, tx: Transaction, look: Look) -> list[Broken]:
        if look.picks:
            return self._clear(tx, look.destination, [(one.rank, one.key, *one[:2]) for one in look.picks])
        after = _START
        for _ in range(MOST // ROWS):
            rows = tx.all(self._sql["ready_slice"], (look.destination, *after, ROWS))
            if (broken := self._clear(tx, look.destination, rows)) or len(rows) < ROWS:
                return broken
            after = rows[-1][:3]
        return []

    def _clear(self, tx: Transaction, destination: int, rows: Sequence[Row]) -> list[Broken]:
        """Rows as (priority, key, recipient, message)."""
        broken = [(row, what) for row in rows if (what := self._fault(tx, destination, row))]
        return [self._drop(tx, destination, row, what) for row, what in broken]

    def _fault(self, tx: Transaction, destination: int, row: Row) -> str:
        """What is wrong with a place of the queue, "" where nothing is."""
        *_, recipient, message = row
        try:
            if not tx.all(self._sql["claim_message"], (message, 0)):
                return "its message is damaged or missing"
            if not tx.all(self._sql["claim_recipient"], (message, recipient, destination)):
                return "its record is damaged or missing, or of another destination"
            if tx.all(self._sql["leased_any"], (recipient,)):
                return "it has two places in the queue"
        except Exception as error:  # noqa: BLE001 - whatever a damaged row brings about
            return f"it cannot be read: {type(error).__name__}"
        return ""

    def _drop(self, tx: Transaction, destination: int, row: Row, what: str) -> Broken:
        priority, key, recipient, message = row
        tx.all(self._sql["ready_remove"], (destination, priority, key, recipient))
        if what.startswith("it has two"):
            return Broken("", recipient, what)  # the other one is good
        now = self._clock.now_ms()
        why = (REPLY, BounceClass.UNCATEGORIZED.value, Scope.INFRASTRUCTURE.value)
        failed = tx.all(self._sql["recipient_damaged"], (message, recipient, now, *why))
        whole = self._whole(tx, message)
        for attempts, asked in failed:
            data = EventData(
                reply=REPLY,
                bounce_class=BounceClass.UNCATEGORIZED.value,
                scope=Scope.INFRASTRUCTURE.value,
                route=self._names.due(tx, destination).route,
                attempt=attempts,
                note=what,
            )
            event = (self._events.next(), message, recipient, EventType.FAILED.value, now, self._encode(data).decode())
            tx.cursor.execute(self._sql["event_of_message"], event)
            for facts in whole:
                self._end(tx, facts, recipient, asked, now)
        return Broken(show_id("eml_", whole[0][1]) if whole else "", recipient, what)

    def _whole(self, tx: Transaction, message: int) -> list[Row]:
        """The message, where it can be believed."""
        try:
            return tx.all(self._sql["claim_message"], (message, 0))
        except Exception as error:  # noqa: BLE001 - whatever a damaged row brings about
            log.debug("a message cannot be read: %s", error)
            return []

    def _end(self, tx: Transaction, facts: Row, recipient: int, asked: int, now: int) -> None:
        """As any other that fails: its message may be done with it."""
        message, sender, expires_at, recipients, pieces = facts[0], facts[4], facts[12], facts[14], facts[15]
        ended = Undelivered(message, recipient, reports.to_tell(asked, sender), recipients, pieces, expires_at)
        self._endings.fail(tx, [ended], State.FAILED, now)


class Claiming:
    """Claims for one event loop. `on_ready`: something may be claimable again."""

    def __init__(
        self,
        writer: Writer,
        claims: Claims,
        inspection: Inspection,
        hardship: Hardship,
        *,
        on_ready: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._claims = claims
        self._inspection = inspection
        self._hardship = hardship
        self._on_ready = on_ready
        self._aside: set[int] = set()

    async def claim(self, wish: Wish) -> Sequence[Claimed]:
        """Nothing where nothing can be written, or what is there cannot be read: then it is asked again in time.
        Raises StoreError where the store has failed or is closed."""
        if self._hardship.is_on:
            return ()
        try:
            return await self._writer.submit(self._claims.claim, wish)
        except AWAY as error:
            self._hardship.begin(error)
        except _STUMBLES as error:
            if self._writer.failure is not None or self._writer.closing:
                raise
            await self._inspect(wish.destination, error)
        return ()

    async def _inspect(self, destination: int, error: Exception) -> None:
        found: list[Broken] = []
        look = Look(destination)
        if isinstance(error, Stumbled):
            look = Look(destination, error.picks)
            cause = error.__cause__
            error = connection.translate(cause) if isinstance(cause, Exception) else error
        try:
            found = await self._writer.submit(self._inspection.look, look)
        except AWAY as away:
            self._hardship.begin(away)
            return
        except _STUMBLES as second:
            error = second
        for broken in found:
            text = (
                "the database is damaged: a recipient was not sent, %s (message %s, recipient %d); see docs/baddays.md"
            )
            log.error(text, broken.what, broken.id or "unknown", broken.recipient)
        if found:
            self._on_ready()
        else:
            await self._set_aside(destination, error)

    async def _set_aside(self, destination: int, error: Exception) -> None:
        if destination not in self._aside:
            self._aside.add(destination)
            kind = "damaged" if isinstance(error, Damaged) else type(error).__name__
            text = "the queue of destination %d cannot be read (%s: %s): tried again every %d min; all others go on"
            log.error(text, destination, kind, error, ASIDE_S // 60)
            asyncio.get_running_loop().call_later(ASIDE_S, self._take_up, destination)
        await self._writer.submit(self._inspection.set_aside, destination)

    def _take_up(self, destination: int) -> None:
        self._aside.discard(destination)
        self._writer.submit(self._inspection.take_up, destination).add_done_callback(_heed)


def _heed(future: "asyncio.Future[None]") -> None:
    """Closed meanwhile, or no better: the next mail for it tries again."""
    if not future.cancelled():
        future.exception()
