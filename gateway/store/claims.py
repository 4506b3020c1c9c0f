"""Taking recipients in hand, under a lease and a fence. Which are next is not decided here (picking.py).

Guarantees: a recipient is in hand at most once; the cost depends on what is taken, not on what is ready; nothing is
taken of what is suspended. Content whose hash is wrong is not handed out: `piece` says so for it alone.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.errors import StoreError
from gateway.store import connection, flags, reports, seal
from gateway.store.db import Row, Statements, Transaction
from gateway.store.names import Counter, Names
from gateway.store.picking import Pick, Picking
from gateway.store.queue import INLINE_BYTES, Claimed, Leased
from gateway.store.suspensions import InForce

_NONE_BARRED: Final[frozenset[int]] = frozenset()


class Wish(msgspec.Struct, frozen=True, gc=False):
    """The arguments of a claim."""

    destination: int
    limit: int
    until: int


class Stumbled(StoreError):
    """Something of what a claim had picked is damaged; its cause says how that was met."""

    def __init__(self, picks: Sequence[Pick]) -> None:
        super().__init__("What is next in the queue cannot be read.")
        self.picks = picks


class Claims:
    """Used in the writer's thread only. `owner` is this opening of the database; fences come from
    `tickets`."""

    def __init__(self, sql: Statements, names: Names, tickets: Counter, owner: int, in_force: InForce) -> None:
        self._in_force = in_force
        self._sql = sql
        self._names = names
        self._tickets = tickets
        self._owner = owner
        self._picking = Picking(sql)

    def claim(self, tx: Transaction, wishes: Sequence[Wish]) -> list[list[Claimed]]:
        return [self._claim(tx, wish) for wish in wishes]

    def due(self, tx: Transaction, calls: Sequence[None]) -> list[None]:
        """Tell the queue what is claimable: at the start, and where what a suspension of a key held back was taken for
        nothing."""
        for (destination,) in tx.all(self._sql["due_destinations"]):
            tx.due[destination] = self._names.due(tx, destination)
        return [None] * len(calls)

    def _claim(self, tx: Transaction, wish: Wish) -> list[Claimed]:
        barred = _NONE_BARRED
        if self._in_force:
            due = self._names.due(tx, wish.destination)
            if self._in_force.whole(due.route, due.domain):
                return []
            names = self._in_force.keys(due.route, due.domain)
            found = [tx.one(self._sql["key_find"], (name,)) for name in names]
            barred = frozenset(row[0] for row in found if row is not None)
        picks = self._picking.pick(tx, wish.destination, wish.limit, barred)
        if len(picks) < wish.limit:
            tx.due[wish.destination] = None
        try:
            return self._lease(tx, wish, picks) if picks else []
        except Exception as error:
            if connection.blames_rows(error):
                raise Stumbled(picks) from error
            raise

    def _lease(self, tx: Transaction, wish: Wish, picks: list[Pick]) -> list[Claimed]:
        many = tx.cursor.executemany
        fence = self._tickets.next()
        ids = dict.fromkeys(pick.message for pick in picks)
        messages = {
            row[0]: row for row in many(self._sql["claim_message"], [(id_, INLINE_BYTES) for id_ in ids]).fetchall()
        }
        facts = many(self._sql["claim_recipient"], [(pick.message, pick.recipient, wish.destination) for pick in picks])
        recipients = {row[0]: row for row in facts.fetchall()}
        leases: list[Row] = []
        in_hand: dict[int, list[Leased]] = {}
        for pick in picks:
            id_, address, attempts, uncertain, asked, orcpt, reply, host = recipients[pick.recipient]
            message = messages[pick.message]
            leases.append(
                (
                    id_,
                    fence,
                    wish.until,
                    self._owner,
                    wish.destination,
                    pick.rank,
                    pick.key,
                    pick.message,
                    uncertain,
                    message[14],
                    message[15],
                    message[12],
                    asked and reports.to_tell(asked, message[4]),
                    1 if message[10] & flags.AT_MOST_ONCE else 0,
                    message[19],
                )
            )
            bits = asked & reports.ASKED_BITS
            leased = Leased(id_, address, attempts, fence, bool(uncertain), bits, orcpt, reply, host)
            in_hand.setdefault(pick.message, []).append(leased)
        many(self._sql["leased_add"], leases)
        return [self._claimed(tx, messages[id_], tuple(hand)) for id_, hand in in_hand.items()]

    def _claimed(self, tx: Transaction, row: Row, recipients: tuple[Leased, ...]) -> Claimed:
        packed = row[10]
        content = row[18]
        if content is not None and not seal.is_content(row[17], row[0], 0, content):
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
            track=flags.track(packed),
            unsubscribe=row[21],
            own_return_path=bool(packed & flags.OWN_RETURN_PATH),
            tags=row[20],
            recipient_count=row[14],
        )
