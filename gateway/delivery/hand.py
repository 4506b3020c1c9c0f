"""What is in hand, of all lanes together, and how much of it a lane may take.

Guarantees: destinations that are not known to answer hold a quarter at most, whatever their number, so a thousand dead
ones leave room for everybody else; those that did not answer last time leave half of that to new ones. After a start
that quarter is opened step by step: nobody is known then, and thousands of lookups and first connections in one moment
would be a storm for resolvers and hosts alike. Each bound is exact but for one group of claims. It claims nothing
itself.
"""

from typing import Final

from msgspec.structs import replace

from gateway.delivery.lane import FIRST_CLAIM, MOST, Lane
from gateway.store.queue import Claimed

RECIPIENTS: Final = 10_000  # a claim is a few hundred bytes without its content
CONTENT: Final = 64 * 1024 * 1024  # bytes of content kept with claims; above it content is read at the attempt
OPENING: Final = 300  # recipients of unknown destinations in the first second; twice as many in each further one
_UNPROVEN: Final = 4  # a quarter is theirs
_SPARE: Final = 20  # for mail of high priority, a twentieth more

Shares = tuple[int, int, int]  # recipients that a lane may hold now, by Standing


class Hand:
    """`fences` are the recipients in hand, for the renewal of their leases."""

    def __init__(self, most: int = RECIPIENTS) -> None:
        self._most = most
        self._quarter = most // _UNPROVEN
        self._opened = min(OPENING, self._quarter)
        self.fences: dict[int, int] = {}
        self._unproven = 0  # of them, those of destinations that are not known to answer
        self._content_bytes = 0
        self._gone: int | None = None  # since somebody was turned away; None: nobody was

    def add(self, lane: Lane, claimed: Claimed) -> None:
        """A message was claimed for a lane."""
        kept = claimed
        if claimed.content is not None:
            if self._content_bytes > CONTENT:
                kept = replace(claimed, content=None)
            else:
                self._content_bytes += len(claimed.content)
        for recipient in claimed.recipients:
            self.fences[recipient.id] = recipient.fence
        lane.recipients += len(claimed.recipients)
        if not lane.pace.proven:
            self._unproven += len(claimed.recipients)
        lane.pending.add(kept)

    def drop(self, lane: Lane, claimed: Claimed) -> None:
        """It is settled, or lost; more than once is once."""
        if claimed.recipients[0].id not in self.fences:
            return
        if claimed.content is not None:
            self._content_bytes -= len(claimed.content)
        for recipient in claimed.recipients:
            self.fences.pop(recipient.id, None)
        lane.recipients -= len(claimed.recipients)
        if not lane.pace.proven:
            self._unproven -= len(claimed.recipients)
        if self._gone is not None:
            self._gone += len(claimed.recipients)

    def changed(self, lane: Lane, *, was_proven: bool) -> None:
        """What is known of a lane's destination may have changed."""
        if lane.pace.proven != was_proven:
            self._unproven += lane.recipients if was_proven else -lane.recipients

    def shares(self) -> Shares:
        """How much a lane may hold: few where many want something, none where there is no room."""
        opened = self._opened
        unproven, proven = self._unproven, len(self.fences) - self._unproven
        rest = self._most - self._quarter
        new, silent = (FIRST_CLAIM, FIRST_CLAIM) if unproven < opened // 2 else (1 if unproven < opened else 0, 0)
        good = MOST if proven < rest // 2 else FIRST_CLAIM if proven < rest else 0
        return new, good, silent

    def open(self, elapsed_s: float) -> None:
        """So long after the start."""
        if self.opening:
            self._opened = min(OPENING << min(int(elapsed_s), self._most.bit_length()), self._quarter)

    @property
    def opening(self) -> bool:
        """Whether there will be more room for unknown destinations just by waiting."""
        return self._opened < self._quarter

    @property
    def spare(self) -> bool:
        """Whether there is room for mail of high priority."""
        return len(self.fences) < self._most + self._most // _SPARE

    def turned_away(self) -> None:
        """Somebody found no room."""
        if self._gone is None:
            self._gone = 0

    def has_room_again(self) -> bool:
        """Whether who was turned away should ask again; True once."""
        if self._gone is None or (self._gone * 100 < self._most and self.fences):
            return False
        self._gone = None
        return True
