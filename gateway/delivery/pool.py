"""Kept connections: who has one gives it back, who needs one may find it here.

Guarantees: at most `connections` in all, those that wait get a place in the order they came, idle connections give way
to them; an idle connection is closed after `idle_s`, one that served its share of messages at once; what is given back
unusable is not kept.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from gateway.config import Delivery
from gateway.delivery.session import Failure, Hop, Session, open_session

IDLE_S: Final = 10.0  # most hosts close an idle connection after 30 s or more; Postfix keeps one for 2 s


class Pool:
    """All connections to next hops; constructed in the running loop."""

    def __init__(self, settings: Delivery, *, idle_s: float = IDLE_S) -> None:
        self._settings = settings
        self._idle_s = idle_s
        self._places = asyncio.Semaphore(settings.connections)
        self._waiting = 0  # for a place
        self._idle: OrderedDict[int, tuple[Session, float]] = OrderedDict()  # by id, longest idle first
        self._by_hop: dict[Hop, list[int]] = {}
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def kept(self, hop: Hop) -> Session | None:
        """An idle connection to that hop, the one used last."""
        ids = self._by_hop.get(hop)
        while ids:
            session, _ = self._remove(ids[-1])
            if session.wire.usable:
                return session
            self._discard(session)
            ids = self._by_hop.get(hop)
        return None

    async def open(self, hop: Hop) -> Session | Failure:
        """A new connection; waits for a place, for which the longest idle connection gives way."""
        if self._places.locked() and self._idle:
            session, _ = self._remove(next(iter(self._idle)))
            self._discard(session)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        session_or_failure: Session | Failure | None = None
        try:
            session_or_failure = await open_session(hop, self._settings.timeouts)
        finally:
            if not isinstance(session_or_failure, Session):
                self._places.release()
        return session_or_failure

    def give_back(self, session: Session) -> None:
        """Done with it, for now or for good."""
        wire = session.wire
        worn = wire.transactions >= self._settings.messages_per_connection
        if worn or not wire.usable or self._waiting or self._closed:
            self._discard(session)  # who waits for a place has waited long enough
            return
        self._idle[id(session)] = (session, self._loop.time())
        self._by_hop.setdefault(session.hop, []).append(id(session))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_s, self._sweep)

    async def close(self) -> None:
        """Close what is idle, and from now on what is given back; connections in use are their owners' to give back."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            session, _ = self._remove(next(iter(self._idle)))
            self._discard(session)
        await asyncio.sleep(0)  # QUITs leave

    def _remove(self, number: int) -> tuple[Session, float]:
        session, since = self._idle.pop(number)
        ids = self._by_hop[session.hop]
        ids.remove(number)
        if not ids:
            del self._by_hop[session.hop]
        return session, since

    def _discard(self, session: Session) -> None:
        session.wire.close()
        self._places.release()

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._loop.time()
        while self._idle:
            number, (session, since) = next(iter(self._idle.items()))
            if since + self._idle_s > now:
                self._sweeper = self._loop.call_at(since + self._idle_s, self._sweep)
                return
            self._remove(number)
            self._discard(session)
