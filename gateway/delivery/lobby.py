"""Destinations that are due and need no look now: who found no room in the hand, and who will ask by themselves.

Guarantees: who waits here costs a turn of the scheduler nothing but a comparison. When there is room, who came first is
first among those that may have some; a destination waits once. It is bounded by the destinations that are due, which
the store holds in memory already.
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from gateway.delivery.hand import Shares
from gateway.delivery.lane import FIRST_CLAIM
from gateway.delivery.pacing import Standing
from gateway.store.queue import Due

_Line = OrderedDict[int, tuple[int, Due]]  # by destination: when it came, and who

# The share that one needs to get something, by line: who has something in hand and does not answer needs a whole one.
_LEAST: Final = tuple(
    FIRST_CLAIM if begun and standing is not Standing.GOOD else 1 for begun in (False, True) for standing in Standing
)


class Lobby:
    """Its length is how many found no room."""

    def __init__(self) -> None:
        # By standing: of those with nothing in hand, and then of the others.
        self._lines: tuple[_Line, ...] = tuple(OrderedDict() for _ in _LEAST)
        self._excused: set[int] = set()  # everybody: those in a line, and those that will ask
        self._number = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def others(self, due: Collection[Due], rush: Collection[int]) -> list[Due]:
        """Those of `due` that are not here, or in a rush."""
        excused = self._excused.difference(rush) if rush else self._excused
        return [one for one in due if one.destination not in excused]

    def turn_away(self, due: Due, standing: Standing, *, begun: bool = False) -> None:
        """It found no room; who waits already stays where it is. `begun`: it has something in hand, and nothing of that
        waits."""
        if not any(due.destination in line for line in self._lines):
            self._number += 1
            self._lines[standing + begun * len(Standing)][due.destination] = (self._number, due)
            self._excused.add(due.destination)

    def excuse(self, destination: int) -> None:
        """It has as much as it may, and asks itself for more."""
        self._excused.add(destination)

    def take(self, shares: Shares) -> Due | None:
        """The first one for whom there is room, no more in here."""
        able = [
            line for line, least, share in zip(self._lines, _LEAST, shares * 2, strict=True) if share >= least and line
        ]
        if not able:
            return None
        destination, (_, due) = min(able, key=_first).popitem(last=False)
        self._excused.discard(destination)
        return due

    def leave(self, destination: int) -> None:
        """Look at it again. It need not be here."""
        if destination in self._excused:
            self._excused.discard(destination)
            for line in self._lines:
                line.pop(destination, None)


def _first(line: _Line) -> int:
    return next(iter(line.values()))[0]
