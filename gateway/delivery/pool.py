"""Kept connections: who has one gives it back, who needs one may find it here.

Guarantees: at most `connections` in all, shared out by places.py, idle connections give way to those that are needed;
an idle connection is closed after `idle_s`, one that served its share of messages at once; what is given back unusable
is not kept. An address that never answered is connected to once at a time, under whatever names it goes: who wants a
second connection hears whether the first one was made and greeted. So a host that lets us wait costs one place,
whatever there is for it.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from msgspec import structs

from gateway.config import Delivery
from gateway.delivery.figures import OutgoingFigures
from gateway.delivery.places import Places
from gateway.delivery.session import Failure, Hop, Session, open_session
from gateway.delivery.tls.memory import TlsMemory
from gateway.delivery.trace import Trace
from gateway.metrics import Metrics
from gateway.metrics.connections import ConnectionFigures

IDLE_S: Final = 10.0  # most hosts close an idle connection after 30 s or more; Postfix keeps one for 2 s
HOSTS: Final = 10_000  # that are remembered
_LOOK_S: Final = 1.0  # how often strangers are looked at while others wait for their places
_COMMON: Final = frozenset({"connect", "greeting"})  # stages that do not depend on the name, nor on what is asked of it
_PROOF: Final = 2  # a second transaction shows that the first one ended

_Host = tuple[str, int]  # address, port
_Asked = tuple[str, int, str | None]  # and our address


class Pool:
    """All connections to next hops; constructed in the running loop."""

    def __init__(
        self,
        settings: Delivery,
        *,
        idle_s: float = IDLE_S,
        outgoing: OutgoingFigures | None = None,
        connections: ConnectionFigures | None = None,
    ) -> None:
        self._settings = settings
        self._idle_s = idle_s
        self._places = Places(settings.connections)
        self._tls_memory = TlsMemory()
        self._idle: OrderedDict[int, tuple[Session, float]] = OrderedDict()  # by id, longest idle first
        self._by_hop: dict[Hop, list[int]] = {}
        # Hosts that answered, and whether one of their transactions came to its end; those that did first go first.
        self._hosts: OrderedDict[_Host, bool] = OrderedDict()
        # The first connection to a host (from that source), and why there is none.
        self._asking: dict[_Asked, tuple[Hop, asyncio.Future[Failure | None]]] = {}
        self._strangers: dict[int, Session] = {}  # in use, by id
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._closed = False
        self._outgoing = outgoing or OutgoingFigures(Metrics())
        self._outgoing.connections.read = lambda: {
            ("in_use",): max(0, self._places.taken - len(self._idle)),
            ("idle",): len(self._idle),
        }
        self._outgoing.most.read = lambda: {(): self._settings.connections}
        self._tls_sessions = (connections or ConnectionFigures(Metrics())).tls

    def reconfigure(self, settings: Delivery) -> None:
        """For connections to come; those that are open go on."""
        self._settings = settings
        self._places.resize(settings.connections)

    @property
    def connections(self) -> int:
        """Open ones, idle ones too, and those that are being opened."""
        return self._places.taken

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

    async def open(self, hop: Hop, *, high: bool = False, trace: Trace | None = None) -> Session | Failure:
        """A new connection; waits for a place, for which the longest idle connection gives way. `high`: for mail of
        high priority. What is said is told to `trace`."""
        host = (hop.address, hop.port)
        if high or host in self._hosts:
            return await self._open(hop, host, trace, high=high)
        asked = (hop.address, hop.port, hop.source)
        while host not in self._hosts and (asking := self._asking.get(asked)) is not None:
            failure = await asyncio.shield(asking[1])
            if failure is not None and (hop == asking[0] or failure.word.stage in _COMMON):
                return _heard_of(failure, asking[0], hop)
            # It opened, or who asked was cancelled, or the host is only not who that one wanted.
        if host in self._hosts:
            return await self._open(hop, host, trace, high=high)
        future: asyncio.Future[Failure | None] = self._loop.create_future()
        self._asking[asked] = (hop, future)
        opened: Session | Failure | None = None
        try:
            opened = await self._open(hop, host, trace, high=high)
        finally:
            del self._asking[asked]
            future.set_result(opened if isinstance(opened, Failure) else None)
        return opened

    def give_back(self, session: Session) -> None:
        """Done with it, for now or for good."""
        wire = session.wire
        self._judge(session)
        worn = wire.transactions >= self._settings.messages_per_connection
        if worn or not wire.usable or self._closed or self._places.short:
            self._discard(session)  # who waits for a place has waited long enough
            return
        self._idle[id(session)] = (session, self._loop.time())
        self._by_hop.setdefault(session.hop, []).append(id(session))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_s, self._sweep)

    async def close(self) -> None:
        """Close what is idle, and from now on what is given back; connections in use are their owners' to give back."""
        self._closed = True
        for timer in (self._sweeper, self._look):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._look = None
        while self._idle:
            session, _ = self._remove(next(iter(self._idle)))
            self._discard(session)
        await asyncio.sleep(0)  # QUITs leave

    async def _open(self, hop: Hop, host: _Host, trace: Trace | None, *, high: bool) -> Session | Failure:
        stranger = not self._hosts.get(host)
        await self._place(high=high, stranger=stranger)
        opened: Session | Failure | None = None
        try:
            opened = await open_session(hop, self._settings.timeouts, self._tls_memory, trace)
        finally:
            if not isinstance(opened, Session):
                self._places.leave(stranger=stranger)
        if isinstance(opened, Session):
            self._tls_sessions.at("out", opened.tls or "none").value += 1
            self._know(host, proven=self._hosts.get(host, False))
            if stranger:
                self._strangers[id(opened)] = opened
            return opened
        self._outgoing.failed.at(opened.word.stage).value += 1
        if not opened.word.code:
            self._hosts.pop(host, None)  # nobody answers any more
        return opened

    async def _place(self, *, high: bool, stranger: bool) -> None:
        asked = self._places.ask(high=high, stranger=stranger)
        if asked is None:
            return
        while self._places.short and self._idle:
            session, _ = self._remove(next(iter(self._idle)))
            self._discard(session)
        if self._look is None:
            self._look_at_strangers()
        await self._places.wait(asked, stranger=stranger)

    def _look_at_strangers(self) -> None:
        """Those that finished a transaction meanwhile are none any more; from time to time, while others wait."""
        self._look = None
        for session in list(self._strangers.values()):
            if session.wire.transactions >= _PROOF:
                self._judge(session)
        if self._places.strangers_wait and not self._closed:
            self._look = self._loop.call_later(_LOOK_S, self._look_at_strangers)

    def _know(self, host: _Host, *, proven: bool) -> None:
        self._hosts[host] = proven
        self._hosts.move_to_end(host)
        while len(self._hosts) > HOSTS:
            self._hosts.popitem(last=False)

    def _judge(self, session: Session) -> None:
        """What a connection that comes back tells of its host."""
        wire = session.wire
        fine = wire.transactions >= _PROOF or (wire.usable and wire.transactions > 0)
        host = (session.hop.address, session.hop.port)
        if fine or host in self._hosts:
            self._know(host, proven=fine)
        if self._strangers.pop(id(session), None) is not None:
            self._places.known()

    def _remove(self, number: int) -> tuple[Session, float]:
        session, since = self._idle.pop(number)
        ids = self._by_hop[session.hop]
        ids.remove(number)
        if not ids:
            del self._by_hop[session.hop]
        return session, since

    def _discard(self, session: Session) -> None:
        session.wire.close()
        self._places.leave(stranger=False)

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


def _heard_of(failure: Failure, asked: Hop, hop: Hop) -> Failure:
    """Our own words name the host; the same one may go by another name."""
    word = failure.word
    if asked.name == hop.name or word.code:
        return failure
    return Failure(structs.replace(word, text=word.text.replace(asked.name, hop.name)))
