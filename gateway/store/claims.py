"""Taking recipients in hand: fair between keys, by lanes of priority, under a lease and a fence.

Guarantees: inside one lane keys are served in turn, each by age; a recipient is in hand at most once; the
cost depends on what is taken, not on what is ready. Content whose hash is wrong is not handed out: `piece`
says so for it alone.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.store import flags, reports
from gateway.store.db import Row, Statements, Transaction
from gateway.store.names import Counter, Names
from gateway.store.queue import INLINE_BYTES, Claimed, Leased

PRIORITIES: Final = (0, 1, 2)
_LOWEST: Final = -(1 << 63)


class Wish(msgspec.Struct, frozen=True, gc=False):
    """The arguments of a claim."""

    destination: int
    limit: int
    until: int


class _Pick(NamedTuple):
    """A ready recipient that is taken."""

    recipient: int
    message: int
    priority: int
    key: int


class Claims:
    """Used in the writer's thread only. `owner` is this opening of the database; fences come from
    `tickets`."""

    def __init__(self, sql: Statements, names: Names, tickets: Counter, owner: int) -> None:
        self._sql = sql
        self._names = names
        self._tickets = tickets
        self._owner = owner
        self._served: dict[tuple[int, int], int] = {}  # (destination, priority) with work: the key served last

    def claim(self, tx: Transaction, wishes: Sequence[Wish]) -> list[list[Claimed]]:
        return [self._claim(tx, wish) for wish in wishes]

    def due(self, tx: Transaction, calls: Sequence[None]) -> list[None]:
        """Tell the queue what is claimable, at the start."""
        for (destination,) in tx.all(self._sql["due_destinations"]):
            tx.due[destination] = self._names.due(tx, destination)
        return [None] * len(calls)

    def _claim(self, tx: Transaction, wish: Wish) -> list[Claimed]:
        picks: list[_Pick] = []
        for priority in PRIORITIES:
            if (room := wish.limit - len(picks)) > 0:
                picks += self._take(tx, wish.destination, priority, room)
        if len(picks) < wish.limit:
            tx.due[wish.destination] = None
            for priority in PRIORITIES:
                self._served.pop((wish.destination, priority), None)
        return self._lease(tx, wish, picks) if picks else []

    def _take(self, tx: Transaction, destination: int, priority: int, room: int) -> list[_Pick]:
        """Take up to `room` of one lane: an equal share of each key, then what is left, in the order of the
        turn."""
        keys = self._turn(tx, destination, priority, room)
        if not keys:
            return []
        # The next turn begins past those that were served; where all were, one further, so that who gets the
        # remainder goes round too.
        self._served[destination, priority] = keys[0] if len(keys) < room else keys[-1]
        share = room // len(keys)
        taken: dict[int, list[Row]] = {}
        for key in keys:
            taken[key] = self._oldest(tx, (destination, priority, key, _LOWEST, share))
            room -= len(taken[key])
        for key, rows in taken.items():
            if room and len(rows) == share:
                more = self._oldest(tx, (destination, priority, key, rows[-1][0], room))
                rows.extend(more)
                room -= len(more)
        for key, rows in taken.items():
            tx.cursor.execute(self._sql["ready_delete"], (destination, priority, key, rows[0][0], rows[-1][0]))
        return [_Pick(row[0], row[1], priority, key) for key, rows in taken.items() for row in rows]

    def _turn(self, tx: Transaction, destination: int, priority: int, limit: int) -> list[int]:
        """The keys present, from the one after the key served last, at most `limit`."""
        sql = self._sql["ready_keys"]
        last = self._served.get((destination, priority), _LOWEST)
        keys = [row[0] for row in tx.all(sql, (destination, priority, last, limit))]
        if last != _LOWEST and len(keys) < limit:
            wrapped = tx.all(sql, (destination, priority, _LOWEST, limit - len(keys)))
            keys += [row[0] for row in wrapped if row[0] <= last]
        return keys

    def _oldest(self, tx: Transaction, values: tuple[int, int, int, int, int]) -> list[Row]:
        return tx.all(self._sql["ready_take"], values)

    def _lease(self, tx: Transaction, wish: Wish, picks: list[_Pick]) -> list[Claimed]:
        many = tx.cursor.executemany
        fence = self._tickets.next()
        ids = dict.fromkeys(pick.message for pick in picks)
        messages = {
            row[0]: row for row in many(self._sql["claim_message"], [(id_, INLINE_BYTES) for id_ in ids]).fetchall()
        }
        facts = many(self._sql["claim_recipient"], [(pick.message, pick.recipient) for pick in picks])
        recipients = {row[0]: row for row in facts.fetchall()}
        leases: list[Row] = []
        in_hand: dict[int, list[Leased]] = {}
        for pick in picks:
            id_, address, attempts, uncertain, asked, orcpt = recipients[pick.recipient]
            message = messages[pick.message]
            leases.append(
                (
                    id_,
                    fence,
                    wish.until,
                    self._owner,
                    wish.destination,
                    pick.priority,
                    pick.key,
                    pick.message,
                    uncertain,
                    message[14],
                    message[15],
                    message[12],
                    asked and reports.to_tell(asked, message[4]),
                    1 if message[10] & flags.AT_MOST_ONCE else 0,
                )
            )
            leased = Leased(id_, address, attempts, fence, bool(uncertain), asked & reports.ASKED_BITS, orcpt)
            in_hand.setdefault(pick.message, []).append(leased)
        many(self._sql["leased_add"], leases)
        return [self._claimed(tx, messages[id_], tuple(hand)) for id_, hand in in_hand.items()]

    def _claimed(self, tx: Transaction, row: Row, recipients: tuple[Leased, ...]) -> Claimed:
        packed = row[10]
        content = row[18]
        if content is not None and hashlib.sha256(content).digest() != row[17]:
            content = None
        return Claimed(
            message=row[0],
            uuid=row[1],
            account=row[2],
            key=self._names.key_name(tx, row[3]),
            envelope_sender=row[4],
            header_from=row[5],
            message_id=row[6],
            facts=flags.facts(packed, row[7], row[8], row[9]),
            created_at=row[11],
            expires_at=row[12],
            priority=row[13],
            piece_count=row[15],
            content=content,
            recipients=recipients,
            ret=flags.ret(packed),
            envid=row[16],
            tls_wish=flags.tls_wish(packed),
            at_most_once=bool(packed & flags.AT_MOST_ONCE),
        )
