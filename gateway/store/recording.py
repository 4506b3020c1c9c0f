"""Writing down mail that was delivered without the queue, by the relay that its request named.

Guarantees: message, recipients, attempt and events are in one transaction; nothing of it is ever claimable, and no
content is kept, not even pieces that were stored before. Status, retention and the sweep treat it as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.store.acceptance import Acceptance
from gateway.store.db import Row, Statements, Transaction
from gateway.store.names import Names
from gateway.store.newmail import NewMessage
from gateway.store.queue import Attempt, Result
from gateway.store.settlement import Settlement


@dataclass(frozen=True, slots=True)
class Passage:
    """The arguments of a record."""

    message: NewMessage
    results: Sequence[Result]
    attempt: Attempt


class Recording:
    """Used in the writer's thread only."""

    def __init__(self, sql: Statements, names: Names, acceptance: Acceptance, settlement: Settlement) -> None:
        self._sql = sql
        self._names = names
        self._acceptance = acceptance
        self._settlement = settlement

    def record(self, tx: Transaction, passages: Sequence[Passage]) -> list[None]:
        """Write them down. ValueError where the results are not one final one for each recipient."""
        for passage in passages:
            _check(passage)
            self._record(tx, passage)
        return [None] * len(passages)

    def _record(self, tx: Transaction, passage: Passage) -> None:
        message = replace(passage.message, piece_count=1)  # a row counts one, though there is none
        key = self._names.key(tx, message.key)
        destinations = [self._names.destination(tx, message.route, one.domain) for one in message.recipients]
        self._acceptance.note(tx, message, key, destinations)
        for name in ("content_delete", "pieces_delete", "staging_delete"):
            tx.cursor.execute(self._sql[name], (message.id,))
        by_recipient = dict(zip((one.id for one in message.recipients), destinations, strict=True))
        account = self._names.account(tx, message.account)
        leases = [_lease(message, key, account, by_recipient[result.recipient], result) for result in passage.results]
        attempt = replace(
            passage.attempt, message=message.id, destination=destinations[0], results=tuple(passage.results)
        )
        self._settlement.note(tx, attempt, leases)


def _check(passage: Passage) -> None:
    ids = sorted(one.id for one in passage.message.recipients)
    if not ids or sorted(one.recipient for one in passage.results) != ids:
        raise ValueError("there is not one result for each recipient")
    if not all(result.state.final for result in passage.results):
        raise ValueError("a recipient that is not in the queue has a final state")


def _lease(message: NewMessage, key: int, account: int, destination: int, result: Result) -> Row:
    """What a claim would have noted of it."""
    return (
        result.recipient,
        result.fence,
        destination,
        message.priority,
        key,
        message.id,
        0,
        len(message.recipients),
        message.piece_count,
        message.expires_at,
        0,  # its client was told in its own session
        account,
    )
