"""Waiting for the next hop's word on a message that was just queued.

Guarantees: a wait costs nobody but its caller anything; it ends when every recipient has a final state, when none that
is left will be tried before its deadline, or at that deadline. What it answers is read from the store after that. What
an operator or the sweeper decides is no attempt: then the deadline ends it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.events import State
from gateway.runtime import Clock
from gateway.store.queue import Attempt, Queue, Result
from gateway.store.shown import MessageView, RecipientView

AT_ONCE: Final = 10_000  # waits; about 2 kB each. Who comes when there are so many gets what is known now
_ITS_TURN: Final = frozenset({"connections", "lease"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a message stands, and the attempts that were made while it was waited for, in order."""

    view: MessageView
    attempts: tuple[Attempt, ...]


class Waits:
    """Who waits for which message."""

    def __init__(self, queue: Queue, clock: Clock, *, at_once: int = AT_ONCE) -> None:
        self._queue = queue
        self._clock = clock
        self._at_once = at_once
        self.count = 0  # of waits
        self._closed = False
        self._waiting: dict[bytes, list[_Wait]] = {}

    def tell(self, attempts: Sequence[Attempt]) -> None:
        """What was just written down."""
        if not self._waiting:
            return
        for attempt in attempts:
            for wait in self._waiting.get(attempt.uuid, ()):
                wait.hear(attempt)

    async def outcome(self, uuid: bytes, account: str, wait_s: float) -> Outcome | None:
        """What became of a message of that account within `wait_s` seconds; None where it has no such message.

        Raises StoreError.
        """
        if wait_s <= 0 or self._closed or self.count >= self._at_once:
            view = await self._queue.message(uuid, account)
            return Outcome(view, ()) if view is not None else None
        # Before the store is asked: what is decided in the meantime is heard of.
        wait = self._enter(uuid, wait_s)
        try:
            view = await self._queue.message(uuid, account)
            if view is None:
                return None
            wait.see(view.recipients)
            await wait.end()
        finally:
            self._leave(uuid, wait)
        if wait.stale:
            view = await self._queue.message(uuid, account) or view
        return Outcome(view, tuple(wait.attempts))

    def close(self) -> None:
        """End every wait with what is known then; from now on nothing is waited for."""
        self._closed = True
        for waits in self._waiting.values():
            for wait in waits:
                wait.stop()

    def _enter(self, uuid: bytes, wait_s: float) -> "_Wait":
        wait = _Wait(wait_s, self._clock.now_ms() + int(wait_s * 1000))
        self._waiting.setdefault(uuid, []).append(wait)
        self.count += 1
        return wait

    def _leave(self, uuid: bytes, wait: "_Wait") -> None:
        self.count -= 1
        waits = self._waiting[uuid]
        waits.remove(wait)
        if not waits:
            del self._waiting[uuid]


class _Wait:
    """One caller's. `deadline` is in Unix milliseconds."""

    def __init__(self, wait_s: float, deadline: int) -> None:
        loop = asyncio.get_running_loop()
        self.attempts: list[Attempt] = []
        self._ends_at = loop.time() + wait_s
        self._deadline = deadline
        self._settled: set[int] = set()  # recipients that nothing more will be heard of
        self._left: set[int] | None = None  # the others, once they are known
        self._over: asyncio.Future[None] = loop.create_future()
        self.stale = False  # whether the store may know more by now than what was seen

    def hear(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.stale = True
        self._settle(result.recipient for result in attempt.results if self._rests(result))

    def see(self, recipients: Iterable[RecipientView]) -> None:
        """Where the message stood when it was asked for."""
        self._left = {recipient.id for recipient in recipients}
        self._settle(recipient.id for recipient in recipients if self._waits(recipient))

    async def end(self) -> None:
        """At once where nobody is left."""
        if self._over.done():
            return
        self.stale = True
        try:
            async with asyncio.timeout_at(self._ends_at):
                await self._over
        except TimeoutError:
            pass  # the deadline is an end like the others

    def stop(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _settle(self, recipients: Iterable[int]) -> None:
        self._settled.update(recipients)
        if self._left is not None and self._left <= self._settled:
            self.stop()

    def _rests(self, result: Result) -> bool:
        return result.state.final or (result.state is State.DEFERRED and result.next_at > self._deadline)

    def _waits(self, recipient: RecipientView) -> bool:
        """Whether it is final, or will not be tried in time."""
        if recipient.state.final or recipient.blocked_by == "held":
            return True
        if recipient.next_at is None:
            return recipient.blocked_by == "suspended"
        return recipient.blocked_by not in _ITS_TURN and recipient.next_at > self._deadline
