"""A DNS server as the field has them: it validates (DNSSEC) or says so, knows EDNS or loses what has it.

`PeerDns` serves the zones of tests/fakes/dns.py. A name may also be SIGNED: an answer is authentic where all names of
its CNAME chain are that or below one that is. Records may be of any type that dnslib knows; the data of TLSA, TXT and
PTR stand as in a zone file, with all dots.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, TypeVar, cast

import dnslib

from tests.fakes.dns import FakeDns

T = TypeVar("T")

_AD: Final = 0x20  # in the fourth byte of a message
_DO: Final = 0x8000  # in the flags of OPT
_FORMERR: Final = b"\x81\x81" + bytes(8)  # a header alone: the server read no further
_WITHOUT_EDNS: Final = 512  # bytes of a UDP answer (RFC 1035, 4.2.1)


class PeerDns(FakeDns):
    """`edns`: what becomes of queries that have it: served, ignored (the answer has none), dropped or refused.

    `flags` are those of the queries as they came: (AD, EDNS, DO). `queries` has those that were dropped, too. The next
    query for a name in `lost` gets no answer. An alias in `bare` is answered without what it stands for.
    """

    def __init__(
        self, zone: str, *, ttl: int = 300, edns: Literal["served", "ignored", "dropped", "refused"] = "served"
    ) -> None:
        self.edns = edns
        self.flags: list[tuple[bool, bool, bool]] = []
        self.lost: set[str] = set()
        self.bare: set[str] = set()
        super().__init__(zone, ttl=ttl)

    def load(self, zone: str) -> None:
        lines = [line.split(None, 1) for line in zone.splitlines() if line.strip()]
        self._signed = {name.lower() for name, rest in lines if rest.strip() == "SIGNED"}
        super().load("\n".join(f"{name} {rest}" for name, rest in lines if rest.strip() != "SIGNED"))

    def answer(self, query: bytes, transport: str) -> bytes | None:
        request = cast(Any, dnslib.DNSRecord.parse(query))
        options = next((record for record in request.ar if record.rtype == dnslib.QTYPE.OPT), None)
        wants_ad, wants_do = bool(query[3] & _AD), options is not None and bool(options.ttl & _DO)
        self.flags.append((wants_ad, options is not None, wants_do))
        whole = super().answer(query, "tcp")
        self.queries[-1] = (*self.queries[-1][:2], transport)
        if self.queries[-1][0] in self.lost:
            self.lost.remove(self.queries[-1][0])
            return None
        if whole is None or (options is not None and self.edns == "dropped"):
            return None
        if options is not None and self.edns == "refused":
            return query[:2] + _FORMERR
        reply = cast(Any, dnslib.DNSRecord.parse(whole))
        if self.queries[-1][0] in self.bare:
            reply.rr, reply.auth, reply.header.rcode = reply.rr[:1], [], dnslib.RCODE.NOERROR
        reply.header.ad = int((wants_ad or wants_do) and self._is_authentic(reply))
        served = options is not None and self.edns == "served"
        if served:
            reply.add_ar(dnslib.EDNS0(udp_len=1232, flags="do" if wants_do else ""))
        return self._fitted(reply, transport, options.rclass if served and options else _WITHOUT_EDNS)

    def _fitted(self, reply: Any, transport: str, size: int) -> bytes:
        packed = cast(bytes, reply.pack())
        is_cut = self._fates.get(str(reply.q.qname).rstrip(".").lower()) == "TRUNCATED"
        if transport == "tcp" or (len(packed) <= size and not is_cut):
            return packed
        reply.rr, reply.header.tc = [], 1
        return cast(bytes, reply.pack())

    def _is_authentic(self, reply: Any) -> bool:
        names = {str(reply.q.qname)} | {str(record.rname) for record in reply.rr}
        if reply.q.qtype != dnslib.QTYPE.CNAME:  # the answer goes on behind it, or ends there
            names |= {str(record.rdata) for record in reply.rr if record.rtype == dnslib.QTYPE.CNAME}
        return all(self._is_signed(name.rstrip(".").lower()) for name in names)

    def _is_signed(self, name: str) -> bool:
        return any(name == signed or name.endswith("." + signed) for signed in self._signed)


@contextlib.contextmanager
def aside(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Run a server of the asyncio kind in a thread of its own, for tests that wait for processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="aside", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
