"""Kept connections: who has one gives it back, who needs one may find it here.

Guarantees: at most `limit` connections in all, idle ones give way to those that are needed; an idle connection is
closed after IDLE_S, one that served its share of messages at once; what is given back unusable is not kept.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from gateway.config import Delivery
from gateway.delivery.session import Failure, Hop, Session, open_session

IDLE_S: Final = 10.0  # most hosts close an idle connection after 30 s or more; Postfix keeps one for 2 s


class Pool:
    """All connections to next hops."""

    def __init__(self, settings: Delivery) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(settings.connections)
        self._idle: OrderedDict[int, tuple[Session, float]] = OrderedDict()  # by id, longest idle first
        self._by_hop: dict[Hop, list[int]] = {}
        self._loop = asyncio.get_running_loop()
        self._sweeping = False

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
        await self._places.acquire()
        try:
            session_or_failure = await open_session(hop, self._settings.timeouts)
        except BaseException:
            self._places.release()
            raise
        if isinstance(session_or_failure, Failure):
            self._places.release()
        return session_or_failure

    def give_back(self, session: Session) -> None:
        """Done with it, for now or for good."""
        wire = session.wire
        if not wire.usable or wire.transactions >= self._settings.messages_per_connection:
            self._discard(session)
            return
        self._idle[id(session)] = (session, self._loop.time())
        self._by_hop.setdefault(session.hop, []).append(id(session))
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(IDLE_S, self._sweep)

    async def close(self) -> None:
        """Close what is idle; connections in use are their owners' to give back first."""
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
        now = self._loop.time()
        while self._idle:
            number, (_, since) = next(iter(self._idle.items()))
            if since + IDLE_S > now:
                self._loop.call_later(since + IDLE_S - now, self._sweep)
                return
            session, _ = self._remove(number)
            self._discard(session)
        self._sweeping = False
