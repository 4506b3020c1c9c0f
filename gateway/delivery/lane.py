"""What is in hand for one destination, and which of it is next. Pure.

Guarantees: higher priority goes first; keys take turns, a message each, whoever has how much; what one key hands in is
served in its order. Mail that is not of high priority never has all connections of a lane, where there are three or
more.
"""

from collections import deque
from typing import Final

from gateway.delivery.pacing import Pace
from gateway.message.priority import HIGH
from gateway.store.queue import Claimed, Due

FIRST_CLAIM: Final = 10  # recipients, of a new lane and of one that does not deliver
MOST: Final = (
    40  # of one that does: two for each connection. A claim refills the half of it, so what comes waits for few
)


class Pending:
    """Claimed and not begun."""

    __slots__ = ("_turns", "count", "high")

    def __init__(self) -> None:
        # By priority: the queue of each key, in the order of their turns.
        self._turns: tuple[dict[str, deque[Claimed]], ...] = ({}, {}, {})
        self.count = 0
        self.high = 0  # those among them of high priority

    def __len__(self) -> int:
        return self.count

    def add(self, claimed: Claimed) -> None:
        turns = self._turns[claimed.priority]
        queue = turns.get(claimed.key)
        if queue is None:
            turns[claimed.key] = deque((claimed,))
        else:
            queue.append(claimed)
        self.count += 1
        if claimed.priority == HIGH:
            self.high += 1

    def take(self, *, only_high: bool = False) -> Claimed | None:
        """The next one; None where there is none (or none of high priority)."""
        if only_high and not self.high:
            return None
        for turns in self._turns:
            if turns:
                return self._next(turns)
        return None

    def _next(self, turns: dict[str, deque[Claimed]]) -> Claimed:
        key = next(iter(turns))
        queue = turns[key]
        claimed = queue.popleft()
        if not queue:
            del turns[key]
        elif len(turns) > 1:
            turns[key] = turns.pop(key)  # to the end
        self.count -= 1
        if claimed.priority == HIGH:
            self.high -= 1
        return claimed

    def take_late(self, now: int) -> list[Claimed]:
        """Those whose time is over."""
        everything = self.take_all()
        late = []
        for claimed in everything:
            if claimed.expires_at <= now:
                late.append(claimed)
            else:
                self.add(claimed)
        return late

    def take_all(self) -> list[Claimed]:
        """Everything, priority by priority and key by key."""
        everything = [claimed for turns in self._turns for queue in turns.values() for claimed in queue]
        for turns in self._turns:
            turns.clear()
        self.count = self.high = 0
        return everything


class Lane:
    """One destination with something in hand. Whoever takes a message says `done` with it."""

    __slots__ = ("claim_size", "due", "more", "more_high", "ordinary", "pace", "pending", "recipients", "workers")

    def __init__(self, due: Due, pace: Pace) -> None:
        self.due = due
        self.pace = pace
        self.pending = Pending()
        self.workers = 0
        self.ordinary = 0  # of them, those with a message that is not of high priority
        self.claim_size = FIRST_CLAIM
        self.recipients = 0  # in hand
        self.more = False  # there is probably more to claim
        self.more_high = False  # of high priority

    def room(self, share: int) -> int:
        """How many recipients to claim now, where the lane may hold `share`; 0 until there is room for half of that.

        What is on the wire counts only while nobody answers: who delivers always has something to go on with.
        """
        size = min(self.claim_size, share)
        room = size - (len(self.pending) if self.pace.proven else self.recipients)
        return room if room > 0 and room * 2 >= size else 0

    @property
    def hungry(self) -> bool:
        """Whether it is time to claim more, where there is more."""
        return (len(self.pending) if self.pace.proven else self.recipients) * 2 <= self.claim_size

    def take(self) -> Claimed | None:
        """What a free worker does next; None where there is nothing for it."""
        pending = self.pending
        if not pending.count:
            return None
        claimed = pending.take(only_high=self.ordinary >= self.pace.ordinary)
        if claimed is not None and claimed.priority != HIGH:
            self.ordinary += 1
        return claimed

    def done(self, claimed: Claimed) -> None:
        if claimed.priority != HIGH:
            self.ordinary -= 1
