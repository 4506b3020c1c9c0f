"""Which destinations have something claimable, as known in the process: asking costs no statement.

Guarantees: what is suspended is not among them, and comes back when the suspension ends. Used in the loop only.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from gateway.store.queue import Due, Ready
from gateway.store.shown import Suspension
from gateway.store.suspensions import Change, InForce


class Board:
    """`in_force` is changed here and nowhere else."""

    def __init__(self, in_force: InForce, on_change: Ready, survey: Callable[[], None]) -> None:
        """`on_change`: what is suspended is not what it was. `survey`: what is claimable is to be found out anew."""
        self._in_force = in_force
        self._on_change = on_change
        self._survey = survey
        self._due: dict[int, Due] = {}
        self._parked: dict[int, Due] = {}  # suspended

    def due(self) -> Sequence[Due]:
        return tuple(self._due.values())

    def note(self, changes: Mapping[int, Due | None]) -> bool:
        """What a transaction made of some destinations (None: nothing is left there); whether one has something now."""
        ready = False
        for destination, value in changes.items():
            if value is None:
                self._due.pop(destination, None)
                self._parked.pop(destination, None)
            elif self._in_force and self._in_force.whole(value.route, value.domain):
                self._parked[destination] = value
            else:
                self._due[destination] = value
                ready = True
        return ready

    async def change(self, written: "asyncio.Future[Change]") -> Change:
        """A change of what is suspended counts once it is written, whether or not its caller still waits."""
        written.add_done_callback(self._changed)
        return await asyncio.shield(written)

    def _changed(self, written: "asyncio.Future[Change]") -> None:
        if not written.cancelled() and written.exception() is None:
            change = written.result()
            self.adopt(change.entries)
            if change.gone:
                # Where only a key was suspended, its destination was taken for empty, by claims up to this moment.
                self._survey()
            self._on_change()

    def adopt(self, entries: Sequence[Suspension]) -> None:
        """What is suspended from now on."""
        self._in_force.load(entries)
        everything = self._due | self._parked
        self._due, self._parked = {}, {}
        self.note(everything)
